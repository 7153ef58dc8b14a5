/* See vqueue.h. */
#include "dev/vqueue.h"

#include <errno.h>
#include <sys/resource.h>

static struct virtq_config vqueue_layout(const struct ram *ram, const struct vqueue_setup *s)
{
	return (struct virtq_config){.ram = ram, .size = s->size, .desc = s->desc, .avail = s->avail, .used = s->used,
		.indirect = s->features >> VIRTIO_F_INDIRECT_DESC & 1, .event_idx = s->features >> VIRTIO_F_EVENT_IDX & 1};
}

int vqueue_check(const struct ram *ram, const struct vqueue_setup *s)
{
	struct virtq_config c = vqueue_layout(ram, s);
	struct virtq q;

	return virtq_open(&q, &c);
}

static bool vqueue_quiet(const struct vqueue *q)
{
	return !q->dev->ops->quiet || q->dev->ops->quiet(q->dev->dev, q->index);
}

static void vqueue_count(struct vqueue *q)
{
	atomic_fetch_add_explicit(&q->requests, q->vq.requests, memory_order_relaxed);
	atomic_fetch_add_explicit(&q->bytes, q->vq.bytes, memory_order_relaxed);
	q->vq.requests = q->vq.bytes = 0;
}

/* Serve until there is nothing to do. -errno: the driver broke the rules. */
static int vqueue_serve(struct vqueue *q)
{
	bool again = true;

	while (again && !atomic_load(&q->stop)) {
		int served;

		virtq_quiet(&q->vq);
		served = q->dev->ops->serve(q->dev->dev, q->index, &q->vq, q->features, &q->stop);
		vqueue_count(q);
		if (served < 0)
			return served;
		if (atomic_load(&q->stop))
			break;
		if (virtq_wants_interrupt(&q->vq))
			q->calls.interrupt(q->calls.owner, q->index);
		again = served == VIRTIO_MORE || (served == VIRTIO_DRAINED && virtq_listen(&q->vq)); /* who waits for something else does not care what comes */
	}
	return 0;
}

/* A fault that waited for the pager counts as a major one: the kernel tried it twice. */
static void vqueue_count_waits(struct vqueue *q)
{
	struct rusage use;

	if (getrusage(RUSAGE_THREAD, &use) == 0)
		atomic_store_explicit(&q->waits, (uint64_t)use.ru_majflt, memory_order_relaxed);
}

static bool vqueue_begin(struct vqueue *q)
{
	bool go;

	pthread_mutex_lock(&q->lock);
	go = q->busy = q->state == VQUEUE_RUNNING;
	pthread_mutex_unlock(&q->lock);
	return go;
}

/* Say so while still busy: no stop ends before, so that nobody takes it for the next epoch's. What was read after a stop was asked for may be no memory any more;
 * if it was, the next serve() says the same again. */
static void vqueue_break(struct vqueue *q)
{
	bool tell;

	pthread_mutex_lock(&q->lock);
	tell = q->state == VQUEUE_RUNNING;
	if (tell)
		q->state = VQUEUE_BROKEN;
	pthread_mutex_unlock(&q->lock);
	if (tell)
		q->calls.broken(q->calls.owner, q->index);
}

static void vqueue_work(void *arg)
{
	struct vqueue *q = arg;
	bool broken = vqueue_begin(q) && vqueue_serve(q) < 0, stopped = false;

	vqueue_count_waits(q);
	if (broken)
		vqueue_break(q);
	pthread_mutex_lock(&q->lock);
	q->busy = false;
	if (q->state == VQUEUE_STOPPING && vqueue_quiet(q)) {
		q->state = VQUEUE_IDLE;
		stopped = true;
	}
	pthread_mutex_unlock(&q->lock);
	if (stopped)
		q->calls.stopped(q->calls.owner, q->index);
}

int vqueue_open(struct vqueue *q, const struct ram *ram, const struct virtio_dev *dev, unsigned index, const struct vqueue_calls *calls)
{
	*q = (struct vqueue){.ram = ram, .dev = dev, .index = index, .calls = *calls};
	pthread_mutex_init(&q->lock, NULL);
	return worker_open(&q->worker, dev->name, vqueue_work, q);
}

void vqueue_hush(struct vqueue *q)
{
	pthread_mutex_lock(&q->lock);
	q->state = VQUEUE_CLOSED;
	atomic_store(&q->stop, true); /* within: a start sets it to false */
	pthread_mutex_unlock(&q->lock);
}

void vqueue_close(struct vqueue *q)
{
	if (!q->dev)
		return;
	vqueue_hush(q);
	worker_close(&q->worker);
}

/* Under the lock. */
static int vqueue_renew(struct vqueue *q, const struct vqueue_setup *s)
{
	struct virtq_config c = vqueue_layout(q->ram, s);
	int err = virtq_open(&q->vq, &c);

	q->epoch = 0;
	if (err)
		return err;
	if (q->dev->ops->fresh)
		q->dev->ops->fresh(q->dev->dev, q->index);
	q->epoch = s->epoch;
	q->features = s->features;
	return 0;
}

/* Under the lock. */
static int vqueue_go(struct vqueue *q, const struct vqueue_setup *s)
{
	int err = q->state != VQUEUE_IDLE || q->busy || s->epoch == 0 ? -EPROTO : 0;

	if (!err && s->epoch != q->epoch)
		err = vqueue_renew(q, s);
	if (!err) {
		q->state = VQUEUE_RUNNING;
		atomic_store(&q->stop, false);
	}
	return err;
}

int vqueue_start(struct vqueue *q, const struct vqueue_setup *s)
{
	int err;

	pthread_mutex_lock(&q->lock);
	err = q->state == VQUEUE_CLOSED ? 0 : vqueue_go(q, s);
	pthread_mutex_unlock(&q->lock);
	if (!err)
		vqueue_ring(q);
	return err;
}

bool vqueue_stop(struct vqueue *q)
{
	bool idle;

	atomic_store(&q->stop, true);
	pthread_mutex_lock(&q->lock);
	if (q->state == VQUEUE_RUNNING || q->state == VQUEUE_BROKEN)
		q->state = !q->busy && vqueue_quiet(q) ? VQUEUE_IDLE : VQUEUE_STOPPING;
	idle = q->state == VQUEUE_IDLE || q->state == VQUEUE_CLOSED;
	pthread_mutex_unlock(&q->lock);
	if (!idle)
		vqueue_ring(q);
	return idle;
}

void vqueue_ring(struct vqueue *q)
{
	pthread_mutex_lock(&q->lock);
	if (q->state != VQUEUE_CLOSED)
		worker_ring(&q->worker);
	pthread_mutex_unlock(&q->lock);
}

bool vqueue_known(struct vqueue *q)
{
	bool known;

	pthread_mutex_lock(&q->lock);
	known = q->epoch != 0;
	pthread_mutex_unlock(&q->lock);
	return known;
}
