/* See virtio_vsock.h. What a connection owes the guest is bits; the packet that is under way is kept until it has been given, so that a queue can stop and go on. */
#include "dev/virtio_vsock.h"

#include "base/ensure.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { QUEUE_IN, QUEUE_OUT, QUEUE_EVENTS }; /* in: to the guest */
enum { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };
enum { TYPE_STREAM = 1, SHUT_RECEIVE = 1, SHUT_SEND = 2, SHUT_BOTH = 3 };
enum { HEADER = 44, PACKET_MAX = 4096, BATCH = 16, FIRST_PORT = 1 << 30 };

enum conn_state { CONN_FREE, CONN_CALLING, CONN_WANTED, CONN_UP, CONN_OVER }; /* CALLING: the host asked; WANTED: the guest did; OVER: only an RST is owed */
enum { OWES_RST = 1u << 0, OWES_REQUEST = 1u << 1, OWES_RESPONSE = 1u << 2, OWES_SHUTDOWN = 1u << 3, OWES_CREDIT = 1u << 4 };

struct packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, bytes;
	uint16_t type, op;
	uint32_t flags, alloc, forwarded;
};

struct conn {
	enum conn_state state;
	uint32_t id;                   /* its place, and in the upper bits how often that was used */
	int fd;                        /* -1: none */
	uint32_t host_port, guest_port;
	unsigned owes;
	bool readable, ended;          /* the host's socket may have bytes; it has said its last */
	unsigned shut, told;           /* of the guest, as it said; what it was told, in its words */
	uint32_t alloc, forwarded;     /* the guest's credit, as it said */
	uint32_t sent;                 /* bytes to the guest, ever */
	uint32_t taken, credited;      /* bytes the host's socket took, ever; that the guest was told */
	uint32_t head, tail;           /* of buffer, run freely; head - tail bytes wait for the host's socket */
	uint8_t *buffer;               /* VSOCK_BUFFER; NULL until needed */
};

struct virtio_vsock {
	struct virtio_vsock_config c;
	pthread_mutex_t lock; /* guards what follows */
	struct conn conn[VSOCK_CONNECTIONS];
	unsigned next;        /* connection to be served next */
	struct packet stray[VSOCK_STRAYS];
	unsigned strays;
	uint32_t host_ports;  /* given to programs of the host so far */
	struct virtio_vsock_stats stats;

	uint8_t packet[PACKET_MAX]; /* under way to the guest; the in-queue's worker's */
	unsigned packet_bytes;
	uint8_t incoming[VSOCK_BUFFER]; /* what the guest says; the out-queue's worker's */
	struct { bool there; struct virtq_chain chain; } held[VSOCK_QUEUES]; /* taken and not yet given back; their workers' */
};

static void put(uint8_t *to, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		to[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)at[i] << 8 * i;
	return v;
}

static void packet_put(const struct packet *p, uint8_t to[HEADER])
{
	put(to, p->src_cid, 8);
	put(to + 8, p->dst_cid, 8);
	put(to + 16, p->src_port, 4);
	put(to + 20, p->dst_port, 4);
	put(to + 24, p->bytes, 4);
	put(to + 28, p->type, 2);
	put(to + 30, p->op, 2);
	put(to + 32, p->flags, 4);
	put(to + 36, p->alloc, 4);
	put(to + 40, p->forwarded, 4);
}

static struct packet packet_get(const uint8_t at[HEADER])
{
	return (struct packet){.src_cid = get(at, 8), .dst_cid = get(at + 8, 8), .src_port = (uint32_t)get(at + 16, 4), .dst_port = (uint32_t)get(at + 20, 4),
		.bytes = (uint32_t)get(at + 24, 4), .type = (uint16_t)get(at + 28, 2), .op = (uint16_t)get(at + 30, 2), .flags = (uint32_t)get(at + 32, 4),
		.alloc = (uint32_t)get(at + 36, 4), .forwarded = (uint32_t)get(at + 40, 4)};
}

