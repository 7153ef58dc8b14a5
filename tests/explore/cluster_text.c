/* The explored cluster as fixed-size keys for the table of visited states, and as text for people. See cluster.h. */
#include "tests/explore/cluster.h"

#include "base/ensure.h"
#include "tests/page_text.h"

#include <stdio.h>
#include <string.h>

/* Bits in a row, least significant first. */
struct bits {
	uint8_t *at;
	unsigned n;
};

static void bits_put(struct bits *b, unsigned value, unsigned width)
{
	ensure(value >> width == 0 && b->n + width <= CLUSTER_KEY_BYTES * 8);
	for (unsigned i = 0; i < width;) {
		unsigned room = 8 - b->n % 8, some = width - i < room ? width - i : room;

		b->at[b->n / 8] |= (uint8_t)((value >> i & ((1u << some) - 1)) << b->n % 8);
		b->n += some;
		i += some;
	}
}

static unsigned bits_get(struct bits *b, unsigned width)
{
	unsigned value = 0;

	for (unsigned i = 0; i < width;) {
		unsigned room = 8 - b->n % 8, some = width - i < room ? width - i : room;

		value |= (b->at[b->n / 8] >> b->n % 8 & ((1u << some) - 1)) << i;
		b->n += some;
		i += some;
	}
	return value;
}

static void channel_encode(struct bits *b, const struct channel *ch)
{
	bits_put(b, ch->n, 2);
	for (unsigned i = 0; i < ch->n; i++)
		bits_put(b, ch->at[i].msg | (unsigned)ch->at[i].bytes << 4 | (unsigned)ch->at[i].fresh << 6, 7);
}

static void channel_decode(struct bits *b, struct channel *ch)
{
	ch->n = (uint8_t)bits_get(b, 2);
	for (unsigned i = 0; i < ch->n; i++) {
		unsigned l = bits_get(b, 7);

		ch->at[i] = (struct letter){.msg = l & 15, .bytes = l >> 4 & 3, .fresh = (uint8_t)(l >> 6)};
	}
}

void cluster_encode(const struct cluster *c, uint8_t key[CLUSTER_KEY_BYTES])
{
	struct bits b = {key, 0};
	const struct page_dir *d = &c->dir;

	memset(key, 0, CLUSTER_KEY_BYTES);
	bits_put(&b, c->last_zero, 1);
	bits_put(&b, d->touched, 1);
	bits_put(&b, d->serving_m, 1);
	bits_put(&b, d->last, 3);
	bits_put(&b, d->owner, 3);
	bits_put(&b, d->serving, 3);
	bits_put(&b, d->sharers, c->nodes);
	bits_put(&b, d->want_s, c->nodes);
	bits_put(&b, d->want_m, c->nodes);
	bits_put(&b, d->awaiting, c->nodes);
	for (unsigned n = 0; n < c->nodes; n++) {
		const struct page *p = &c->page[n];

		bits_put(&b, p->state, 2);
		bits_put(&b, p->pending, 2);
		bits_put(&b, p->held, 2);
		bits_put(&b, p->recalled ? p->recalled - (unsigned)PAGE_INV : 0, 2);
		if (n) {
			channel_encode(&b, &c->up[n]);
			channel_encode(&b, &c->down[n]);
		}
	}
}

void cluster_decode(struct cluster *c, unsigned nodes, const uint8_t key[CLUSTER_KEY_BYTES])
{
	uint8_t copy[CLUSTER_KEY_BYTES];
	struct bits b = {copy, 0};
	struct page_dir *d = &c->dir;

	memcpy(copy, key, sizeof copy);
	cluster_init(c, nodes);
	c->last_zero = (uint8_t)bits_get(&b, 1);
	d->touched = (uint8_t)bits_get(&b, 1);
	d->serving_m = (uint8_t)bits_get(&b, 1);
	d->last = (uint8_t)bits_get(&b, 3);
	d->owner = (uint8_t)bits_get(&b, 3);
	d->serving = (uint8_t)bits_get(&b, 3);
	d->sharers = (uint16_t)bits_get(&b, nodes);
	d->want_s = (uint16_t)bits_get(&b, nodes);
	d->want_m = (uint16_t)bits_get(&b, nodes);
	d->awaiting = (uint16_t)bits_get(&b, nodes);
	for (unsigned n = 0; n < nodes; n++) {
		struct page *p = &c->page[n];

		p->state = (uint8_t)bits_get(&b, 2);
		p->pending = (uint8_t)bits_get(&b, 2);
		p->held = (uint8_t)bits_get(&b, 2);
		p->recalled = (uint8_t)bits_get(&b, 2);
		p->recalled = (uint8_t)(p->recalled ? p->recalled + PAGE_INV : 0);
		if (n) {
			channel_decode(&b, &c->up[n]);
			channel_decode(&b, &c->down[n]);
		}
	}
}

const char *cluster_text_of_move(const struct cluster *before, const struct move *m, char to[CLUSTER_TEXT_BYTES])
{
	char event[PAGE_TEXT_BYTES];
	const struct letter *l = m->kind == MOVE_UP ? &before->up[m->node].at[m->index] : &before->down[m->node].at[m->index];
	struct page_event ev = {.kind = (enum page_event_kind)m->event};
	bool at_home = m->kind == MOVE_UP;

	if (m->kind == MOVE_RETIRE) {
		snprintf(to, CLUSTER_TEXT_BYTES, "node %u: a write of %s retires", m->node, m->zero ? "zeros" : "bytes");
		return to;
	}
	if (m->kind != MOVE_LOCAL)
		ev = (struct page_event){.kind = PAGE_EV_MSG, .from = {at_home ? m->node : 0}, .msg = (enum page_msg)l->msg, .bytes = (enum page_bytes)l->bytes,
			.exclusive = m->exclusive};
	snprintf(to, CLUSTER_TEXT_BYTES, "node %u: %s%s", at_home ? 0 : m->node, page_text_of_event(&ev, event), m->index ? " (overtaking)" : "");
	return to;
}

const char *cluster_text(const struct cluster *c, char to[CLUSTER_TEXT_BYTES])
{
	const struct page_dir *d = &c->dir;
	int n = snprintf(to, CLUSTER_TEXT_BYTES, "dir{sharers %x want_s %x want_m %x awaiting %x owner %d serving %d%s %s}", d->sharers, d->want_s, d->want_m,
		d->awaiting, d->owner - 1, d->serving - 1, d->serving_m ? " m" : "", d->touched ? "touched" : "zero");

	for (unsigned i = 0; i < c->nodes && n < CLUSTER_TEXT_BYTES - 256; i++) {
		const struct page *p = &c->page[i];

		n += snprintf(to + n, CLUSTER_TEXT_BYTES - (size_t)n, " %u{%s pending %u held %u recalled %s", i, page_state_name((enum page_state)p->state),
			p->pending, p->held, p->recalled ? page_msg_name((enum page_msg)(p->recalled - 1)) : "no");
		for (unsigned k = 0; k < c->up[i].n; k++)
			n += snprintf(to + n, CLUSTER_TEXT_BYTES - (size_t)n, " up:%s", page_msg_name((enum page_msg)c->up[i].at[k].msg));
		for (unsigned k = 0; k < c->down[i].n; k++)
			n += snprintf(to + n, CLUSTER_TEXT_BYTES - (size_t)n, " down:%s", page_msg_name((enum page_msg)c->down[i].at[k].msg));
		n += snprintf(to + n, CLUSTER_TEXT_BYTES - (size_t)n, "}");
	}
	return to;
}
