/* Configuration space by both its doors, and BARs that follow what is written there. */
#include "dev/pci.h"

#include "base/ensure.h"
#include "base/log.h"
#include "dev/addrmap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ECAM_BYTES = 1 << 20, ECAM_SLOT_SHIFT = 15, ECAM_FUNCTION_SHIFT = 12, ECAM_REG_MASK = 0xfff };
enum { PORTS = 8, PORT_DATA = 4, PORT_RESET = ADDRMAP_PORT_RESET - ADDRMAP_PORT_PCI_CONFIG, RESET_NOW = 1u << 2 };
enum { ADDRESS_ENABLE = 1u << 31, ADDRESS_WRITABLE = 0x80fffffcu };
enum { VENDOR = 0x00, DEVICE = 0x02, REVISION = 0x08, CLASS = 0x09, SUBSYSTEM_VENDOR = 0x2c, SUBSYSTEM = 0x2e, INTERRUPT_LINE = 0x3c, CAP_FIRST = 0x40 };
enum { STATUS_CAPABILITIES = 1u << 4 };
enum { BAR_64BIT = 1u << 2, BAR_FLAGS = 0xf };

struct pci {
	struct pci_config c;
	uint32_t address; /* the register at 0xcf8 */
	uint8_t reset;    /* the register at 0xcf9 */
	uint64_t window_used;
	bool ecam_there, ports_there;
	struct pci_dev *slot[PCI_SLOTS];
	struct pci_dev host;
};

uint32_t pci_get(const struct pci_dev *d, unsigned offset, unsigned bytes)
{
	ensure(offset + bytes <= PCI_CONFIG_BYTES && bytes <= 4);
	return (uint32_t)bus_get(d->config + offset, bytes);
}

void pci_set(struct pci_dev *d, unsigned offset, unsigned bytes, uint32_t value)
{
	ensure(offset + bytes <= PCI_CONFIG_BYTES && bytes <= 4);
	bus_put(d->config + offset, bytes, value);
}

void pci_allow(struct pci_dev *d, unsigned offset, unsigned bytes, uint32_t mask)
{
	ensure(offset + bytes <= PCI_CONFIG_BYTES && bytes <= 4);
	bus_put(d->writable + offset, bytes, mask);
}

bool pci_is_master(const struct pci_dev *d)
{
	return pci_get(d, PCI_COMMAND, 2) & PCI_COMMAND_MASTER;
}

