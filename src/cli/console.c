/* See console.h. */
#include "cli/console.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/ends.h"
#include "base/text.h"
#include "cli/report.h"
#include "proto/stop.h"

enum { DETACH_KEY = 0x1d, FIND_AGAIN_MS = 30000, FIND_EVERY_MS = 200 };

struct terminal {
	bool tty;
	struct termios before;
	int signal_fd;
	sigset_t mask_before;
	bool no_keys; /* stdin has ended */
};

static void terminal_open(struct terminal *t)
{
	struct termios raw;

	*t = (struct terminal){.tty = isatty(0) && tcgetattr(0, &t->before) == 0};
	t->signal_fd = ends_watch(SIGWINCH, &t->mask_before);
	if (!t->tty || tcgetattr(0, &t->before) < 0)
		return;
	raw = t->before;
	cfmakeraw(&raw);
	tcsetattr(0, TCSADRAIN, &raw);
}

static void terminal_close(struct terminal *t)
{
	if (t->tty)
		tcsetattr(0, TCSADRAIN, &t->before);
	if (t->signal_fd >= 0)
		close(t->signal_fd);
	sigprocmask(SIG_SETMASK, &t->mask_before, NULL);
}

static void put(int fd, const uint8_t *bytes, size_t n)
{
	while (n) {
		ssize_t k = write(fd, bytes, n);

		if (k < 0 && errno != EINTR)
			return; /* nobody looks; the VM does not care */
		if (k > 0) {
			bytes += k;
			n -= (size_t)k;
		}
	}
}

static void show(struct console *c, const uint8_t *body, size_t bytes)
{
	struct control_console_out in;

	if (control_get_console_out(body, bytes, &in))
		return;
	if (c->position && in.at > c->position)
		fprintf(stderr, "\r\n[%llu bytes of console output missed]\r\n", (unsigned long long)(in.at - c->position));
	put(c->json ? 2 : 1, in.bytes.at, in.bytes.bytes);
	c->position = in.at + in.bytes.bytes;
}

/* Keys for the guest. 1: detach. */
static int take_keys(struct console *c, struct terminal *t, struct failure *f)
{
	uint8_t keys[1024];
	ssize_t n = read(0, keys, sizeof keys);
	size_t k = 0;

	if (n <= 0) {
		t->no_keys = true;
		return 0;
	}
	while (k < (size_t)n && !(t->tty && keys[k] == DETACH_KEY))
		k++;
	if (k && CLIENT_SEND(&c->client, f, console_in, .port = (uint8_t)c->port, .bytes = {keys, (uint32_t)k}))
		return -ECONNRESET;
	return k < (size_t)n;
}

/* The guest's terminal becomes as large as this one; the serial line knows no size. */
static int tell_size(struct console *c, struct terminal *t, struct failure *f)
{
	struct winsize w;

	if (c->port != CONTROL_CONSOLE_HVC || !t->tty || ioctl(0, TIOCGWINSZ, &w) < 0 || !w.ws_col || !w.ws_row)
		return 0;
	return CLIENT_SEND(&c->client, f, console_size, .columns = w.ws_col, .rows = w.ws_row) ? -ECONNRESET : 0;
}

/* A signal: the owner's VM ends. On a stream of its own, because ours belongs to the console. */
static void end_vm(struct console *c)
{
	struct client other;
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	struct failure f = {0};

	if (client_open(&other, c->run_dir, c->node ? c->node : c->client.node, &f))
		return;
	if (!CLIENT_SEND(&other, &f, ask_kill, .vm = client_name(c->vm)))
		while (id != CONTROL_end && !client_next(&other, &id, &body, &bytes, &f))
			;
	client_close(&other);
}

/* The daemon went away; its VMs did not. Wait for the next one. */
static int find_again(struct console *c, struct terminal *t, struct failure *f)
{
	struct pollfd p = {.fd = t->signal_fd, .events = POLLIN};

	client_close(&c->client);
	fprintf(stderr, "%s[the daemon went away; %s runs on; waiting for the daemon]%s\n", t->tty ? "\r\n" : "", c->vm, t->tty ? "\r" : "");
	for (unsigned k = 0; k < FIND_AGAIN_MS / FIND_EVERY_MS; k++) {
		struct failure quiet = {0};

		if (poll(&p, 1, FIND_EVERY_MS) > 0)
			break;
		if (client_open(&c->client, c->run_dir, c->node ? c->node : c->client.node, &quiet))
			continue;
		return CLIENT_SEND(&c->client, f, ask_console, .vm = client_name(c->vm), .owner = c->owner, .port = (uint8_t)c->port, .from = c->position);
	}
	return failure_set(f, -ECONNRESET, "start it again (tessera node), then 'tessera console' to look at the VM or 'tessera kill' to end it",
		"the daemon ended and did not come back; the VM may run on");
}

