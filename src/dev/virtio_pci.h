/* A virtio device as a PCI function (virtio 1.2, 4.1): modern only, MSI-X only.
 *
 * Each queue has a worker thread, which owns its virtq while it is busy; the registers are under the bus lock. A queue is busy only between
 * DRIVER_OK and the reset, and only while the function may master the bus:
 *
 *     idle --ring--> busy --drained--> idle        reset: stop is set; when the last queue is idle, status reads 0
 *
 * so after a driver has seen status 0 nothing of its memory is touched any more, also when it reset in the middle of a request.
 * A guest that breaks the rules gets DEVICE_NEEDS_RESET and no service until it resets. */
#ifndef DEV_VIRTIO_PCI_H
#define DEV_VIRTIO_PCI_H

#include "dev/pci.h"
#include "dev/virtio.h"

struct virtio_pci_config {
	struct bus *bus;
	struct pci *pci;
	unsigned slot;
	const struct ram *ram;
	struct irq_sink irq_sink;
	struct virtio_dev dev;
};

struct virtio_pci;

/* -EBUSY, -ENOSPC (dev/pci.h), -ENOMEM, -EAGAIN (no thread). */
int virtio_pci_open(struct virtio_pci **out, const struct virtio_pci_config *c) MUST_CHECK;

/* Waits for busy queues. */
void virtio_pci_close(struct virtio_pci *v);

/* The device has something for this queue. Any thread, with or without the bus lock. */
void virtio_pci_ring(struct virtio_pci *v, unsigned queue);

/* How often this device had to be fenced because its driver broke the rules. Any thread without the bus lock. */
uint64_t virtio_pci_violations(struct virtio_pci *v);

#endif
