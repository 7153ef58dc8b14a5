/* See plane.h. A call where both ends are here, a message where they are not. */
#include "dev/plane.h"

#include "base/ensure.h"
#include "base/log.h"
#include "wire/peer.h"

#include <errno.h>
#include <stdlib.h>

struct queue {
	struct device *device;
	unsigned index;
	node_t node;
	struct vqueue server; /* where node is this one */
	_Atomic uint64_t bell;
	uint64_t armed;       /* what KVM listens for, 0: nothing; the keeper's */
	pthread_mutex_t lock; /* guards wire */
	struct plane_wire wire;
};

struct device {
	struct plane *plane;
	unsigned index;
	bool there;
	struct virtio_dev dev;
	struct plane_function function; /* on the devices' node; fn NULL until attached */
	struct queue queue[VIRTIO_QUEUES_MAX];
};

struct plane {
	struct plane_config c;
	struct device device[PLANE_DEVICES_MAX];
	unsigned here; /* queues that are served here */
	struct queue *served[PLANE_DEVICES_MAX * VIRTIO_QUEUES_MAX];
	_Atomic uint64_t bells, sent, raised;
	struct worker keeper; /* tells KVM of doorbells; open when there is somebody to tell */
	_Atomic uint64_t wires;
	pthread_mutex_t lock; /* guards kept, halted */
	pthread_cond_t settled;
	uint64_t kept;        /* so many of 'wires' has KVM heard of */
	bool halted;
};

enum { FRAME_BYTES = 128 };

/* To another node's plane. Its loss is noticed by the stream's reader. */
#define PLANE_SAY(p, to, name, ...) do { \
	uint8_t frame_[FRAME_BYTES]; \
	struct peer_##name message_ = {__VA_ARGS__}; \
	plane_say((p), (to), frame_, peer_put_##name(&message_, frame_, sizeof frame_)); \
} while (0)

static void plane_say(struct plane *p, node_t to, const uint8_t *frame, size_t bytes)
{
	ensure(bytes > 0 && p->c.send);
	if (p->c.send(p->c.user, to, false, frame, bytes))
		log_debug("plane: node %u is gone", to.v);
}

static bool plane_has_functions(const struct plane *p)
{
	return node_eq(p->c.self, p->c.devices);
}

static bool queue_here(const struct queue *q)
{
	return node_eq(q->node, q->device->plane->c.self);
}

/* --- what servers of this node say --- */

static void queue_raise(struct queue *q)
{
	struct device *d = q->device;
	struct plane *p = d->plane;

	atomic_fetch_add_explicit(&p->raised, 1, memory_order_relaxed);
	if (plane_has_functions(p))
		d->function.raise(d->function.fn, q->index);
	else
		PLANE_SAY(p, p->c.devices, queue_raise, .device = (uint8_t)d->index, .queue = (uint16_t)q->index);
}

static void on_interrupt(void *owner, unsigned queue)
{
	struct device *d = owner;
	struct queue *q = &d->queue[queue];
	struct plane_wire w;

	pthread_mutex_lock(&q->lock);
	w = q->wire;
	pthread_mutex_unlock(&q->lock);
	if (!w.direct) {
		queue_raise(q);
		return;
	}
	atomic_fetch_add_explicit(&d->plane->sent, 1, memory_order_relaxed);
	d->plane->c.msi(d->plane->c.user, w.address, w.data);
}

static void on_stopped(void *owner, unsigned queue)
{
	struct device *d = owner;

	if (plane_has_functions(d->plane))
		d->function.stopped(d->function.fn, queue);
	else
		PLANE_SAY(d->plane, d->plane->c.devices, queue_stopped, .device = (uint8_t)d->index, .queue = (uint16_t)queue);
}

static void on_broken(void *owner, unsigned queue)
{
	struct device *d = owner;

	if (plane_has_functions(d->plane))
		d->function.broken(d->function.fn, queue);
	else
		PLANE_SAY(d->plane, d->plane->c.devices, queue_broken, .device = (uint8_t)d->index, .queue = (uint16_t)queue);
}

/* --- life --- */

