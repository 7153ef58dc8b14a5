/* See checks.h. One after the other: this host's checks in a child, then the network to one node after another. */
#include "node/checks.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "node/doctor.h"

enum {
	HERE_S = 30,           /* then a check of this host hangs and is killed */
	PINGS = 32,
	CHUNKS = 128,          /* of CHUNK_BYTES each, there and back */
	CHUNK_BYTES = 32768,
	NET_MS = 10000,
	RTT_WARN_US = 1000,
	RATE_WARN_MBS = 100,
};

struct checks {
	struct daemon *daemon;
	struct channel *to;
	void (*done)(void *owner);
	void *owner;
	struct channel *child;
	pid_t pid;
	char node[NAME_BYTES];    /* being measured; the ones after it in daemon->members follow */
	unsigned sent, received;
	uint64_t best_us, began_us;
	bool rate;                /* pings are over */
	struct loop_timer limit;
};

static void say(struct checks *c, const char *check, enum control_level level, const char *found, const char *why, const char *fix)
{
	CHANNEL_SEND(c->to, check_line, .node = channel_name(c->daemon->name), .check = channel_name(check), .level = (uint8_t)level, .found = channel_text(found),
		.why = channel_text(why), .fix = channel_text(fix));
}

/* In the child: findings become frames. */
static void child_put(int fd, const uint8_t *frame, size_t bytes)
{
	while (bytes) {
		ssize_t n = write(fd, frame, bytes);

		if (n <= 0)
			_exit(1);
		frame += n;
		bytes -= (size_t)n;
	}
}

static void child_line(void *to, const char *check, enum control_level level, const char *found, const char *why, const char *fix)
{
	struct control_check_line m = {.check = channel_name(check), .level = (uint8_t)level, .found = channel_text(found), .why = channel_text(why),
		.fix = channel_text(fix)};
	uint8_t frame[WIRE_FRAME_MAX];

	child_put(*(int *)to, frame, control_put_check_line(&m, frame, sizeof frame));
}

static void child_cpuid(void *to, const uint8_t *leaves, size_t bytes)
{
	struct control_check_cpuid m = {.leaves = {leaves, (uint32_t)bytes}};
	uint8_t frame[WIRE_FRAME_MAX];

	child_put(*(int *)to, frame, control_put_check_cpuid(&m, frame, sizeof frame));
}

static _Noreturn void child_main(int fd, uint64_t memory)
{
	struct doctor d = {.to = &fd, .line = child_line, .cpuid = child_cpuid, .memory = memory};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	dup2(fd, 3);
	fd = 3;
	close_range(4, ~0u, 0); /* the daemon's sockets must not outlive it here */
	alarm(HERE_S);
	doctor_check(&d);
	_exit(0);
}

static void measure_next(struct checks *c);

static void from_child(void *owner, struct channel *ch, unsigned id, const uint8_t *body, size_t bytes)
{
	struct checks *c = owner;
	struct control_check_line line;
	struct control_check_cpuid cpuid;

	if (id == CONTROL_check_line && !control_get_check_line(body, bytes, &line))
		say(c, line.check.s, line.level, line.found.s, line.why.s, line.fix.s);
	else if (id == CONTROL_check_cpuid && !control_get_check_cpuid(body, bytes, &cpuid))
		CHANNEL_SEND(c->to, check_cpuid, .node = channel_name(c->daemon->name), .leaves = cpuid.leaves);
}

static void child_closed(void *owner, struct channel *ch, int err)
{
	struct checks *c = owner;
	int status = 0;

	c->child = NULL;
	if (waitpid(c->pid, &status, 0) == c->pid && status != 0)
		say(c, "doctor", CONTROL_FAIL, WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "a check of this host hangs" : "a check of this host crashed",
			"a host that does that runs no guests", "look at dmesg; report it if KVM is not to blame");
	c->pid = 0;
	measure_next(c);
}

static const struct channel_ops child_ops = {.frame = from_child, .closed = child_closed};

static void finish(struct checks *c)
{
	void (*done)(void *owner) = c->done;
	void *owner = c->owner;

	checks_close(c);
	done(owner);
}

static struct member *measured(struct checks *c)
{
	return *c->node ? members_find(c->daemon, c->node) : NULL;
}

static void send_echo(struct checks *c, struct member *m, uint32_t bytes)
{
	static const uint8_t zeroes[CHUNK_BYTES];

	CHANNEL_SEND(m->link, node_echo, .sent_us = loop_now_us(), .bytes = {zeroes, bytes});
	c->sent++;
}

