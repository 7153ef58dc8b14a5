/* The process of a fragment: starting it, finding it again, killing it. */
#ifndef NODE_SPAWN_H
#define NODE_SPAWN_H

#include "node/daemon.h"

/* The descriptor a new fragment finds its listening control socket at. */
enum { SPAWN_CONTROL_FD = 3 };

/* Start `tessera fragment` in a session of its own, listening on path for daemons; connect to it. *pidfd and *sock are the caller's. -errno with the
 * reason, nothing left. */
int spawn_fragment(struct daemon *d, const char *vm, const char *path, int *pid, int *pidfd, int *sock, struct failure *f) MUST_CHECK;

/* Connect to whoever listens on path. -ECONNREFUSED: nobody. */
int spawn_find(const char *path, int *pid, int *pidfd, int *sock) MUST_CHECK;

void spawn_kill(int pidfd);

#endif
