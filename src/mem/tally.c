/* See tally.h. */
#include "mem/tally.h"

static uint64_t tally_get(const _Atomic uint64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
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
	for (unsigned w = 0; w < PAGER_WAITS; w++) {
		out->wait[w].count = histogram_count(&t->wait[w]);
		out->wait[w].p50_ns = histogram_permille(&t->wait[w], 500);
		out->wait[w].p99_ns = histogram_permille(&t->wait[w], 990);
	}
	for (unsigned n = 0; n < NODES_MAX; n++)
		tally_read_peer(t, n, &out->peer[n]);
}

const char *tally_wait_name(enum pager_wait w)
{
	static const char *const names[PAGER_WAITS] = {"read", "write", "upgrade"};

	return names[w];
}
