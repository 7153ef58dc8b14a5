/* MSI-X of one PCI function (PCI Local Bus 3.0, 6.8.2): the table, its masks, the pending bits, in a BAR of their own.
 *
 * A vector raised while it is masked (by itself, by the function mask, or by the lack of bus mastering) is pending and is sent once when
 * the mask goes; raised while MSI-X is off it is lost.
 *
 * Threads: everything under the bus lock, which also serialises msi(). */
#ifndef DEV_MSIX_H
#define DEV_MSIX_H

#include "dev/pci.h"

enum { MSIX_VECTORS_MAX = 64, MSIX_ENTRY_BYTES = 16, MSIX_BAR_BYTES = 4096, MSIX_PBA_OFFSET = 2048 };

struct msix {
	struct pci_dev *pci;
	struct irq_sink sink;
	unsigned vectors, cap; /* cap: offset of the capability */
	void (*changed)(void *user); /* the guest has written to the table; under the bus lock; may be NULL, set after msix_init */
	void *user;
	uint64_t pending;      /* one bit a vector */
	uint8_t table[MSIX_VECTORS_MAX * MSIX_ENTRY_BYTES];
};

/* Add the capability and BARs bar, bar + 1 to a function that is being made. vectors: 1 to MSIX_VECTORS_MAX. */
void msix_init(struct msix *m, struct pci_dev *pci, unsigned bar, unsigned vectors, struct irq_sink sink);

/* To be called from the function's config_written, for whatever was written. */
void msix_config_written(struct msix *m);

/* A vector out of range raises nothing. */
void msix_raise(struct msix *m, unsigned vector);

/* The message that msix_raise would send for this vector now; false: none, it would be pending or lost. */
bool msix_message(const struct msix *m, unsigned vector, uint64_t *address, uint32_t *data);

#endif
