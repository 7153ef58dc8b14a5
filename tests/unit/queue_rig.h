/* A device's queues on a plane of one node, without a function: the test is the driver, and starts and stops each queue as it likes. */
#ifndef TESTS_UNIT_QUEUE_RIG_H
#define TESTS_UNIT_QUEUE_RIG_H

#include "dev/plane.h"

#include <pthread.h>

enum { QUEUE_RIG_QUEUES = 8, QUEUE_RIG_SLOTS = 8, QUEUE_RIG_BYTES = 8192 };

struct queue_rig {
	struct ram ram;
	struct plane *plane;
	unsigned queues;
	pthread_mutex_t lock; /* guards raised, broken, stopped */
	pthread_cond_t changed;
	unsigned raised, broken;
	bool stopped[QUEUE_RIG_QUEUES];
	struct { uint16_t avail, used; struct vqueue_setup setup; } q[QUEUE_RIG_QUEUES];
};

/* The plane; then the test adds its device as number 0 (queue_rig_add). */
void queue_rig_open(struct queue_rig *r);
void queue_rig_add(struct queue_rig *r, const struct virtio_dev *dev);
void queue_rig_halt(struct queue_rig *r);
void queue_rig_close(struct queue_rig *r);

/* Enabled anew, all zeroes; stop, and wait for it; go on where it stopped. */
void queue_rig_up(struct queue_rig *r, unsigned queue);
void queue_rig_down(struct queue_rig *r, unsigned queue);
void queue_rig_on(struct queue_rig *r, unsigned queue);

/* Offer a chain of n bytes to read and room bytes to write, at most QUEUE_RIG_BYTES each, and ring. At most QUEUE_RIG_SLOTS are out. */
void queue_rig_put(struct queue_rig *r, unsigned queue, const void *bytes, size_t n, size_t room);

/* The bytes to read of the last chain that was offered: whole pages. */
uint8_t *queue_rig_bytes(struct queue_rig *r, unsigned queue);

/* Wait until the oldest chain comes back; returns what was written, which is copied. */
size_t queue_rig_get(struct queue_rig *r, unsigned queue, void *to, size_t room);

/* So many chains have come back that were not asked for yet. */
unsigned queue_rig_back(struct queue_rig *r, unsigned queue);

void queue_rig_wait_broken(struct queue_rig *r, unsigned broken);

#endif
