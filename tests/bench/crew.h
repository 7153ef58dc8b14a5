/* Fragments as processes on this machine, joined by loopback TCP, each with one thread that plays the guest. The parent tells each what to do. */
#ifndef TESTS_BENCH_CREW_H
#define TESTS_BENCH_CREW_H

#include "mem/pager.h"

enum { CREW_NODES_MAX = 4 };

/* What a fragment's guest thread does with pages [first, first + count). */
enum crew_verb {
	CREW_WRITE,      /* a store to each, in a shuffled order that no stream detector follows */
	CREW_READ,       /* a load of each, shuffled */
	CREW_WALK,       /* a load of each, in order */
	CREW_FILL,       /* a store to each, in order */
	CREW_TURNS,      /* 'count' turns on a shared word of page 'first': wait until it is ours, pass it on */
	CREW_STATS,
	CREW_QUIT,
};

struct crew_order {
	enum crew_verb verb;
	uint64_t first, count;
	unsigned turn, turns; /* CREW_TURNS: ours among them */
};

struct crew_report {
	struct histogram ns; /* of each access (CREW_TURNS: of each turn) since the last order */
	uint64_t all_ns;
	struct pager_stats stats;
	_Atomic bool over; /* the crew is being stopped: links that end are no news */
};

struct crew_options {
	unsigned nodes;
	uint64_t pages; /* homed at each node */
	int32_t spin_us;
	uint32_t hold_us;
	bool pin;       /* node i to CPU i modulo those there are */
};

struct crew {
	unsigned nodes;
	int pid[CREW_NODES_MAX];
	int order[CREW_NODES_MAX], done[CREW_NODES_MAX]; /* pipes */
	struct crew_report *report;                      /* shared, one a node */
};

int crew_start(struct crew *c, const struct crew_options *o) MUST_CHECK;
void crew_stop(struct crew *c);

/* Give an order; wait for its end. crew_tell and crew_wait do the halves, for nodes that must run at once. */
void crew_do(struct crew *c, unsigned node, struct crew_order order);
void crew_tell(struct crew *c, unsigned node, struct crew_order order);
void crew_wait(struct crew *c, unsigned node);

#endif
