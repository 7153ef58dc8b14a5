/* Where programs of the host meet a VM's guest: its second terminal (hvc0), the guest agent's socket, and sockets for vsock. On the devices' node, where both are.
 *
 *     porch_open (sockets; while the VM is being started) -> porch_attach (the console) -> ... -> porch_detach -> porch_close
 *
 * STEM.agent is a Unix socket of mode 0600, so that only the daemon's user and root can speak with the agent. One client at a time, the next waits; a client
 * that goes is told to the guest. STEM.vsock: dev/hall.h. Bytes flow as fast as the slower side takes them: CONSOLE_INPUT_BYTES at most wait here, for the guest.
 * Nobody removes the socket here: afterwards the process cannot (node/sandbox.h). porch_remove is for its daemon.
 *
 * Threads: open, attach, detach and close belong to one owner; input and resize from any thread. The terminal's callback comes from a queue's worker. One thread of
 * its own, from attach to detach. Locks: one, which guards who is there; inside it a client is written to without waiting. */
#ifndef DEV_PORCH_H
#define DEV_PORCH_H

#include "base/failure.h"
#include "dev/hall.h"
#include "dev/virtio_console.h"

struct porch_config {
	const char *stem; /* path of the sockets without what follows the dot; NULL: there are none */
	const char *program; /* this program, for the process that connects for the guest (dev/dialer.h); NULL: its vsock reaches nobody here */
	int number;          /* that the descriptor to that process gets, 0: any */
	uint32_t cid;        /* of the guest, for vsock */
	void (*terminal)(void *user, const void *bytes, size_t n); /* from the guest; must not block */
	void *user;
};

struct porch_stats {
	uint64_t guest, host; /* 1: the agent's port is open in the guest; a client is there */
	uint64_t to_guest, from_guest; /* bytes of the agent's port */
};

struct porch;

/* -ENOMEM, or why the socket cannot be. */
int porch_open(struct porch **out, const struct porch_config *c, struct failure *f) MUST_CHECK;
void porch_close(struct porch *p);

/* Callbacks for the console, and the console itself, which outlives detach. -EAGAIN: no thread. */
struct virtio_console_calls porch_calls(struct porch *p);
int porch_attach(struct porch *p, struct virtio_console *c) MUST_CHECK;
struct hall *porch_hall(struct porch *p); /* attached and detached by itself, before the porch is closed */
uint32_t porch_cid(const struct porch *p);
void porch_detach(struct porch *p); /* NULL or not attached: nothing */

/* Keys for the terminal: returns how many were taken. */
size_t porch_input(struct porch *p, const void *bytes, size_t n) MUST_CHECK;
void porch_resize(struct porch *p, uint16_t columns, uint16_t rows);

void porch_stats(struct porch *p, struct porch_stats *to);

/* Remove the sockets of a process that is gone. */
void porch_remove(const char *stem);

#endif
