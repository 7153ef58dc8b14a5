/* Two daemons that are not yet introduced: from the first byte of a TCP stream until node_hello has gone both ways. Also the way in for a client's
 * request that another daemon relays (its first frame is a client's hello). */
#ifndef NODE_MEETING_H
#define NODE_MEETING_H

#include "node/members.h"

struct meeting;

/* Somebody connected to our peer port. The descriptor is taken. */
void meeting_accept(struct daemon *d, int fd);

/* Reach a known member; *slot is set until members_link or members_missed. -errno. */
int meeting_dial(struct member *m, struct meeting **slot) MUST_CHECK;

/* Reach a cluster through this address; tried again until it works; a refusal ends the daemon with its reason. */
int meeting_join(struct daemon *d, const char *address, struct failure *f) MUST_CHECK;

void meeting_close(struct meeting *m);
void meeting_close_all(struct daemon *d);

#endif
