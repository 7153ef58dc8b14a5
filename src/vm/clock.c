/* See clock.h. */
#include "vm/clock.h"

static uint64_t echo_trip(const struct clock_echo *e)
{
	return (e->returned - e->sent) - (e->replied - e->received);
}

void clock_add(struct clock_estimate *c, const struct clock_echo *e)
{
	if (e->returned < e->sent || e->replied < e->received || e->returned - e->sent < e->replied - e->received)
		return; /* a peer that lies about its clock; the guest's time must not follow it */
	c->best[c->next] = *e;
	c->next = (c->next + 1) % CLOCK_WINDOW;
	if (c->n < CLOCK_WINDOW)
		c->n++;
}

static const struct clock_echo *clock_shortest(const struct clock_estimate *c)
{
	const struct clock_echo *best = NULL;

	for (unsigned i = 0; i < c->n; i++)
		if (!best || echo_trip(&c->best[i]) < echo_trip(best))
			best = &c->best[i];
	return best;
}

bool clock_difference(const struct clock_estimate *c, int64_t *cycles, uint64_t *error)
{
	const struct clock_echo *e = clock_shortest(c);
	int64_t there, back;

	if (!e)
		return false;
	there = (int64_t)(e->received - e->sent);
	back = (int64_t)(e->replied - e->returned);
	*cycles = there / 2 + back / 2;
	*error = echo_trip(e) / 2 + 1;
	if ((uint64_t)(*cycles < 0 ? -*cycles : *cycles) <= *error)
		*cycles = 0;
	return true;
}

uint64_t clock_round_trip(const struct clock_estimate *c)
{
	const struct clock_echo *e = clock_shortest(c);

	return e ? echo_trip(e) : 0;
}
