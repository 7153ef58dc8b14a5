/* Each pin is judged by one function, ioapic_service, after anything about it has changed. */
#include "dev/ioapic.h"

#include "base/ensure.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { IOAPIC_BYTES = 0x1000, WINDOW_SELECT = 0x00, WINDOW_DATA = 0x10, WINDOW_EOI = 0x40 };
enum { REG_ID = 0, REG_VERSION = 1, REG_ARBITRATION = 2, REG_PINS = 0x10 };
enum { IOAPIC_VERSION = 0x20 | (IOAPIC_PINS - 1) << 16 };

/* Redirection table entry. */
enum {
	RTE_VECTOR = 0xff,
	RTE_MODE = 7u << 8,
	RTE_LOGICAL = 1u << 11,
	RTE_STATUS = 1u << 12,
	RTE_REMOTE_IRR = 1u << 14,
	RTE_LEVEL = 1u << 15,
	RTE_MASKED = 1u << 16,
	RTE_WRITABLE = 0x1afff, /* of the low word: all but reserved bits, delivery status and Remote IRR */
	RTE_DESTINATION_SHIFT = 56,
};
enum { MODE_FIXED = 0u << 8, MODE_LOWEST = 1u << 8, MODE_NMI = 4u << 8 };
enum { MSI_ADDRESS = 0xfee00000u, MSI_LOGICAL = 1u << 2, MSI_HINT = 1u << 3, MSI_ASSERT = 1u << 14 };

struct ioapic {
	struct ioapic_config c;
	pthread_mutex_t lock; /* guards the rest */
	uint32_t select, id;
	uint64_t rte[IOAPIC_PINS];
	bool level[IOAPIC_PINS];
};

static struct ioapic_route rte_route(uint64_t rte)
{
	uint32_t low = (uint32_t)rte, destination = (uint32_t)(rte >> RTE_DESTINATION_SHIFT);
	struct ioapic_route r = {.address = MSI_ADDRESS | destination << 12, .data = low & (RTE_VECTOR | RTE_MODE | RTE_LEVEL)};

	if (low & RTE_LOGICAL)
		r.address |= MSI_LOGICAL;
	if ((low & RTE_MODE) == MODE_LOWEST)
		r.address |= MSI_HINT;
	if (low & RTE_LEVEL)
		r.data |= MSI_ASSERT;
	return r;
}

/* SMI, INIT and ExtINT through a pin have no meaning in this machine. */
static bool rte_deliverable(uint64_t rte)
{
	uint32_t mode = rte & RTE_MODE;

	return !(rte & RTE_MASKED) && (mode == MODE_FIXED || mode == MODE_LOWEST || mode == MODE_NMI);
}

/* edge: the pin has just become active. An edge at a masked pin is lost (82093AA, 3.2.4); a level is not. */
static void ioapic_service(struct ioapic *a, unsigned pin, bool edge)
{
	uint64_t rte = a->rte[pin];
	struct ioapic_route r;

	if (!rte_deliverable(rte))
		return;
	if (rte & RTE_LEVEL ? !a->level[pin] || rte & RTE_REMOTE_IRR : !edge)
		return;
	if (rte & RTE_LEVEL)
		a->rte[pin] |= RTE_REMOTE_IRR;
	r = rte_route(rte);
	a->c.msi(a->c.user, r.address, r.data);
}

void ioapic_line(struct ioapic *a, unsigned pin, bool level)
{
	bool edge;

	ensure(pin < IOAPIC_PINS);
	pthread_mutex_lock(&a->lock);
	edge = level && !a->level[pin];
	a->level[pin] = level;
	ioapic_service(a, pin, edge);
	pthread_mutex_unlock(&a->lock);
}

static void ioapic_end(struct ioapic *a, uint8_t vector)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((a->rte[pin] & RTE_VECTOR) != vector || !(a->rte[pin] & RTE_REMOTE_IRR))
			continue;
		a->rte[pin] &= ~(uint64_t)RTE_REMOTE_IRR;
		ioapic_service(a, pin, false);
	}
}

void ioapic_eoi(struct ioapic *a, uint8_t vector)
{
	pthread_mutex_lock(&a->lock);
	ioapic_end(a, vector);
	pthread_mutex_unlock(&a->lock);
}

