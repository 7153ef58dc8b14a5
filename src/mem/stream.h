/* Is somebody walking through memory? A pure detector of sequential fault streams: it sees the page of every fault and says what to ask for besides.
 *
 * The first faults of a walk only leave a trace; the one that makes STREAM_RUN_MIN pages in a row opens a window of STREAM_WINDOW_MIN pages, and each fault
 * just behind the window doubles it up to the caller's limit. Two in a row are no walk: neighbours in a slab, a stack; what is asked for there in vain
 * is taken from a node that uses it. A fault inside the window (its page is still on the way) changes nothing. Reads and writes are separate
 * streams, since they ask for different rights. Several walks at once are told apart; the one idle longest makes room. A walk downward is for this
 * detector a walk upward in pages counted from the last. */
#ifndef MEM_STREAM_H
#define MEM_STREAM_H

#include "base/types.h"

enum { STREAMS_MAX = 32, STREAM_RUN_MIN = 3, STREAM_WINDOW_MIN = 4, STREAM_WINDOW_MAX = 64 };

struct stream {
	uint64_t first, next; /* window [first, next): asked for already; a fault at next goes on. next 0: unused */
	uint32_t run; /* faults in a row, windows counted as one */
	uint32_t window;
	uint32_t seen; /* of streams.time */
	bool write;
};

struct streams {
	struct stream at[STREAMS_MAX];
	uint32_t time;
};

/* A fault at 'page'. Returns how many pages behind it, from page + 1 on, to ask for too: at most max, never past 'end' (exclusive). */
unsigned stream_fault(struct streams *s, uint64_t page, bool write, unsigned max, uint64_t end);

#endif
