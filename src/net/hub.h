/* One kind of stream to all other fragments of a VM: one thread reads all of them, any thread may send.
 *
 * Locks: one per peer, guards the outgoing side of that peer's link (the incoming side belongs to the hub's thread); never held across a wait (sockets are
 * nonblocking). Callbacks come on the hub's thread with no lock held and must not block. */
#ifndef NET_HUB_H
#define NET_HUB_H

#include "base/failure.h"
#include "base/types.h"

struct hub;

struct hub_calls {
	int (*frame)(void *owner, node_t from, unsigned id, const uint8_t *body, size_t bytes); /* another -errno than 0 ends that stream: -EBADMSG, -EPROTO */
	void (*lost)(void *owner, node_t peer, const char *why);                                /* closed, broken, or hub_drop() */
	void (*tick)(void *owner); /* every tick_ms, after all that had arrived by then; NULL: never */
	void *owner;
};

struct hub_config {
	node_t self;
	unsigned nodes;
	int fd[NODES_MAX]; /* connected streams, owned from the call on; -1 for self */
	unsigned dead_ms;  /* as in link_open */
	unsigned tick_ms;
	bool patient;      /* what a slow peer's link does not hold yet waits in memory, without bound: the senders bound what is under way; else -ENOBUFS */
	struct hub_calls calls;
};

int hub_open(struct hub **out, const struct hub_config *config, struct failure *f) MUST_CHECK;

/* The thread ends, the streams close; from then on hub_send says -EPIPE. Not from the hub's own thread. */
void hub_halt(struct hub *h);

/* Halts; then nobody else may know of it any more. */
void hub_close(struct hub *h);

/* Any thread; copies, queues and returns. -EPIPE when that peer is gone. */
int hub_send(struct hub *h, node_t to, const uint8_t *frame, size_t bytes) MUST_CHECK;

/* Any thread. */
bool hub_has(struct hub *h, node_t peer);
void hub_sent(struct hub *h, node_t peer, uint64_t *bytes, uint64_t *messages); /* since open */
uint64_t hub_bytes_received(struct hub *h);

/* Tell all why this fragment stops (peer_stop). Any thread. */
void hub_stop(struct hub *h, unsigned reason, node_t about, const char *what);

/* Give a peer up. From tick() only. */
void hub_drop(struct hub *h, node_t peer, const char *why);

#endif