void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_id *id, const struct pci_ops *ops)
{
	*d = (struct pci_dev){.name = name, .ops = ops, .cap_end = CAP_FIRST};
	pci_set(d, VENDOR, 2, id->vendor);
	pci_set(d, DEVICE, 2, id->device);
	pci_set(d, REVISION, 1, id->revision);
	pci_set(d, CLASS, 3, id->class);
	pci_set(d, SUBSYSTEM_VENDOR, 2, id->subsystem_vendor);
	pci_set(d, SUBSYSTEM, 2, id->subsystem);
	pci_allow(d, PCI_COMMAND, 2, PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
	pci_allow(d, INTERRUPT_LINE, 1, 0xff);
}

static unsigned bar_offset(unsigned index)
{
	return PCI_BAR0 + 4 * index;
}

void pci_bar_init(struct pci_dev *d, unsigned index, uint64_t bytes, const struct bus_ops *ops, void *dev)
{
	ensure(index + 1 < PCI_BARS && bytes > BAR_FLAGS && (bytes & (bytes - 1)) == 0);
	d->bar[index] = (struct pci_bar){.bytes = bytes, .ops = ops, .dev = dev};
	pci_set(d, bar_offset(index), 4, BAR_64BIT);
	pci_allow(d, bar_offset(index), 4, (uint32_t)-bytes);
	pci_allow(d, bar_offset(index + 1), 4, (uint32_t)(-bytes >> 32));
	pci_allow(d, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
}

unsigned pci_cap_add(struct pci_dev *d, uint8_t id, unsigned bytes)
{
	unsigned at = d->cap_end;

	ensure(bytes >= 2 && at + bytes <= PCI_CONFIG_BYTES);
	pci_set(d, at, 1, id);
	pci_set(d, d->cap_last ? d->cap_last + 1u : PCI_CAPABILITIES, 1, at);
	pci_set(d, PCI_STATUS, 2, STATUS_CAPABILITIES);
	d->cap_last = (uint8_t)at;
	d->cap_end = (uint8_t)((at + bytes + 3) & ~3u); /* 0 when full: then the next one fails its ensure */
	return at;
}

static uint64_t bar_address(const struct pci_dev *d, unsigned index)
{
	return (pci_get(d, bar_offset(index), 4) & ~(uint32_t)BAR_FLAGS) | (uint64_t)pci_get(d, bar_offset(index + 1), 4) << 32;
}

static bool bar_wanted(const struct pci_dev *d, unsigned index)
{
	return d->bar[index].bytes && d->pci && pci_get(d, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY;
}

static void bar_leave(struct pci_dev *d, unsigned index)
{
	struct pci_bar *bar = &d->bar[index];

	if (!bar->mapped || (bar_wanted(d, index) && bar->at == bar_address(d, index)))
		return;
	bus_remove(d->pci->c.bus, BUS_MMIO, bar->at);
	bar->mapped = false;
}

/* An address that is taken maps nothing: the guest's mistake, and its loss. */
static void bar_enter(struct pci_dev *d, unsigned index)
{
	struct pci_bar *bar = &d->bar[index];

	if (bar->mapped || !bar_wanted(d, index))
		return;
	bar->at = bar_address(d, index);
	bar->mapped = bus_add(d->pci->c.bus, BUS_MMIO, bar->at, bar->bytes, bar->ops, bar->dev, d->name) == 0;
	if (!bar->mapped)
		log_debug("pci: %s: BAR %u cannot be mapped at 0x%llx", d->name, index, (unsigned long long)bar->at);
}

/* Put the BARs where their registers say. All leave before any enters, so that two can change places. */
static void pci_dev_update(struct pci_dev *d)
{
	for (unsigned i = 0; i < PCI_BARS; i++)
		bar_leave(d, i);
	for (unsigned i = 0; i < PCI_BARS; i++)
		bar_enter(d, i);
}

/* Beyond the first 256 bytes a function has no registers: they read 0, as do extended capabilities that are not there. */
static void pci_dev_read(struct pci_dev *d, unsigned offset, void *data, unsigned bytes)
{
	memset(data, 0, bytes);
	if (offset + bytes > PCI_CONFIG_BYTES)
		return;
	if (d->ops && d->ops->config_read)
		d->ops->config_read(d, offset, bytes);
	memcpy(data, d->config + offset, bytes);
}

static void pci_dev_write(struct pci_dev *d, unsigned offset, const void *data, unsigned bytes)
{
	const uint8_t *from = data;

	if (offset + bytes > PCI_CONFIG_BYTES)
		return;
	for (unsigned i = 0; i < bytes; i++) {
		uint8_t mask = d->writable[offset + i];

		d->config[offset + i] = (uint8_t)((d->config[offset + i] & ~mask) | (from[i] & mask));
	}
	if (offset < bar_offset(PCI_BARS))
		pci_dev_update(d);
	if (d->ops && d->ops->config_written)
		d->ops->config_written(d, offset, bytes);
}

/* function: device and function number, 8 bits. */
static struct pci_dev *pci_find(struct pci *p, unsigned bus_number, unsigned function)
{
	return bus_number == 0 && (function & 7) == 0 ? p->slot[function >> 3] : NULL;
}

static void pci_ecam_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct pci_dev *d = pci_find(dev, 0, (unsigned)(offset >> ECAM_FUNCTION_SHIFT));

	if (d)
		pci_dev_read(d, offset & ECAM_REG_MASK, data, bytes);
	else
		memset(data, 0xff, bytes);
}

static void pci_ecam_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct pci_dev *d = pci_find(dev, 0, (unsigned)(offset >> ECAM_FUNCTION_SHIFT));

	if (d)
		pci_dev_write(d, offset & ECAM_REG_MASK, data, bytes);
}

static const struct bus_ops pci_ecam_ops = {.read = pci_ecam_read, .write = pci_ecam_write};

/* The function that port 0xcfc stands for now, if any. */
static struct pci_dev *pci_addressed(struct pci *p)
{
	return p->address & ADDRESS_ENABLE ? pci_find(p, p->address >> 16 & 0xff, p->address >> 8 & 0xff) : NULL;
}

static unsigned pci_addressed_reg(const struct pci *p, uint64_t offset)
{
	return (p->address & 0xfc) + (unsigned)(offset - PORT_DATA);
}

static void pci_port_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct pci *p = dev;
	struct pci_dev *d;

	memset(data, 0xff, bytes);
	if (offset == 0 && bytes == 4)
		bus_put(data, bytes, p->address);
	else if (offset == PORT_RESET && bytes == 1)
		bus_put(data, bytes, p->reset);
	else if (offset >= PORT_DATA && (d = pci_addressed(p)))
		pci_dev_read(d, pci_addressed_reg(p, offset), data, bytes);
}

