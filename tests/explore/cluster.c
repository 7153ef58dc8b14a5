/* The explored cluster: moves, the watching driver, invariants. See cluster.h. */
#include "tests/explore/cluster.h"

#include "tests/page_text.h"

#include <stdio.h>
#include <string.h>

static const node_t home_node = {0};

void cluster_init(struct cluster *c, unsigned nodes)
{
	*c = (struct cluster){.nodes = (uint8_t)nodes, .last_zero = 1};
}

/* Moves. */

static void move_add(struct move *moves, unsigned *n, struct move m)
{
	moves[(*n)++] = m;
}

static void local_moves(const struct cluster *c, uint8_t node, struct move *moves, unsigned *n)
{
	for (uint8_t event = PAGE_EV_READ; event <= PAGE_EV_HOLD_END; event++)
		if (event != PAGE_EV_HOLD_END || c->page[node].held)
			move_add(moves, n, (struct move){.kind = MOVE_LOCAL, .node = node, .event = event});
	if (c->page[node].state == PAGE_M)
		for (uint8_t zero = 0; zero < 2; zero++)
			move_add(moves, n, (struct move){.kind = MOVE_RETIRE, .node = node, .zero = zero});
}

static void channel_moves(const struct channel *ch, struct move m, bool disorder, struct move *moves, unsigned *n)
{
	for (uint8_t i = 0; i < (disorder || ch->n == 0 ? ch->n : 1); i++) {
		m.index = i;
		m.exclusive = 0;
		move_add(moves, n, m);
		m.exclusive = 1;
		if (ch->at[i].msg == PAGE_GET_S && m.kind == MOVE_UP)
			move_add(moves, n, m);
	}
}

unsigned cluster_moves(const struct cluster *c, bool disorder, struct move moves[CLUSTER_MOVES_MAX])
{
	unsigned n = 0;

	for (uint8_t node = 0; node < c->nodes; node++) {
		local_moves(c, node, moves, &n);
		channel_moves(&c->up[node], (struct move){.kind = MOVE_UP, .node = node}, disorder, moves, &n);
		channel_moves(&c->down[node], (struct move){.kind = MOVE_DOWN, .node = node}, disorder, moves, &n);
	}
	return n;
}

static struct letter channel_take(struct channel *ch, unsigned i)
{
	struct letter l = ch->at[i];

	memmove(&ch->at[i], &ch->at[i + 1], (ch->n - i - 1) * sizeof l);
	ch->at[--ch->n] = (struct letter){0};
	return l;
}

/* The watching driver: carries out the actions of one step on an abstract frame. */

struct watch {
	struct cluster *c;
	uint8_t node;
	enum page_state frame; /* what is mapped: nothing, write-protected, writable */
	struct letter in;      /* the message being handled, if any */
	bool taken, woken;
	unsigned holds;
};

/* What the sender of a message may still have mapped. */
static enum page_state watch_may_keep(enum page_msg msg)
{
	switch (msg) {
	case PAGE_DROP:
	case PAGE_WRITE_BACK:
	case PAGE_ACK:
	case PAGE_GRANT_M:
		return PAGE_I;
	case PAGE_DATA:
	case PAGE_GRANT_S:
		return PAGE_S;
	default:
		return PAGE_M;
	}
}

static const char *watch_send(struct watch *w, const struct page_action *a)
{
	struct channel *ch = w->node ? &w->c->up[w->node] : &w->c->down[a->to.v];
	struct letter l = {.msg = (uint8_t)a->msg, .bytes = (uint8_t)a->bytes};

	if (w->node ? a->to.v != 0 : a->to.v == 0 || a->to.v >= w->c->nodes)
		return "a message to nobody or to itself";
	if (ch->n >= (w->node ? CLUSTER_UP_MAX : CLUSTER_DOWN_MAX))
		return "I10 more messages under way than promised";
	if (w->frame > watch_may_keep(a->msg))
		return "I4 rights are given up in a message while the frame is still here";
	if (a->bytes == PAGE_TAKEN) {
		if (!w->taken)
			return "bytes sent that were never taken";
		l.bytes = w->c->last_zero ? PAGE_ZERO : PAGE_DATA_IN; /* the driver looks */
		l.fresh = 1;
	} else if (a->bytes == PAGE_DATA_IN) {
		if (w->in.bytes != PAGE_DATA_IN)
			return "bytes passed on that never came";
		l.fresh = w->in.fresh;
	}
	if (l.bytes == PAGE_ZERO)
		l.fresh = w->c->last_zero;
	ch->at[ch->n++] = l;
	return NULL;
}

