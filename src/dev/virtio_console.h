/* virtio console device with several ports (virtio 1.2, 5.3): a terminal (the guest's /dev/hvc0), and a port for the guest agent, which the guest finds by its name.
 *
 *     host's bytes --input--> CONSOLE_INPUT_BYTES --serve--> guest           a full buffer: input() takes less, room() says when there is room again
 *     guest's bytes --serve--> output()                                      takes less: the request waits for virtio_console_resume()
 *     who is there: connect() --> PORT_OPEN to the guest; the guest's PORT_OPEN --> calls.guest()
 *
 * Control messages to the guest are not queued but owed: each port has one bit for each kind, so whatever host and guest do, nothing grows. A close that the guest has
 * not been told of is told before the next open. A driver that does without ports has the terminal only.
 * Input waits for a driver, and over its resets: what was typed before there is one is not lost, as on a line.
 *
 * The size of the terminal is sent columns first, as the standard says; Linux has read rows first for long, and was mended in 2025, in stable kernels, too.
 *
 * Threads: open and close belong to one owner; the rest from any thread. The callbacks come from the queues' workers, calls.guest() also under the bus lock; no lock of
 * ours held; they do not block. Locks: one, a leaf. */
#ifndef DEV_VIRTIO_CONSOLE_H
#define DEV_VIRTIO_CONSOLE_H

#include "dev/plane.h"

enum { CONSOLE_TERMINAL, CONSOLE_AGENT, CONSOLE_PORTS };
enum { CONSOLE_INPUT_BYTES = 16 * 1024, CONSOLE_QUEUES = 2 + 2 * CONSOLE_PORTS, CONSOLE_QUEUE_SIZE = 64 };

/* Each may be NULL; without output() the guest's bytes are dropped. */
struct virtio_console_calls {
	/* From the guest: returns how many bytes were taken. */
	size_t (*output)(void *user, unsigned port, const uint8_t *bytes, size_t n);
	/* virtio_console_input() took less than all, and would take more now. */
	void (*room)(void *user, unsigned port);
	/* A program of the guest has opened the port, or closed it. */
	void (*guest)(void *user, unsigned port, bool open);
	void *user;
};

struct virtio_console_config {
	struct plane *plane;
	unsigned device; /* its number there */
	struct virtio_console_calls calls;
};

struct virtio_console;

/* -ENOMEM. Then plane_add what virtio_console_dev says. */
int virtio_console_open(struct virtio_console **out, const struct virtio_console_config *c) MUST_CHECK;
struct virtio_dev virtio_console_dev(struct virtio_console *c); /* NULL: of a node whose plane serves none of its queues */

/* After plane_halt. */
void virtio_console_close(struct virtio_console *c);

/* For the guest: returns how many bytes were taken, the rest when room() is called. */
size_t virtio_console_input(struct virtio_console *c, unsigned port, const uint8_t *bytes, size_t n) MUST_CHECK;
size_t virtio_console_free(struct virtio_console *c, unsigned port); /* what it would take */

/* Somebody on the host is there now, or is gone. There was nobody before: what the last one said and the guest has not taken is forgotten. The terminal always has
 * somebody. */
void virtio_console_connect(struct virtio_console *c, unsigned port, bool there);

/* output() would take more. */
void virtio_console_resume(struct virtio_console *c, unsigned port);

/* The size of the terminal. */
void virtio_console_resize(struct virtio_console *c, uint16_t columns, uint16_t rows);

bool virtio_console_guest_open(struct virtio_console *c, unsigned port);

#endif
