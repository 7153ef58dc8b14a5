/* How a handover becomes a key and a line of text. See handover.h. */
#include "tests/explore/handover.h"

#include "base/ensure.h"

#include <stdio.h>
#include <string.h>

/* Bits of the key, in one order for both directions. */
struct bits {
	uint8_t *key;
	unsigned at;
	bool reading;
};

static void field(struct bits *b, uint8_t *v, unsigned width)
{
	unsigned value = *v;

	ensure(b->reading || value >> width == 0);
	if (b->reading)
		value = 0;
	for (unsigned i = 0; i < width; i++, b->at++) {
		ensure(b->at < HANDOVER_KEY_BYTES * 8);
		if (b->reading)
			value |= (unsigned)(b->key[b->at / 8] >> b->at % 8 & 1) << i;
		else
			b->key[b->at / 8] |= (uint8_t)((value >> i & 1) << b->at % 8);
	}
	*v = (uint8_t)value;
}

static void set16(struct bits *b, uint16_t *v)
{
	uint8_t low = (uint8_t)*v;

	field(b, &low, 4);
	*v = low;
}

static void list(struct bits *b, struct handover_list *l)
{
	field(b, &l->n, 4);
	for (unsigned i = 0; i < l->n; i++)
		field(b, &l->at[i], 8);
}

static void machine(struct bits *b, struct handoff *h)
{
	field(b, &h->state, 4);
	field(b, &h->at, 2);
	field(b, &h->peer, 2);
	field(b, &h->order, 3);
	field(b, &h->failed, 1);
	set16(b, &h->lost);
	set16(b, &h->gone);
	set16(b, &h->waiting);
}

static void all(struct bits *b, struct handover *w)
{
	for (unsigned n = 0; n < w->nodes; n++) {
		machine(b, &w->h[n]);
		list(b, &w->kept[n]);
		field(b, &w->body[n], 2);
		field(b, &w->image[n], 2);
		field(b, &w->working[n], 1);
		field(b, &w->sent[n], 2);
		field(b, &w->delivered[n], 2);
		for (unsigned k = 0; k < w->nodes; k++) {
			struct handover_channel *c = &w->channel[n][k];

			field(b, &c->ends, 1);
			field(b, &c->closed, 1);
			if (!c->closed)
				list(b, &c->letters);
		}
	}
	field(b, &w->dead, 4);
	field(b, &w->stopped, 4);
	field(b, &w->captures, 2);
	field(b, &w->harmless, 4);
	field(b, &w->harm, 1);
	field(b, &w->committed, 4);
	field(b, &w->left.moves, 2);
	field(b, &w->left.cancels, 2);
	field(b, &w->left.refusals, 2);
	field(b, &w->left.troubles, 2);
	field(b, &w->left.words, 2);
}

void handover_encode(const struct handover *w, uint8_t key[HANDOVER_KEY_BYTES])
{
	struct handover copy = *w;
	struct bits b = {.key = key};

	memset(key, 0, HANDOVER_KEY_BYTES);
	for (unsigned n = 0; n < w->nodes; n++) { /* the dead are all alike, but for who still holds words on the wire */
		if ((w->dead | w->stopped) >> n & 1) {
			copy.h[n] = (struct handoff){.state = HANDOFF_AWAY};
			copy.image[n] = 0;
		}
	}
	all(&b, &copy);
}

void handover_decode(struct handover *w, unsigned nodes, unsigned others, const uint8_t key[HANDOVER_KEY_BYTES])
{
	uint8_t copy[HANDOVER_KEY_BYTES];
	struct bits b = {.key = copy, .reading = true};

	memcpy(copy, key, sizeof copy);
	*w = (struct handover){.nodes = (uint8_t)nodes, .others = (uint8_t)others};
	for (unsigned n = 0; n < nodes; n++)
		handoff_init(&w->h[n], (node_t){(uint8_t)n}, nodes, (node_t){0}, (node_t){0});
	all(&b, w);
}

static void text_letter(const struct handover *w, const struct handover_move *m, char *to, size_t room)
{
	const struct handover_list *l = &w->channel[m->a][m->b].letters;
	unsigned letter = l->n ? l->at[m->kind == HO_LOSE ? l->n - 1 : 0] : 0;

	if (l->n == 0)
		snprintf(to, room, "loses node %u", m->a);
	else if (letter & 0x80)
		snprintf(to, room, "word %u of %u, from %u", letter & 15, letter >> 4 & 3, m->a);
	else if (letter & 0x40)
		snprintf(to, room, "stop, from %u", m->a);
	else
		snprintf(to, room, "%s(%u), from %u", handoff_msg_name(letter >> 2), letter & 3, m->a);
}

const char *handover_text(const struct handover *before, const struct handover_move *m, char to[HANDOVER_TEXT_BYTES])
{
	static const char *const what[HO_KINDS] = {"", "has done it", "refuses", "sends a word", "moves it to", "cancels", "crashes", "is cut off from", ""};
	char letter[64];

	text_letter(before, m, letter, sizeof letter);
	if (m->kind == HO_RECEIVE)
		snprintf(to, HANDOVER_TEXT_BYTES, "node %u (%s): %s", m->b, handoff_state_name(before->h[m->b].state), letter);
	else if (m->kind == HO_LOSE)
		snprintf(to, HANDOVER_TEXT_BYTES, "network: node %u will not get %s", m->b, letter);
	else
		snprintf(to, HANDOVER_TEXT_BYTES, "node %u (%s): %s %u", m->a, handoff_state_name(before->h[m->a].state), what[m->kind], m->b);
	return to;
}