static void measure(struct checks *c, struct member *m)
{
	TEXT_SET(c->node, m->name);
	c->sent = c->received = 0;
	c->best_us = UINT64_MAX;
	c->rate = false;
	m->echo = c;
	loop_arm(&c->daemon->loop, &c->limit, NET_MS);
	send_echo(c, m, 1);
}

/* The next linked node after the one just measured, in the order of the list. */
static void measure_next(struct checks *c)
{
	struct member *last = measured(c), *m = last ? last->next : c->daemon->members;

	if (last)
		last->echo = NULL;
	if (*c->node && !last)
		m = NULL; /* it has left, and with it our place in the list */
	while (m && (!m->link || m->echo))
		m = m->next;
	if (m)
		measure(c, m);
	else
		finish(c);
}

static void say_net(struct checks *c, enum control_level level, const char *fix, const char *found)
{
	char check[2 * NAME_BYTES];

	snprintf(check, NAME_BYTES, "net %.50s", c->node);
	say(c, check, level, found, "every remote page fault waits for one round trip and 4 KiB", fix);
}

static void measured_all(struct checks *c)
{
	uint64_t us = loop_now_us() - c->began_us, mbs = 2ull * CHUNKS * CHUNK_BYTES / (us ? us : 1);
	bool slow = c->best_us > RTT_WARN_US || mbs < RATE_WARN_MBS;
	char found[128];

	snprintf(found, sizeof found, "round trip %llu us, %llu MB/s there and back", (unsigned long long)c->best_us, (unsigned long long)mbs);
	say_net(c, slow ? CONTROL_WARN : CONTROL_OK, slow ? "use a faster or closer link between these nodes" : "", found);
	measure_next(c);
}

void checks_echoed(struct member *m, const uint8_t *body, size_t bytes)
{
	struct control_node_echo_reply in;
	struct checks *c = m->echo;
	uint64_t us;

	if (!c || control_get_node_echo_reply(body, bytes, &in))
		return;
	us = loop_now_us() - in.sent_us;
	c->received++;
	if (!c->rate) {
		c->best_us = us < c->best_us ? us : c->best_us;
		if (c->received < PINGS) {
			send_echo(c, m, 1);
			return;
		}
		c->rate = true;
		c->sent = c->received = 0;
		c->began_us = loop_now_us();
		for (unsigned k = 0; k < 8; k++) /* so many under way at once */
			send_echo(c, m, CHUNK_BYTES);
	} else if (c->received == CHUNKS) {
		measured_all(c);
	} else if (c->sent < CHUNKS) {
		send_echo(c, m, CHUNK_BYTES);
	}
}

void checks_lost(struct member *m)
{
	struct checks *c = m->echo;

	if (!c)
		return;
	say_net(c, CONTROL_FAIL, "see that its daemon runs and the network works", "the link broke during the check");
	measure_next(c);
}

static void late(struct loop_timer *t)
{
	struct checks *c = (struct checks *)((char *)t - offsetof(struct checks, limit));

	say_net(c, CONTROL_FAIL, "look at the network between these nodes", "it does not carry 8 MB in ten seconds");
	measure_next(c);
}

int checks_start(struct checks **out, struct daemon *d, struct channel *to, void (*done)(void *owner), void *owner, struct failure *f)
{
	struct checks *c = calloc(1, sizeof *c);
	int pair[2] = {-1, -1}, err = c ? 0 : -ENOMEM;

	if (!err && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		err = -errno;
	if (!err) {
		*c = (struct checks){.daemon = d, .to = to, .done = done, .owner = owner, .limit.fire = late, .pid = fork()};
		if (c->pid == 0)
			child_main(pair[1], d->lent.memory);
		err = c->pid < 0 ? -errno : channel_open(&c->child, &d->loop, pair[0], &child_ops, c);
	}
	if (pair[1] >= 0)
		close(pair[1]);
	if (err) {
		free(c);
		return failure_set(f, err, "see that the host has processes and memory left", "cannot check: %s", strerror(-err));
	}
	*out = c;
	return 0;
}

void checks_close(struct checks *c)
{
	struct member *m;

	if (!c)
		return;
	m = measured(c);
	if (m && m->echo == c)
		m->echo = NULL;
	if (c->pid > 0) {
		kill(c->pid, SIGKILL);
		waitpid(c->pid, NULL, 0);
	}
	channel_close(c->child);
	loop_disarm(&c->daemon->loop, &c->limit);
	free(c);
}
