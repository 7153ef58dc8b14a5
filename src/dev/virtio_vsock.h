/* virtio socket device (virtio 1.2, 5.10), streams only: connections between programs of the guest and sockets of the host, which are given to it connected.
 *
 *     host asks    connect(fd, port) --REQUEST--> guest --RESPONSE--> "OK PORT\n" to fd, UP        RST: fd is closed
 *     guest asks   REQUEST --> calls.wanted(id, port), answer(id, fd) --RESPONSE--> UP             fd -1: RST
 *     UP           bytes both ways; SHUTDOWN of either direction; RST, or both directions shut: gone
 *
 * Credit: the guest is told of VSOCK_BUFFER bytes a connection, kept until the host's socket takes them; a guest that sends more is reset. To the guest goes what
 * its credit allows; the rest stays in the host's socket. At most VSOCK_CONNECTIONS; answers to packets of no connection wait in VSOCK_STRAYS places, and while those are
 * full the guest's queue waits.
 * A packet of the wrong addresses or type is answered with RST, as one of no connection is; one that is no packet breaks the queue.
 *
 * Threads: open and close belong to one owner; the rest from any thread. The callbacks come from the queues' workers or from the caller, no lock of ours held, and do not
 * block. Locks: one, a leaf; sockets are read and written under it, without waiting. */
#ifndef DEV_VIRTIO_VSOCK_H
#define DEV_VIRTIO_VSOCK_H

#include "dev/plane.h"

#include <poll.h>

enum { VSOCK_CONNECTIONS = 128, VSOCK_BUFFER = 64 * 1024, VSOCK_STRAYS = 32, VSOCK_QUEUES = 3, VSOCK_QUEUE_SIZE = 128, VSOCK_CID_HOST = 2, VSOCK_CID_MIN = 3 };

struct virtio_vsock_calls {
	/* The guest wants to connect to this port of the host: virtio_vsock_answer(id) is awaited. */
	void (*wanted)(void *user, uint32_t id, uint32_t port);
	/* virtio_vsock_poll would say something else. */
	void (*changed)(void *user);
	void *user;
};

struct virtio_vsock_config {
	struct plane *plane;
	unsigned device; /* its number there */
	uint32_t cid;    /* of the guest */
	struct virtio_vsock_calls calls;
};

struct virtio_vsock_stats { uint64_t connections, to_guest, from_guest, resets; };

struct virtio_vsock;

/* -ENOMEM. Then plane_add what virtio_vsock_dev says. */
int virtio_vsock_open(struct virtio_vsock **out, const struct virtio_vsock_config *c) MUST_CHECK;
struct virtio_dev virtio_vsock_dev(struct virtio_vsock *v); /* NULL: of a node whose plane serves none of its queues */

/* After plane_halt. Closes all sockets. */
void virtio_vsock_close(struct virtio_vsock *v);

/* A program of the host wants to speak with that port of the guest. Takes fd, nonblocking. -EMFILE: too many; fd is closed then. */
int virtio_vsock_connect(struct virtio_vsock *v, int fd, uint32_t port) MUST_CHECK;

/* The answer to calls.wanted: a connected socket, nonblocking, which is taken; -1: there is none. An id that is not awaited any more: fd is closed. */
void virtio_vsock_answer(struct virtio_vsock *v, uint32_t id, int fd);

/* What to poll for: up to VSOCK_CONNECTIONS entries, each of the connection id[]. What happened, of the same connection, which may be gone. */
unsigned virtio_vsock_poll(struct virtio_vsock *v, struct pollfd *at, uint32_t *id);
void virtio_vsock_happened(struct virtio_vsock *v, uint32_t id, short events);

void virtio_vsock_stats(struct virtio_vsock *v, struct virtio_vsock_stats *to);

#endif
