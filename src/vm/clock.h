/* One guest TSC over several hosts. Each node estimates how far its TSC is ahead of the coordinator's from echo exchanges, keeping the one with
 * the shortest round trip: its error is at most half that round trip, which is below the time any message needs, so that no guest can see
 * a CPU's clock behind a value it learnt from another CPU. Pure: no I/O, no clock of its own.
 */
#ifndef VM_CLOCK_H
#define VM_CLOCK_H

#include "base/types.h"

enum { CLOCK_WINDOW = 16 };

/* One echo: our TSC when it left, the peer's when it arrived there and when it was answered, ours when the answer came. */
struct clock_echo {
	uint64_t sent, received, replied, returned;
};

struct clock_estimate {
	struct clock_echo best[CLOCK_WINDOW]; /* ring of the latest echoes; the shortest of them counts, so that drift is followed */
	unsigned n, next;
};

void clock_add(struct clock_estimate *c, const struct clock_echo *e);

/* Peer TSC minus our TSC, in cycles, and the bound of its error. A difference within the bound is said to be 0: hosts that share one TSC
 * (and nodes on one host) then agree exactly. False before the first echo. */
bool clock_difference(const struct clock_estimate *c, int64_t *cycles, uint64_t *error);

/* Round trip of the shortest echo in the window, cycles; 0 before the first. */
uint64_t clock_round_trip(const struct clock_estimate *c);

#endif
