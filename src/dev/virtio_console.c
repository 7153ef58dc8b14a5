/* See virtio_console.h. A chain that was taken is kept until it is given back, so that a queue can stop in the middle of one and go on. */
#include "dev/virtio_console.h"

#include "base/ensure.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { CONSOLE_F_SIZE = 1u << 0, CONSOLE_F_MULTIPORT = 1u << 1 };
enum { QUEUE_CONTROL_IN = 2, QUEUE_CONTROL_OUT = 3 }; /* in: to the guest */
enum { EV_DEVICE_READY, EV_PORT_ADD, EV_PORT_REMOVE, EV_PORT_READY, EV_CONSOLE_PORT, EV_RESIZE, EV_PORT_OPEN, EV_PORT_NAME };
enum { CHUNK = 4096, BATCH = 16, CONTROL_BYTES = 8, MESSAGE_MAX = 64 };

/* What a port owes the guest, in the order in which it is said. */
enum { OWES_ADD = 1u << 0, OWES_CONSOLE = 1u << 1, OWES_NAME = 1u << 2, OWES_CLOSE = 1u << 3, OWES_OPEN = 1u << 4, OWES_SIZE = 1u << 5 };

static const char *const port_name[CONSOLE_PORTS] = {[CONSOLE_AGENT] = "org.qemu.guest_agent.0"};

/* A chain taken from a queue; its worker's, or nobody's while the queue is stopped. */
struct held {
	bool there;
	uint64_t done; /* bytes of its readable part */
	struct virtq_chain chain;
};

struct port {
	bool there, ready, guest_open; /* somebody on the host; the driver knows the port; a program of the guest */
	bool refused;                  /* room() is owed */
	unsigned owes;
	uint64_t head, tail;           /* of input, run freely */
	uint8_t input[CONSOLE_INPUT_BYTES];
};

struct virtio_console {
	struct virtio_console_config c;
	pthread_mutex_t lock; /* guards port, message, columns, rows */
	struct port port[CONSOLE_PORTS];
	uint8_t message[MESSAGE_MAX]; /* under way to the guest */
	unsigned message_bytes;
	uint16_t columns, rows;
	struct held held[CONSOLE_QUEUES];
};

static unsigned port_of(unsigned queue)
{
	return queue < 2 ? 0 : queue / 2 - 1;
}

static unsigned queue_in(unsigned port)
{
	return port ? 2 * port + 2 : 0;
}

static void ring(struct virtio_console *c, unsigned queue)
{
	plane_ring(c->c.plane, c->c.device, queue);
}

/* 1: a chain is held, 0: there is none, -errno. */
static int take(struct held *h, struct virtq *q)
{
	int got;

	if (h->there)
		return 1;
	got = virtq_pop(q, &h->chain);
	h->there = got == 1;
	h->done = 0;
	return got;
}

static void give(struct held *h, struct virtq *q, uint64_t written)
{
	virtq_push(q, &h->chain, (uint32_t)written);
	h->there = false;
}

/* To the guest. */

static size_t port_peek(struct virtio_console *c, struct port *p, uint64_t *at, uint8_t to[CHUNK])
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	*at = p->tail;
	for (n = 0; n < CHUNK && p->tail + n < p->head; n++)
		to[n] = p->input[(p->tail + n) % CONSOLE_INPUT_BYTES];
	pthread_mutex_unlock(&c->lock);
	return n;
}

/* The guest has bytes that were peeked at position 'at'; they may have been forgotten meanwhile. */
static void port_consume(struct virtio_console *c, unsigned port, uint64_t at, size_t n)
{
	struct port *p = &c->port[port];
	bool room;

	pthread_mutex_lock(&c->lock);
	if (p->tail == at)
		p->tail += n;
	room = p->refused && p->head - p->tail <= CONSOLE_INPUT_BYTES / 2;
	if (room)
		p->refused = false;
	pthread_mutex_unlock(&c->lock);
	if (room && c->c.calls.room)
		c->c.calls.room(c->c.calls.user, port);
}

