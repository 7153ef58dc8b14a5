/* The device plane of one VM: which queue of which device is served on which node, and how the functions' registers and the queues' servers speak with each
 * other (doc/decisions/device-queues.md). Every node has one, with the same devices in the same order; the functions are on the devices' node.
 *
 *     plane_open -> plane_add (each device) -> plane_attach (each function, devices' node) -> ... -> plane_hush -> plane_halt -> plane_close
 *
 * Between nodes the words are wire/peer.h's queue_*, on the bus stream, whose order they rely on; a device's own messages go on the io stream.
 * Threads: open, add, attach, halt, close belong to one owner; the rest any thread, nothing blocks. Locks: each queue's wiring has one, a leaf. */
#ifndef DEV_PLANE_H
#define DEV_PLANE_H

#include "dev/vqueue.h"

enum { PLANE_DEVICES_MAX = 24 };

struct plane;

struct plane_config {
	node_t self, devices; /* devices: where the functions are */
	const struct ram *ram; /* outlives the plane */
	/* Send an MSI: any destination, from any node. */
	void (*msi)(void *user, uint64_t address, uint32_t data);
	/* Send a frame to another node's plane: on the io stream when bulk, else on the bus stream. -errno: it is gone. May be NULL on a single node. */
	int (*send)(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes);
	/* KVM is to count writes to this address in the eventfd fd instead of leaving the guest (on), or no longer. -errno: it does not, and plane_bell is
	 * called. May take as long as any vCPU waits for a page, so it is called on a thread of the plane's own. May be NULL: always so. */
	int (*doorbell)(void *user, uint64_t addr, int fd, bool on);
	void *user;
};

/* The registers of a device, on the devices' node. Called on any thread but never from within plane_start, plane_stop or plane_ring, no lock of the plane held. */
struct plane_function {
	void (*raise)(void *fn, unsigned queue);   /* interrupt the driver for this queue */
	void (*stopped)(void *fn, unsigned queue); /* ends a plane_stop that said false */
	void (*broken)(void *fn, unsigned queue);  /* the driver broke the rules in this queue, which is served no more */
	void (*changed)(void *fn);                 /* the device's configuration has changed: interrupt the driver */
	void *fn;
};

/* How a queue meets the guest: zeroed, not at all. */
struct plane_wire {
	uint64_t bell;    /* guest-physical address of its doorbell; 0: not known here */
	bool direct;      /* its interrupt is this message; else the function raises it */
	uint64_t address;
	uint32_t data;
};

struct plane_stats {
	uint64_t bells;   /* doorbells recognised on the vCPU's own node, by KVM or plane_bell */
	uint64_t sent;    /* interrupts sent by the queue's server */
	uint64_t raised;  /* interrupts handed to the function */
	uint64_t waits;   /* times that a server waited for memory */
};

int plane_open(struct plane **out, const struct plane_config *c) MUST_CHECK;

/* Before memory becomes wrong (pager_stop lets waiting threads read zeros): no device acts upon what it reads any more. Any thread, waits for nothing. */
void plane_hush(struct plane *p);

/* No queue is served any more: every worker is joined, rings do nothing. A worker may wait for memory: end that first (mem/). Devices may still be called
 * by their backends: close those, then the plane. */
void plane_halt(struct plane *p);
void plane_close(struct plane *p);

/* node: of each queue of dev. Queues of this node get their servers. dev is copied; dev->dev outlives the plane's last plane_message. */
int plane_add(struct plane *p, unsigned device, const struct virtio_dev *dev, const node_t node[VIRTIO_QUEUES_MAX]) MUST_CHECK;
const struct virtio_dev *plane_dev(const struct plane *p, unsigned device); /* NULL: none */

/* For functions: with the bus lock or without. */
void plane_attach(struct plane *p, unsigned device, const struct plane_function *f);
const struct ram *plane_ram(const struct plane *p);
void plane_start(struct plane *p, unsigned device, unsigned queue, const struct vqueue_setup *s); /* s passed vqueue_check; the queue is stopped */
bool plane_stop(struct plane *p, unsigned device, unsigned queue) MUST_CHECK;                      /* as vqueue_stop */
void plane_wire(struct plane *p, unsigned device, unsigned queue, const struct plane_wire *w);

/* For functions and devices: there is something for this queue. */
void plane_ring(struct plane *p, unsigned device, unsigned queue);

/* For devices: a message to that device on another node. */
int plane_send(struct plane *p, node_t to, const uint8_t *frame, size_t bytes) MUST_CHECK;

/* For devices, on the devices' node, no lock of theirs held: what config_read shows has changed. */
void plane_changed(struct plane *p, unsigned device);

/* Wait until KVM has heard of all doorbells that were wired here. For a vCPU that has written to a register, before it goes on: what it writes next where a
 * doorbell was is for whatever is there now. No lock held; may take as long as 'doorbell'. */
void plane_settle(struct plane *p);

/* A vCPU of this node writes there, and KVM did not know what that means: true when that was the doorbell of a queue served here, which has been rung. */
bool plane_bell(struct plane *p, uint64_t addr);

/* A message of queue_* from another node's plane; or one of a device, whose first field is u8 device. -EBADMSG, -EPROTO: no correct node sends this. */
int plane_message(struct plane *p, node_t from, unsigned id, const uint8_t *body, size_t bytes) MUST_CHECK;
int plane_bulk(struct plane *p, node_t from, unsigned id, const uint8_t *body, size_t bytes) MUST_CHECK;

void plane_stats(struct plane *p, struct plane_stats *to);

/* What a queue's server has done. */
struct plane_queue_stats { uint64_t requests, bytes, waits; };

/* Of a queue that is served here and has been started at least once; false: it is not such a one. */
bool plane_queue_stats(struct plane *p, unsigned device, unsigned queue, struct plane_queue_stats *to);

#endif
