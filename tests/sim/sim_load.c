/* Threads of the guest, see sim.h. Each touches pages at random, some far more often than others, checks what it reads and writes something
 * nobody else writes (sometimes zeros). A thread that faults waits until it is woken and tries again, as under KVM. */
#include "tests/sim/sim.h"

#include <string.h>

static const uint8_t zeros[SIM_BYTES];

static void choose(struct sim *s, struct sim_thread *t)
{
	bool hot = sim_random(s, 2) == 0;

	t->page = (uint16_t)sim_random(s, hot ? 1 + s->pages / 8 : s->pages);
	t->writes = sim_random(s, 3) == 0;
}

/* The frame is here with the rights it takes: the instruction retires. */
static void retire(struct sim *s, uint8_t n, struct sim_thread *t, uint8_t index)
{
	uint8_t *frame = s->node[n].frame[t->page], *oracle = s->oracle[t->page];

	if (memcmp(frame, oracle, SIM_BYTES) != 0)
		sim_fail(s, "node %u reads wrong bytes in page %u", n, t->page);
	s->count.reads += !t->writes;
	s->count.writes += t->writes;
	t->done++;
	if (!t->writes)
		return;
	if (sim_random(s, 8) == 0) {
		memcpy(frame, zeros, SIM_BYTES);
	} else {
		uint64_t mark[2] = {s->orders << 16 | (uint64_t)n << 8 | index, s->now_us + 1};

		memcpy(frame + sim_random(s, SIM_BYTES - sizeof mark), mark, sizeof mark);
	}
	memcpy(oracle, frame, SIM_BYTES);
}

static void fault(struct sim *s, uint8_t n, const struct sim_thread *t)
{
	struct sim_event e = {.what = SIM_FAULT, .node = n, .page = t->page, .write = t->writes};

	s->count.faults++;
	for (unsigned copies = sim_random(s, 10) == 0 ? 2 : 1; copies; copies--) /* KVM asks again now and then */
		sim_later(s, e, 1 + sim_random(s, 10));
}

static void prefetch(struct sim *s, uint8_t n)
{
	uint16_t p = (uint16_t)sim_random(s, s->pages);

	if (node_make_room(s, n, p))
		node_local(s, n, p, PAGE_EV_PREFETCH);
}

/* The guest says that the page is free. */
static void discard(struct sim *s, uint8_t n, uint16_t page)
{
	struct sim_node *node = &s->node[n];
	bool goes = node->page[page].state == PAGE_M && !node->page[page].held && node->page[page].pending == PAGE_IDLE;

	if (goes)
		memcpy(s->oracle[page], zeros, SIM_BYTES);
	node_local(s, n, page, PAGE_EV_DISCARD);
	if (goes && node->present[page])
		sim_fail(s, "node %u keeps page %u that it discards", n, page);
	s->count.discards += goes;
}

void load_thread(struct sim *s, uint8_t n, uint8_t index)
{
	struct sim_node *node = &s->node[n];
	struct sim_thread *t = &node->thread[index];
	struct sim_event again = {.what = SIM_THREAD, .node = n, .index = index};

	if (!node_runs(s, n))
		return;
	if (!t->waiting) {
		if (s->draining)
			return;
		choose(s, t);
	}
	if (node->present[t->page] && (node->writable[t->page] || !t->writes)) {
		t->waiting = false;
		retire(s, n, t, index);
		if (sim_random(s, 12) == 0)
			prefetch(s, n);
		if (sim_random(s, 20) == 0)
			discard(s, n, t->page);
		sim_later(s, again, 1 + sim_random(s, sim_random(s, 4) ? 10 : 400));
		return;
	}
	t->waiting = true;
	if (!node_make_room(s, n, t->page)) {
		s->count.retries++; /* all is held or under way: that passes */
		sim_later(s, again, 20 + sim_random(s, 50));
		return;
	}
	fault(s, n, t);
}

void load_wake(struct sim *s, uint8_t n, uint16_t page)
{
	struct sim_node *node = &s->node[n];

	for (uint8_t i = 0; i < node->threads; i++)
		if (node->thread[i].waiting && node->thread[i].page == page)
			sim_later(s, (struct sim_event){.what = SIM_THREAD, .node = n, .index = i}, 1 + sim_random(s, SIM_HOLD_US - 20));
}
