/* A hostile driver of a device's queues, without a function: any descriptors and any bytes, queues that start and stop at any moment. For devices on a plane of one
 * node; their workers run when a step says so (dev_steps.h). */
#ifndef TESTS_FUZZ_QUEUE_STEPS_H
#define TESTS_FUZZ_QUEUE_STEPS_H

#include "dev/plane.h"
#include "tests/fuzz/dev_steps.h"

enum { QUEUE_STEPS_KINDS = 8 };

/* A plane; then the device, as number 0. */
struct plane *queue_steps_open(void);
void queue_steps_add(const struct virtio_dev *dev);
void queue_steps_close(void); /* closes the plane */

/* Carry out one; what: its kind modulo QUEUE_STEPS_KINDS, and more. */
void queue_steps_one(struct steps *s, unsigned what);

/* All queues stop, the device is reset, memory is cleared, and all queues start. */
void queue_steps_reset(void);

/* An honest driver, afterwards: offer n bytes to read (or, NULL, room to write), and run everything. Returns the chains that have come back on that queue; *to: what
 * the last of them holds. */
unsigned queue_steps_offer(unsigned queue, const void *bytes, unsigned n, const uint8_t **to);

#endif
