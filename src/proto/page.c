/* The coherence machine of one page, see page.h. Three parts: what any holder does (page_*), what the home does besides (dir_*), and the
 * gate that refuses messages which their sender may not send now. Nothing is changed before the gate has let a message through. */
#include "proto/page.h"

#include "base/ensure.h"

#include <errno.h>

/* One call of page_step(). */
struct step {
	struct page *p;
	struct page_dir *d; /* NULL unless self is the home */
	node_t self, home;
	enum page_bytes have; /* where this step already has the page's bytes, PAGE_NONE if nowhere */
	struct page_actions *out;
};

static void dir_request(struct step *s, node_t from, bool write);
static void dir_finish(struct step *s);
static void dir_next(struct step *s);

static uint16_t bit(node_t n)
{
	return (uint16_t)(1u << n.v);
}

/* Actions. */

static struct page_action *act(struct step *s, enum page_action_kind kind)
{
	struct page_action *a = &s->out->at[s->out->n];

	ensure(s->out->n < PAGE_ACTIONS_MAX); /* I10 */
	s->out->n++;
	*a = (struct page_action){.kind = kind};
	return a;
}

static void act_send(struct step *s, node_t to, enum page_msg msg, enum page_bytes bytes)
{
	struct page_action *a = act(s, PAGE_DO_SEND);

	a->msg = msg;
	a->to = to;
	a->bytes = bytes;
}

static void act_install(struct step *s, enum page_state state, enum page_bytes bytes)
{
	struct page_action *a = act(s, PAGE_DO_INSTALL);

	a->state = state;
	a->bytes = bytes;
	s->p->state = (uint8_t)state;
}

/* Bytes of the local frame, read at most once a step: nothing can write them before the step is over. */
static enum page_bytes act_take(struct step *s)
{
	if (s->have == PAGE_NONE) {
		act(s, PAGE_DO_TAKE);
		s->have = PAGE_TAKEN;
	}
	return s->have;
}

static void act_zap(struct step *s)
{
	act(s, PAGE_DO_ZAP);
	s->p->state = PAGE_I;
}

static void act_hold(struct step *s)
{
	act(s, PAGE_DO_HOLD);
	s->p->held++;
}

/* Any holder: local events. */

static void page_request(struct step *s, enum page_pending why)
{
	bool write = why == PAGE_WRITING;

	s->p->pending = (uint8_t)why;
	if (s->d)
		dir_request(s, s->self, write);
	else
		act_send(s, s->home, write ? PAGE_GET_M : PAGE_GET_S, PAGE_NONE);
}

static void page_read(struct step *s)
{
	if (s->p->state != PAGE_I)
		act(s, PAGE_DO_WAKE);
	else if (s->p->pending == PAGE_IDLE)
		page_request(s, PAGE_READING);
	else if (s->p->pending == PAGE_PREFETCHING)
		s->p->pending = PAGE_READING;
}

static void page_write(struct step *s)
{
	if (s->p->state == PAGE_M)
		act(s, PAGE_DO_WAKE);
	else if (s->p->pending == PAGE_IDLE)
		page_request(s, PAGE_WRITING);
	else if (s->p->pending == PAGE_PREFETCHING)
		s->p->pending = PAGE_READING;
}

static void page_prefetch(struct step *s)
{
	if (s->p->state == PAGE_I && s->p->pending == PAGE_IDLE)
		page_request(s, PAGE_PREFETCHING);
}

static void page_evict(struct step *s)
{
	if (s->d || s->p->held || s->p->pending != PAGE_IDLE)
		return;
	if (s->p->state == PAGE_S) {
		act_zap(s);
		act_send(s, s->home, PAGE_DROP, PAGE_NONE);
	} else if (s->p->state == PAGE_M) {
		act(s, PAGE_DO_PROTECT);
		act_take(s);
		act_zap(s);
		act_send(s, s->home, PAGE_WRITE_BACK, PAGE_TAKEN);
	}
}

static void page_discard(struct step *s)
{
	if (s->p->state != PAGE_M || s->p->held || s->p->pending != PAGE_IDLE)
		return;
	act(s, PAGE_DO_PROTECT);
	act_zap(s);
	if (s->d) {
		s->d->owner = 0;
		s->d->touched = 0;
	} else {
		act_send(s, s->home, PAGE_WRITE_BACK, PAGE_ZERO);
	}
}

/* Any holder but the home: the home calls something back. */