static const char *watch_install(struct watch *w, const struct page_action *a)
{
	bool fresh = a->bytes == PAGE_ZERO ? w->c->last_zero : w->in.fresh;

	if (w->frame != PAGE_I || a->state == PAGE_I)
		return "installed over a frame";
	if (a->bytes == PAGE_NONE || a->bytes == PAGE_TAKEN || (a->bytes == PAGE_DATA_IN && w->in.bytes != PAGE_DATA_IN))
		return "installed bytes that never came";
	if (!fresh)
		return "I2 a stale copy is installed";
	w->frame = a->state;
	w->woken = true;
	return NULL;
}

static const char *watch_frame(struct watch *w, const struct page_action *a, bool held)
{
	enum page_state need = a->kind == PAGE_DO_PROTECT ? PAGE_M : PAGE_S;

	if (w->frame != need)
		return a->kind == PAGE_DO_ZAP ? "zapped a frame that is absent or still writable" : "the frame is not in the state this action needs";
	if (held && (a->kind == PAGE_DO_ZAP || a->kind == PAGE_DO_PROTECT))
		return "I9 taken during its minimum hold";
	if (a->kind == PAGE_DO_PROTECT)
		w->frame = PAGE_S;
	else if (a->kind == PAGE_DO_ZAP)
		w->frame = PAGE_I;
	else if (a->kind == PAGE_DO_UPGRADE)
		w->frame = PAGE_M;
	w->taken |= a->kind == PAGE_DO_TAKE;
	w->woken |= a->kind == PAGE_DO_UPGRADE;
	return NULL;
}

static const char *watch_action(struct watch *w, const struct page_action *a, bool held)
{
	switch (a->kind) {
	case PAGE_DO_SEND:
		return watch_send(w, a);
	case PAGE_DO_INSTALL:
		return watch_install(w, a);
	case PAGE_DO_WAKE:
		w->woken = true;
		return NULL;
	case PAGE_DO_HOLD:
		w->holds++;
		return NULL;
	default:
		return watch_frame(w, a, held);
	}
}

/* What one step promises to the threads of its node. */
static const char *watch_end(const struct watch *w, const struct page *before, const struct page_event *ev)
{
	const struct page *p = &w->c->page[w->node];
	bool fault = ev->kind == PAGE_EV_READ || ev->kind == PAGE_EV_WRITE;
	bool ended = before->pending != PAGE_IDLE && p->pending == PAGE_IDLE;

	if (w->frame != p->state)
		return "the machine's state is not the frame's";
	if (fault && !w->woken && (p->pending == PAGE_IDLE || p->pending == PAGE_PREFETCHING))
		return "I8 a fault is forgotten";
	if (ended && !w->woken)
		return "I8 a request ends and nobody is woken";
	if (ended && before->pending != PAGE_PREFETCHING && !w->holds)
		return "I8 a page somebody waited for is not held";
	if (before->held + w->holds - (ev->kind == PAGE_EV_HOLD_END) != p->held)
		return "I9 hold ends owed and hold ends expected differ";
	return NULL;
}

static const char *node_step(struct cluster *c, uint8_t node, const struct page_event *ev, struct letter in, char *did)
{
	struct page before = c->page[node];
	struct watch w = {.c = c, .node = node, .frame = before.state, .in = in};
	bool held = before.held > (ev->kind == PAGE_EV_HOLD_END);
	struct page_actions actions;
	int err = page_step(&c->page[node], node ? NULL : &c->dir, (node_t){node}, home_node, ev, &actions);

	if (did)
		page_text_of_actions(&actions, did);
	if (err)
		return "I7 an honest message is refused";
	for (unsigned i = 0; i < actions.n; i++) {
		const char *wrong = watch_action(&w, &actions.at[i], held);

		if (wrong)
			return wrong;
	}
	return watch_end(&w, &before, ev);
}

/* All older bytes in flight are stale from now on. */
static const char *retire(struct cluster *c, uint8_t node, bool zero)
{
	c->last_zero = zero;
	for (unsigned n = 0; n < c->nodes; n++) {
		if (n != node && c->page[n].state != PAGE_I)
			return "I1 a write retires while another node holds a copy";
		for (unsigned i = 0; i < c->up[n].n; i++)
			c->up[n].at[i].fresh = 0;
		for (unsigned i = 0; i < c->down[n].n; i++)
			c->down[n].at[i].fresh = 0;
	}
	return NULL;
}

/* Will a discard be carried out? */
static bool discards(const struct page *p)
{
	return p->state == PAGE_M && !p->held && p->pending == PAGE_IDLE;
}

