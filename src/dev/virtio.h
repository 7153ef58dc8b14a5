/* What a virtio device is, whatever carries it: its identity, how its registers answer (on the devices' node; dev/virtio_pci.h is the one transport) and how
 * its queues are served (on the node each belongs to; dev/vqueue.h). */
#ifndef DEV_VIRTIO_H
#define DEV_VIRTIO_H

#include "dev/virtq.h"

#include <stdatomic.h>

enum { VIRTIO_QUEUES_MAX = 32 };
enum { VIRTIO_ID_NET = 1, VIRTIO_ID_BLK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4, VIRTIO_ID_BALLOON = 5, VIRTIO_ID_VSOCK = 19 };

/* Feature bits every device shares; the transport offers them itself (virtio 1.2, 6). */
enum { VIRTIO_F_INDIRECT_DESC = 28, VIRTIO_F_EVENT_IDX = 29, VIRTIO_F_VERSION_1 = 32 };

/* What became of a queue that was served; or -errno: the guest broke the rules, the device needs a reset. */
enum virtio_served {
	VIRTIO_DRAINED, /* nothing was left in it */
	VIRTIO_MORE,    /* a batch is done, there may be more: interrupt for these, then call again */
	VIRTIO_WAITING, /* what is left waits for an event of the device's own, which will ring the queue (plane_ring) */
};

/* All but serve may be NULL. */
struct virtio_ops {
	/* Take requests and give them back. On the queue's own worker thread, no lock held; may touch guest memory and wait. When *stop turns true:
	 * return soon, and act upon nothing that was read from guest memory meanwhile (it may be zeros); what is under way may be given back. features: as negotiated. */
	int (*serve)(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop);
	/* Nobody owes this queue's requests an answer any more. Asked once serve is not running and will not be until the next start; when it turns true later, the
	 * device rings the queue. Locks of the device's own only; rings nothing. */
	bool (*quiet)(void *dev, unsigned queue);
	/* The queue begins anew: forget its requests. serve is not running, quiet() is true. */
	void (*fresh)(void *dev, unsigned queue);
	/* A message on the io stream for this device, from any node. On the stream's thread; must not block or touch guest memory. -EBADMSG, -EPROTO: no
	 * correct node sends this. */
	int (*message)(void *dev, node_t from, unsigned id, const uint8_t *body, size_t bytes);

	/* What follows on the devices' node only, under the bus lock. */

	/* The driver is ready (DRIVER_OK), with these features; its queues are about to be started. */
	void (*ready)(void *dev, uint64_t features);
	/* The driver has reset the device: no queue is served, all requests are forgotten. */
	void (*reset)(void *dev);
	/* Device-specific configuration, within config_bytes; without these it reads 0, and writes are dropped. */
	void (*config_read)(void *dev, unsigned offset, void *data, unsigned bytes);
	void (*config_write)(void *dev, unsigned offset, const void *data, unsigned bytes);
};

struct virtio_dev {
	const char *name;    /* at most 12 characters, outlives the device */
	uint16_t type;       /* VIRTIO_ID_* */
	uint32_t pci_class;  /* 24 bits */
	uint64_t features;   /* of its own; read when the function is made, on the devices' node */
	unsigned queues;     /* 1 to VIRTIO_QUEUES_MAX */
	uint16_t queue_size; /* largest; power of two up to VIRTQ_SIZE_MAX */
	unsigned config_bytes;
	const struct virtio_ops *ops;
	void *dev;
};

#endif
