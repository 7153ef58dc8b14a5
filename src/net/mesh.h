/* Sets up the full mesh of a VM's fragments: three ordered streams for each pair of nodes.
 *
 *     node i connects to every node j < i and listens for every node j > i
 *     connector            listener
 *       hello  ------------->  checks, answers
 *       checks <-------------  hello           then the stream is theirs
 *
 * Hello (wire/peer.h) carries version, VM id, cookie, node and stream; a listener says nothing to who does not know the cookie. Strangers on the
 * listening port (garbage, a wrong cookie, silence) are dropped and counted; they hold one of a bounded number of places, and when those
 * run out the oldest is dropped, so that they cannot keep a fragment out for long.
 *
 * One call in one thread, with its own poll loop; waits for nothing but the network, its deadline and cancel_fd.
 */
#ifndef NET_MESH_H
#define NET_MESH_H

#include "base/failure.h"
#include "base/types.h"
#include "net/addr.h"

enum mesh_stream { MESH_PAGE, MESH_BUS, MESH_IO, MESH_STREAMS }; /* as in peer_hello.stream */

struct mesh_plan {
	node_t self;
	unsigned nodes;
	int listen_fd;                     /* nonblocking; stays the caller's; may be -1 on the last node */
	struct addr peer[NODES_MAX];       /* [self] is not looked at */
	char name[NODES_MAX][NAME_BYTES];  /* for failures */
	uint64_t vm_id, cookie_hi, cookie_lo;
	unsigned deadline_ms;              /* for the whole of it, from the call */
	int cancel_fd;                     /* readable: give up with -ECANCELED; -1: none */
};

struct mesh {
	int fd[NODES_MAX][MESH_STREAMS]; /* nonblocking, connected and verified; -1 for self and beyond nodes. Then the caller's: see link_open */
	unsigned strangers;              /* connections dropped because they did not say the right hello */
};

/* 0 and every fd of *m, or -errno with *f telling which node and none left open. -ETIMEDOUT: a node did not answer in time; -EPROTO: the program
 * at a node's address is another version or no Tessera; -EINVAL: a plan that makes no sense. */
int mesh_open(struct mesh *m, const struct mesh_plan *plan, struct failure *f) MUST_CHECK;

/* Closes what is in *m and not -1; a caller that took an fd over sets it to -1. */
void mesh_close(struct mesh *m);

#endif
