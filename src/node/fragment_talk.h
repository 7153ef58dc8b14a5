/* What a fragment's guest says on its consoles, and who of this host it meets (dev/porch.h). Other threads add; the control thread takes, keeps the end of each
 * console, and tells the daemon. */
#ifndef NODE_FRAGMENT_TALK_H
#define NODE_FRAGMENT_TALK_H

#include <pthread.h>

#include "node/backlog.h"
#include "node/channel.h"
#include "node/fragment_machine.h"

struct fragment_talk {
	struct fragment_config *config;
	void (*wake)(void *owner); /* something was added; any thread */
	void *owner;
	struct fragment_console {
		struct backlog kept, news; /* news: other threads' */
		uint64_t shown, taken;     /* of kept, to this daemon; of news */
	} console[CONTROL_CONSOLES];
	pthread_mutex_t lock;      /* guards news and taken */
};

/* config, wake and owner are set; lock is PTHREAD_MUTEX_INITIALIZER. On the coordinator's node: fills in config->porch, with sockets beside the one that
 * 'control' listens at. */
int fragment_talk_open(struct fragment_talk *t, int control, struct failure *f) MUST_CHECK;
/* After the machine is closed. */
void fragment_talk_close(struct fragment_talk *t);

/* The next byte is at this position of the console's stream, and those before it have been shown. */
void fragment_talk_seek(struct fragment_talk *t, unsigned console, uint64_t at);

/* Any thread; never waits. */
void fragment_talk_add(struct fragment_talk *t, unsigned console, const void *bytes, size_t n);

/* Keep what was added. */
void fragment_talk_take(struct fragment_talk *t);

/* Tell the daemon what it has not been shown, as far as it takes it. True: it has been shown all. NULL: there is none. */
bool fragment_talk_show(struct fragment_talk *t, struct channel *daemon);

/* Another daemon: it is shown what comes now; or (all) what is kept, too. */
void fragment_talk_begin(struct fragment_talk *t, bool all);

/* From the daemon: the size of a terminal; keys for the second console. */
void fragment_talk_resize(struct fragment_talk *t, const uint8_t *body, size_t bytes);
void fragment_talk_keys(struct fragment_talk *t, struct wire_blob keys);

void fragment_talk_stats(struct fragment_talk *t, void (*line)(void *to, const char *key, uint64_t value), void *to);

#endif
