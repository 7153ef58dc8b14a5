/* See hold.h. */
#include "mem/hold.h"

#include "base/ensure.h"

void hold_begin(struct holds *h, const struct hold *one)
{
	unsigned i = h->n++;

	ensure(i < HOLDS_MAX);
	for (unsigned up; i && h->at[up = (i - 1) / 2].due_ns > one->due_ns; i = up)
		h->at[i] = h->at[up];
	h->at[i] = *one;
}

bool hold_end(struct holds *h, uint64_t now_ns, struct hold *out)
{
	struct hold last;
	unsigned i = 0;

	if (h->n == 0 || h->at[0].due_ns > now_ns)
		return false;
	*out = h->at[0];
	last = h->at[--h->n];
	for (unsigned down; (down = 2 * i + 1) < h->n; i = down) {
		if (down + 1 < h->n && h->at[down + 1].due_ns < h->at[down].due_ns)
			down++;
		if (h->at[down].due_ns >= last.due_ns)
			break;
		h->at[i] = h->at[down];
	}
	h->at[i] = last;
	return true;
}

uint64_t hold_next_ns(const struct holds *h)
{
	return h->n ? h->at[0].due_ns : UINT64_MAX;
}

/* xorshift64: the quality of the numbers does not matter, only that two nodes draw different ones. */
static uint64_t hold_random(struct holds *h)
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return h->random;
}

uint64_t hold_ns(struct holds *h, uint8_t heat, uint64_t base_ns, uint64_t trip_ns, uint64_t max_ns)
{
	unsigned shift = heat / HOLD_HEAT_STEP;
	uint64_t ns;

	if (heat == 0)
		return base_ns < max_ns ? base_ns : max_ns;
	ns = (base_ns > 2 * trip_ns ? base_ns : 2 * trip_ns) << (shift < HOLD_SHIFT_MAX ? shift : HOLD_SHIFT_MAX);
	if (ns > max_ns / 2)
		ns = max_ns / 2;
	return ns + hold_random(h) % (ns + 1);
}

uint8_t hold_heat(struct hold_recent *r, uint64_t page, uint8_t heat)
{
	unsigned i = 0;
	bool known;

	while (i < HOLD_RECENT - 1 && r->at[i] != page + 1)
		i++;
	known = r->at[i] == page + 1;
	for (unsigned k = i; k; k--)
		r->at[k] = r->at[k - 1];
	r->at[0] = page + 1;
	if (!known)
		return heat / 2;
	return i && heat < HOLD_HEAT_STEP * (HOLD_SHIFT_MAX + 1) ? (uint8_t)(heat + 1) : heat;
}
