/* The devices every machine has, at the addresses memmap.h and the ACPI tables promise. Lives on the devices' node of a VM. */
#ifndef VM_BOARD_H
#define VM_BOARD_H

#include "base/failure.h"
#include "base/types.h"
#include "dev/bus.h"
#include "mem/ram.h"
#include "vm/machine.h"

struct board;

struct board_config {
	int vm_fd;
	const struct ram *ram;
	void *owner;
	void (*end)(void *owner, enum machine_end why, const char *text); /* any thread, also under the bus lock */
	void (*console)(void *owner, const void *bytes, size_t n);
};

int board_open(struct board **out, const struct board_config *c, struct failure *f) MUST_CHECK;

/* After the last vCPU has left. Console output still queued is handed out first. */
void board_close(struct board *b);

/* Any thread that may wait for the bus lock. */
void board_access(struct board *b, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write);
void board_ioapic_eoi(struct board *b, uint8_t vector);
size_t board_console_input(struct board *b, const void *bytes, size_t n);
void board_power_button(struct board *b);

#endif