static int serve_input(struct virtio_console *c, unsigned queue, struct virtq *q, const atomic_bool *stop)
{
	struct held *h = &c->held[queue];
	unsigned port = port_of(queue);
	uint8_t bytes[CHUNK];

	for (unsigned k = 0; k < BATCH; k++) {
		uint64_t at, n = port_peek(c, &c->port[port], &at, bytes);
		int got;

		if (!n)
			return VIRTIO_WAITING;
		got = take(h, q);
		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		n = n < h->chain.writable_bytes ? n : h->chain.writable_bytes;
		if (!n || virtq_write(q, &h->chain, 0, bytes, n))
			return -EPROTO;
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		give(h, q, n);
		port_consume(c, port, at, n);
	}
	return VIRTIO_MORE;
}

static void put16(uint8_t *to, unsigned v)
{
	to[0] = (uint8_t)v;
	to[1] = (uint8_t)(v >> 8);
}

static unsigned get16(const uint8_t *at)
{
	return at[0] | (unsigned)at[1] << 8;
}

static void write_message(struct virtio_console *c, unsigned port, unsigned what)
{
	struct port *p = &c->port[port];
	unsigned event = EV_PORT_ADD, value = 1, n = CONTROL_BYTES;

	memset(c->message, 0, sizeof c->message);
	switch (what) {
	case OWES_CONSOLE: event = EV_CONSOLE_PORT; break;
	case OWES_CLOSE: event = EV_PORT_OPEN, value = 0; break;
	case OWES_OPEN: event = EV_PORT_OPEN; break;
	case OWES_NAME:
		event = EV_PORT_NAME;
		n += (unsigned)strlen(port_name[port]);
		memcpy(c->message + CONTROL_BYTES, port_name[port], n - CONTROL_BYTES);
		break;
	case OWES_SIZE:
		event = EV_RESIZE, value = 0;
		put16(c->message + CONTROL_BYTES, c->columns);
		put16(c->message + CONTROL_BYTES + 2, c->rows);
		n += 4;
		break;
	default: break;
	}
	put16(c->message, port);
	put16(c->message + 4, event);
	put16(c->message + 6, value);
	c->message_bytes = n;
	p->owes &= ~what;
}

