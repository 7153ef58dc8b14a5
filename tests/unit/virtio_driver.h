/* A small virtio driver for tests: RAM, a ring laid out in it by hand, and the register writes a driver makes. */
#ifndef TESTS_UNIT_VIRTIO_DRIVER_H
#define TESTS_UNIT_VIRTIO_DRIVER_H

#include "dev/virtio_pci.h"
#include "tests/unit/dev_fixture.h"

enum {
	DRIVER_RAM = 16 << 20,
	DRIVER_DESC = 0x10000, DRIVER_AVAIL = 0x11000, DRIVER_USED = 0x12000, DRIVER_INDIRECT = 0x13000, DRIVER_DATA = 0x20000,
	DRIVER_NEXT = 1, DRIVER_WRITE = 2, DRIVER_INDIRECT_FLAG = 4,
};

struct driver {
	struct ram ram;
	uint16_t size;
	uint16_t avail, used; /* indices as the driver counts */
	bool event_idx;
};

void driver_init(struct driver *d, uint16_t size);
void driver_fini(struct driver *d);
struct virtq_config driver_config(const struct driver *d);

/* Guest memory. */
uint8_t *driver_at(const struct driver *d, uint64_t gpa);
void driver_desc(struct driver *d, uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next);
void driver_offer(struct driver *d, unsigned head); /* into the available ring, index moved on */
uint16_t driver_used_idx(const struct driver *d);
void driver_used(const struct driver *d, unsigned i, uint32_t *head, uint32_t *written);
void driver_set16(struct driver *d, uint64_t gpa, uint16_t value);
uint16_t driver_get16(const struct driver *d, uint64_t gpa);

#endif