static void changed(struct virtio_vsock *v)
{
	if (v->c.calls.changed)
		v->c.calls.changed(v->c.calls.user);
}

static void ring(struct virtio_vsock *v, unsigned queue)
{
	plane_ring(v->c.plane, v->c.device, queue);
}

/* --- connections, under the lock --- */

static void conn_hang_up(struct conn *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->head = c->tail = 0;
	free(c->buffer);
	c->buffer = NULL;
}

static void conn_free(struct conn *c)
{
	conn_hang_up(c);
	*c = (struct conn){.id = c->id + VSOCK_CONNECTIONS, .fd = -1};
}

/* Its end, told to the guest. */
static void conn_reset(struct virtio_vsock *v, struct conn *c)
{
	conn_hang_up(c);
	c->state = CONN_OVER;
	c->owes = OWES_RST;
	v->stats.resets++;
}

static struct conn *conn_new(struct virtio_vsock *v, enum conn_state state, int fd, uint32_t host_port, uint32_t guest_port)
{
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
		struct conn *c = &v->conn[i];

		if (c->state != CONN_FREE)
			continue;
		*c = (struct conn){.state = state, .id = c->id, .fd = fd, .host_port = host_port, .guest_port = guest_port};
		v->stats.connections++;
		return c;
	}
	return NULL;
}

static struct conn *conn_find(struct virtio_vsock *v, uint32_t host_port, uint32_t guest_port)
{
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		if (v->conn[i].state != CONN_FREE && v->conn[i].host_port == host_port && v->conn[i].guest_port == guest_port)
			return &v->conn[i];
	return NULL;
}

static struct conn *conn_by_id(struct virtio_vsock *v, uint32_t id)
{
	struct conn *c = &v->conn[id % VSOCK_CONNECTIONS];

	return c->state != CONN_FREE && c->id == id ? c : NULL;
}

