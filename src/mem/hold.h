/* How long a page that just arrived may stay, and when that ends.
 *
 * A minimum hold lets the instruction that faulted retire before the page is taken again; without it two writers livelock. An instruction may need several
 * pages at once (a page-crossing access, its code, its page tables), and two nodes that take them from each other in lockstep would never finish, so the
 * hold of a page that keeps being taken and wanted back soon grows, and grown holds are drawn at random from [d, 2d): sooner or later one node has all
 * its pages at once. A page left in peace falls back to the base.
 *
 * Pure but for its own fixed memory; times are ns of any one clock. Owned by the pager thread. */
#ifndef MEM_HOLD_H
#define MEM_HOLD_H

#include "base/types.h"

enum {
	HOLDS_MAX = 4096, /* pages held at once; the pager ends the earliest early when they are all used */
	HOLD_HEAT_STEP = 8, /* quick losses in a row that double a page's hold */
	HOLD_SHIFT_MAX = 5,
};

struct hold {
	uint64_t due_ns;
	uint64_t page;
};

struct holds {
	struct hold at[HOLDS_MAX]; /* binary heap, earliest first */
	unsigned n;
	uint64_t random; /* any seed but 0 */
};

/* Keep 'page' until due_ns. There must be room (n < HOLDS_MAX). */
void hold_begin(struct holds *h, uint64_t page, uint64_t due_ns);
/* Take the earliest hold out if it is due at now_ns. */
bool hold_end(struct holds *h, uint64_t now_ns, uint64_t *page);
/* When the earliest ends; UINT64_MAX when there is none. */
uint64_t hold_next_ns(const struct holds *h);

/* How long to hold a page of this heat, at most max_ns. */
uint64_t hold_ns(struct holds *h, uint8_t heat, uint64_t base_ns, uint64_t max_ns);
/* The heat of a page that is wanted back away_ns after it was taken. */
uint8_t hold_heat(uint8_t heat, uint64_t away_ns, uint64_t base_ns);

#endif