static void page_inv(struct step *s)
{
	if (s->p->state != PAGE_I)
		act_zap(s);
	act_send(s, s->home, PAGE_ACK, PAGE_NONE);
}

static void page_fetch_s(struct step *s)
{
	if (s->p->state == PAGE_I) {
		act_send(s, s->home, PAGE_ACK, PAGE_NONE);
		return;
	}
	act(s, PAGE_DO_PROTECT);
	s->p->state = PAGE_S;
	act_send(s, s->home, PAGE_DATA, act_take(s));
}

static void page_fetch_m(struct step *s)
{
	if (s->p->state == PAGE_I) {
		act_send(s, s->home, PAGE_ACK, PAGE_NONE);
		return;
	}
	act(s, PAGE_DO_PROTECT);
	act_take(s);
	act_zap(s);
	act_send(s, s->home, PAGE_DATA, PAGE_TAKEN);
}

static void page_recall(struct step *s, enum page_msg msg)
{
	if (s->p->held)
		s->p->recalled = (uint8_t)(1 + msg); /* I9 */
	else if (msg == PAGE_INV)
		page_inv(s);
	else if (msg == PAGE_FETCH_S)
		page_fetch_s(s);
	else
		page_fetch_m(s);
}

static void page_hold_end(struct step *s)
{
	unsigned recalled = s->p->recalled;

	ensure(s->p->held > 0);
	s->p->held--;
	if (s->p->held || !recalled)
		return;
	s->p->recalled = 0;
	if (s->d) {
		s->d->awaiting &= (uint16_t)~bit(s->self);
		dir_finish(s);
		dir_next(s);
	} else {
		page_recall(s, (enum page_msg)(recalled - 1));
	}
}

/* Any holder: the home grants. bytes PAGE_NONE: our own Shared copy is good. */

static void page_granted_s(struct step *s, enum page_bytes bytes)
{
	bool waited = s->p->pending != PAGE_PREFETCHING;

	s->p->pending = PAGE_IDLE;
	if (s->p->state == PAGE_I)
		act_install(s, PAGE_S, bytes);
	else
		act(s, PAGE_DO_WAKE); /* at the home only: a write-back has brought it meanwhile, and a writer may have come since */
	if (waited)
		act_hold(s);
}

static void page_granted_m(struct step *s, enum page_bytes bytes)
{
	bool waited = s->p->pending != PAGE_PREFETCHING;

	s->p->pending = PAGE_IDLE;
	if (bytes == PAGE_NONE) {
		act(s, PAGE_DO_UPGRADE);
		s->p->state = PAGE_M;
	} else {
		act_install(s, PAGE_M, bytes);
	}
	if (waited)
		act_hold(s);
}

/* The home: one request at a time. */

static node_t dir_served(const struct step *s)
{
	return (node_t){(uint8_t)(s->d->serving - 1)};
}

static bool dir_owned_by(const struct step *s, node_t n)
{
	return s->d->owner == n.v + 1;
}

static void dir_recall(struct step *s, uint16_t from, enum page_msg msg)
{
	s->d->awaiting = from;
	for (uint8_t n = 0; n < NODES_MAX; n++)
		if (from & bit((node_t){n}))
			act_send(s, (node_t){n}, msg, PAGE_NONE);
}

/* Ask every other node that stands in the way of the request being served; the home's own copy is dealt with last, in dir_finish(). */
static void dir_serve(struct step *s, node_t n, bool write)
{
	struct page_dir *d = s->d;

	d->serving = (uint8_t)(n.v + 1);
	d->serving_m = write;
	d->last = n.v;
	if (d->owner && !dir_owned_by(s, s->self))
		dir_recall(s, bit((node_t){(uint8_t)(d->owner - 1)}), write ? PAGE_FETCH_M : PAGE_FETCH_S);
	else if (write)
		dir_recall(s, d->sharers & (uint16_t)~(bit(n) | bit(s->self)), PAGE_INV);
	dir_finish(s);
}

/* Serve what waits, in turn, until something has to be waited for (I8). */
static void dir_next(struct step *s)
{
	struct page_dir *d = s->d;
	uint16_t want = d->want_s | d->want_m;

	for (unsigned i = 1; i <= NODES_MAX && want && !d->serving; i++) {
		node_t n = {(uint8_t)((d->last + i) % NODES_MAX)};
		bool write = d->want_m & bit(n);

		if (!(want & bit(n)))
			continue;
		want &= (uint16_t)~bit(n);
		d->want_s &= (uint16_t)~bit(n);
		d->want_m &= (uint16_t)~bit(n);
		dir_serve(s, n, write);
		i = 0;
	}
}

