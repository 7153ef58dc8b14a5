/* Which virtio devices a VM has: every node opens the same outfit, and with it its part of the device plane (dev/plane.h).
 *
 * Queue i of a disk, or pair i of a network card, belongs to vCPU i, and so to that vCPU's node; where there are fewer, vCPUs share them in runs, as Linux
 * spreads interrupts over CPUs (irq_create_affinity_masks). A device's only queue belongs to the devices' node.
 * Threads: open, halt and close belong to one owner. */
#ifndef DEV_OUTFIT_H
#define DEV_OUTFIT_H

#include "base/failure.h"
#include "dev/depot.h"
#include "dev/plane.h"
#include "dev/porch.h"
#include "mem/pager.h"

struct outfit_config {
	struct plane_config plane;
	/* For the balloon (dev/virtio_balloon.h); NULL: there is none, on any node. */
	int (*free_pages)(void *user, struct pager_discard *d);
	void *free_user;
	bool alone; /* the VM has one node */
	unsigned vcpus;
	const node_t *vcpu_node; /* of each; read during open */
	const struct gear *gear; /* its disks and network cards become devices, in their order; read during open; may be NULL: none */
	const struct depot *depot; /* this node's backends of them, which outlive the outfit */
	const node_t *disk_node, *nic_node; /* of each of gear; read during open */
	struct porch *porch; /* on the devices' node, whom the console is attached to until halt; may be NULL: nobody is there */
};

struct outfit;

int outfit_open(struct outfit **out, const struct outfit_config *c, struct failure *f) MUST_CHECK;

/* Network cards begin to deliver: once planes can send. */
int outfit_start(struct outfit *o, struct failure *f) MUST_CHECK;

/* The workers end; devices answer no more. A worker may wait for memory: end that first (mem/). */
void outfit_halt(struct outfit *o);

/* After halt, and after nobody calls its plane any more. */
void outfit_close(struct outfit *o);

struct plane *outfit_plane(struct outfit *o);

/* On the devices' node: the guest is asked to do with so many bytes of its memory. Any thread, no lock of a device held. */
void outfit_aim(struct outfit *o, uint64_t memory);

/* queue.* of the plane, queue.DEVICE.N.* of each queue served here, balloon.* on the devices' node, blk.N.* of the queues here and of what is done for others, and
 * vnet.N.rxI.*, txI.* of the queues here. */
void outfit_stats(struct outfit *o, void (*line)(void *to, const char *key, uint64_t value), void *to);

#endif
