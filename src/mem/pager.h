/* The pager: the one thread of a fragment that decides which guest pages are here, together with the pagers of the other fragments.
 *
 * It owns the userfaultfd of guest RAM, the page stream to every other fragment, and the state of every page of the VM. It takes faults and messages,
 * runs page_step() (proto/page.h), and does what that says. It takes no lock, allocates nothing after its start, never touches the guest view of RAM
 * and waits for nothing but its descriptors. All of guest RAM goes through it from the first byte, with one node too.
 *
 *      vCPUs, devices ---fault---> userfaultfd --+                        +--> install, protect, zap (mem/uffd.h)
 *      other pagers ----messages--> page links --+--> page_step() --------+--> messages, one flush a link and round
 *      hold timers ------------------------------+                        +--> counters
 *
 * Memory: frames of pages homed here are bounded by what this node lends; frames of pages homed elsewhere by cache_bytes, strictly: room is made before
 * a page is asked for. Besides, about 45 bytes for every page ever used and a few MiB. */
#ifndef MEM_PAGER_H
#define MEM_PAGER_H

#include "base/failure.h"
#include "mem/ram.h"
#include "mem/tally.h"
#include "proto/stop.h"

enum {
	PAGER_HOLD_US = 100,
	PAGER_HOLD_MAX_US = 3200,
	PAGER_SPIN_US = 50,
	PAGER_PREFETCH_PAGES = 32,
	PAGER_CACHE_PAGES_MIN = 256, /* less cannot hold what a few vCPUs' instructions need at once */
	PAGER_OUT_BYTES = 8 << 20,   /* output queue for one peer: twice what it can have asked for; a peer that lets it fill up is taken for lost */
};

/* Zero means the default named above, except where said. */
struct pager_config {
	const struct ram *ram; /* laid out, mapped, untouched; outlives the pager */
	node_t self;
	unsigned nodes;
	int fds[NODES_MAX];      /* connected page streams, hello done (net/mesh.h); -1 for self. Owned by the pager from the call on */
	uint64_t cache_bytes;    /* frames of other nodes' pages held here at most; at least PAGER_CACHE_PAGES_MIN pages when nodes > 1 */
	uint32_t hold_us;        /* how long a page that just arrived may stay at least */
	uint32_t hold_max_us;    /* the same for a page that keeps being fought over */
	int32_t spin_us;         /* poll so long before blocking, at most: -1 never, 0 the default if the process may use more than one CPU, else never */
	uint32_t prefetch_pages; /* longest prefetch window */
	bool prefetch_off;
	unsigned dead_ms;        /* TCP: a peer whose kernel acknowledges nothing for so long is lost; 0: the system's idea */
	/* The pager gave up: it answers nothing and installs nothing from now on, so every thread that needs a page waits for ever. Called once at most,
	 * from the pager's thread, never after pager_freeze; must not block. node: who caused it. The owner ends the process, or calls pager_stop. */
	void (*on_stop)(void *arg, enum stop_reason reason, node_t node, const char *what);
	void *arg;
};

struct pager;

/* Start. -errno with *f told; the fds are closed then. */
int pager_start(struct pager **out, const struct pager_config *config, struct failure *f) MUST_CHECK;

/* Tell the other pagers why ('stop' on every page stream) and go dead as described at on_stop. Returns at once; only the first call counts. Any thread. */
void pager_freeze(struct pager *p, enum stop_reason reason, node_t node, const char *what);

/* End the thread and free everything. Guest RAM reads as zeros where no frame is: nothing may run the guest any more. NULL is fine. */
void pager_stop(struct pager *p);

/* Pages that the guest says are free: those homed here lose their bytes and need no frame anywhere any more, they read as zeros. Where another node is the
 * last writer they are fetched for that. What somebody touches meanwhile may keep its bytes. The guest may use the pages again after done().
 * The struct is the pager's until done(), which is called on the pager's thread and must not block; from pager_stop if it did not come to it before. */
struct pager_discard {
	uint64_t first, pages; /* dense numbers (mem/ram.h) */
	void (*done)(struct pager_discard *d);
	void *user;
	struct pager_discard *next; /* the pager's own */
};
/* Any thread. -EINVAL: not pages of RAM, then done() is not called. */
int pager_free(struct pager *p, struct pager_discard *d) MUST_CHECK;

/* Change the cache budget of a running pager; frames beyond it leave as fast as peers take them. Any thread. */
void pager_set_cache(struct pager *p, uint64_t cache_bytes);

/* A recent picture of the counters. Any thread, never waits. */
void pager_stats(const struct pager *p, struct pager_stats *out);

/* How that thread of this process (its id in the kernel) has waited for pages. Any thread. */
void pager_thread_wait(const struct pager *p, uint32_t tid, struct pager_latency *out);

/* The pages this node had to wait for most often since the start, most first; returns how many (at most max). Counts saturate at 65535. */
struct pager_hot {
	gfn_t gfn;
	unsigned faults;
};
unsigned pager_hottest(const struct pager *p, struct pager_hot *out, unsigned max);

#endif