/* Let KVM ring the server's worker. Rings that are no more for it, or were lost in between, do not matter: a start looks at the ring, and a bell that is no
 * bell any more rings for nothing. */
static void queue_arm(struct queue *q, uint64_t bell)
{
	struct plane_config *c = &q->device->plane->c;

	if (q->armed == bell)
		return;
	if (q->armed && c->doorbell(c->user, q->armed, q->server.worker.bell, false))
		log_warn("plane: KVM keeps a doorbell at 0x%llx", (unsigned long long)q->armed);
	q->armed = bell && c->doorbell(c->user, bell, q->server.worker.bell, true) == 0 ? bell : 0;
}

static void keeper_work(void *arg)
{
	struct plane *p = arg;
	uint64_t wires = atomic_load(&p->wires);

	for (unsigned i = 0; i < p->here; i++)
		queue_arm(p->served[i], atomic_load(&p->served[i]->bell));
	pthread_mutex_lock(&p->lock);
	p->kept = wires;
	pthread_mutex_unlock(&p->lock);
	pthread_cond_broadcast(&p->settled);
}

int plane_open(struct plane **out, const struct plane_config *c)
{
	struct plane *p = calloc(1, sizeof *p);
	int err = 0;

	if (!p)
		return -ENOMEM;
	p->c = *c;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->settled, NULL);
	if (c->doorbell)
		err = worker_open(&p->keeper, "doorbells", keeper_work, p);
	if (err)
		free(p);
	else
		*out = p;
	return err;
}

void plane_hush(struct plane *p)
{
	for (unsigned i = 0; i < p->here; i++)
		vqueue_hush(&p->served[i]->server);
}

void plane_halt(struct plane *p)
{
	if (!p)
		return;
	worker_close(&p->keeper); /* before the eventfds of its doorbells */
	pthread_mutex_lock(&p->lock);
	p->halted = true;
	pthread_mutex_unlock(&p->lock);
	pthread_cond_broadcast(&p->settled);
	for (unsigned i = 0; i < p->here; i++)
		vqueue_close(&p->served[i]->server);
}

void plane_close(struct plane *p)
{
	plane_halt(p);
	free(p);
}

static int queue_open(struct device *d, unsigned i, node_t node)
{
	const struct vqueue_calls calls = {.interrupt = on_interrupt, .broken = on_broken, .stopped = on_stopped, .owner = d};
	struct queue *q = &d->queue[i];
	struct plane *p = d->plane;
	int err;

	*q = (struct queue){.device = d, .index = i, .node = node};
	pthread_mutex_init(&q->lock, NULL);
	if (!queue_here(q))
		return 0;
	err = vqueue_open(&q->server, p->c.ram, &d->dev, i, &calls);
	if (!err)
		p->served[p->here++] = q;
	return err;
}

int plane_add(struct plane *p, unsigned device, const struct virtio_dev *dev, const node_t node[VIRTIO_QUEUES_MAX])
{
	struct device *d = &p->device[device];
	int err = 0;

	ensure(device < PLANE_DEVICES_MAX && !d->there && dev->queues >= 1 && dev->queues <= VIRTIO_QUEUES_MAX);
	*d = (struct device){.plane = p, .index = device, .there = true, .dev = *dev};
	for (unsigned i = 0; i < dev->queues && !err; i++)
		err = queue_open(d, i, node[i]);
	return err;
}

const struct virtio_dev *plane_dev(const struct plane *p, unsigned device)
{
	return device < PLANE_DEVICES_MAX && p->device[device].there ? &p->device[device].dev : NULL;
}

void plane_attach(struct plane *p, unsigned device, const struct plane_function *f)
{
	ensure(plane_has_functions(p) && plane_dev(p, device));
	p->device[device].function = *f;
}

const struct ram *plane_ram(const struct plane *p)
{
	return p->c.ram;
}

/* --- what functions and devices ask for --- */

static struct queue *plane_queue(struct plane *p, unsigned device, unsigned queue)
{
	ensure(plane_dev(p, device) && queue < p->device[device].dev.queues);
	return &p->device[device].queue[queue];
}

