/* See fragment_talk.h. */
#include "node/fragment_talk.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "node/sandbox.h"

enum { QUEUE_MAX = 1 << 20 }; /* bytes queued to the daemon */

static void on_terminal(void *user, const void *bytes, size_t n)
{
	fragment_talk_add(user, CONTROL_CONSOLE_HVC, bytes, n);
}

int fragment_talk_open(struct fragment_talk *t, int control, struct failure *f)
{
	static const char suffix[] = ".sock";
	struct porch_config c = {.terminal = on_terminal, .user = t, .program = "/proc/self/exe", .number = SANDBOX_DIAL_FD,
		.cid = t->config->cid};
	struct sockaddr_un a = {0};
	socklen_t n = sizeof a;
	size_t length;

	if (!node_eq(t->config->self, t->config->coordinator))
		return 0;
	if (getsockname(control, (struct sockaddr *)&a, &n) < 0)
		return failure_set(f, -errno, "use 'tessera run'; the daemon starts fragments", "the control socket has no name: %s", strerror(errno));
	length = strnlen(a.sun_path, sizeof a.sun_path - 1);
	if (length > sizeof suffix && strcmp(a.sun_path + length - (sizeof suffix - 1), suffix) == 0) {
		a.sun_path[length - (sizeof suffix - 1)] = 0;
		c.stem = a.sun_path;
	}
	return porch_open(&t->config->porch, &c, f);
}

void fragment_talk_close(struct fragment_talk *t)
{
	porch_close(t->config->porch);
	t->config->porch = NULL;
	for (unsigned i = 0; i < CONTROL_CONSOLES; i++) {
		backlog_fini(&t->console[i].kept);
		backlog_fini(&t->console[i].news);
	}
	pthread_mutex_destroy(&t->lock);
}

void fragment_talk_seek(struct fragment_talk *t, unsigned console, uint64_t at)
{
	backlog_seek(&t->console[console].kept, at);
	t->console[console].shown = at;
}

void fragment_talk_add(struct fragment_talk *t, unsigned console, const void *bytes, size_t n)
{
	pthread_mutex_lock(&t->lock);
	backlog_add(&t->console[console].news, bytes, n);
	pthread_mutex_unlock(&t->lock);
	t->wake(t->owner);
}

void fragment_talk_take(struct fragment_talk *t)
{
	uint8_t bytes[4096];
	size_t n;

	for (unsigned i = 0; i < CONTROL_CONSOLES; i++)
		do {
			struct fragment_console *c = &t->console[i];

			pthread_mutex_lock(&t->lock);
			n = backlog_read(&c->news, &c->taken, bytes, sizeof bytes);
			c->taken += n;
			pthread_mutex_unlock(&t->lock);
			backlog_add(&c->kept, bytes, n);
		} while (n);
}

bool fragment_talk_show(struct fragment_talk *t, struct channel *daemon)
{
	uint8_t bytes[16384];
	bool all = true;
	size_t n;

	for (unsigned i = 0; i < CONTROL_CONSOLES && daemon; i++) {
		struct fragment_console *c = &t->console[i];

		while (channel_queued(daemon) < QUEUE_MAX && (n = backlog_read(&c->kept, &c->shown, bytes, sizeof bytes))) {
			CHANNEL_SEND(daemon, console_out, .port = (uint8_t)i, .at = c->shown, .bytes = {bytes, (uint32_t)n});
			c->shown += n;
		}
		all &= c->shown == c->kept.total;
	}
	return all;
}

void fragment_talk_begin(struct fragment_talk *t, bool all)
{
	for (unsigned i = 0; i < CONTROL_CONSOLES; i++)
		t->console[i].shown = all ? 0 : t->console[i].kept.total;
}

void fragment_talk_resize(struct fragment_talk *t, const uint8_t *body, size_t bytes)
{
	struct control_console_size in;

	if (!control_get_console_size(body, bytes, &in) && t->config->porch)
		porch_resize(t->config->porch, in.columns, in.rows);
}

void fragment_talk_keys(struct fragment_talk *t, struct wire_blob keys)
{
	if (t->config->porch && porch_input(t->config->porch, keys.at, keys.bytes) < keys.bytes)
		log_debug("the guest's second console takes no more keys for now");
}

void fragment_talk_stats(struct fragment_talk *t, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct porch_stats s;

	if (!t->config->porch)
		return;
	porch_stats(t->config->porch, &s);
	line(to, "agent.guest_open", s.guest);
	line(to, "agent.client", s.host);
	line(to, "agent.bytes_to_guest", s.to_guest);
	line(to, "agent.bytes_from_guest", s.from_guest);
}