/* What is to be said next, if anything is; it stays until it has been. */
static unsigned next_message(struct virtio_console *c, uint8_t to[MESSAGE_MAX])
{
	unsigned n;

	pthread_mutex_lock(&c->lock);
	for (unsigned i = 0; i < CONSOLE_PORTS && !c->message_bytes; i++)
		if (c->port[i].owes)
			write_message(c, i, c->port[i].owes & -c->port[i].owes);
	n = c->message_bytes;
	memcpy(to, c->message, MESSAGE_MAX);
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int serve_control_in(struct virtio_console *c, struct virtq *q, const atomic_bool *stop)
{
	struct held *h = &c->held[QUEUE_CONTROL_IN];
	uint8_t bytes[MESSAGE_MAX];

	for (unsigned k = 0; k < BATCH; k++) {
		unsigned n = next_message(c, bytes);
		int got;

		if (!n)
			return VIRTIO_WAITING;
		got = take(h, q);
		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		if (virtq_write(q, &h->chain, 0, bytes, n))
			return -EPROTO;
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		give(h, q, n);
		pthread_mutex_lock(&c->lock);
		c->message_bytes = 0;
		pthread_mutex_unlock(&c->lock);
	}
	return VIRTIO_MORE;
}

/* From the guest. */

static int serve_output(struct virtio_console *c, unsigned queue, struct virtq *q, const atomic_bool *stop)
{
	struct held *h = &c->held[queue];
	uint8_t bytes[CHUNK];

	for (unsigned k = 0; k < BATCH; k++) {
		uint64_t n;
		size_t taken;
		int got = take(h, q);

		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		n = h->chain.readable_bytes - h->done;
		n = n < CHUNK ? n : CHUNK;
		if (virtq_read(q, &h->chain, h->done, bytes, n))
			return -EPROTO;
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		taken = n && c->c.calls.output ? c->c.calls.output(c->c.calls.user, port_of(queue), bytes, n) : n;
		ensure(taken <= n);
		h->done += taken;
		if (taken < n)
			return VIRTIO_WAITING;
		if (h->done == h->chain.readable_bytes)
			give(h, q, 0);
	}
	return VIRTIO_MORE;
}

/* The driver knows a port: it is told what the port is, and how things are. */
static unsigned port_owes(const struct virtio_console *c, unsigned port)
{
	return (port == CONSOLE_TERMINAL ? OWES_CONSOLE : 0) | (port_name[port] ? OWES_NAME : 0) | (c->port[port].there ? OWES_OPEN : 0) |
		(port == CONSOLE_TERMINAL && c->columns ? OWES_SIZE : 0);
}

static void set_guest(struct virtio_console *c, unsigned port, bool open)
{
	bool changed;

	pthread_mutex_lock(&c->lock);
	changed = c->port[port].guest_open != open;
	c->port[port].guest_open = open;
	pthread_mutex_unlock(&c->lock);
	if (changed && c->c.calls.guest)
		c->c.calls.guest(c->c.calls.user, port, open);
}

/* Of ports that there are not, and of kinds that only we say: nothing. */
static void on_control(struct virtio_console *c, const uint8_t m[CONTROL_BYTES])
{
	unsigned port = get16(m) | get16(m + 2) << 16, event = get16(m + 4), value = get16(m + 6);

	if (event == EV_PORT_OPEN && port < CONSOLE_PORTS)
		set_guest(c, port, value & 1);
	pthread_mutex_lock(&c->lock);
	if (event == EV_DEVICE_READY && value == 1)
		for (unsigned i = 0; i < CONSOLE_PORTS; i++)
			c->port[i].owes |= OWES_ADD;
	if (event == EV_PORT_READY && port < CONSOLE_PORTS && value == 1) {
		c->port[port].ready = true;
		c->port[port].owes |= port_owes(c, port);
	}
	pthread_mutex_unlock(&c->lock);
	ring(c, QUEUE_CONTROL_IN);
}

static int serve_control_out(struct virtio_console *c, struct virtq *q, const atomic_bool *stop)
{
	struct held *h = &c->held[QUEUE_CONTROL_OUT];

	for (unsigned k = 0; k < BATCH; k++) {
		uint8_t m[CONTROL_BYTES];
		int got = take(h, q);
		bool whole;

		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		whole = h->chain.readable_bytes >= sizeof m;
		if (whole && virtq_read(q, &h->chain, 0, m, sizeof m))
			return -EPROTO;
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		give(h, q, 0);
		if (whole)
			on_control(c, m);
	}
	return VIRTIO_MORE;
}

/* The device. */

static int console_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	struct virtio_console *c = dev;

	if (queue == QUEUE_CONTROL_IN)
		return serve_control_in(c, q, stop);
	if (queue == QUEUE_CONTROL_OUT)
		return serve_control_out(c, q, stop);
	return queue & 1 ? serve_output(c, queue, q, stop) : serve_input(c, queue, q, stop);
}

static void console_fresh(void *dev, unsigned queue)
{
	((struct virtio_console *)dev)->held[queue].there = false;
}

static void console_reset(void *dev)
{
	struct virtio_console *c = dev;

	pthread_mutex_lock(&c->lock);
	c->message_bytes = 0;
	for (unsigned i = 0; i < CONSOLE_PORTS; i++) {
		c->port[i].ready = false;
		c->port[i].owes = 0;
	}
	pthread_mutex_unlock(&c->lock);
	for (unsigned i = 0; i < CONSOLE_PORTS; i++)
		set_guest(c, i, false);
}