void plane_start(struct plane *p, unsigned device, unsigned queue, const struct vqueue_setup *s)
{
	struct queue *q = plane_queue(p, device, queue);

	if (queue_here(q))
		ensure(vqueue_start(&q->server, s) == 0);
	else
		PLANE_SAY(p, q->node, queue_start, .device = (uint8_t)device, .queue = (uint16_t)queue, .epoch = s->epoch, .size = s->size, .desc = s->desc.v,
			.avail = s->avail.v, .used = s->used.v, .features = s->features);
}

bool plane_stop(struct plane *p, unsigned device, unsigned queue)
{
	struct queue *q = plane_queue(p, device, queue);

	if (queue_here(q))
		return vqueue_stop(&q->server);
	PLANE_SAY(p, q->node, queue_stop, .device = (uint8_t)device, .queue = (uint16_t)queue);
	return false;
}

static void queue_wire(struct queue *q, const struct plane_wire *w)
{
	pthread_mutex_lock(&q->lock);
	q->wire = *w;
	pthread_mutex_unlock(&q->lock);
	if (atomic_exchange(&q->bell, w->bell) == w->bell || !q->device->plane->c.doorbell)
		return;
	atomic_fetch_add(&q->device->plane->wires, 1);
	worker_ring(&q->device->plane->keeper);
}

void plane_wire(struct plane *p, unsigned device, unsigned queue, const struct plane_wire *w)
{
	struct queue *q = plane_queue(p, device, queue);

	if (queue_here(q))
		queue_wire(q, &(struct plane_wire){.bell = w->bell}); /* the function is here, too: it raises, and keeps the interrupt status register */
	else
		PLANE_SAY(p, q->node, queue_wire, .device = (uint8_t)device, .queue = (uint16_t)queue, .bell = w->bell, .direct = w->direct, .address = w->address,
			.data = w->data);
}

void plane_ring(struct plane *p, unsigned device, unsigned queue)
{
	struct queue *q = plane_queue(p, device, queue);

	if (queue_here(q))
		vqueue_ring(&q->server);
	else
		PLANE_SAY(p, q->node, queue_ring, .device = (uint8_t)device, .queue = (uint16_t)queue);
}

