/* See letter.h. The one table of this translation is LETTERS. */
#include "mem/letter.h"

#include "base/ensure.h"
#include "wire/peer.h"

#include <errno.h>

/* P(wire name, machine's message, form) without bytes, D the same with. */
#define LETTERS(P, D) \
	P(page_get_s, PAGE_GET_S, PAGE_NONE) \
	P(page_get_m, PAGE_GET_M, PAGE_NONE) \
	P(page_drop, PAGE_DROP, PAGE_NONE) \
	D(page_write_back, PAGE_WRITE_BACK, PAGE_DATA_IN) \
	P(page_write_back_zero, PAGE_WRITE_BACK, PAGE_ZERO) \
	P(page_inv, PAGE_INV, PAGE_NONE) \
	P(page_fetch_s, PAGE_FETCH_S, PAGE_NONE) \
	P(page_fetch_m, PAGE_FETCH_M, PAGE_NONE) \
	P(page_ack, PAGE_ACK, PAGE_NONE) \
	D(page_data, PAGE_DATA, PAGE_DATA_IN) \
	P(page_data_zero, PAGE_DATA, PAGE_ZERO) \
	D(page_grant_s, PAGE_GRANT_S, PAGE_DATA_IN) \
	P(page_grant_s_zero, PAGE_GRANT_S, PAGE_ZERO) \
	D(page_grant_m, PAGE_GRANT_M, PAGE_DATA_IN) \
	P(page_grant_m_zero, PAGE_GRANT_M, PAGE_ZERO) \
	P(page_grant_m_upgrade, PAGE_GRANT_M, PAGE_NONE)

#define PUT(name, msg, form) \
	static size_t put_##name(uint64_t gfn, uint8_t *to) \
	{ \
		struct peer_##name m = {.gfn = gfn}; /* a page field left NULL is counted, not copied */ \
		return peer_put_##name(&m, to, LETTER_HEAD_BYTES); \
	}
LETTERS(PUT, PUT)
#undef PUT

#define GET_PLAIN(name, m, form) \
	static int get_##name(struct letter *l, const uint8_t *body, size_t bytes) \
	{ \
		struct peer_##name in; \
		int err = peer_get_##name(body, bytes, &in); \
		*l = (struct letter){.gfn = {in.gfn}, .msg = m, .bytes = form}; \
		return err; \
	}
#define GET_DATA(name, m, form) \
	static int get_##name(struct letter *l, const uint8_t *body, size_t bytes) \
	{ \
		struct peer_##name in; \
		int err = peer_get_##name(body, bytes, &in); \
		*l = (struct letter){.gfn = {in.gfn}, .msg = m, .bytes = form, .data = in.data.at}; \
		return err; \
	}
LETTERS(GET_PLAIN, GET_DATA)
#undef GET_PLAIN
#undef GET_DATA

size_t letter_put(const struct letter *l, uint8_t to[LETTER_HEAD_BYTES])
{
	typedef size_t put_fn(uint64_t gfn, uint8_t *to);
#define ENTRY(name, m, form) [m][form] = put_##name,
	static put_fn *const put[PAGE_MSGS][PAGE_DATA_IN + 1] = {LETTERS(ENTRY, ENTRY)};
#undef ENTRY

	ensure(l->msg < PAGE_MSGS && l->bytes <= PAGE_DATA_IN && put[l->msg][l->bytes]);
	return put[l->msg][l->bytes](l->gfn.v, to);
}

int letter_get(struct letter *l, unsigned id, const uint8_t *body, size_t bytes)
{
	typedef int get_fn(struct letter *l, const uint8_t *body, size_t bytes);
#define ENTRY(name, m, form) [PEER_##name] = get_##name,
	static get_fn *const get[] = {LETTERS(ENTRY, ENTRY)};
#undef ENTRY

	if (id >= ARRAY_LEN(get) || !get[id])
		return -EBADMSG;
	return get[id](l, body, bytes);
}
