/* What the device fuzzers share: an input read as a list of steps, and device workers that run only when a step says so, so that one input is
 * always one course of events. dev_steps.c takes the place of dev/worker.c. */
#ifndef TESTS_FUZZ_DEV_STEPS_H
#define TESTS_FUZZ_DEV_STEPS_H

#include "base/types.h"

/* The rest of an input; reading past its end gives zeros. */
struct steps { const uint8_t *at, *end; };

bool steps_left(const struct steps *s);
uint64_t steps_take(struct steps *s, unsigned bytes);

/* Run the n-th worker (modulo their number) if it was rung. */
void steps_run_worker(unsigned n);

/* Run all rung workers until none is. */
void steps_settle(void);

#endif
