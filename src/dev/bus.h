/* Where a guest's port and memory-mapped accesses find their device. One table for PIO, one for MMIO.
 *
 * Threads: registration happens before vCPUs run (BAR moves: under the bus lock). bus_read/bus_write may be called by any thread that may wait;
 * they hold the bus lock (the one lock of all device register state; never held across a wait or a touch of guest memory) during the device's
 * handler. A handler must not touch guest memory: it hands such work to its device's own worker thread.
 */
#ifndef DEV_BUS_H
#define DEV_BUS_H

#include "base/types.h"

enum bus_space { BUS_PIO, BUS_MMIO };

struct bus_ops {
	/* offset is from the start of the registered range; bytes is 1, 2, 4 or 8; data is little-endian. */
	void (*read)(void *dev, uint64_t offset, void *data, unsigned bytes);
	void (*write)(void *dev, uint64_t offset, const void *data, unsigned bytes);
};

struct bus;

int bus_open(struct bus **out) MUST_CHECK;
void bus_close(struct bus *b);

/* Add and remove: with the bus lock held (as every handler has it), or before any vCPU runs.
 * -EEXIST when the range overlaps another, -ENOSPC when the table is full. The name must outlive the bus. */
int bus_add(struct bus *b, enum bus_space space, uint64_t base, uint64_t bytes, const struct bus_ops *ops, void *dev, const char *name) MUST_CHECK;
void bus_remove(struct bus *b, enum bus_space space, uint64_t base);

/* Nobody there: reads give all ones, writes are dropped; returns false (counted, logged at debug). */
bool bus_read(struct bus *b, enum bus_space space, uint64_t addr, void *data, unsigned bytes);
bool bus_write(struct bus *b, enum bus_space space, uint64_t addr, const void *data, unsigned bytes);

/* For device threads that change register state outside a handler (a worker completing a request). */
void bus_lock(struct bus *b);
void bus_unlock(struct bus *b);

/* The value of an access, and back: little-endian, 1 to 8 bytes. */
uint64_t bus_get(const void *data, unsigned bytes);
void bus_put(void *data, unsigned bytes, uint64_t value);

/* How a device raises interrupts; filled in by vm/, called with or without the bus lock, any thread, never blocks. */
struct irq_sink {
	void (*msi)(void *vm, uint64_t address, uint32_t data);      /* a message-signalled interrupt as the PCI function would write it */
	void (*line)(void *vm, unsigned gsi, bool level);            /* an IOAPIC pin */
	void *vm;
};

#endif
