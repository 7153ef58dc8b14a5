/* The I/O APIC (82093AA data sheet, with the EOI register of version 0x20), in user space because KVM's irqchip is split: its pins become MSIs.
 *
 * A level-triggered interrupt sets Remote IRR until the CPU's EOI comes back. KVM exits for an EOI only if the vector is level-triggered in
 * an MSI route among the first ADDRMAP_IOAPIC_PINS GSIs: routes() tells vm/ what those routes must be.
 *
 * Threads: ioapic_line and ioapic_eoi from any thread, with or without the bus lock; they take the IOAPIC's own lock, under which msi()
 * and routes() are called, routes() before any interrupt goes by the new route; neither may call back. */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H

#include "dev/addrmap.h"
#include "dev/bus.h"

enum { IOAPIC_PINS = ADDRMAP_IOAPIC_PINS };

/* What a pin sends, masked or not: a pin masked while its interrupt is in service still needs the EOI. */
struct ioapic_route {
	uint64_t address;
	uint32_t data; /* bit 15: level */
};

struct ioapic_config {
	struct bus *bus;
	uint64_t base;
	void (*msi)(void *user, uint64_t address, uint32_t data);
	void (*routes)(void *user, const struct ioapic_route route[IOAPIC_PINS]); /* one or more changed; may be NULL */
	void *user;
};

struct ioapic;

int ioapic_open(struct ioapic **out, const struct ioapic_config *c) MUST_CHECK;
void ioapic_close(struct ioapic *a);

/* Drive a pin; true is active, whatever the polarity. Pins out of range are our bug. */
void ioapic_line(struct ioapic *a, unsigned pin, bool level);

/* A CPU ended the level-triggered interrupt 'vector' (KVM_EXIT_IOAPIC_EOI). */
void ioapic_eoi(struct ioapic *a, uint8_t vector);

#endif
