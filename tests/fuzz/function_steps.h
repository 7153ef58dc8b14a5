/* A hostile driver of a whole PCI function: guest memory, a plane, a bus with the function on it, and the register writes and ring entries that drivers make. Its
 * workers run when a step says so (dev_steps.h). One at a time; the device itself is the target's.
 *
 *     function_open -> (the device) -> function_add -> function_attach, unless the function is elsewhere -> ... -> function_halt -> (its end)
 *         -> function_close */
#ifndef TESTS_FUZZ_FUNCTION_STEPS_H
#define TESTS_FUZZ_FUNCTION_STEPS_H

#include "dev/addrmap.h"
#include "dev/virtio_pci.h"
#include "tests/fuzz/dev_steps.h"

enum { FUNCTION_RAM_MAX = 128 * 1024, FUNCTION_CONFIG = ADDRMAP_ECAM + (1 << 15), FUNCTION_BAR = ADDRMAP_PCI_MMIO, FUNCTION_SIZE = 8 };

struct function {
	struct bus *bus;
	struct pci *pci;
	struct plane *plane;
	struct virtio_pci *v;
	struct ram ram;
	uint8_t memory[FUNCTION_RAM_MAX] __attribute__((aligned(4096)));
	uint16_t offered[VIRTIO_QUEUES_MAX];
};

extern struct function function;

/* c->ram and c->msi are filled in. */
void function_open(uint64_t ram_bytes, struct plane_config c);
void function_add(const struct virtio_dev *dev, const node_t node[VIRTIO_QUEUES_MAX]);
void function_attach(void);
void function_halt(void);
void function_close(void);

/* Register writes: anywhere; in the common configuration; of a queue's doorbell. */
void function_poke(uint64_t at, unsigned bytes, uint64_t value);
void function_common(unsigned at, unsigned bytes, uint64_t value);
void function_ring(unsigned queue);
unsigned function_status(void);

/* What an honest driver does: the BARs and mastering; features besides VERSION_1; a queue of FUNCTION_SIZE with vector 1; and to begin. */
void function_map(void);
void function_negotiate(uint32_t features);
void function_queue(unsigned queue, uint64_t desc, uint64_t avail, uint64_t used);
void function_begin(void);

/* Into guest memory, as far as that goes: bytes; a descriptor of a table; the next entry of an available ring. */
void function_set(uint64_t at, const void *bytes, size_t n);
void function_desc(uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next);
void function_offer(unsigned queue, uint64_t avail, uint16_t head);

/* Guest memory is all zeros, and nothing is offered. */
void function_clear(void);

#endif
