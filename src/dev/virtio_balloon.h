/* virtio memory balloon (virtio 1.2, 5.5), for what the guest does not need: pages it reports as free (VIRTIO_BALLOON_F_PAGE_REPORTING), and pages it puts into
 * the balloon. Both lose their bytes on the nodes they are homed on (mem/pager.h, pager_free), and need memory nowhere until they are touched again.
 *
 *     devices' node: ring -> runs of pages with one home -> free_pages() here, or balloon_free to the home, which answers balloon_freed
 *
 * A queue has one run under way. All queues are on the devices' node. What is given back from the balloon needs nothing done. How much is in it is the driver's
 * doing: the host sets a target, and hears how far the driver has come.
 *
 * Threads: open, close belong to one owner; target any thread. The lock is a leaf. */
#ifndef DEV_VIRTIO_BALLOON_H
#define DEV_VIRTIO_BALLOON_H

#include "dev/plane.h"
#include "mem/pager.h"

struct virtio_balloon_config {
	const struct ram *ram; /* outlives it */
	node_t self, devices;
	/* pager_free() of this node, but for -ECANCELED: the pager has gone or is about to. Any thread, never blocks. */
	int (*free_pages)(void *user, struct pager_discard *d);
	void *user;
};

struct virtio_balloon;

int virtio_balloon_open(struct virtio_balloon **out, const struct virtio_balloon_config *c) MUST_CHECK;
/* The pager owes nothing any more. */
void virtio_balloon_close(struct virtio_balloon *b);

/* What to give plane_add, after it was told where it will be. */
struct virtio_dev virtio_balloon_dev(struct virtio_balloon *b);
void virtio_balloon_joined(struct virtio_balloon *b, struct plane *p, unsigned device);

/* On the devices' node, without the bus lock: how many pages the guest is asked to do without; 0 at first. */
void virtio_balloon_aim(struct virtio_balloon *b, uint32_t pages);

struct virtio_balloon_stats {
	uint32_t target, held; /* pages; held: that the driver says are in the balloon */
	bool driver;           /* there is one */
};

void virtio_balloon_stats(const struct virtio_balloon *b, struct virtio_balloon_stats *to);

#endif