/* What waits for the host's socket goes as far as it takes it; then what the guest wants shut is shut. */
static void conn_flush(struct virtio_vsock *v, struct conn *c)
{
	while (c->head != c->tail) {
		uint32_t at = c->tail % VSOCK_BUFFER, n = c->head - c->tail;
		ssize_t sent;

		n = n < VSOCK_BUFFER - at ? n : VSOCK_BUFFER - at;
		sent = send(c->fd, c->buffer + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (sent < 0) {
			conn_reset(v, c);
			return;
		}
		c->tail += (uint32_t)sent;
		c->taken += (uint32_t)sent;
		v->stats.from_guest += (uint64_t)sent;
		if (c->taken - c->credited >= VSOCK_BUFFER / 2)
			c->owes |= OWES_CREDIT;
	}
	if (c->shut == SHUT_BOTH)
		conn_reset(v, c);
	else if (c->shut & SHUT_SEND)
		shutdown(c->fd, SHUT_WR);
}

static uint32_t conn_credit(const struct conn *c)
{
	uint32_t flying = c->sent - c->forwarded;

	return flying < c->alloc ? c->alloc - flying : 0;
}

/* --- to the guest --- */

static unsigned say(struct virtio_vsock *v, struct conn *c, unsigned op, uint32_t flags, uint32_t bytes)
{
	struct packet p = {.src_cid = VSOCK_CID_HOST, .dst_cid = v->c.cid, .src_port = c->host_port, .dst_port = c->guest_port, .bytes = bytes, .type = TYPE_STREAM,
		.op = (uint16_t)op, .flags = flags, .alloc = VSOCK_BUFFER, .forwarded = c->taken};

	c->credited = c->taken;
	c->owes &= ~(unsigned)OWES_CREDIT;
	packet_put(&p, v->packet);
	return HEADER + bytes;
}

/* The host's socket has said its last; it may be gone altogether. */
static void conn_ended(struct conn *c)
{
	struct pollfd p = {.fd = c->fd};

	c->ended = true;
	c->told |= poll(&p, 1, 0) > 0 && p.revents & (POLLHUP | POLLERR) ? SHUT_BOTH : SHUT_SEND;
	c->owes |= OWES_SHUTDOWN;
}

/* Bytes of the host's socket, as many as credit and room allow; 0: none. */
static unsigned say_bytes(struct virtio_vsock *v, struct conn *c, uint64_t room)
{
	uint32_t credit = conn_credit(c);
	uint64_t most = room < PACKET_MAX ? room - HEADER : PACKET_MAX - HEADER;
	ssize_t n;

	if (c->state != CONN_UP || !c->readable || c->ended || c->shut & SHUT_RECEIVE || !credit || !most)
		return 0;
	n = recv(c->fd, v->packet + HEADER, most < credit ? most : credit, MSG_DONTWAIT);
	if (n > 0) {
		c->sent += (uint32_t)n;
		v->stats.to_guest += (uint64_t)n;
		return say(v, c, OP_RW, 0, (uint32_t)n);
	}
	c->readable = false;
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		conn_reset(v, c);
	else if (n == 0)
		conn_ended(c);
	return 0;
}

static unsigned conn_say(struct virtio_vsock *v, struct conn *c, uint64_t room)
{
	unsigned n = 0;

	if (!(c->owes & (OWES_RST | OWES_REQUEST | OWES_RESPONSE)))
		n = say_bytes(v, c, room);
	if (n)
		return n;
	if (c->owes & OWES_RST) {
		n = say(v, c, OP_RST, 0, 0);
		conn_free(c);
		return n;
	}
	if (c->owes & OWES_REQUEST) {
		c->owes &= ~(unsigned)OWES_REQUEST;
		return say(v, c, OP_REQUEST, 0, 0);
	}
	if (c->owes & OWES_RESPONSE) {
		c->owes &= ~(unsigned)OWES_RESPONSE;
		return say(v, c, OP_RESPONSE, 0, 0);
	}
	if (c->owes & OWES_SHUTDOWN) {
		c->owes &= ~(unsigned)OWES_SHUTDOWN;
		return say(v, c, OP_SHUTDOWN, c->told, 0);
	}
	return c->owes & OWES_CREDIT ? say(v, c, OP_CREDIT_UPDATE, 0, 0) : 0;
}

/* The next packet into v->packet. */
static void next_packet(struct virtio_vsock *v, uint64_t room)
{
	bool was_full;

	pthread_mutex_lock(&v->lock);
	was_full = v->strays == VSOCK_STRAYS;
	if (v->strays) {
		struct packet *p = &v->stray[0], answer = {.src_cid = p->dst_cid, .dst_cid = p->src_cid, .src_port = p->dst_port, .dst_port = p->src_port,
			.type = TYPE_STREAM, .op = OP_RST};

		packet_put(&answer, v->packet);
		v->packet_bytes = HEADER;
		memmove(v->stray, v->stray + 1, --v->strays * sizeof v->stray[0]);
	}
	for (unsigned k = 0; k < VSOCK_CONNECTIONS && !v->packet_bytes; k++) {
		struct conn *c = &v->conn[v->next++ % VSOCK_CONNECTIONS];

		if (c->state != CONN_FREE)
			v->packet_bytes = conn_say(v, c, room);
	}
	pthread_mutex_unlock(&v->lock);
	if (was_full)
		ring(v, QUEUE_OUT);
}

static int take(struct virtio_vsock *v, unsigned queue, struct virtq *q)
{
	int got = v->held[queue].there ? 1 : virtq_pop(q, &v->held[queue].chain);

	v->held[queue].there = got == 1;
	return got;
}

static int serve_in(struct virtio_vsock *v, struct virtq *q, const atomic_bool *stop)
{
	struct virtq_chain *chain = &v->held[QUEUE_IN].chain;

	for (unsigned k = 0; k < BATCH; k++) {
		int got = take(v, QUEUE_IN, q);

		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		if (chain->writable_bytes < HEADER)
			return -EPROTO;
		if (!v->packet_bytes)
			next_packet(v, chain->writable_bytes);
		if (!v->packet_bytes) {
			changed(v);
			return VIRTIO_WAITING;
		}
		if (virtq_write(q, chain, 0, v->packet, v->packet_bytes))
			return -EPROTO;
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		virtq_push(q, chain, v->packet_bytes);
		v->held[QUEUE_IN].there = false;
		v->packet_bytes = 0;
	}
	return VIRTIO_MORE;
}

/* --- from the guest --- */

/* Under the lock. There is room: see serve_out. */
static void answer_stray(struct virtio_vsock *v, const struct packet *p)
{
	ensure(v->strays < VSOCK_STRAYS);
	if (p->op != OP_RST)
		v->stray[v->strays++] = *p;
}

static void on_response(struct virtio_vsock *v, struct conn *c)
{
	char text[32];
	int n = snprintf(text, sizeof text, "OK %u\n", c->host_port);

	if (c->state != CONN_CALLING) {
		conn_reset(v, c);
		return;
	}
	c->state = CONN_UP;
	c->readable = true;
	if (send(c->fd, text, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n)
		conn_reset(v, c);
}

static void on_shutdown(struct virtio_vsock *v, struct conn *c, uint32_t flags)
{
	c->shut |= flags & SHUT_BOTH;
	if (c->shut & SHUT_RECEIVE && c->fd >= 0)
		shutdown(c->fd, SHUT_RD);
	conn_flush(v, c);
}

/* A packet of a connection, other than bytes. */
static void on_packet(struct virtio_vsock *v, struct conn *c, const struct packet *p)
{
	c->alloc = p->alloc;
	c->forwarded = p->forwarded;
	if (p->op == OP_RST)
		conn_free(c);
	else if (c->state == CONN_OVER)
		return;
	else if (p->op == OP_RESPONSE)
		on_response(v, c);
	else if (p->op == OP_SHUTDOWN && c->state == CONN_UP)
		on_shutdown(v, c, p->flags);
	else if (p->op == OP_CREDIT_REQUEST && c->state == CONN_UP)
		c->owes |= OWES_CREDIT;
	else if (p->op != OP_CREDIT_UPDATE || c->state != CONN_UP)
		conn_reset(v, c);
}

/* True: the host is to be asked. */
static bool on_request(struct virtio_vsock *v, const struct packet *p, uint32_t *id)
{
	struct conn *c = conn_find(v, p->dst_port, p->src_port);

	if (c) {
		conn_reset(v, c);
		return false;
	}
	c = v->c.calls.wanted ? conn_new(v, CONN_WANTED, -1, p->dst_port, p->src_port) : NULL;
	if (!c) {
		answer_stray(v, p);
		return false;
	}
	c->alloc = p->alloc;
	c->forwarded = p->forwarded;
	*id = c->id;
	return true;
}

static void take_packet(struct virtio_vsock *v, const struct packet *p)
{
	bool right = p->src_cid == v->c.cid && p->dst_cid == VSOCK_CID_HOST && p->type == TYPE_STREAM, ask = false;
	struct conn *c;
	uint32_t id = 0;

	pthread_mutex_lock(&v->lock);
	c = right ? conn_find(v, p->dst_port, p->src_port) : NULL;
	if (right && p->op == OP_REQUEST)
		ask = on_request(v, p, &id);
	else if (c)
		on_packet(v, c, p);
	else if (p->src_cid == v->c.cid)
		answer_stray(v, p);
	pthread_mutex_unlock(&v->lock);
	if (ask)
		v->c.calls.wanted(v->c.calls.user, id, p->dst_port);
}

/* Room for so many bytes from the guest. A guest that has no credit for them is reset. */
static struct conn *conn_for_bytes(struct virtio_vsock *v, const struct packet *p)
{
	struct conn *c = p->src_cid == v->c.cid && p->dst_cid == VSOCK_CID_HOST && p->type == TYPE_STREAM ? conn_find(v, p->dst_port, p->src_port) : NULL;

	if (!c) {
		if (p->src_cid == v->c.cid)
			answer_stray(v, p);
		return NULL;
	}
	if (c->state == CONN_OVER)
		return NULL;
	c->alloc = p->alloc;
	c->forwarded = p->forwarded;
	if (!c->buffer && c->state == CONN_UP)
		c->buffer = malloc(VSOCK_BUFFER);
	if (c->state == CONN_UP && c->buffer && !(c->shut & SHUT_SEND) && p->bytes <= VSOCK_BUFFER - (c->head - c->tail))
		return c;
	conn_reset(v, c);
	return NULL;
}

/* The bytes are read from the guest without the lock; meanwhile the connection may go, and only this adds to its buffer. -ECANCELED: a stop, nothing was done. */
static int take_bytes(struct virtio_vsock *v, struct virtq *q, const struct virtq_chain *chain, const struct packet *p, const atomic_bool *stop)
{
	struct conn *c;
	uint32_t id;

	pthread_mutex_lock(&v->lock);
	c = conn_for_bytes(v, p);
	id = c ? c->id : 0;
	pthread_mutex_unlock(&v->lock);
	if (!c)
		return 0;
	if (virtq_read(q, chain, HEADER, v->incoming, p->bytes))
		return -EPROTO;
	if (atomic_load(stop))
		return -ECANCELED;
	pthread_mutex_lock(&v->lock);
	c = conn_by_id(v, id);
	if (c && c->buffer) {
		for (uint32_t i = 0; i < p->bytes; i++)
			c->buffer[c->head++ % VSOCK_BUFFER] = v->incoming[i];
		conn_flush(v, c);
	}
	pthread_mutex_unlock(&v->lock);
	return 0;
}

static bool strays_full(struct virtio_vsock *v)
{
	bool full;

	pthread_mutex_lock(&v->lock);
	full = v->strays == VSOCK_STRAYS;
	pthread_mutex_unlock(&v->lock);
	return full;
}

static int serve_out(struct virtio_vsock *v, struct virtq *q, const atomic_bool *stop)
{
	struct virtq_chain *chain = &v->held[QUEUE_OUT].chain;
	uint8_t header[HEADER];

	for (unsigned k = 0; k < BATCH; k++) {
		struct packet p;
		int got;

		if (strays_full(v))
			return VIRTIO_WAITING;
		got = take(v, QUEUE_OUT, q);
		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		if (chain->readable_bytes < HEADER || virtq_read(q, chain, 0, header, HEADER))
			return -EPROTO;
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		p = packet_get(header);
		if (p.bytes > chain->readable_bytes - HEADER)
			return -EPROTO;
		got = 0;
		if (p.op != OP_RW)
			take_packet(v, &p);
		else
			got = take_bytes(v, q, chain, &p, stop);
		if (got)
			return got == -ECANCELED ? VIRTIO_DRAINED : got;
		virtq_push(q, chain, 0);
		v->held[QUEUE_OUT].there = false;
		ring(v, QUEUE_IN);
		changed(v);
	}
	return VIRTIO_MORE;
}

/* --- the device --- */

static int vsock_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	struct virtio_vsock *v = dev;

	if (queue == QUEUE_EVENTS)
		return VIRTIO_WAITING; /* there are none: a VM keeps its number for life */
	return queue == QUEUE_IN ? serve_in(v, q, stop) : serve_out(v, q, stop);
}

static void vsock_fresh(void *dev, unsigned queue)
{
	((struct virtio_vsock *)dev)->held[queue].there = false;
}

static void vsock_reset(void *dev)
{
	struct virtio_vsock *v = dev;

	pthread_mutex_lock(&v->lock);
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		if (v->conn[i].state != CONN_FREE)
			conn_free(&v->conn[i]);
	v->strays = 0;
	v->packet_bytes = 0;
	pthread_mutex_unlock(&v->lock);
	changed(v);
}

static void vsock_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	uint8_t config[8];

	put(config, ((struct virtio_vsock *)dev)->c.cid, 8);
	memcpy(data, config + offset, bytes);
}

