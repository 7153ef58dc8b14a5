/* The standard machine's devices, assembled: all that vm/ needs to know of them. One board a VM, on the node that has the devices.
 *
 * Where everything is: dev/addrmap.h. Accesses go to bus_read/bus_write of board_bus().
 * Threads: open and close belong to one owner thread, close after the last vCPU has stopped; the rest from any thread without the bus lock.
 */
#ifndef DEV_BOARD_H
#define DEV_BOARD_H

#include "base/failure.h"
#include "dev/bus.h"
#include "dev/ioapic.h"
#include "dev/plane.h"

enum board_end { BOARD_POWEROFF, BOARD_RESET, BOARD_PANIC };

struct board_config {
	struct plane *plane; /* of this node, which is the devices' node: each of its devices becomes a PCI function. Halted before the board is closed */

	/* An interrupt message, from the IOAPIC or a PCI function. Any thread, any device lock held; never blocks, never calls back. */
	void (*msi)(void *user, uint64_t address, uint32_t data);
	/* What the IOAPIC's pins send now (dev/ioapic.h): vm/ keeps KVM's GSI routes the same. Same rules; may be NULL. */
	void (*routes)(void *user, const struct ioapic_route route[IOAPIC_PINS]);
	/* The serial console, on its own thread; may block (the guest then sees a slow line). room: board_input would accept more; may be NULL. */
	void (*output)(void *user, const uint8_t *bytes, size_t n);
	void (*room)(void *user);
	/* The guest is over. Under the bus lock, in a vCPU's exit: note it and return. May come more than once. */
	void (*end)(void *user, enum board_end why);
	void *user;
};

struct board;

int board_open(struct board **out, const struct board_config *c, struct failure *f) MUST_CHECK;

/* What the guest has written to its console is handed to output() first. */
void board_close(struct board *b);

struct bus *board_bus(struct board *b);

/* Keys for the guest's console: returns how many were taken, the rest when room() is called. */
size_t board_input(struct board *b, const uint8_t *bytes, size_t n) MUST_CHECK;

/* Wait until output() has had every byte the guest wrote so far. */
void board_drain(struct board *b);

void board_power_button(struct board *b);

/* KVM_EXIT_IOAPIC_EOI. */
void board_eoi(struct board *b, uint8_t vector);

#endif
