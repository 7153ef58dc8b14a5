/* See cache.h. */
#include "mem/cache.h"

#include <errno.h>
#include <sys/mman.h>

int cache_init(struct cache *c, uint64_t pages, uint64_t max)
{
	*c = (struct cache){.pages = pages, .max = max};
	c->link = mmap(NULL, pages * sizeof c->link[0], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->link == MAP_FAILED) {
		c->link = NULL;
		return -ENOMEM;
	}
	return 0;
}

void cache_fini(struct cache *c)
{
	if (c->link)
		munmap(c->link, c->pages * sizeof c->link[0]);
	*c = (struct cache){0};
}

void cache_add(struct cache *c, uint64_t page)
{
	uint32_t me = (uint32_t)page + 1;

	c->link[page] = (struct cache_link){.prev = c->newest};
	if (c->newest)
		c->link[c->newest - 1].next = me;
	else
		c->oldest = me;
	c->newest = me;
	c->frames++;
}

void cache_remove(struct cache *c, uint64_t page)
{
	struct cache_link l = c->link[page];

	if (l.prev)
		c->link[l.prev - 1].next = l.next;
	else
		c->oldest = l.next;
	if (l.next)
		c->link[l.next - 1].prev = l.prev;
	else
		c->newest = l.prev;
	c->frames--;
}

bool cache_turn(struct cache *c, uint64_t *page)
{
	if (!c->oldest)
		return false;
	*page = c->oldest - 1;
	cache_remove(c, *page);
	cache_add(c, *page);
	return true;
}
