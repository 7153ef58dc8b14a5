/* One guest TSC over several hosts. Each node estimates how far its TSC is behind the coordinator's from echo exchanges: from the one with
 * the shortest round trip of late, carried on with the drift seen over half a minute. The error is at most about half that round trip, which is below the
 * time any message needs, so that no guest can see a CPU's clock behind a value it learnt from another CPU. Pure: no I/O, no clock of its own.
 *
 * Clocks here tick at the guest's rate: a host's TSC as KVM scales it for the guest (clock_scale), before any offset.
 */
#ifndef VM_CLOCK_H
#define VM_CLOCK_H

#include "base/types.h"

/* What KVM multiplies the host's TSC by: ratio / 2^bits. ratio 0: by nothing. */
struct clock_scale {
	uint64_t ratio;
	unsigned bits;
};

/* As KVM does it for a host and a guest of these rates: not at all within 250 millionths (its tsc_tolerance_ppm). bits: 48 on Intel, 32 on AMD. */
struct clock_scale clock_scale_between(uint32_t host_khz, uint32_t guest_khz, unsigned bits);
uint64_t clock_scaled(const struct clock_scale *s, uint64_t host_tsc);

enum { CLOCK_WINDOW = 16, CLOCK_EPOCHS = 8, CLOCK_EPOCH_S = 4 };

/* One echo: our clock when it left, the peer's when it arrived there and when it was answered, ours when the answer came. */
struct clock_echo {
	uint64_t sent, received, replied, returned;
};

struct clock_estimate {
	uint32_t khz;                         /* rate of the clocks; set before the first echo */
	struct clock_echo recent[CLOCK_WINDOW]; /* ring */
	struct clock_echo past[CLOCK_EPOCHS]; /* ring: the shortest of each CLOCK_EPOCH_S seconds; the last is still under way */
	uint64_t epoch_began;
	unsigned n, next, epochs, epoch;
};

void clock_add(struct clock_estimate *c, const struct clock_echo *e);

/* Peer's clock minus ours at our time 'now', in cycles, and the bound of its error (for drifts of up to 100 millionths before the drift is known). A difference
 * within the bound is said to be 0: hosts that share one TSC (and nodes on one host) then agree exactly. False before the first echo. */
bool clock_difference(const struct clock_estimate *c, uint64_t now, int64_t *cycles, uint64_t *error);

/* Cycles the peer's clock gains on ours in 10^9 of ours; 0 while unknown. */
int64_t clock_drift(const struct clock_estimate *c);

/* Round trip of the shortest echo in the window, cycles; 0 before the first. */
uint64_t clock_round_trip(const struct clock_estimate *c);

#endif