static const struct virtio_ops vsock_ops = {.serve = vsock_serve, .fresh = vsock_fresh, .reset = vsock_reset, .config_read = vsock_config_read};

struct virtio_dev virtio_vsock_dev(struct virtio_vsock *v)
{
	return (struct virtio_dev){.name = "vsock", .type = VIRTIO_ID_VSOCK, .pci_class = 0x078000, .queues = VSOCK_QUEUES, .queue_size = VSOCK_QUEUE_SIZE,
		.config_bytes = 8, .ops = &vsock_ops, .dev = v};
}

int virtio_vsock_open(struct virtio_vsock **out, const struct virtio_vsock_config *config)
{
	struct virtio_vsock *v = calloc(1, sizeof *v);

	if (!v)
		return -ENOMEM;
	v->c = *config;
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		v->conn[i] = (struct conn){.id = i, .fd = -1};
	pthread_mutex_init(&v->lock, NULL);
	*out = v;
	return 0;
}

void virtio_vsock_close(struct virtio_vsock *v)
{
	if (!v)
		return;
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		conn_hang_up(&v->conn[i]);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

/* --- the host --- */

int virtio_vsock_connect(struct virtio_vsock *v, int fd, uint32_t port)
{
	struct conn *c;

	pthread_mutex_lock(&v->lock);
	do
		v->host_ports = (v->host_ports + 1) % FIRST_PORT;
	while (conn_find(v, FIRST_PORT + v->host_ports, port));
	c = conn_new(v, CONN_CALLING, fd, FIRST_PORT + v->host_ports, port);
	if (c)
		c->owes = OWES_REQUEST;
	pthread_mutex_unlock(&v->lock);
	if (!c)
		close(fd);
	ring(v, QUEUE_IN);
	return c ? 0 : -EMFILE;
}

void virtio_vsock_answer(struct virtio_vsock *v, uint32_t id, int fd)
{
	struct conn *c;

	pthread_mutex_lock(&v->lock);
	c = conn_by_id(v, id);
	if (c && c->state == CONN_WANTED && fd >= 0) {
		c->state = CONN_UP;
		c->fd = fd;
		c->readable = true;
		c->owes |= OWES_RESPONSE;
	} else if (fd >= 0) {
		close(fd);
	} else if (c && c->state == CONN_WANTED) {
		conn_reset(v, c);
	}
	pthread_mutex_unlock(&v->lock);
	ring(v, QUEUE_IN);
}

unsigned virtio_vsock_poll(struct virtio_vsock *v, struct pollfd *at, uint32_t *id)
{
	unsigned n = 0;

	pthread_mutex_lock(&v->lock);
	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++) {
		const struct conn *c = &v->conn[i];
		bool in = c->state == CONN_UP && !c->readable && !c->ended && !(c->shut & SHUT_RECEIVE), out = c->head != c->tail;

		if (c->fd < 0 || (!in && !out && c->state != CONN_CALLING))
			continue;
		at[n] = (struct pollfd){.fd = c->fd, .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0))};
		id[n++] = c->id;
	}
	pthread_mutex_unlock(&v->lock);
	return n;
}

void virtio_vsock_happened(struct virtio_vsock *v, uint32_t id, short events)
{
	struct conn *c;

	pthread_mutex_lock(&v->lock);
	c = conn_by_id(v, id);
	if (c && c->state == CONN_CALLING && events & (POLLHUP | POLLERR))
		conn_reset(v, c);
	if (c && c->state == CONN_UP && events & (POLLOUT | POLLERR | POLLHUP) && c->head != c->tail)
		conn_flush(v, c);
	if (c && c->state == CONN_UP && events & (POLLIN | POLLHUP | POLLERR))
		c->readable = true;
	pthread_mutex_unlock(&v->lock);
	ring(v, QUEUE_IN);
}

void virtio_vsock_stats(struct virtio_vsock *v, struct virtio_vsock_stats *to)
{
	pthread_mutex_lock(&v->lock);
	*to = v->stats;
	pthread_mutex_unlock(&v->lock);
}
