/* Placement: which node gives how many vCPUs and how much memory to a new VM. Pure: from what is asked and what nodes have left to who gives what.
 *
 * With a wish (--place) it is checked and completed: memory without a size is shared out in proportion to vCPUs. Without one, the coordinator's own
 * node gives first, then those that are needed (they have a disk or a network card of the VM), then those with the most vCPUs left, so that few nodes take part;
 * memory again in proportion, as far as each has it. A needed node that no vCPU was left for gives an eighth of the memory, less where there are many.
 *
 * Promised of every answer (tests P1..):
 *  P1  vCPUs and bytes add up to what was asked; bytes are page multiples.
 *  P2  no node gives more than it has left, and no node that is down gives anything.
 *  P3  each node is there once, gives something, and the coordinator's node is among them; without a wish the needed ones, too.
 */
#ifndef PROTO_PLACE_H
#define PROTO_PLACE_H

#include "base/failure.h"
#include "base/types.h"

enum { PLACE_NODES_MAX = 257 }; /* nodes of a cluster */

/* What a node of the cluster has left. */
struct place_node {
	char name[NAME_BYTES];
	bool up;
	uint64_t vcpus, memory; /* count; bytes */
};

struct place_asked {
	const char *vm;    /* for messages */
	uint64_t vcpus, memory;
	const char *wish;  /* "A:2,B:2:512M"; "" none */
	unsigned self;     /* the coordinator's node, an index of nodes[] */
	const bool *needed; /* one for each of nodes[]; NULL: none. Read where there is no wish */
};

struct place_seat {
	unsigned node;     /* an index of nodes[] */
	uint64_t vcpus, memory;
};

/* Fill seats[] and *n. -errno with reason and remedy: -EINVAL a wish that makes no sense, -ENOENT no such node, -EHOSTUNREACH it is down, -ENOSPC not
 * enough left, -E2BIG more than NODES_MAX nodes. */
int place_choose(const struct place_node *nodes, unsigned count, const struct place_asked *asked, struct place_seat seats[NODES_MAX], unsigned *n,
                 struct failure *f) MUST_CHECK;

#endif
