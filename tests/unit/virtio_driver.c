/* See virtio_driver.h. */
#include "tests/unit/virtio_driver.h"

#include "base/ensure.h"

#include <string.h>

void driver_init(struct driver *d, uint16_t size)
{
	uint64_t bytes[NODES_MAX] = {DRIVER_RAM};

	*d = (struct driver){.size = size};
	ensure(ram_layout(&d->ram, bytes, 1) == 0);
	ensure(ram_map(&d->ram, NULL) == 0);
}

void driver_fini(struct driver *d)
{
	ram_unmap(&d->ram);
}

struct virtq_config driver_config(const struct driver *d)
{
	return (struct virtq_config){.ram = &d->ram, .size = d->size, .desc = {DRIVER_DESC}, .avail = {DRIVER_AVAIL}, .used = {DRIVER_USED}, .indirect = true,
		.event_idx = d->event_idx};
}

uint8_t *driver_at(const struct driver *d, uint64_t gpa)
{
	uint8_t *at = ram_at(&d->ram, (gpa_t){gpa}, 1);

	ensure(at);
	return at;
}

void driver_set16(struct driver *d, uint64_t gpa, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)driver_at(d, gpa), value, __ATOMIC_SEQ_CST);
}

uint16_t driver_get16(const struct driver *d, uint64_t gpa)
{
	return __atomic_load_n((uint16_t *)(void *)driver_at(d, gpa), __ATOMIC_SEQ_CST);
}

void driver_desc(struct driver *d, uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	uint64_t *at = (uint64_t *)(void *)driver_at(d, table + 16 * i);

	__atomic_store_n(at, addr, __ATOMIC_RELAXED);
	__atomic_store_n(at + 1, len | (uint64_t)flags << 32 | (uint64_t)next << 48, __ATOMIC_RELAXED);
}

void driver_offer(struct driver *d, unsigned head)
{
	driver_set16(d, DRIVER_AVAIL + 4 + 2ull * (d->avail % d->size), (uint16_t)head);
	driver_set16(d, DRIVER_AVAIL + 2, ++d->avail);
}

uint16_t driver_used_idx(const struct driver *d)
{
	return driver_get16(d, DRIVER_USED + 2);
}

void driver_used(const struct driver *d, unsigned i, uint32_t *head, uint32_t *written)
{
	uint32_t *at = (uint32_t *)(void *)driver_at(d, DRIVER_USED + 4 + 8 * (i % d->size));

	*head = __atomic_load_n(at, __ATOMIC_RELAXED);
	*written = __atomic_load_n(at + 1, __ATOMIC_RELAXED);
}
