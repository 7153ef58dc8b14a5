/* How long a page that just arrived may stay, and when that ends.
 *
 * A minimum hold lets the instruction that faulted retire before the page is taken again; without it two writers livelock. Three dangers, three answers:
 *   the page goes before the instruction ran             every grant is held for a base time
 *   the thread did not even get a CPU in that time       at the end of the hold, while a recall waits, the pager looks whether the thread it was
 *                                                        fetched for has run since (its CPU clock); if not, the hold goes on, up to a maximum
 *   an instruction needs several pages at once (a page-crossing access, its code, its page tables), and two nodes take them from each other
 *   in lockstep                                          pages that one thread faults on in turns (A, B, A) get hot: held longer than a round trip
 *                                                        takes, and for a random time, so that sooner or later one node has all its pages
 * A page fought over by itself is not held longer: then a lock would be passed on more slowly than need be.
 *
 * Pure but for its own fixed memory; times are ns of any one clock. Owned by the pager thread. */
#ifndef MEM_HOLD_H
#define MEM_HOLD_H

#include "base/types.h"

enum {
	HOLDS_MAX = 4096, /* pages held at once; the pager ends the earliest early when they are all used */
	HOLD_HEAT_STEP = 8, /* times in turns that double a hot page's hold */
	HOLD_SHIFT_MAX = 2,
	HOLD_RECENT = 4,    /* pages of a thread that are remembered */
};

/* For whom a page is held. cpu_ns: the CPU time it had used when the page came; tid 0: for nobody. */
struct hold_for {
	uint32_t tid;
	uint64_t cpu_ns;
};

struct hold {
	uint64_t due_ns, last_ns; /* the end; when it is over for good */
	uint64_t page;
	struct hold_for who;
};

struct holds {
	struct hold at[HOLDS_MAX]; /* binary heap, earliest first */
	unsigned n;
	uint64_t random; /* any seed but 0 */
};

/* There must be room (n < HOLDS_MAX). */
void hold_begin(struct holds *h, const struct hold *one);
/* Take the earliest hold out if it is due at now_ns. */
bool hold_end(struct holds *h, uint64_t now_ns, struct hold *out);
/* When the earliest ends; UINT64_MAX when there is none. */
uint64_t hold_next_ns(const struct holds *h);

/* How long to hold a page of this heat, at most max_ns; trip_ns: what a round trip takes. */
uint64_t hold_ns(struct holds *h, uint8_t heat, uint64_t base_ns, uint64_t trip_ns, uint64_t max_ns);

/* The last pages a thread faulted on, newest first, different from each other. All zero = none: numbers are 1 + page. */
struct hold_recent {
	uint64_t at[HOLD_RECENT];
};
/* The thread faults on 'page', whose heat is this: remember that, and tell the new heat. */
uint8_t hold_heat(struct hold_recent *r, uint64_t page, uint8_t heat);

#endif
