/* See stream.h. */
#include "mem/stream.h"

/* The stream that a fault at 'page' belongs to, or NULL. */
static struct stream *stream_find(struct streams *s, uint64_t page, bool write)
{
	for (unsigned i = 0; i < STREAMS_MAX; i++) {
		struct stream *at = &s->at[i];

		if (at->next && at->write == write && page >= at->first && page <= at->next)
			return at;
	}
	return NULL;
}

static void stream_begin(struct streams *s, uint64_t page, bool write)
{
	struct stream *oldest = &s->at[0];

	for (unsigned i = 1; i < STREAMS_MAX; i++)
		if (s->time - s->at[i].seen > s->time - oldest->seen)
			oldest = &s->at[i];
	*oldest = (struct stream){.first = page, .next = page + 1, .run = 1, .seen = s->time, .write = write};
}

unsigned stream_fault(struct streams *s, uint64_t page, bool write, unsigned max, uint64_t end)
{
	struct stream *at = stream_find(s, page, write);
	uint64_t n;

	s->time++;
	if (!at) {
		stream_begin(s, page, write);
		return 0;
	}
	at->seen = s->time;
	if (page != at->next)
		return 0;
	if (++at->run < STREAM_RUN_MIN) {
		at->first = page;
		at->next = page + 1;
		return 0;
	}
	at->window = at->window ? at->window * 2 : STREAM_WINDOW_MIN;
	if (at->window > max)
		at->window = max;
	n = end > page + 1 ? end - page - 1 : 0;
	if (n > at->window)
		n = at->window;
	at->first = page;
	at->next = page + 1 + n;
	return (unsigned)n;
}
