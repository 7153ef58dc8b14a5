/* Latencies, cheaply: a log-linear histogram of 64-bit values (32 buckets a power of two, so a bucket is at most 3 % wide).
 * One thread adds, without locked instructions; any thread may read at any time and sees a slightly old picture. All zero = empty. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include "base/types.h"

#include <stdatomic.h>

enum {
	HISTOGRAM_SUB_BITS = 5,
	HISTOGRAM_BITS_MAX = 40, /* values from 2^40 (18 minutes of ns) on share the last bucket */
	HISTOGRAM_BUCKETS = (HISTOGRAM_BITS_MAX - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS,
};

struct histogram {
	_Atomic uint64_t at[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t value);
uint64_t histogram_count(const struct histogram *h);
/* The middle of the bucket that holds the given part of the values (500 = median, 990 = p99); 0 when empty. */
uint64_t histogram_permille(const struct histogram *h, unsigned permille);

#endif
