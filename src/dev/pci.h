/* The PCI host bridge and what every PCI function of the machine shares: configuration space, BARs, capabilities (PCI Local Bus 3.0, 6; PCI
 * Express Base 2.1, 7.2 for ECAM).
 *
 * One bus, single-function devices, memory BARs only, no INTx: a function interrupts by MSI-X (dev/msix.h) or not at all. BARs are placed in the
 * machine's window when a function is added, as firmware would have; the guest may size and move them at any time.
 *
 * Threads: everything here is under the bus lock, or before any vCPU runs and after all have stopped. */
#ifndef DEV_PCI_H
#define DEV_PCI_H

#include "dev/bus.h"

enum { PCI_SLOTS = 32, PCI_BARS = 6, PCI_CONFIG_BYTES = 256 };

/* Offsets of configuration registers that devices have to do with, and bits in them. */
enum { PCI_COMMAND = 0x04, PCI_STATUS = 0x06, PCI_BAR0 = 0x10, PCI_CAPABILITIES = 0x34 };
enum { PCI_COMMAND_MEMORY = 1u << 1, PCI_COMMAND_MASTER = 1u << 2, PCI_COMMAND_NO_INTX = 1u << 10 };
enum { PCI_CAP_VENDOR = 0x09, PCI_CAP_MSIX = 0x11 };

struct pci;
struct pci_dev;

struct pci_ops {
	/* The guest is about to read, or has written, these bytes of config[] (only bits set in writable[] have changed). May be NULL. */
	void (*config_read)(struct pci_dev *d, unsigned offset, unsigned bytes);
	void (*config_written)(struct pci_dev *d, unsigned offset, unsigned bytes);
};

struct pci_bar {
	uint64_t bytes; /* a power of two, at least 16; 0: no such BAR */
	const struct bus_ops *ops;
	void *dev;
	bool mapped;
	uint64_t at; /* where it is mapped */
};

/* Embedded in the device that owns it. */
struct pci_dev {
	const char *name;
	const struct pci_ops *ops;
	struct pci *pci; /* NULL until added */
	unsigned slot;
	struct pci_bar bar[PCI_BARS];
	uint8_t config[PCI_CONFIG_BYTES], writable[PCI_CONFIG_BYTES]; /* writable: a mask of bits the guest may change */
	uint8_t cap_last, cap_end; /* offsets of the last capability and behind it */
};

struct pci_id {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class; /* 24 bits: class, subclass, interface */
	uint8_t revision;
};

struct pci_config {
	struct bus *bus;
	uint64_t ecam;                    /* 1 MiB: bus 0 */
	uint64_t window, window_bytes;    /* where BARs are placed */
	void (*reset)(void *user);        /* the reset register at port 0xcf9; under the bus lock: note it and return */
	void *user;
};

int pci_open(struct pci **out, const struct pci_config *c) MUST_CHECK;
void pci_close(struct pci *p); /* after every function has been removed */

/* Make a function: init, then BARs and capabilities, then add. */
void pci_dev_init(struct pci_dev *d, const char *name, const struct pci_id *id, const struct pci_ops *ops);

/* A 64-bit memory BAR; takes index and index + 1. */
void pci_bar_init(struct pci_dev *d, unsigned index, uint64_t bytes, const struct bus_ops *ops, void *dev);

/* Append a capability of so many bytes, its two header bytes included; returns its offset. Its body is zero and read-only. */
unsigned pci_cap_add(struct pci_dev *d, uint8_t id, unsigned bytes);

/* -EBUSY when the slot is taken, -ENOSPC when the window is full. */
int pci_add(struct pci *p, unsigned slot, struct pci_dev *d) MUST_CHECK;
void pci_remove(struct pci_dev *d); /* nothing if it was never added */

/* May the function write to memory, MSIs included? */
bool pci_is_master(const struct pci_dev *d);

uint32_t pci_get(const struct pci_dev *d, unsigned offset, unsigned bytes);
void pci_set(struct pci_dev *d, unsigned offset, unsigned bytes, uint32_t value);
void pci_allow(struct pci_dev *d, unsigned offset, unsigned bytes, uint32_t mask); /* which bits the guest may write */

#endif
