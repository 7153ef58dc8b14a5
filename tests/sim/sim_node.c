/* One fragment, see sim.h: does to its frames and links what the machines say, and complains about what cannot be done. */
#include "tests/sim/sim.h"

#include "tests/page_text.h"

#include <string.h>

static const uint8_t zeros[SIM_BYTES];

void node_init(struct sim *s, uint8_t n)
{
	struct sim_node *node = &s->node[n];

	*node = (struct sim_node){.threads = 1 + (unsigned)sim_random(s, SIM_THREADS_MAX)};
	node->budget = node->threads + 1 + (unsigned)sim_random(s, s->pages / 3);
	stop_init(&node->stop, (node_t){n}, s->nodes);
}

bool node_runs(const struct sim *s, uint8_t n)
{
	return !s->node[n].crashed && !s->node[n].frozen;
}

unsigned node_cached(const struct sim *s, uint8_t n)
{
	const struct sim_node *node = &s->node[n];
	unsigned cached = 0;

	for (unsigned p = 0; p < s->pages; p++)
		cached += s->home[p] != n && (node->present[p] || node->page[p].pending != PAGE_IDLE);
	return cached;
}

/* The agreed stop. */

static void tell(struct sim *s, uint8_t n)
{
	for (uint8_t to = 0; to < s->nodes; to++)
		if (to != n)
			sim_send(s, (struct sim_event){.what = SIM_LETTER, .node = to, .from = n, .stop = true, .cause = s->node[n].stop.told});
	sim_later(s, (struct sim_event){.what = SIM_DEADLINE, .node = n}, SIM_DEADLINE_US);
}

void node_stop(struct sim *s, uint8_t n, struct stop_event ev)
{
	struct sim_node *node = &s->node[n];
	unsigned actions = stop_step(&node->stop, &ev);

	if (actions & STOP_DO_FREEZE)
		node->frozen = true;
	if (actions & STOP_DO_TELL) {
		sim_say(s, "node %u stops: %s about %u", n, stop_reason_name(node->stop.told.reason), node->stop.told.node.v);
		tell(s, n);
	}
	if (actions & STOP_DO_END)
		for (uint8_t to = 0; to < s->nodes; to++)
			if (to != n)
				sim_close(s, n, to);
}

/* Pages. */

static void install(struct sim *s, uint8_t n, uint16_t p, const struct page_action *a, const uint8_t *in)
{
	struct sim_node *node = &s->node[n];

	if (node->present[p] || (a->bytes != PAGE_ZERO && a->bytes != PAGE_DATA_IN) || (a->bytes == PAGE_DATA_IN && !in))
		sim_fail(s, "node %u cannot install page %u", n, p);
	memcpy(node->frame[p], a->bytes == PAGE_ZERO ? zeros : in, SIM_BYTES);
	node->present[p] = true;
	node->writable[p] = a->state == PAGE_M;
	load_wake(s, n, p);
}

static void send(struct sim *s, uint8_t n, uint16_t p, const struct page_action *a, const uint8_t *in)
{
	struct sim_event letter = {.what = SIM_LETTER, .node = a->to.v, .from = n, .page = p, .msg = a->msg, .bytes = a->bytes};
	const uint8_t *bytes = a->bytes == PAGE_TAKEN ? s->node[n].buffer : in;

	if (a->bytes == PAGE_TAKEN || a->bytes == PAGE_DATA_IN) {
		if (!bytes)
			sim_fail(s, "node %u sends bytes of page %u it does not have", n, p);
		letter.bytes = memcmp(bytes, zeros, SIM_BYTES) == 0 ? PAGE_ZERO : PAGE_DATA_IN;
		memcpy(letter.data, bytes, SIM_BYTES);
	}
	sim_send(s, letter);
}

