/* Which frames of other nodes' pages are here, how many may be, and who goes next.
 *
 * 'charged' counts pages that have a frame here or are on their way: room is made before a page is asked for, so frames never exceed 'max'. Frames
 * stand in a queue, oldest first, and get a second chance for each time they were wanted lately: hardware does not tell us who uses a present page.
 * Fixed memory (8 bytes a page of the VM, taken when used). Owned by the pager thread; dense page numbers. */
#ifndef MEM_CACHE_H
#define MEM_CACHE_H

#include "base/types.h"

struct cache_link {
	uint32_t prev, next; /* 1 + page, 0 none */
};

struct cache {
	struct cache_link *link;
	uint64_t pages;         /* of the VM */
	uint32_t oldest, newest; /* 1 + page, 0 none */
	uint64_t frames, charged, max;
};

int cache_init(struct cache *c, uint64_t pages, uint64_t max) MUST_CHECK; /* -ENOMEM */
void cache_fini(struct cache *c);

/* A frame came (its page is not in the queue), a frame went (it is). */
void cache_add(struct cache *c, uint64_t page);
void cache_remove(struct cache *c, uint64_t page);

/* Move the oldest frame to the end of the queue and tell which it is. False when there is none. */
bool cache_turn(struct cache *c, uint64_t *page);

#endif