static void console_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	struct virtio_console *c = dev;
	uint8_t config[8] = {[4] = CONSOLE_PORTS};

	pthread_mutex_lock(&c->lock);
	put16(config, c->columns);
	put16(config + 2, c->rows);
	pthread_mutex_unlock(&c->lock);
	memcpy(data, config + offset, bytes);
}

static const struct virtio_ops console_ops = {.serve = console_serve, .fresh = console_fresh, .reset = console_reset, .config_read = console_config_read};

struct virtio_dev virtio_console_dev(struct virtio_console *c)
{
	return (struct virtio_dev){.name = "console", .type = VIRTIO_ID_CONSOLE, .pci_class = 0x078000, .features = CONSOLE_F_SIZE | CONSOLE_F_MULTIPORT,
		.queues = CONSOLE_QUEUES, .queue_size = CONSOLE_QUEUE_SIZE, .config_bytes = 8, .ops = &console_ops, .dev = c};
}

int virtio_console_open(struct virtio_console **out, const struct virtio_console_config *config)
{
	struct virtio_console *c = calloc(1, sizeof *c);

	if (!c)
		return -ENOMEM;
	c->c = *config;
	c->port[CONSOLE_TERMINAL].there = true;
	pthread_mutex_init(&c->lock, NULL);
	*out = c;
	return 0;
}

void virtio_console_close(struct virtio_console *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* The host. */

size_t virtio_console_input(struct virtio_console *c, unsigned port, const uint8_t *bytes, size_t n)
{
	struct port *p = &c->port[port];
	size_t room, taken;

	pthread_mutex_lock(&c->lock);
	room = CONSOLE_INPUT_BYTES - (size_t)(p->head - p->tail);
	taken = n < room ? n : room;
	p->refused |= taken < n;
	for (size_t i = 0; i < taken; i++)
		p->input[p->head++ % CONSOLE_INPUT_BYTES] = bytes[i];
	pthread_mutex_unlock(&c->lock);
	if (taken)
		ring(c, queue_in(port));
	return taken;
}

size_t virtio_console_free(struct virtio_console *c, unsigned port)
{
	struct port *p = &c->port[port];
	size_t room;

	pthread_mutex_lock(&c->lock);
	room = CONSOLE_INPUT_BYTES - (size_t)(p->head - p->tail);
	p->refused |= !room;
	pthread_mutex_unlock(&c->lock);
	return room;
}

void virtio_console_connect(struct virtio_console *c, unsigned port, bool there)
{
	struct port *p = &c->port[port];

	pthread_mutex_lock(&c->lock);
	if (there && !p->there)
		p->tail = p->head;
	if (there != p->there && p->ready)
		p->owes = there ? p->owes | OWES_OPEN : (p->owes & ~(unsigned)OWES_OPEN) | OWES_CLOSE;
	p->there = there;
	pthread_mutex_unlock(&c->lock);
	ring(c, QUEUE_CONTROL_IN);
}

void virtio_console_resume(struct virtio_console *c, unsigned port)
{
	ring(c, queue_in(port) + 1);
}

void virtio_console_resize(struct virtio_console *c, uint16_t columns, uint16_t rows)
{
	pthread_mutex_lock(&c->lock);
	c->columns = columns;
	c->rows = rows;
	if (c->port[CONSOLE_TERMINAL].ready)
		c->port[CONSOLE_TERMINAL].owes |= OWES_SIZE;
	pthread_mutex_unlock(&c->lock);
	ring(c, QUEUE_CONTROL_IN);
}

bool virtio_console_guest_open(struct virtio_console *c, unsigned port)
{
	bool open;

	pthread_mutex_lock(&c->lock);
	open = c->port[port].guest_open;
	pthread_mutex_unlock(&c->lock);
	return open;
}
