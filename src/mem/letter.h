/* Between the page machine's words (proto/page.h: a message and where its bytes are) and the wire's (wire/peer.h: one id for each form). Pure. */
#ifndef MEM_LETTER_H
#define MEM_LETTER_H

#include "proto/page.h"

struct letter {
	gfn_t gfn;
	enum page_msg msg;
	enum page_bytes bytes; /* PAGE_NONE, PAGE_ZERO or PAGE_DATA_IN */
	const uint8_t *data;   /* letter_get, PAGE_DATA_IN: the bytes, a view into the body */
};

enum { LETTER_HEAD_BYTES = 16 }; /* header and gfn; a page's bytes follow */

/* Encode all but the page's bytes; returns the length. A form that the wire does not have (a get with bytes) is our bug. */
size_t letter_put(const struct letter *l, uint8_t to[LETTER_HEAD_BYTES]);
/* -EBADMSG for an id that is no page message, or a body that does not fit it. */
int letter_get(struct letter *l, unsigned id, const uint8_t *body, size_t bytes) MUST_CHECK;

#endif
