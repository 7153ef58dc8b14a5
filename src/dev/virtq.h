/* One split virtqueue seen from the device (virtio 1.2, 2.7), with indirect descriptors and event index.
 *
 * The ring belongs to an untrusted guest that may change it at any moment: every word is loaded once into our own memory and judged there. What a
 * correct driver never does (loops, heads and indices out of range, buffers out of RAM, overlong chains) breaks the queue: it returns -EPROTO from
 * then on, and its device asks for a reset.
 *
 * Threads: one owner (a worker thread) for everything but virtq_open: all else touches guest memory and may wait for a network round trip. */
#ifndef DEV_VIRTQ_H
#define DEV_VIRTQ_H

#include "mem/ram.h"

#include <sys/uio.h>

enum {
	VIRTQ_SIZE_MAX = 256,
	VIRTQ_SEGS_MAX = VIRTQ_SIZE_MAX, /* of one chain, indirect or not: no longer than the queue (2.7.5.3.1) */
};

struct virtq {
	const struct ram *ram;
	uint8_t *desc, *avail, *used; /* guest view; NULL: the queue is closed */
	uint16_t size;
	uint16_t avail_next; /* index of the next chain to take */
	uint16_t used_next;  /* index of the next one to give back */
	uint16_t used_told;  /* used_next when the driver was last asked whether it wants an interrupt */
	bool indirect, event_idx, broken;
	uint64_t requests, bytes; /* given back, and what was read and written for them; whoever counts them sets them back to 0 */
};

struct virtq_seg {
	gpa_t at;
	uint32_t bytes;
};

/* A request: first the segments that the device reads, then those that it writes. */
struct virtq_chain {
	uint16_t head;
	unsigned readable, segs; /* seg[0..readable) and seg[readable..segs) */
	uint64_t readable_bytes, writable_bytes;
	struct virtq_seg seg[VIRTQ_SEGS_MAX];
};

struct virtq_config {
	const struct ram *ram;
	uint16_t size;            /* power of two, 1 to VIRTQ_SIZE_MAX */
	gpa_t desc, avail, used;  /* each area aligned (2.7) and within one range of RAM */
	bool indirect, event_idx; /* features negotiated */
};

/* -EINVAL: size or alignment; -EFAULT: not in RAM. Touches no guest memory. */
int virtq_open(struct virtq *q, const struct virtq_config *c) MUST_CHECK;

/* Take the next request: 1 and *chain, 0 when there is none, -EPROTO when the queue is broken. */
int virtq_pop(struct virtq *q, struct virtq_chain *chain) MUST_CHECK;

/* Give a request back, having written so many bytes from the start of its writable part. */
void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written);

/* Give n requests back as one: the driver sees all of them or none. */
void virtq_push_all(struct virtq *q, const uint16_t *head, const uint32_t *written, unsigned n);

/* After pushes: does the driver want an interrupt for them? Asked once a batch. */
bool virtq_wants_interrupt(struct virtq *q);

/* While polling: tell the driver that it need not notify. */
void virtq_quiet(struct virtq *q);

/* Before going to sleep: ask for notifications again; true when something has come meanwhile (then do not sleep). */
bool virtq_listen(struct virtq *q);

/* Copy from the readable part, or to the writable part, starting 'offset' bytes into it. -EPROTO: beyond the part's end or not RAM; the queue is
 * broken then. */
int virtq_read(struct virtq *q, const struct virtq_chain *chain, uint64_t offset, void *to, uint64_t bytes) MUST_CHECK;
int virtq_write(struct virtq *q, const struct virtq_chain *chain, uint64_t offset, const void *from, uint64_t bytes) MUST_CHECK;

/* Where these bytes of the readable or writable part lie in the guest view: the number of iov filled in; 0: they are more than 'most', or one crosses from a node's
 * memory into another's, or is no RAM, which virtq_read and virtq_write deal with. */
unsigned virtq_map(const struct virtq *q, const struct virtq_chain *chain, bool writable, uint64_t offset, uint64_t bytes, struct iovec *iov, unsigned most);

#endif