static void pci_port_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct pci *p = dev;
	uint32_t value = (uint32_t)bus_get(data, bytes);
	struct pci_dev *d;

	if (offset == 0 && bytes == 4) {
		p->address = value & ADDRESS_WRITABLE;
	} else if (offset == PORT_RESET && bytes == 1) {
		p->reset = (uint8_t)(value & ~(uint32_t)RESET_NOW);
		if (value & RESET_NOW)
			p->c.reset(p->c.user);
	} else if (offset >= PORT_DATA && (d = pci_addressed(p))) {
		pci_dev_write(d, pci_addressed_reg(p, offset), data, bytes);
	}
}

static const struct bus_ops pci_port_ops = {.read = pci_port_read, .write = pci_port_write};

/* Where firmware would put the BARs: one after the other, each aligned to its size. */
static int pci_place(struct pci *p, struct pci_dev *d)
{
	uint64_t used = p->window_used;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		uint64_t bytes = d->bar[i].bytes, at;

		if (!bytes)
			continue;
		at = (p->c.window + used + bytes - 1) & ~(bytes - 1);
		if (at + bytes > p->c.window + p->c.window_bytes)
			return -ENOSPC;
		pci_set(d, bar_offset(i), 4, (uint32_t)at | BAR_64BIT);
		pci_set(d, bar_offset(i + 1), 4, (uint32_t)(at >> 32));
		used = at + bytes - p->c.window;
	}
	p->window_used = used;
	return 0;
}

int pci_add(struct pci *p, unsigned slot, struct pci_dev *d)
{
	int err;

	ensure(slot < PCI_SLOTS && !d->pci);
	if (p->slot[slot])
		return -EBUSY;
	err = pci_place(p, d);
	if (err)
		return err;
	d->pci = p;
	d->slot = slot;
	p->slot[slot] = d;
	return 0;
}

void pci_remove(struct pci_dev *d)
{
	if (!d->pci)
		return;
	pci_set(d, PCI_COMMAND, 2, 0);
	pci_dev_update(d);
	d->pci->slot[d->slot] = NULL;
	d->pci = NULL;
}

static int pci_open_locked(struct pci *p)
{
	static const struct pci_id host_bridge = {.vendor = 0x1b36, .device = 0x0008, .subsystem_vendor = 0x1af4, .subsystem = 0x1100, .class = 0x060000};
	int err = bus_add(p->c.bus, BUS_MMIO, p->c.ecam, ECAM_BYTES, &pci_ecam_ops, p, "pci ecam");

	if (err)
		return err;
	p->ecam_there = true;
	err = bus_add(p->c.bus, BUS_PIO, ADDRMAP_PORT_PCI_CONFIG, PORTS, &pci_port_ops, p, "pci config");
	if (err)
		return err;
	p->ports_there = true;
	pci_dev_init(&p->host, "host bridge", &host_bridge, NULL);
	return pci_add(p, 0, &p->host);
}

int pci_open(struct pci **out, const struct pci_config *c)
{
	struct pci *p = calloc(1, sizeof *p);
	int err;

	if (!p)
		return -ENOMEM;
	p->c = *c;
	bus_lock(c->bus);
	err = pci_open_locked(p);
	bus_unlock(c->bus);
	if (err)
		pci_close(p);
	else
		*out = p;
	return err;
}

void pci_close(struct pci *p)
{
	if (!p)
		return;
	bus_lock(p->c.bus);
	pci_remove(&p->host);
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		ensure(!p->slot[i]);
	if (p->ports_there)
		bus_remove(p->c.bus, BUS_PIO, ADDRMAP_PORT_PCI_CONFIG);
	if (p->ecam_there)
		bus_remove(p->c.bus, BUS_MMIO, p->c.ecam);
	bus_unlock(p->c.bus);
	free(p);
}