static void dir_request(struct step *s, node_t from, bool write)
{
	if (write)
		s->d->want_m |= bit(from);
	else
		s->d->want_s |= bit(from);
	dir_next(s);
}

/* The home's own copy must go or become Shared; false if its hold runs (page_hold_end() comes back to dir_finish()). */
static bool dir_recall_own(struct step *s, enum page_msg msg)
{
	if (s->p->held) {
		s->p->recalled = (uint8_t)(1 + msg); /* I9 */
		s->d->awaiting = bit(s->self);
		return false;
	}
	if (s->p->state == PAGE_M) {
		act(s, PAGE_DO_PROTECT);
		s->p->state = PAGE_S;
		s->d->owner = 0;
		s->d->sharers = bit(s->self);
	}
	return true;
}

/* Bytes for a grant to a node without a copy: in hand, in the home's frame, or known to be zero. */
static enum page_bytes dir_bytes(struct step *s)
{
	if (s->have != PAGE_NONE)
		return s->have;
	return s->d->touched ? act_take(s) : PAGE_ZERO;
}

static void dir_grant_s(struct step *s, node_t to)
{
	s->d->serving = 0;
	s->d->sharers |= bit(to);
	if (!node_eq(to, s->self))
		act_send(s, to, PAGE_GRANT_S, dir_bytes(s));
	else
		page_granted_s(s, s->p->state == PAGE_I ? dir_bytes(s) : PAGE_NONE);
}

static void dir_grant_m(struct step *s, node_t to)
{
	enum page_bytes bytes = s->d->sharers & bit(to) ? PAGE_NONE : dir_bytes(s);

	if (!node_eq(to, s->self) && s->p->state != PAGE_I)
		act_zap(s);
	s->d->serving = 0;
	s->d->sharers = 0;
	s->d->owner = (uint8_t)(to.v + 1);
	s->d->touched = 1;
	if (node_eq(to, s->self))
		page_granted_m(s, bytes);
	else
		act_send(s, to, PAGE_GRANT_M, bytes);
}

/* Grant the request being served if no other node stands in the way any more. */
static void dir_finish(struct step *s)
{
	node_t to = dir_served(s);

	if (s->d->awaiting)
		return;
	if (s->d->serving_m) {
		if (node_eq(to, s->self) || s->p->state == PAGE_I || dir_recall_own(s, PAGE_INV))
			dir_grant_m(s, to);
	} else if (s->p->state != PAGE_M || dir_recall_own(s, PAGE_FETCH_S)) {
		dir_grant_s(s, to);
	}
}

/* The home: answers and give-ups. */

/* The owner's bytes come to rest at the home, which is then a sharer; zeros need no frame. */
static void dir_settle(struct step *s, enum page_bytes bytes)
{
	if (bytes == PAGE_ZERO)
		return;
	act_install(s, PAGE_S, bytes);
	s->d->sharers |= bit(s->self);
}

static void dir_drop(struct step *s, node_t from)
{
	s->d->sharers &= (uint16_t)~bit(from);
}

static void dir_write_back(struct step *s, enum page_bytes bytes)
{
	s->d->owner = 0;
	s->d->touched = bytes != PAGE_ZERO;
	dir_settle(s, bytes);
}

static void dir_ack(struct step *s, node_t from)
{
	s->d->sharers &= (uint16_t)~bit(from);
	s->d->awaiting &= (uint16_t)~bit(from);
	dir_finish(s);
	dir_next(s);
}

static void dir_data(struct step *s, node_t from, enum page_bytes bytes)
{
	s->have = bytes;
	s->d->awaiting = 0;
	s->d->owner = 0;
	if (!s->d->serving_m) {
		s->d->sharers = bit(from);
		s->d->touched = bytes != PAGE_ZERO;
		if (!node_eq(dir_served(s), s->self))
			dir_settle(s, bytes);
	}
	dir_finish(s);
	dir_next(s);
}

/* The gate: may 'from' send this now? */

