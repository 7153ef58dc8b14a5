/* See clock.h. */
#include "vm/clock.h"

enum { TOLERANCE_PPM = 250, DRIFT_UNKNOWN_PPB = 100000, DRIFT_KNOWN_PPB = 1000, DRIFT_MOST_PPB = 1000000, BILLION = 1000000000 };

struct clock_scale clock_scale_between(uint32_t host_khz, uint32_t guest_khz, unsigned bits)
{
	uint64_t apart = host_khz < guest_khz ? guest_khz - host_khz : host_khz - guest_khz;

	if (apart * 1000000 <= (uint64_t)host_khz * TOLERANCE_PPM)
		return (struct clock_scale){0, bits};
	return (struct clock_scale){(uint64_t)(((unsigned __int128)guest_khz << bits) / host_khz), bits};
}

uint64_t clock_scaled(const struct clock_scale *s, uint64_t host_tsc)
{
	return s->ratio ? (uint64_t)((unsigned __int128)host_tsc * s->ratio >> s->bits) : host_tsc;
}

static uint64_t echo_trip(const struct clock_echo *e)
{
	return (e->returned - e->sent) - (e->replied - e->received);
}

static int64_t echo_difference(const struct clock_echo *e)
{
	return (int64_t)(e->received - e->sent) / 2 + (int64_t)(e->replied - e->returned) / 2;
}

static void clock_add_to_epoch(struct clock_estimate *c, const struct clock_echo *e)
{
	if (c->epochs == 0 || e->returned - c->epoch_began >= (uint64_t)c->khz * 1000 * CLOCK_EPOCH_S) {
		c->epoch = c->epochs == 0 ? 0 : (c->epoch + 1) % CLOCK_EPOCHS;
		c->epochs += c->epochs < CLOCK_EPOCHS;
		c->epoch_began = e->returned;
		c->past[c->epoch] = *e;
	} else if (echo_trip(e) < echo_trip(&c->past[c->epoch])) {
		c->past[c->epoch] = *e;
	}
}

void clock_add(struct clock_estimate *c, const struct clock_echo *e)
{
	if (e->returned < e->sent || e->replied < e->received || e->returned - e->sent < e->replied - e->received)
		return; /* a peer that lies about its clock; the guest's time must not follow it */
	c->recent[c->next] = *e;
	c->next = (c->next + 1) % CLOCK_WINDOW;
	c->n += c->n < CLOCK_WINDOW;
	clock_add_to_epoch(c, e);
}

/* Between the shortest echoes of the oldest and of the latest whole epoch. */
int64_t clock_drift(const struct clock_estimate *c)
{
	const struct clock_echo *from = &c->past[(c->epoch + 1) % CLOCK_EPOCHS], *to = &c->past[(c->epoch + CLOCK_EPOCHS - 1) % CLOCK_EPOCHS];
	__int128 drift;

	if (c->epochs < CLOCK_EPOCHS)
		from = &c->past[0];
	if (c->epochs < 3 || to->sent <= from->sent)
		return 0;
	drift = (__int128)(echo_difference(to) - echo_difference(from)) * BILLION / (int64_t)(to->sent - from->sent);
	return drift > DRIFT_MOST_PPB ? DRIFT_MOST_PPB : drift < -DRIFT_MOST_PPB ? -DRIFT_MOST_PPB : (int64_t)drift;
}

bool clock_difference(const struct clock_estimate *c, uint64_t now, int64_t *cycles, uint64_t *error)
{
	uint64_t unsure_ppb = c->epochs < 3 ? DRIFT_UNKNOWN_PPB : DRIFT_KNOWN_PPB;
	int64_t drift = clock_drift(c);

	*error = UINT64_MAX;
	for (unsigned i = 0; i < c->n; i++) {
		const struct clock_echo *e = &c->recent[i];
		uint64_t age = now > e->returned ? now - e->returned : 0;
		uint64_t bound = echo_trip(e) / 2 + 1 + (uint64_t)((unsigned __int128)age * unsure_ppb / BILLION);

		if (bound < *error) {
			*error = bound;
			*cycles = echo_difference(e) + (int64_t)((__int128)drift * (int64_t)age / BILLION);
		}
	}
	if (c->n && (uint64_t)(*cycles < 0 ? -*cycles : *cycles) <= *error)
		*cycles = 0;
	return c->n > 0;
}

uint64_t clock_round_trip(const struct clock_estimate *c)
{
	uint64_t best = 0;

	for (unsigned i = 0; i < c->n; i++)
		if (!best || echo_trip(&c->recent[i]) < best)
			best = echo_trip(&c->recent[i]);
	return best;
}
