/* virtio network card (virtio 1.2, 5.1): many queue pairs, mergeable receive buffers, checksums and TCP segmentation where the link can carry them.
 * One on every node of the VM: it serves the queues that belong to this node; dev/ferry.h carries frames between them and the link. Queue pair
 * i belongs to vCPU i, the control queue to the devices' node. A frame is copied out of guest memory, or into it, on its queue's node.
 *
 * Receive filters are accepted and filter nothing (5.1.6.5.1 lets us); a guest may use another MAC without a word. Frames without sense (too short or long, a
 * header that was not negotiated) are dropped and counted; a transmit request without a header, or a receive buffer with no room for one, breaks the queue.
 * A frame that the guest's buffers cannot hold is dropped, and the buffers go back empty.
 *
 * Threads: open, start, halt, close belong to one owner; the rest is called by the plane. */
#ifndef DEV_VIRTIO_NET_H
#define DEV_VIRTIO_NET_H

#include "dev/ferry.h"

enum { NET_QUEUE_SIZE = 256 };

struct virtio_net_config {
	struct ferry_config ferry; /* but for changed and owner */
	/* On every node the same. */
	uint8_t mac[NIC_MAC_BYTES];
	uint16_t mtu; /* 0: the driver is not told */
};

struct virtio_net;

/* -ENOMEM. Then plane_add what virtio_net_dev says, with the nodes that virtio_net_nodes says. */
int virtio_net_open(struct virtio_net **out, const struct virtio_net_config *c) MUST_CHECK;
struct virtio_dev virtio_net_dev(struct virtio_net *n);

/* The first vCPU that a queue pair belongs to; there are no fewer vCPUs than pairs. Linux gives each pair a run of CPUs, the first ones one more where it does not come
 * out even (virtnet_set_affinity in drivers/net/virtio_net.c). */
unsigned virtio_net_vcpu(unsigned pair, unsigned pairs, unsigned vcpus);
void virtio_net_nodes(const struct virtio_net *n, node_t node[VIRTIO_QUEUES_MAX]);

/* The link begins to deliver, once the planes can send; it ends before plane_halt. */
int virtio_net_start(struct virtio_net *n) MUST_CHECK;
void virtio_net_halt(struct virtio_net *n);

/* After plane_halt, when no plane_bulk comes any more. */
void virtio_net_close(struct virtio_net *n);

struct virtio_net_stats { uint64_t frames, bytes, drops; };

/* Of a queue (even: receives) that is served here; false: it is not. */
bool virtio_net_stats(const struct virtio_net *n, unsigned queue, struct virtio_net_stats *to);
/* Frames from the link that found no room in their queue in time; on the link's node. */
uint64_t virtio_net_lost(const struct virtio_net *n);

#endif