static bool may_send_to_home(const struct step *s, const struct page_event *ev)
{
	const struct page_dir *d = s->d;

	if (!d || node_eq(ev->from, s->self))
		return false;

	bool shares = d->sharers & bit(ev->from), owns = dir_owned_by(s, ev->from), bare = ev->bytes == PAGE_NONE;
	bool waits = (d->want_s | d->want_m) & bit(ev->from) || d->serving == ev->from.v + 1;
	bool recalled = d->awaiting & bit(ev->from);

	switch (ev->msg) {
	case PAGE_GET_S:
		return bare && !waits && !owns && !shares;
	case PAGE_GET_M:
		return bare && !waits && !owns;
	case PAGE_DROP:
		return bare && !waits && shares;
	case PAGE_WRITE_BACK:
		return !bare && owns;
	case PAGE_ACK:
		return bare && recalled && !owns;
	case PAGE_DATA:
		return !bare && recalled && owns;
	default:
		return false;
	}
}

static bool may_send_from_home(const struct step *s, const struct page_event *ev)
{
	const struct page *p = s->p;
	bool asked = p->pending != PAGE_IDLE;

	if (s->d || !node_eq(ev->from, s->home) || p->recalled)
		return false;
	switch (ev->msg) {
	case PAGE_INV:
		return p->state != PAGE_M && ev->bytes == PAGE_NONE;
	case PAGE_FETCH_S:
	case PAGE_FETCH_M:
		return p->state != PAGE_S && ev->bytes == PAGE_NONE;
	case PAGE_GRANT_S:
		return asked && p->pending != PAGE_WRITING && ev->bytes != PAGE_NONE;
	case PAGE_GRANT_M:
		return asked && (p->state == PAGE_S) == (ev->bytes == PAGE_NONE);
	default:
		return false;
	}
}

static void page_message(struct step *s, const struct page_event *ev)
{
	switch (ev->msg) {
	case PAGE_GET_S:
	case PAGE_GET_M:
		dir_request(s, ev->from, ev->msg == PAGE_GET_M || ev->exclusive);
		break;
	case PAGE_DROP:
		dir_drop(s, ev->from);
		break;
	case PAGE_WRITE_BACK:
		dir_write_back(s, ev->bytes);
		break;
	case PAGE_ACK:
		dir_ack(s, ev->from);
		break;
	case PAGE_DATA:
		dir_data(s, ev->from, ev->bytes);
		break;
	case PAGE_GRANT_S:
		page_granted_s(s, ev->bytes);
		break;
	case PAGE_GRANT_M:
		page_granted_m(s, ev->bytes);
		break;
	default:
		page_recall(s, ev->msg);
	}
}

int page_step(struct page *p, struct page_dir *dir, node_t self, node_t home, const struct page_event *ev, struct page_actions *out)
{
	struct step s = {.p = p, .d = dir, .self = self, .home = home, .out = out};

	ensure((dir != NULL) == node_eq(self, home));
	out->n = 0;
	switch (ev->kind) {
	case PAGE_EV_READ:
		page_read(&s);
		return 0;
	case PAGE_EV_WRITE:
		page_write(&s);
		return 0;
	case PAGE_EV_PREFETCH:
		page_prefetch(&s);
		return 0;
	case PAGE_EV_EVICT:
		page_evict(&s);
		return 0;
	case PAGE_EV_DISCARD:
		page_discard(&s);
		return 0;
	case PAGE_EV_HOLD_END:
		page_hold_end(&s);
		return 0;
	case PAGE_EV_MSG:
		break;
	}
	if (ev->from.v >= NODES_MAX || ev->bytes > PAGE_DATA_IN || !(may_send_to_home(&s, ev) || may_send_from_home(&s, ev)))
		return -EPROTO;
	page_message(&s, ev);
	return 0;
}

const char *page_state_name(enum page_state s)
{
	static const char *const names[] = {[PAGE_I] = "I", [PAGE_S] = "S", [PAGE_M] = "M"};

	return (unsigned)s < ARRAY_LEN(names) ? names[s] : "?";
}

const char *page_msg_name(enum page_msg m)
{
	static const char *const names[PAGE_MSGS] = {
		[PAGE_GET_S] = "get_s", [PAGE_GET_M] = "get_m", [PAGE_DROP] = "drop", [PAGE_WRITE_BACK] = "write_back",
		[PAGE_INV] = "inv", [PAGE_FETCH_S] = "fetch_s", [PAGE_FETCH_M] = "fetch_m",
		[PAGE_ACK] = "ack", [PAGE_DATA] = "data",
		[PAGE_GRANT_S] = "grant_s", [PAGE_GRANT_M] = "grant_m",
	};

	return (unsigned)m < PAGE_MSGS ? names[m] : "?";
}
