/* Two sorted tables of ranges and the one lock of device registers: small, so that finding a device is a binary search over a cache line or two. */
#include "dev/bus.h"

#include "base/ensure.h"
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUS_RANGES_MAX = 128 };

struct bus_range {
	uint64_t base, last; /* both inclusive, so that a range may end at the top of the space */
	const struct bus_ops *ops;
	void *dev;
	const char *name;
};

struct bus_table {
	struct bus_range range[BUS_RANGES_MAX];
	unsigned ranges;
	uint64_t misses;
};

struct bus {
	pthread_mutex_t lock; /* guards the tables and every device's registers */
	struct bus_table table[2];
};

int bus_open(struct bus **out)
{
	struct bus *b = calloc(1, sizeof *b);

	if (!b)
		return -ENOMEM;
	pthread_mutex_init(&b->lock, NULL);
	*out = b;
	return 0;
}

void bus_close(struct bus *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

/* Index of the first range that ends at or after addr; == ranges when there is none. */
static unsigned table_search(const struct bus_table *t, uint64_t addr)
{
	unsigned low = 0, high = t->ranges;

	while (low < high) {
		unsigned mid = (low + high) / 2;

		if (t->range[mid].last < addr)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

int bus_add(struct bus *b, enum bus_space space, uint64_t base, uint64_t bytes, const struct bus_ops *ops, void *dev, const char *name)
{
	struct bus_table *t = &b->table[space];
	uint64_t last = base + bytes - 1;
	unsigned at = table_search(t, base);

	ensure(bytes > 0 && last >= base);
	if (at < t->ranges && t->range[at].base <= last)
		return -EEXIST;
	if (t->ranges == BUS_RANGES_MAX)
		return -ENOSPC;
	memmove(&t->range[at + 1], &t->range[at], (t->ranges - at) * sizeof t->range[0]);
	t->range[at] = (struct bus_range){.base = base, .last = last, .ops = ops, .dev = dev, .name = name};
	t->ranges++;
	return 0;
}

void bus_remove(struct bus *b, enum bus_space space, uint64_t base)
{
	struct bus_table *t = &b->table[space];
	unsigned at = table_search(t, base);

	ensure(at < t->ranges && t->range[at].base == base);
	t->ranges--;
	memmove(&t->range[at], &t->range[at + 1], (t->ranges - at) * sizeof t->range[0]);
}

/* The range that holds the whole access, or NULL: an access that straddles two devices reaches neither. */
static const struct bus_range *bus_find(struct bus *b, enum bus_space space, uint64_t addr, unsigned bytes)
{
	struct bus_table *t = &b->table[space];
	unsigned at = table_search(t, addr);

	if (at < t->ranges && t->range[at].base <= addr && t->range[at].last - addr >= bytes - 1)
		return &t->range[at];
	t->misses++;
	return NULL;
}

static void bus_miss(enum bus_space space, const char *verb, uint64_t addr, unsigned bytes)
{
	log_debug("bus: %s of %u bytes at %s 0x%llx: nobody there", verb, bytes, space == BUS_PIO ? "port" : "address", (unsigned long long)addr);
}

bool bus_read(struct bus *b, enum bus_space space, uint64_t addr, void *data, unsigned bytes)
{
	const struct bus_range *r;

	ensure(bytes >= 1 && bytes <= 8);
	memset(data, 0xff, bytes);
	bus_lock(b);
	r = bus_find(b, space, addr, bytes);
	if (r)
		r->ops->read(r->dev, addr - r->base, data, bytes);
	bus_unlock(b);
	if (!r)
		bus_miss(space, "read", addr, bytes);
	return r != NULL;
}

bool bus_write(struct bus *b, enum bus_space space, uint64_t addr, const void *data, unsigned bytes)
{
	const struct bus_range *r;

	ensure(bytes >= 1 && bytes <= 8);
	bus_lock(b);
	r = bus_find(b, space, addr, bytes);
	if (r)
		r->ops->write(r->dev, addr - r->base, data, bytes);
	bus_unlock(b);
	if (!r)
		bus_miss(space, "write", addr, bytes);
	return r != NULL;
}

void bus_lock(struct bus *b)
{
	pthread_mutex_lock(&b->lock);
}

void bus_unlock(struct bus *b)
{
	pthread_mutex_unlock(&b->lock);
}

uint64_t bus_get(const void *data, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, data, bytes <= 8 ? bytes : 8);
	return value;
}

void bus_put(void *data, unsigned bytes, uint64_t value)
{
	memcpy(data, &value, bytes <= 8 ? bytes : 8);
}
