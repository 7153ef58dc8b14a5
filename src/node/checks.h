/* The doctor's work inside a daemon: runs the checks of this host (node/doctor.h) in a child process, so that the daemon goes on, and measures round
 * trip and bandwidth to every linked node. */
#ifndef NODE_CHECKS_H
#define NODE_CHECKS_H

#include "node/channel.h"
#include "node/daemon.h"
#include "node/members.h"

struct checks;

/* Send check_lines to 'to' until done(owner) is called, once, later. */
int checks_start(struct checks **out, struct daemon *d, struct channel *to, void (*done)(void *owner), void *owner, struct failure *f) MUST_CHECK;

/* Give up: done() will not be called. NULL is fine. */
void checks_close(struct checks *c);

/* node_echo_reply from a member; the link to it is gone. */
void checks_echoed(struct member *m, const uint8_t *body, size_t bytes);
void checks_lost(struct member *m);

#endif
