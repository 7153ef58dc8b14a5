/* Where programs of the host meet those of a guest through vsock, by Unix sockets, as other hypervisors have it:
 *
 *     a program connects to STEM.vsock and says "CONNECT PORT\n": it is connected to that port of the guest, hears "OK N\n", and then what the guest says
 *     a program of the guest connects to port P of CID 2: it is connected to whoever listens at STEM.vsock_P (dev/dialer.h), or refused
 *
 * STEM.vsock has mode 0600. A client that has not said where to within HALL_PATIENCE_MS is let go; HALL_CLIENTS may be at it, the others wait.
 * Nobody removes the socket here: see dev/porch.h.
 *
 * Threads: open, attach, detach and close belong to one owner. One thread of its own, from attach to detach. */
#ifndef DEV_HALL_H
#define DEV_HALL_H

#include "dev/virtio_vsock.h"

enum { HALL_CLIENTS = 16, HALL_PATIENCE_MS = 10000 };

struct hall;

/* listener: of STEM.vsock, nonblocking, taken; -1: none. program: of the dialer; NULL: guests reach nobody; number: as in dialer_open. -ENOMEM, -EMFILE, -EAGAIN. */
int hall_open(struct hall **out, int listener, const char *program, const char *stem, int number) MUST_CHECK;
void hall_close(struct hall *h);

/* Callbacks for the device, and the device itself, which outlives detach. */
struct virtio_vsock_calls hall_calls(struct hall *h);
int hall_attach(struct hall *h, struct virtio_vsock *v) MUST_CHECK;
void hall_detach(struct hall *h); /* NULL or not attached: nothing */

#endif