const char *cluster_apply(struct cluster *c, const struct move *m, char *did)
{
	struct page_event ev = {.kind = PAGE_EV_MSG, .from = {m->kind == MOVE_UP ? m->node : 0}};
	struct letter in = {0};

	if (did)
		did[0] = 0;
	if (m->kind == MOVE_RETIRE)
		return retire(c, m->node, m->zero);
	if (m->kind == MOVE_LOCAL) {
		ev = (struct page_event){.kind = (enum page_event_kind)m->event};
		if (ev.kind == PAGE_EV_DISCARD && discards(&c->page[m->node])) {
			const char *wrong = retire(c, m->node, true); /* it is a write of zeros, too */

			if (wrong)
				return wrong;
		}
		return node_step(c, m->node, &ev, in, did);
	}
	in = channel_take(m->kind == MOVE_UP ? &c->up[m->node] : &c->down[m->node], m->index);
	ev.msg = (enum page_msg)in.msg;
	ev.bytes = (enum page_bytes)in.bytes;
	ev.exclusive = m->exclusive;
	return node_step(c, m->kind == MOVE_UP ? 0 : m->node, &ev, in, did);
}

/* Invariants of a state. */

static unsigned channel_count(const struct channel *ch, unsigned msgs)
{
	unsigned n = 0;

	for (unsigned i = 0; i < ch->n; i++)
		n += msgs >> ch->at[i].msg & 1;
	return n;
}

enum {
	GETS = 1u << PAGE_GET_S | 1u << PAGE_GET_M,
	RECALLS = 1u << PAGE_INV | 1u << PAGE_FETCH_S | 1u << PAGE_FETCH_M,
	ANSWERS = 1u << PAGE_ACK | 1u << PAGE_DATA,
	GRANTS = 1u << PAGE_GRANT_S | 1u << PAGE_GRANT_M,
};

/* Every request is in exactly one place until granted; every recall likewise until answered. */
static const char *check_books(const struct cluster *c, unsigned n)
{
	const struct page *p = &c->page[n];
	unsigned waiting = c->dir.want_s | c->dir.want_m, wants = (waiting >> n & 1) + (c->dir.serving == n + 1);
	unsigned requests = wants + channel_count(&c->up[n], GETS) + channel_count(&c->down[n], GRANTS);
	unsigned recalls = channel_count(&c->down[n], RECALLS) + (p->recalled != 0) + channel_count(&c->up[n], ANSWERS);

	if (requests != (p->pending != PAGE_IDLE))
		return requests > 1 ? "I3 two requests for one node" : "I7 a request is lost or granted twice";
	if (recalls != (c->dir.awaiting >> n & 1))
		return "I7 a recall is not answered exactly once";
	if (p->recalled && !p->held)
		return "I9 a recall waits for no hold";
	return NULL;
}

/* The directory covers every holder, and names nobody else but those whose word is under way. */
static const char *check_cover(const struct cluster *c, unsigned n)
{
	bool sharer = c->dir.sharers >> n & 1, owner = c->dir.owner == n + 1;
	bool in_flight = channel_count(&c->down[n], GRANTS) || channel_count(&c->up[n], ANSWERS | 1u << PAGE_DROP | 1u << PAGE_WRITE_BACK);

	if (c->page[n].state == PAGE_M && !owner)
		return "I5 the directory does not know the owner";
	if (c->page[n].state == PAGE_S && !sharer && !(owner && in_flight))
		return "I5 the directory does not know a sharer";
	if (sharer && c->page[n].state != PAGE_S && !in_flight)
		return "I5 the directory names a sharer that is none";
	if (owner && c->page[n].state != PAGE_M && !in_flight)
		return "I5 the directory names an owner that is none";
	return NULL;
}

const char *cluster_check(const struct cluster *c)
{
	unsigned shared = 0, modified = 0;

	for (unsigned n = 0; n < c->nodes; n++) {
		const char *wrong = check_books(c, n);

		if (!wrong)
			wrong = check_cover(c, n);
		if (wrong)
			return wrong;
		shared += c->page[n].state == PAGE_S;
		modified += c->page[n].state == PAGE_M;
	}
	if (modified > 1 || (modified && shared))
		return "I1 two writers, or a writer and a reader";
	if (c->dir.touched && !c->dir.owner && c->page[0].state != PAGE_S)
		return "I6 bytes without an owner are not at the home";
	if (!c->dir.touched && !c->last_zero)
		return "I6 the home takes a page for zero that is not";
	if (cluster_quiet(c) && (c->dir.serving || c->dir.want_s || c->dir.want_m))
		return "I8 everything stands still and a request waits";
	return NULL;
}

bool cluster_quiet(const struct cluster *c)
{
	for (unsigned n = 0; n < c->nodes; n++)
		if (c->page[n].held || c->up[n].n || c->down[n].n)
			return false;
	return true;
}
