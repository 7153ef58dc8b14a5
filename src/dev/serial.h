/* A 16550A UART as Linux's 8250 driver needs it (National Semiconductor PC16550D data sheet), COM1 by default.
 *
 * Every register access may be an exit delegated from another node, so the model never makes the guest wait: the transmitter is ready whenever
 * there is room, and one interrupt lets the guest send a whole FIFO. Bytes out are gathered by a worker thread, which hands them to output() in
 * chunks as large as have come together meanwhile. A slow output() is felt by the guest as a slow line (THRE stays 0), never as lost bytes.
 * Bytes in follow hardware flow control: they wait in a queue until the guest has raised RTS, so input typed before the driver is up survives.
 *
 * Threads: register access under the bus lock; serial_input and serial_break from any thread without the bus lock; output() and room() are called by the
 * worker thread with no lock held and may block (serial_close waits for them). */
#ifndef DEV_SERIAL_H
#define DEV_SERIAL_H

#include "dev/bus.h"

struct serial;

struct serial_config {
	struct bus *bus;
	uint16_t port;          /* 0x3f8 */
	unsigned irq;           /* 4: a line of 'irq' */
	struct irq_sink irq_sink;
	void (*output)(void *user, const uint8_t *bytes, size_t n);
	void (*room)(void *user); /* serial_input accepted less than all before and would accept more now; may be NULL */
	void *user;
};

/* -EEXIST when the ports are taken, -ENOMEM, -EAGAIN. */
int serial_open(struct serial **out, const struct serial_config *config) MUST_CHECK;

/* Output still queued is handed to output() first. */
void serial_close(struct serial *s);

/* Queue bytes for the guest; returns how many were accepted (the rest: when room() is called). */
size_t serial_input(struct serial *s, const uint8_t *bytes, size_t n) MUST_CHECK;

/* Wait until every byte the guest has sent so far was handed to output(): before the machine reports that it is off. */
void serial_drain(struct serial *s);

#endif