void plane_settle(struct plane *p)
{
	uint64_t wires = atomic_load(&p->wires);

	pthread_mutex_lock(&p->lock);
	while (p->kept < wires && !p->halted)
		pthread_cond_wait(&p->settled, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

int plane_send(struct plane *p, node_t to, const uint8_t *frame, size_t bytes)
{
	ensure(bytes > 0);
	return p->c.send ? p->c.send(p->c.user, to, true, frame, bytes) : -EPIPE;
}

void plane_changed(struct plane *p, unsigned device)
{
	struct plane_function *f = &p->device[device].function;

	ensure(plane_has_functions(p) && plane_dev(p, device));
	if (f->fn)
		f->changed(f->fn);
}

bool plane_bell(struct plane *p, uint64_t addr)
{
	for (unsigned i = 0; addr && i < p->here; i++) {
		if (atomic_load_explicit(&p->served[i]->bell, memory_order_acquire) != addr)
			continue;
		atomic_fetch_add_explicit(&p->bells, 1, memory_order_relaxed);
		vqueue_ring(&p->served[i]->server);
		return true;
	}
	return false;
}

/* --- what other nodes say --- */

/* The queue that a message is about; NULL: there is none, or its node is not the one it should be. */
static struct queue *queue_named(struct plane *p, unsigned device, unsigned queue, node_t node)
{
	struct queue *q;

	if (!plane_dev(p, device) || queue >= p->device[device].dev.queues)
		return NULL;
	q = &p->device[device].queue[queue];
	return node_eq(q->node, node) ? q : NULL;
}

static int on_start(struct plane *p, const uint8_t *body, size_t bytes)
{
	struct peer_queue_start m;
	struct queue *q;

	if (peer_get_queue_start(body, bytes, &m))
		return -EBADMSG;
	q = queue_named(p, m.device, m.queue, p->c.self);
	return q && vqueue_start(&q->server, &(struct vqueue_setup){.epoch = m.epoch, .size = m.size, .desc = {m.desc}, .avail = {m.avail}, .used = {m.used},
		.features = m.features}) == 0 ? 0 : -EPROTO;
}

static int on_stop(struct plane *p, const uint8_t *body, size_t bytes)
{
	struct peer_queue_stop m;
	struct queue *q;

	if (peer_get_queue_stop(body, bytes, &m))
		return -EBADMSG;
	q = queue_named(p, m.device, m.queue, p->c.self);
	if (!q)
		return -EPROTO;
	if (vqueue_stop(&q->server))
		on_stopped(q->device, q->index);
	return 0;
}

static int on_wire(struct plane *p, const uint8_t *body, size_t bytes)
{
	struct peer_queue_wire m;
	struct queue *q;

	if (peer_get_queue_wire(body, bytes, &m))
		return -EBADMSG;
	q = queue_named(p, m.device, m.queue, p->c.self);
	if (!q)
		return -EPROTO;
	queue_wire(q, &(struct plane_wire){.bell = m.bell, .direct = m.direct != 0, .address = m.address, .data = m.data});
	return 0;
}

static int on_ring(struct plane *p, const uint8_t *body, size_t bytes)
{
	struct peer_queue_ring m;
	struct queue *q;

	if (peer_get_queue_ring(body, bytes, &m))
		return -EBADMSG;
	q = queue_named(p, m.device, m.queue, p->c.self);
	if (q)
		vqueue_ring(&q->server);
	return q ? 0 : -EPROTO;
}

/* queue_stopped, queue_broken and queue_raise have one form. */
static int on_answer(struct plane *p, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct peer_queue_stopped m;
	struct plane_function *f;
	struct queue *q;

	if (peer_get_queue_stopped(body, bytes, &m))
		return -EBADMSG;
	q = queue_named(p, m.device, m.queue, from);
	f = q ? &q->device->function : NULL;
	if (!f || !f->fn)
		return -EPROTO;
	(id == PEER_queue_stopped ? f->stopped : id == PEER_queue_broken ? f->broken : f->raise)(f->fn, m.queue);
	return 0;
}

int plane_message(struct plane *p, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	bool functions = plane_has_functions(p), commanded = !functions && node_eq(from, p->c.devices);

	switch (id) {
	case PEER_queue_start: return commanded ? on_start(p, body, bytes) : -EPROTO;
	case PEER_queue_stop: return commanded ? on_stop(p, body, bytes) : -EPROTO;
	case PEER_queue_wire: return commanded ? on_wire(p, body, bytes) : -EPROTO;
	case PEER_queue_ring: return commanded ? on_ring(p, body, bytes) : -EPROTO;
	case PEER_queue_stopped:
	case PEER_queue_broken:
	case PEER_queue_raise: return functions ? on_answer(p, from, id, body, bytes) : -EPROTO;
	default: return -EBADMSG;
	}
}

int plane_bulk(struct plane *p, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	const struct virtio_dev *d = bytes ? plane_dev(p, body[0]) : NULL;

	return d && d->ops->message ? d->ops->message(d->dev, from, id, body, bytes) : -EPROTO;
}

void plane_stats(struct plane *p, struct plane_stats *to)
{
	*to = (struct plane_stats){.bells = atomic_load(&p->bells), .sent = atomic_load(&p->sent), .raised = atomic_load(&p->raised)};
	for (unsigned i = 0; i < p->here; i++)
		to->waits += atomic_load(&p->served[i]->server.waits), to->bells += atomic_load(&p->served[i]->server.worker.rung_outside);
}

bool plane_queue_stats(struct plane *p, unsigned device, unsigned queue, struct plane_queue_stats *to)
{
	struct queue *q = queue_named(p, device, queue, p->c.self);

	if (!q || !vqueue_known(&q->server))
		return false;
	*to = (struct plane_queue_stats){.requests = atomic_load(&q->server.requests), .bytes = atomic_load(&q->server.bytes), .waits = atomic_load(&q->server.waits)};
	return true;
}
