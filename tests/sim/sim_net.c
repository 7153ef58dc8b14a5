/* Virtual time and links, see sim.h. */
#include "tests/sim/sim.h"

#include "base/ensure.h"

#include <stdlib.h>

uint64_t sim_random(struct sim *s, uint64_t below)
{
	s->random ^= s->random << 13;
	s->random ^= s->random >> 7;
	s->random ^= s->random << 17;
	return (s->random * 0x2545f4914f6cdd1du >> 16) % below;
}

static bool earlier(const struct sim_event *a, const struct sim_event *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->order < b->order;
}

void sim_later(struct sim *s, struct sim_event e, uint64_t delay_us)
{
	unsigned i = s->events++;

	if (s->events > s->room) {
		s->room = s->room ? 2 * s->room : 256;
		s->heap = realloc(s->heap, s->room * sizeof *s->heap);
		ensure(s->heap);
	}
	e.at_us = s->now_us + delay_us;
	e.order = s->orders++;
	for (; i > 0 && earlier(&e, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = e;
}

bool sim_next(struct sim *s, struct sim_event *e)
{
	struct sim_event last;
	unsigned i = 0;

	if (s->events == 0)
		return false;
	*e = s->heap[0];
	last = s->heap[--s->events];
	for (unsigned child; (child = 2 * i + 1) < s->events; i = child) {
		if (child + 1 < s->events && earlier(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!earlier(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
	}
	s->heap[i] = last;
	s->now_us = e->at_us;
	return true;
}

/* Mostly quick, sometimes a retransmission; never before what was sent earlier. */
static void travel(struct sim *s, struct sim_event e)
{
	struct sim_link *l = &s->link[e.from][e.node];
	uint64_t delay = 3 + sim_random(s, 60) + (sim_random(s, 100) == 0 ? sim_random(s, 5000) : 0);
	uint64_t arrival = s->now_us + delay;

	if (arrival < l->busy_us && !s->disorder)
		arrival = l->busy_us;
	l->busy_us = arrival;
	e.epoch = l->epoch;
	sim_later(s, e, arrival - s->now_us);
}

void sim_send(struct sim *s, struct sim_event letter)
{
	if (s->link[letter.from][letter.node].closed)
		return;
	s->count.letters++;
	s->count.bytes += letter.bytes == PAGE_DATA_IN ? SIM_BYTES : 0;
	travel(s, letter);
}

void sim_close(struct sim *s, uint8_t from, uint8_t to)
{
	struct sim_link *l = &s->link[from][to];

	if (l->closed)
		return;
	travel(s, (struct sim_event){.what = SIM_STREAM_END, .node = to, .from = from});
	l->closed = true;
}

void sim_cut(struct sim *s, uint8_t a, uint8_t b)
{
	s->link[a][b].epoch++;
	s->link[b][a].epoch++;
	sim_close(s, a, b);
	sim_close(s, b, a);
}

bool sim_arrives(const struct sim *s, const struct sim_event *e)
{
	return (e->what != SIM_LETTER && e->what != SIM_STREAM_END) || e->epoch == s->link[e->from][e->node].epoch;
}
