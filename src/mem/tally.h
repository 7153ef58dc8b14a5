/* What the pager counts: one list, from which the live counters, the snapshot and whoever prints it come. The owner thread adds without locked
 * instructions; any thread reads. */
#ifndef MEM_TALLY_H
#define MEM_TALLY_H

#include "base/histogram.h"
#include "base/types.h"

/* C(name, what it counts) */
#define PAGER_COUNTERS(C) \
	C(faults, "fault events from the kernel, duplicates included") \
	C(duplicates, "faults that were satisfied or asked for already") \
	C(local_zero, "first touches of a local page, satisfied with zeros") \
	C(local, "other faults satisfied without a message") \
	C(reads, "faults that waited for another node: read of an absent page") \
	C(writes, "the same: write to an absent page") \
	C(upgrades, "the same: write to a shared page") \
	C(prefetches, "pages asked for ahead of a sequential reader or writer") \
	C(prefetch_late, "faults on a page whose prefetch was still on the way") \
	C(deferred, "faults that had to wait for room in the cache") \
	C(installs, "frames filled") \
	C(installs_zero, "frames filled with zeros that did not travel") \
	C(invalidations, "inv messages received") \
	C(fetches, "fetch messages received") \
	C(recalls_held, "recalls that had to wait for the end of a hold") \
	C(holds_extended, "holds that went on because the thread had not got a CPU yet") \
	C(upgrade_grants, "upgrades granted without data") \
	C(zero_grants, "grants received as a flag instead of 4 KiB") \
	C(migratory, "pages homed here that were granted writable to a reader") \
	C(migratory_unused, "such pages that came back as they went") \
	C(discards, "pages homed here whose bytes the guest gave up") \
	C(drops, "shared frames given up to stay within the cache budget") \
	C(write_backs, "modified frames sent home for the same reason") \
	C(rounds, "turns of the pager's loop that had work") \
	C(blocks, "times the pager blocked, having nothing to do") \
	C(spins, "times it found work while polling instead")

/* Kinds of fault whose waiting time is measured, from reading the fault to waking the thread. */
enum pager_wait { PAGER_WAIT_READ, PAGER_WAIT_WRITE, PAGER_WAIT_UPGRADE, PAGER_WAITS };

struct pager_latency {
	uint64_t count, p50_ns, p99_ns;
};

struct pager_peer {
	uint64_t messages_sent, bytes_sent, sends, messages_received, bytes_received, receives;
};

struct pager_stats {
#define C(name, what) uint64_t name;
	PAGER_COUNTERS(C)
#undef C
	uint64_t cached_pages, cached_pages_max, cache_limit_pages; /* frames of other nodes' pages: now, at most so far, budget */
	struct pager_latency wait[PAGER_WAITS];
	struct pager_peer peer[NODES_MAX];
};

/* A thread's waits of all kinds; tid 0: nobody's yet. */
struct tally_thread {
	_Atomic uint32_t tid;
	struct histogram wait;
};

enum { TALLY_THREADS = 128 }; /* threads that fault besides those are not told apart; vCPUs are at most half */

struct tally {
#define C(name, what) _Atomic uint64_t name;
	PAGER_COUNTERS(C)
#undef C
	_Atomic uint64_t cached_pages, cached_pages_max, cache_limit_pages;
	struct histogram wait[PAGER_WAITS];
	struct tally_thread thread[TALLY_THREADS]; /* by tid, in the next free place */
	struct { _Atomic uint64_t messages_sent, bytes_sent, sends, messages_received, bytes_received, receives; } peer[NODES_MAX];
};

/* Owner thread only. */
static inline void tally_set(_Atomic uint64_t *counter, uint64_t value)
{
	atomic_store_explicit(counter, value, memory_order_relaxed);
}
static inline void tally_add(_Atomic uint64_t *counter, uint64_t n)
{
	tally_set(counter, atomic_load_explicit(counter, memory_order_relaxed) + n);
}

/* That thread waited so long for a page. */
void tally_waited(struct tally *t, uint32_t tid, enum pager_wait kind, uint64_t ns);

/* Any thread. */
void tally_read_thread(const struct tally *t, uint32_t tid, struct pager_latency *out);
void tally_read(const struct tally *t, struct pager_stats *out);
const char *tally_wait_name(enum pager_wait w);

#endif
