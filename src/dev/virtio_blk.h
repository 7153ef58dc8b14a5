/* virtio block device (virtio 1.2, 5.2). One on every node of the VM: it serves the queues that belong to this node, and where the disk is (dev/disk.h), it carries
 * out what the other nodes' queues ask for.
 *
 *     guest's request --serve--> pieces of at most 32 KiB --(disk here)--> disk_submit ... done --> data to the guest, status, used ring
 *                                         \--(disk elsewhere)--> blk_request ... blk_done --/
 *
 * A disk that is here, and no NBD server's (disk_waits_alone), reads straight into the guest's memory, in pieces of up to 1 MiB. It writes straight from there only
 * where the VM has no other node: memory of a lost node would go to the disk as zeroes; what is copied first is looked at again (vqueue_hush).
 * A queue has at most BLK_PIECES pieces under way, each in a slot of its own; the disk's node refuses a slot that is taken, so that what a peer can make it hold is
 * bounded. Pieces run in any order. A flush is one piece, submitted after every write that the driver has seen completed on any queue has ended in the one disk,
 * so it covers them (D2 in dev/disk.h). A driver that does not know of flushes gets each write flushed before it is told.
 * Sectors out of range and the like fail the request; a request without a header or a place for its status breaks the queue.
 *
 * Threads: open and close belong to one owner; the rest is called by the plane and by the disk's threads. Locks: each queue's guards where its pieces are, the
 * device's what is carried out for others; both leaves. */
#ifndef DEV_VIRTIO_BLK_H
#define DEV_VIRTIO_BLK_H

#include "dev/disk.h"
#include "dev/plane.h"

enum { BLK_PIECES = 16, BLK_PIECE_BYTES = 32 * 1024, BLK_DIRECT_BYTES = 1 << 20, BLK_ID_BYTES = 20, BLK_QUEUE_SIZE = 128 };

struct virtio_blk_config {
	struct plane *plane;
	unsigned device;   /* its number there */
	node_t self, disk_node;
	struct disk *disk; /* on disk_node; else NULL */
	/* What the disk is, on every node the same. */
	uint64_t bytes;
	uint32_t block_bytes, optimal_bytes;
	bool readonly, discards, writes_back;
	bool alone; /* the VM has one node */
	char id[BLK_ID_BYTES + 1];
	unsigned queues;
	node_t queue_node[VIRTIO_QUEUES_MAX];
};

struct virtio_blk_stats {
	uint64_t requests, bytes_read, bytes_written; /* of the queues here */
	uint64_t pieces_away; /* to another node */
	uint64_t served;      /* for other nodes */
};

struct virtio_blk;

/* -ENOMEM. Then plane_add what virtio_blk_dev says. */
int virtio_blk_open(struct virtio_blk **out, const struct virtio_blk_config *c) MUST_CHECK;
struct virtio_dev virtio_blk_dev(struct virtio_blk *b);

/* After plane_halt; waits for the disk. */
void virtio_blk_close(struct virtio_blk *b);

void virtio_blk_stats(const struct virtio_blk *b, struct virtio_blk_stats *to);

#endif