/* One frame. 1: the answer is complete. */
static int take_frame(struct console *c, struct failure *f)
{
	struct control_line line;
	const uint8_t *body;
	size_t bytes;
	unsigned id;
	int err = client_next(&c->client, &id, &body, &bytes, f);

	if (err)
		return err;
	if (id == CONTROL_console_out)
		show(c, body, bytes);
	else if (id == CONTROL_line && !control_get_line(body, bytes, &line)) {
		text_clean(line.text.s);
		fprintf(stderr, "%s[%s]%s\n", isatty(0) ? "\r\n" : "", line.text.s, isatty(0) ? "\r" : "");
	} else if (id == CONTROL_vm_ended && !control_get_vm_ended(body, bytes, &c->ended)) {
		text_clean(c->ended.about.s);
		text_clean(c->ended.what.s);
		c->has_ended = true;
	}
	return id == CONTROL_end;
}

static int talk(struct console *c, struct terminal *t, struct failure *f)
{
	struct pollfd p[3] = {{.fd = c->client.fd, .events = POLLIN}, {.fd = t->no_keys ? -1 : 0, .events = POLLIN}, {.fd = t->signal_fd, .events = POLLIN}};
	struct signalfd_siginfo info;
	int got;

	if (!client_ready(&c->client) && poll(p, 3, -1) < 0)
		return errno == EINTR ? 0 : -errno;
	if (client_ready(&c->client) || p[0].revents) {
		got = take_frame(c, f);
		if (got)
			return got;
	}
	if (p[1].revents) {
		got = take_keys(c, t, f);
		if (got < 0)
			return got;
		if (got && CLIENT_SEND(&c->client, f, console_detach, ))
			return -ECONNRESET;
	}
	if (p[2].revents && read(t->signal_fd, &info, sizeof info) > 0) {
		if (info.ssi_signo == SIGWINCH)
			return tell_size(c, t, f);
		if (c->owner)
			end_vm(c);
		else if (CLIENT_SEND(&c->client, f, console_detach, ))
			return -ECONNRESET;
	}
	return 0;
}

static int show_all(struct console *c, struct failure *f)
{
	struct terminal t;
	int got;

	terminal_open(&t);
	(void)tell_size(c, &t, f); /* a daemon that is gone is noticed by talk() */
	while ((got = talk(c, &t, f)) <= 0) {
		if (got == 0)
			continue;
		if (got != -ECONNRESET || !c->position)
			break;
		*f = (struct failure){0};
		got = find_again(c, &t, f);
		if (got)
			break;
		(void)tell_size(c, &t, f);
	}
	terminal_close(&t);
	return got < 0 ? got : 0;
}

int console_report_end(const char *vm, const struct control_vm_ended *e, bool json)
{
	enum report_exit code = report_end(e->reason);

	if (json) {
		report_json(json_pack("{s:s,s:{s:s,s:s,s:s,s:i}}", "vm", vm, "end", "reason", stop_reason_name(e->reason), "node", e->about.s, "what", e->what.s,
			"code", (int)code));
		return (int)code;
	}
	if (e->reason == STOP_POWEROFF)
		return (int)code;
	fprintf(stderr, "tessera: %s ended: %s%s%s%s%s\n", vm, stop_reason_name(e->reason), *e->about.s ? ", node " : "", e->about.s, *e->what.s ? ": " : "",
		e->what.s);
	return (int)code;
}

int console_attend(struct console *c, const uint8_t *frame, size_t bytes)
{
	struct failure f = {0};
	int err = client_open(&c->client, c->run_dir, c->node, &f);

	if (!err)
		err = client_send(&c->client, frame, bytes, &f);
	if (!err && !c->mute && isatty(0))
		fprintf(stderr, "[console of %s; ^] detaches]\n", c->vm);
	if (!err)
		err = show_all(c, &f);
	client_close(&c->client);
	if (err)
		return (int)report_failure(&f, c->json);
	if (c->has_ended)
		return console_report_end(c->vm, &c->ended, c->json);
	if (c->json)
		report_json(json_pack("{s:s,s:s}", "vm", c->vm, "state", "running"));
	return REPORT_OK;
}

int console_verb(const struct options *o)
{
	struct console c = {.run_dir = o->value[OPTION_RUN_DIR], .node = o->value[OPTION_NODE], .vm = o->operand, .json = o->value[OPTION_JSON]};
	struct control_ask_console ask = {.vm = client_name(o->operand)};
	const char *port = o->value[OPTION_PORT];
	struct failure f = {0};
	uint8_t frame[WIRE_FRAME_MAX];

	if (port && strcmp(port, "hvc0") == 0)
		ask.port = CONTROL_CONSOLE_HVC;
	else if (port && strcmp(port, "serial") != 0) {
		failure_set(&f, -EINVAL, "say serial or hvc0", "a VM has no console '%.40s'", port);
		return (int)report_usage(&f, c.json);
	}
	c.port = ask.port;

	return console_attend(&c, frame, control_put_ask_console(&ask, frame, sizeof frame));
}
