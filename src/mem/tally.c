/* See tally.h. */
#include "mem/tally.h"

static uint64_t tally_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

/* The place of that thread, or the free one where it belongs; NULL when all are others'. */
static struct tally_thread *tally_thread(struct tally *t, uint32_t tid)
{
	for (unsigned k = 0; k < TALLY_THREADS; k++) {
		struct tally_thread *at = &t->thread[(tid + k) % TALLY_THREADS];
		uint32_t owner = atomic_load_explicit(&at->tid, memory_order_relaxed);

		if (owner == tid || owner == 0)
			return at;
	}
	return NULL;
}

void tally_waited(struct tally *t, uint32_t tid, enum pager_wait kind, uint64_t ns)
{
	struct tally_thread *at = tally_thread(t, tid);

	histogram_add(&t->wait[kind], ns);
	if (!at)
		return;
	atomic_store_explicit(&at->tid, tid, memory_order_relaxed);
	histogram_add(&at->wait, ns);
}

static void tally_read_latency(const struct histogram *h, struct pager_latency *out)
{
	out->count = histogram_count(h);
	out->p50_ns = histogram_permille(h, 500);
	out->p99_ns = histogram_permille(h, 990);
}

void tally_read_thread(const struct tally *t, uint32_t tid, struct pager_latency *out)
{
	const struct tally_thread *at = tally_thread((struct tally *)t, tid);

	*out = (struct pager_latency){0};
	if (at && atomic_load_explicit(&at->tid, memory_order_relaxed) == tid)
		tally_read_latency(&at->wait, out);
}

static void tally_read_peer(const struct tally *t, unsigned n, struct pager_peer *out)
{
	out->messages_sent = tally_get(&t->peer[n].messages_sent);
	out->bytes_sent = tally_get(&t->peer[n].bytes_sent);
	out->sends = tally_get(&t->peer[n].sends);
	out->messages_received = tally_get(&t->peer[n].messages_received);
	out->bytes_received = tally_get(&t->peer[n].bytes_received);
	out->receives = tally_get(&t->peer[n].receives);
}

void tally_read(const struct tally *t, struct pager_stats *out)
{
#define C(name, what) out->name = tally_get(&t->name);
	PAGER_COUNTERS(C)
#undef C
	out->cached_pages = tally_get(&t->cached_pages);
	out->cached_pages_max = tally_get(&t->cached_pages_max);
	out->cache_limit_pages = tally_get(&t->cache_limit_pages);
	for (unsigned w = 0; w < PAGER_WAITS; w++)
		tally_read_latency(&t->wait[w], &out->wait[w]);
	for (unsigned n = 0; n < NODES_MAX; n++)
		tally_read_peer(t, n, &out->peer[n]);
}

const char *tally_wait_name(enum pager_wait w)
{
	static const char *const names[PAGER_WAITS] = {"read", "write", "upgrade"};

	return names[w];
}
