/* The last BACKLOG_BYTES of a console, so that whoever attaches sees what led here. Kept by the fragment and by its daemon. One thread. */
#ifndef NODE_BACKLOG_H
#define NODE_BACKLOG_H

#include "base/types.h"

enum { BACKLOG_BYTES = 64 * 1024 };

struct backlog {
	uint8_t *at;     /* NULL until something is added */
	uint64_t first;  /* nothing before this position is here */
	uint64_t total;  /* position of the next byte */
};

/* Forgets the oldest. Out of memory: keeps nothing, but counts. */
void backlog_add(struct backlog *b, const void *bytes, size_t n);
void backlog_fini(struct backlog *b);

/* The next byte is at this position of the stream; bytes before it that we have not are missed. */
void backlog_seek(struct backlog *b, uint64_t at);

/* Copy what was added from position 'from' (of 'total') on, at most room bytes, into to. *from moves to the first byte that is still kept, the
 * return value is the bytes copied; call again with *from + that until 0. */
size_t backlog_read(const struct backlog *b, uint64_t *from, void *to, size_t room);

#endif
