/* Several fragments' pagers in one process, joined by socket pairs, each with its own mapping and userfaultfd of the same guest RAM. */
#ifndef TESTS_HOST_PAGER_BED_H
#define TESTS_HOST_PAGER_BED_H

#include "mem/pager.h"

#include <stdatomic.h>

enum { BED_NODES_MAX = 4 };

struct bed_stop {
	_Atomic int calls;
	enum stop_reason reason;
	node_t node;
	char what[256];
};

struct bed {
	unsigned nodes;
	uint64_t pages; /* homed at each node: page n * pages + i is the i-th of node n */
	struct ram ram[BED_NODES_MAX];
	struct pager *pager[BED_NODES_MAX];
	struct bed_stop stop[BED_NODES_MAX];
	int spare[BED_NODES_MAX][BED_NODES_MAX]; /* a duplicate of i's end of its stream to j, to cut it or to talk nonsense */
};

/* cache_pages 0: all of RAM. tweak (may be NULL) edits node n's config. 0, or -errno with what printed; -EPERM and the like: skip. */
int bed_make(struct bed *b, unsigned nodes, uint64_t pages, uint64_t cache_pages, void (*tweak)(struct pager_config *c, unsigned n)) MUST_CHECK;
/* Nothing may touch guest RAM any more. */
void bed_drop(struct bed *b);
bool bed_cannot_run(int err);

/* Node n's view of a 64-bit word of a page (dense number, word 0 .. 511). */
_Atomic uint64_t *bed_word(struct bed *b, unsigned n, uint64_t page, unsigned word);
struct pager_stats bed_stats(const struct bed *b, unsigned n);
/* The sum of a counter of all nodes, e.g. BED_SUM(&b, reads). */
#define BED_SUM(b, counter) ({ uint64_t sum_ = 0; for (unsigned n_ = 0; n_ < (b)->nodes; n_++) sum_ += bed_stats(b, n_).counter; sum_; })
/* Counters lag behind the threads that were woken: wait until one says so. The harness's timeout is the limit. */
#define BED_AWAIT(cond) do { } while (!(cond))
/* Resident KiB of node n's guest RAM, as /proc tells. */
long bed_resident_kib(const struct bed *b, unsigned n);
/* Block until node n's pager has called on_stop. */
void bed_wait_stop(struct bed *b, unsigned n);
/* One access by a thread that gives up when its pager stops: true and *value, or false. */
bool bed_try_load(struct bed *b, unsigned n, uint64_t page, uint64_t *value);

#endif