static uint32_t ioapic_reg_read(const struct ioapic *a, uint32_t reg)
{
	switch (reg) {
	case REG_ID: return a->id;
	case REG_VERSION: return IOAPIC_VERSION;
	case REG_ARBITRATION: return a->id;
	}
	if (reg >= REG_PINS && reg < REG_PINS + 2 * IOAPIC_PINS)
		return (uint32_t)(a->rte[(reg - REG_PINS) / 2] >> (reg & 1 ? 32 : 0));
	return 0;
}

static uint64_t rte_merge(uint64_t rte, bool high, uint32_t value)
{
	if (high)
		return (rte & 0xffffffff) | (uint64_t)(value & 0xff000000) << 32;
	rte = (rte & ~(uint64_t)RTE_WRITABLE) | (value & RTE_WRITABLE);
	if (!(rte & RTE_LEVEL))
		rte &= ~(uint64_t)RTE_REMOTE_IRR; /* Linux's way to end an interrupt on version 0x11 */
	return rte;
}

/* Under the lock: nothing may be sent by a route that KVM does not know yet. */
static void ioapic_tell_routes(struct ioapic *a)
{
	struct ioapic_route route[IOAPIC_PINS];

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		route[pin] = rte_route(a->rte[pin]);
	if (a->c.routes)
		a->c.routes(a->c.user, route);
}

static void ioapic_write_pin(struct ioapic *a, unsigned pin, bool high, uint32_t value)
{
	struct ioapic_route before = rte_route(a->rte[pin]), now;

	a->rte[pin] = rte_merge(a->rte[pin], high, value);
	now = rte_route(a->rte[pin]);
	if (now.address != before.address || now.data != before.data)
		ioapic_tell_routes(a);
	ioapic_service(a, pin, false);
}

static void ioapic_reg_write(struct ioapic *a, uint32_t reg, uint32_t value)
{
	if (reg == REG_ID)
		a->id = value & 0x0f000000;
	else if (reg >= REG_PINS && reg < REG_PINS + 2 * IOAPIC_PINS)
		ioapic_write_pin(a, (reg - REG_PINS) / 2, reg & 1, value);
}

static void ioapic_bus_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct ioapic *a = dev;
	uint32_t value = 0;

	pthread_mutex_lock(&a->lock);
	if (offset == WINDOW_SELECT)
		value = a->select;
	else if (offset == WINDOW_DATA)
		value = ioapic_reg_read(a, a->select);
	pthread_mutex_unlock(&a->lock);
	bus_put(data, bytes, value);
}

static void ioapic_bus_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct ioapic *a = dev;
	uint32_t value = (uint32_t)bus_get(data, bytes);

	pthread_mutex_lock(&a->lock);
	if (offset == WINDOW_SELECT)
		a->select = value & 0xff;
	else if (offset == WINDOW_DATA)
		ioapic_reg_write(a, a->select, value);
	else if (offset == WINDOW_EOI)
		ioapic_end(a, (uint8_t)value);
	pthread_mutex_unlock(&a->lock);
}

static const struct bus_ops ioapic_ops = {.read = ioapic_bus_read, .write = ioapic_bus_write};

int ioapic_open(struct ioapic **out, const struct ioapic_config *c)
{
	struct ioapic *a = calloc(1, sizeof *a);
	int err;

	if (!a)
		return -ENOMEM;
	a->c = *c;
	pthread_mutex_init(&a->lock, NULL);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		a->rte[pin] = RTE_MASKED;
	bus_lock(c->bus);
	err = bus_add(c->bus, BUS_MMIO, c->base, IOAPIC_BYTES, &ioapic_ops, a, "ioapic");
	bus_unlock(c->bus);
	if (err) {
		pthread_mutex_destroy(&a->lock);
		free(a);
		return err;
	}
	*out = a;
	return 0;
}

void ioapic_close(struct ioapic *a)
{
	if (!a)
		return;
	bus_lock(a->c.bus);
	bus_remove(a->c.bus, BUS_MMIO, a->c.base);
	bus_unlock(a->c.bus);
	pthread_mutex_destroy(&a->lock);
	free(a);
}
