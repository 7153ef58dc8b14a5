/* A client's request that is another daemon's business: connect there, repeat it, then pass bytes both ways unread. */
#ifndef NODE_RELAY_H
#define NODE_RELAY_H

#include "node/channel.h"
#include "node/daemon.h"

/* Takes the client's channel and copies its request. The client gets 'error' when the other daemon cannot be reached. */
void relay_start(struct daemon *d, struct channel *client, const char *node, const char *address, unsigned id, const uint8_t *body, size_t bytes);
void relay_close_all(struct daemon *d);

#endif
