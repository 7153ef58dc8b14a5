/* The pager without its thread: every page's state, and one function for each thing that can happen. mem/pager.c calls these from its loop.
 *
 * Errors latch: the first one fills 'cause' and from then on nothing is installed, sent or answered (a page answered after we lost track of the
 * protocol could be a wrong byte; a page never answered is only a stopped VM). Callers look at engine_failed() once a round.
 *
 * One thread; see the single exceptions at tally and hot. */
#ifndef MEM_ENGINE_H
#define MEM_ENGINE_H

#include "mem/cache.h"
#include "mem/hold.h"
#include "mem/migrate.h"
#include "mem/pager.h"
#include "mem/stream.h"
#include "mem/uffd.h"
#include "net/link.h"
#include "proto/page.h"

enum {
	ENGINE_DEFERRED_MAX = 256,
	ENGINE_THREADS = 128,
	ENGINE_GOING_MAX = 128,  /* pages on their way out at once: about as many as a round trip and a hold cover */
	ENGINE_AHEAD_MAX = 256, /* prefetches on their way at once; with PAGER_OUT_BYTES and the vCPUs' own requests this bounds what a peer may owe us */
};

/* What a node remembers of a page besides its coherence state. Times count 64 ns and wrap after 4.5 minutes; they only steer heuristics and statistics. */
struct engine_note {
	uint32_t since; /* the request in flight was made */
	uint32_t tid;   /* the thread for which it was made */
	uint8_t want;   /* enum engine_want */
	uint8_t heat;   /* of mem/hold.h */
	uint8_t chance; /* turns it may stay in the cache's queue */
	bool goes;      /* it is to be discarded as soon as it may be */
};

/* A thread that faults. Two with one place in the table disturb each other's memory, no more. */
struct engine_thread {
	struct hold_for clock; /* cpu_ns: when it last began to wait for another node */
	struct hold_recent recent;
};

/* For whom a request in flight was made. */
enum engine_want { WANT_NONE, WANT_READ, WANT_WRITE, WANT_UPGRADE, WANT_AHEAD };

struct engine_cause {
	enum stop_reason reason; /* STOP_NONE while all is well */
	node_t node;
	char what[256];
};

struct engine {
	struct pager_config config; /* defaults filled in */
	uint64_t pages;
	uint64_t now_ns; /* CLOCK_MONOTONIC when this round began */
	struct uffd uffd;
	struct link *link[NODES_MAX];
	uint16_t unsent, stuck; /* links with something queued this round; links whose kernel buffer is full (wait for POLLOUT) */

	struct page *page; /* these five by dense page number; memory is taken as pages are used */
	struct page_dir *dir;
	struct engine_note *note;
	struct migrate *migrate; /* of pages homed here */
	_Atomic uint16_t *hot; /* waits for another node; read by any thread */

	struct cache cache;
	struct holds holds;
	bool ending; /* a hold is being ended early to make room */
	struct streams streams, down; /* walks upward; walks downward, in pages counted from the last (Linux clears the 4 KiB of a huge page that way) */
	struct hold_for waking; /* for whom the page is that this step installs or upgrades */
	uint64_t trip_ns;       /* about the least that a request has taken lately */
	struct engine_thread thread[ENGINE_THREADS];
	uint8_t waiting[UFFD_BATCH]; /* places in thread[] of those that began to wait in this round */
	unsigned waiters;
	unsigned ahead;   /* requests on their way with want WANT_AHEAD */
	unsigned recalls; /* recalls that wait for a hold to end */
	struct uffd_fault deferred[ENGINE_DEFERRED_MAX]; /* faults that wait for room in the cache */
	unsigned deferrals;
	struct pager_discard *freed; /* first of what the guest has freed, a list; taken up one after the other */
	uint64_t freed_pages;        /* of the first one: so many have been looked at */
	unsigned going;              /* and so many of these wait to be discarded */

	uint8_t taken[PAGE_BYTES]; /* transfer buffer of PAGE_DO_TAKE */
	bool taken_zero;

	struct engine_cause cause;
	struct tally tally; /* read by any thread */
};

/* Takes config->fds over, also on failure. engine_fini accepts a zeroed or half-made engine. */
int engine_init(struct engine *e, const struct pager_config *config, struct failure *f) MUST_CHECK;
void engine_fini(struct engine *e);

/* Begin a round: read the clock, end the holds that are due. */
void engine_begin(struct engine *e);
/* The userfaultfd is readable: take a batch of faults. Returns how many. */
unsigned engine_faults(struct engine *e);
/* Link n is readable. */
void engine_receive(struct engine *e, unsigned n);
/* End a round: retry deferred faults, keep the cache below its budget, flush every link. */
void engine_end(struct engine *e);
/* The guest has freed more: a list. */
void engine_free(struct engine *e, struct pager_discard *d);
/* When the next round must begin at the latest though no descriptor is ready; UINT64_MAX: never. */
uint64_t engine_due_ns(const struct engine *e);

/* Stop for a reason: latch it unless one is latched. */
void engine_fail(struct engine *e, enum stop_reason reason, node_t node, const char *fmt, ...) PRINTF_LIKE(4, 5);
static inline bool engine_failed(const struct engine *e) { return e->cause.reason != STOP_NONE; }
/* Tell every peer the latched cause, as far as their links still take it, and send nothing more. Heard causes are passed on too: whoever sees our
 * stream end must have the reason before it. */
void engine_farewell(struct engine *e);

/* Carry out one action for a page (mem/deed.c). data: bytes of the message being handled, if any. */
void deed_do(struct engine *e, uint64_t page, const struct page_action *a, const uint8_t *data);
/* Where the bytes of an action are; NULL: nowhere, or all zero. *form becomes what travels. */
const uint8_t *deed_bytes(const struct engine *e, enum page_bytes bytes, const uint8_t *data, enum page_bytes *form);

/* Pages homed here (mem/learn.c). Before a step: what does the event tell, and should a read be served as a write? After an action: to whom did the page go,
 * and with which bytes? */
void learn_event(struct engine *e, uint64_t page, struct page_event *ev, const uint8_t *data);
void learn_action(struct engine *e, uint64_t page, const struct page_action *a, const uint8_t *data);

uint64_t engine_clock_ns(void);
/* CPU time of a thread of this process; UINT64_MAX when it is gone. */
uint64_t engine_cpu_ns(uint32_t tid);

#endif
