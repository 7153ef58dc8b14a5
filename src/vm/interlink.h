/* The bus streams between the fragments of one VM: interrupts for vCPUs elsewhere, accesses to devices elsewhere, clock echoes,
 * liveness and the agreed stop, and what the device planes tell each other. A hub (net/hub.h): one thread reads all of them; any thread may send.
 *
 * Locks: the hub's, and one for the vCPUs' accesses under way.
 * Ordering against memory needs no care: a store that precedes an IPI has retired, so every other copy of its page is already gone.
 */
#ifndef VM_INTERLINK_H
#define VM_INTERLINK_H

#include "base/failure.h"
#include "base/types.h"
#include "dev/bus.h"
#include "vm/boot.h"
#include "vm/clock.h"

struct interlink;

/* Called on the interlink's thread; must not block. */
struct interlink_calls {
	void (*irq)(void *vm, vcpu_t vcpu, unsigned mode, uint8_t vector);  /* for a vCPU of this node */
	/* For a vCPU elsewhere, on the devices' node; elsewhere NULL: no correct node asks. 1 to 8 bytes. */
	void (*io_read)(void *vm, enum bus_space space, uint64_t addr, void *data, unsigned bytes);
	void (*io_write)(void *vm, enum bus_space space, uint64_t addr, const void *data, unsigned bytes);
	void (*clock)(void *vm, int64_t cycles, uint64_t error);            /* node 0's clock minus ours, and the bound of its error (vm/clock.h); with each echo */
	void (*tsc_base)(void *vm, uint64_t offset);                        /* node 0: guest TSC = its clock + offset */
	void (*boot_entry)(void *vm, const struct boot_entry *e);           /* vCPU 0 is here and starts there */
	void (*stopped)(void *vm, node_t from, unsigned reason, node_t about, const char *what); /* that peer says the VM stops */
	void (*lost)(void *vm, node_t peer, const char *why);               /* closed, silent for too long, or broke the protocol */
	void (*tick)(void *vm, uint64_t now_ms);                            /* several times in silence_ms; CLOCK_MONOTONIC */
	int (*other)(void *vm, node_t from, unsigned id, const uint8_t *body, size_t bytes); /* any other message; -EBADMSG, -EPROTO: no correct node sends it */
	void *vm;
};

struct interlink_config {
	node_t self;
	unsigned nodes;
	int fd[NODES_MAX];   /* connected bus streams, owned from now on; -1 for self */
	unsigned silence_ms; /* a peer that says nothing for so long (20 times that before its first word) is lost; echoes go out 8 times as often */
	struct clock_scale scale; /* our clock for the echoes: this host's TSC, scaled */
	uint32_t khz;             /* its rate */
	struct interlink_calls calls;
};

struct interlink_stats {
	uint64_t irqs_sent, irqs_received, io_sent, io_served, bytes_sent, bytes_received;
	uint64_t round_trip_cycles[NODES_MAX];
	uint64_t peer_bytes_sent[NODES_MAX], peer_messages_sent[NODES_MAX];
};

int interlink_open(struct interlink **out, const struct interlink_config *config, struct failure *f) MUST_CHECK;
/* Stops the thread, closes the streams, wakes every waiter with -ECANCELED; nothing can be sent any more. Not from the interlink's own thread. */
void interlink_halt(struct interlink *il);
void interlink_close(struct interlink *il); /* once no other thread knows of it */

/* A frame of another's. Any thread; queues and returns. -EPIPE when that peer is gone. */
int interlink_send(struct interlink *il, node_t to, const uint8_t *frame, size_t bytes) MUST_CHECK;

/* Any thread; queues and returns. -EPIPE when that peer is gone. */
int interlink_irq(struct interlink *il, node_t to, vcpu_t vcpu, unsigned mode, uint8_t vector) MUST_CHECK;
int interlink_boot_entry(struct interlink *il, node_t to, const struct boot_entry *e) MUST_CHECK;
/* To all. */
int interlink_tsc_base(struct interlink *il, uint64_t offset) MUST_CHECK;
void interlink_stop(struct interlink *il, unsigned reason, node_t about, const char *what);

/* Read or write a device on another node for a vCPU of this node; waits for the answer. Only the thread of that vCPU. -ECANCELED when the
 * interlink closes or that peer is lost meanwhile. */
int interlink_io(struct interlink *il, node_t to, vcpu_t vcpu, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write) MUST_CHECK;

void interlink_stats(struct interlink *il, struct interlink_stats *s);

#endif
