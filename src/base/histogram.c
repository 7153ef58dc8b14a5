/* See histogram.h. */
#include "base/histogram.h"

enum { SUB = 1 << HISTOGRAM_SUB_BITS };

static unsigned histogram_bucket(uint64_t value)
{
	unsigned top;

	if (value < SUB)
		return (unsigned)value;
	top = 63u - (unsigned)__builtin_clzll(value);
	if (top >= HISTOGRAM_BITS_MAX)
		return HISTOGRAM_BUCKETS - 1;
	return ((top - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS) + (unsigned)(value >> (top - HISTOGRAM_SUB_BITS) & (SUB - 1));
}

static uint64_t histogram_middle(unsigned bucket)
{
	unsigned shift = (bucket >> HISTOGRAM_SUB_BITS) - 1;

	if (bucket < SUB)
		return bucket;
	return ((uint64_t)(SUB + (bucket & (SUB - 1))) << shift) + (1ull << shift) / 2;
}

void histogram_add(struct histogram *h, uint64_t value)
{
	_Atomic uint64_t *at = &h->at[histogram_bucket(value)];

	atomic_store_explicit(at, atomic_load_explicit(at, memory_order_relaxed) + 1, memory_order_relaxed);
}

uint64_t histogram_count(const struct histogram *h)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
		n += atomic_load_explicit(&h->at[i], memory_order_relaxed);
	return n;
}

uint64_t histogram_permille(const struct histogram *h, unsigned permille)
{
	uint64_t all = histogram_count(h), want = (all * permille + 999) / 1000, seen = 0;

	if (all == 0)
		return 0;
	for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += atomic_load_explicit(&h->at[i], memory_order_relaxed);
		if (seen >= want && seen)
			return histogram_middle(i);
	}
	return histogram_middle(HISTOGRAM_BUCKETS - 1); /* values were added while we counted */
}
