/* See backlog.h. */
#include "node/backlog.h"

#include <stdlib.h>

void backlog_add(struct backlog *b, const void *bytes, size_t n)
{
	const uint8_t *from = bytes;

	if (!b->at)
		b->at = malloc(BACKLOG_BYTES);
	for (size_t k = 0; k < n && b->at; k++)
		b->at[(b->total + k) % BACKLOG_BYTES] = from[k];
	b->total += n;
}

void backlog_fini(struct backlog *b)
{
	free(b->at);
	*b = (struct backlog){0};
}

void backlog_seek(struct backlog *b, uint64_t at)
{
	if (b->total != at)
		b->first = b->total = at;
}

size_t backlog_read(const struct backlog *b, uint64_t *from, void *to, size_t room)
{
	uint64_t oldest = b->total - b->first > BACKLOG_BYTES ? b->total - BACKLOG_BYTES : b->first;
	uint8_t *out = to;
	size_t n;

	if (*from < oldest)
		*from = oldest;
	if (*from >= b->total || !b->at)
		return 0;
	n = b->total - *from < room ? (size_t)(b->total - *from) : room;
	for (size_t k = 0; k < n; k++)
		out[k] = b->at[(*from + k) % BACKLOG_BYTES];
	return n;
}
