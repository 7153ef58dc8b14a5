/* A virtio device as a PCI function (virtio 1.2, 4.1): modern only, MSI-X only.
 *
 * This is the function: its registers, on the devices' node, under the bus lock. Its queues are served elsewhere (dev/plane.h), maybe on other nodes. A queue is
 * served while it is enabled, between DRIVER_OK and the reset, and while the function may master the bus:
 *
 *     no --start--> yes --stop--> ends --stopped--> no        reset: all are stopped; when the last queue says so, status reads 0
 *
 * so after a driver has seen status 0 nothing of its memory is touched any more, also when it reset in the middle of a request.
 * A guest that breaks the rules gets DEVICE_NEEDS_RESET and no service until it resets. Interrupts that a server sends itself leave no mark in the interrupt status
 * register, which a driver with MSI-X does not read (virtio 1.2, 4.1.4.5). */
#ifndef DEV_VIRTIO_PCI_H
#define DEV_VIRTIO_PCI_H

#include "dev/pci.h"
#include "dev/plane.h"

struct virtio_pci_config {
	struct bus *bus;
	struct pci *pci;
	unsigned slot;
	struct irq_sink irq_sink;
	struct plane *plane; /* of this, the devices' node */
	unsigned device;     /* its number there */
};

struct virtio_pci;

/* -EBUSY, -ENOSPC (dev/pci.h), -ENOMEM. */
int virtio_pci_open(struct virtio_pci **out, const struct virtio_pci_config *c) MUST_CHECK;

/* After plane_halt. */
void virtio_pci_close(struct virtio_pci *v);

/* How often this device had to be fenced because its driver broke the rules. Any thread without the bus lock. */
uint64_t virtio_pci_violations(struct virtio_pci *v);

#endif
