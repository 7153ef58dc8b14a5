/* Carries a network card's frames between its queues, each on its node, and its link, on one (dev/nic.h): for dev/virtio_net.c, which knows what guests want.
 * One on every node.
 *
 *     transmit queue's worker: ferry_room, ferry_send --(link here)-------------------------> link
 *                                                   \--(elsewhere) net_frames, net_credit--/
 *     link: steer (dev/steer.h) --(queue here)--------------------------> staged: ferry_first ... ferry_consumed by the receive queue's worker
 *                              \--(elsewhere) net_frames, net_credit--/
 *
 * Frames go in batches: records of u32 bytes, struct ferry_hdr, frame. Bounds: what of a queue is under way to the other node, or staged, costs at most
 * FERRY_WINDOW; who receives gives credit back when it has passed a batch on, the link's node not while the link is busy. Without credit a transmit queue waits
 * (its worker is rung), and so does the link, since passt sends as fast as it is heard and is slow to repeat what gets lost. Only a queue that has given no credit
 * for patience_ms, as one of a guest that offers no buffers, has its frames dropped, so that it does not hold up the others. A peer that sends without credit is
 * refused.
 *
 * Threads: open, start, halt, close belong to one owner; a queue's functions to its worker; message to the io streams. Locks: one a queue, one for the link's side;
 * leaves, not held while something is sent. */
#ifndef DEV_FERRY_H
#define DEV_FERRY_H

#include "dev/nic.h"
#include "dev/plane.h"

enum {
	FERRY_PAIRS_MAX = (VIRTIO_QUEUES_MAX - 1) / 2,
	FERRY_WINDOW = 256 * 1024,
	FERRY_PATIENCE_MS = 500,
	FERRY_BATCH_MAX = 112 * 1024, /* bytes of a batch */
	FERRY_BATCH_COST = 64,        /* of a batch besides its bytes */
	FERRY_BATCH_HEAD = 16,        /* bytes in front of a batch that ferry_send may write to */
};

/* Of virtio 1.2, 5.1.6, without its last field: in front of a frame in batches, and on a link with offloads. Little-endian like this host. */
struct ferry_hdr { uint8_t flags, gso_type; uint16_t hdr_len, gso_size, csum_start, csum_offset; };
struct ferry_record { struct ferry_hdr v; const uint8_t *frame; uint32_t bytes; };
enum { FERRY_RECORD_HEAD = 4 + sizeof(struct ferry_hdr), FERRY_RECORD_MAX = FERRY_RECORD_HEAD + NIC_FRAME_MAX };

/* The record at *at of a batch, and past it; false: that is none. */
bool ferry_get(const uint8_t *batch, uint32_t bytes, uint32_t *at, struct ferry_record *r);
/* What stands in front of a frame of so many bytes. */
void ferry_head(uint8_t to[FERRY_RECORD_HEAD], const struct ferry_hdr *v, uint32_t bytes);

/* What the card is plugged into; dev/nic.h says what these are. */
struct ferry_link {
	int (*start)(void *link, const struct nic_calls *calls);
	void (*stop)(void *link);
	int (*send)(void *link, const struct iovec *frame, unsigned frames);
	void (*resume)(void *link);
	void (*offload)(void *link, unsigned tun_flags); /* with offloads only */
	bool (*busy)(void *link);
	void *link;
};

struct ferry_config {
	struct plane *plane;
	unsigned device;
	node_t self, devices, link_node;
	struct ferry_link link; /* on link_node; else zeroed */
	bool offloads;          /* frames come and go with a ferry_hdr in front */
	unsigned patience_ms;   /* FERRY_PATIENCE_MS, but in tests */
	unsigned pairs;         /* queue 2i receives, 2i + 1 sends */
	node_t pair_node[FERRY_PAIRS_MAX];
	/* On the devices' node: the link is up, or down. Any thread, no lock held. */
	void (*changed)(void *owner, bool up);
	void *owner;
};

struct ferry;

int ferry_open(struct ferry **out, const struct ferry_config *c) MUST_CHECK; /* -ENOMEM */
int ferry_start(struct ferry *f) MUST_CHECK;                                 /* the link begins to deliver; the planes can send */
void ferry_halt(struct ferry *f);                                            /* it delivers no more; before plane_halt */
void ferry_close(struct ferry *f);                                           /* no message comes any more */

/* As virtio_ops.message. */
int ferry_message(struct ferry *f, node_t from, unsigned id, const uint8_t *body, size_t bytes) MUST_CHECK;

/* On the devices' node: so many pairs are in use, and what the link may leave to the guest (TUN_F_*). */
void ferry_setup(struct ferry *f, unsigned pairs, unsigned offloads);

/* A transmit queue of this node: may a batch of 'used' bytes have one more frame? When not even an empty one may, the queue will be rung. Then send it;
 * it is spoilt, and FERRY_BATCH_HEAD bytes in front of it, too. */
bool ferry_room(struct ferry *f, unsigned queue, uint32_t used);
void ferry_send(struct ferry *f, unsigned queue, uint8_t *batch, uint32_t bytes);

/* A receive queue of this node: the batch that is first, NULL: none, the queue will be rung; it is good until consumed or discarded. */
const uint8_t *ferry_first(struct ferry *f, unsigned queue, uint32_t *bytes);
void ferry_consumed(struct ferry *f, unsigned queue);
/* Drop all; of the first batch what lies behind 'at'. */
void ferry_discard(struct ferry *f, unsigned queue, uint32_t at);
/* Frames that were dropped so. Any thread. */
uint64_t ferry_drops(const struct ferry *f, unsigned queue);
/* Frames from the link that found no room in time, where the link is. Any thread. */
uint64_t ferry_lost(const struct ferry *f);

#endif