static void act(struct sim *s, uint8_t n, uint16_t p, const struct page_action *a, const uint8_t *in)
{
	struct sim_node *node = &s->node[n];

	switch (a->kind) {
	case PAGE_DO_SEND:
		send(s, n, p, a, in);
		break;
	case PAGE_DO_INSTALL:
		install(s, n, p, a, in);
		break;
	case PAGE_DO_UPGRADE:
		node->writable[p] = true;
		load_wake(s, n, p);
		break;
	case PAGE_DO_PROTECT:
		node->writable[p] = false;
		break;
	case PAGE_DO_TAKE:
		if (!node->present[p] || node->writable[p])
			sim_fail(s, "node %u takes page %u while it can change", n, p);
		memcpy(node->buffer, node->frame[p], SIM_BYTES);
		break;
	case PAGE_DO_ZAP:
		node->present[p] = false;
		memset(node->frame[p], 0xdd, SIM_BYTES);
		break;
	case PAGE_DO_WAKE:
		load_wake(s, n, p);
		break;
	case PAGE_DO_HOLD:
		sim_later(s, (struct sim_event){.what = SIM_HOLD_END, .node = n, .page = p}, SIM_HOLD_US + sim_random(s, 20));
		break;
	}
}

static void step(struct sim *s, uint8_t n, uint16_t p, const struct page_event *ev, const uint8_t *in)
{
	struct sim_node *node = &s->node[n];
	struct page_actions out;
	char event[PAGE_TEXT_BYTES], did[PAGE_TEXT_BYTES];
	int err = page_step(&node->page[p], s->home[p] == n ? &node->dir[p] : NULL, (node_t){n}, (node_t){s->home[p]}, ev, &out);

	sim_say(s, "node %u page %u: %s -> %s", n, p, page_text_of_event(ev, event), err ? "refused" : page_text_of_actions(&out, did));
	if (err) {
		if (s->plan != SIM_NONSENSE || s->struck != ev->from.v)
			sim_fail(s, "node %u refuses an honest message of %u about page %u", n, ev->from.v, p);
		node_stop(s, n, (struct stop_event){.kind = STOP_EV_CAUSE, .cause = {STOP_PROTOCOL, ev->from}});
		return;
	}
	for (unsigned i = 0; i < out.n; i++)
		act(s, n, p, &out.at[i], in);
	if (node->present[p] != (node->page[p].state != PAGE_I) || (node->present[p] && node->writable[p] != (node->page[p].state == PAGE_M)))
		sim_fail(s, "node %u page %u: the machine's state is not the frame's", n, p);
	if (node_cached(s, n) > node->budget)
		sim_fail(s, "node %u holds more than its budget", n);
}

void node_local(struct sim *s, uint8_t n, uint16_t p, enum page_event_kind kind)
{
	struct page_event ev = {.kind = kind};

	if (node_runs(s, n))
		step(s, n, p, &ev, NULL);
}

void node_take(struct sim *s, const struct sim_event *e)
{
	struct page_event ev = {.kind = PAGE_EV_MSG, .msg = e->msg, .from = {e->from}, .bytes = e->bytes};

	ev.exclusive = e->msg == PAGE_GET_S && sim_random(s, 3) == 0; /* any policy will do */
	if (s->node[e->node].crashed)
		return;
	if (e->stop)
		node_stop(s, e->node, (struct stop_event){.kind = STOP_EV_HEARD, .from = {e->from}, .cause = e->cause});
	else if (!s->node[e->node].frozen)
		step(s, e->node, e->page, &ev, e->bytes == PAGE_DATA_IN ? e->data : NULL);
}

bool node_make_room(struct sim *s, uint8_t n, uint16_t page)
{
	struct sim_node *node = &s->node[n];
	unsigned first = (unsigned)sim_random(s, s->pages);

	if (s->home[page] == n || node->page[page].state != PAGE_I || node->page[page].pending != PAGE_IDLE)
		return true; /* takes no more than it has */
	for (unsigned i = 0; i < s->pages && node_cached(s, n) >= node->budget; i++) {
		uint16_t p = (uint16_t)((first + i) % s->pages);

		if (s->home[p] != n && node->present[p]) {
			node_local(s, n, p, PAGE_EV_EVICT);
			s->count.evictions += !node->present[p];
		}
	}
	return node_cached(s, n) < node->budget;
}
