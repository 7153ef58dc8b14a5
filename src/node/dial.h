/* One TCP connection being made, without waiting. Belongs to the loop's thread. */
#ifndef NODE_DIAL_H
#define NODE_DIAL_H

#include "net/addr.h"
#include "node/loop.h"

struct dial {
	struct loop_watch watch;
	struct loop_timer limit;
	struct loop *loop;
	void (*done)(struct dial *d, int fd, int err);
	bool busy;
};

/* done() is called exactly once, later: with a connected, tuned socket that is now the callee's, or with -1 and -errno. -errno: it never is. */
int dial_start(struct dial *d, struct loop *l, const struct addr *to, unsigned limit_ms, void (*done)(struct dial *d, int fd, int err)) MUST_CHECK;

/* No delay, and an error rather than silence when the other side stays away. */
void dial_tune(int fd);

/* done() will not be called. */
void dial_stop(struct dial *d);

#endif
