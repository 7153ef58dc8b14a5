/* See virtio_balloon.h. */
#include "dev/virtio_balloon.h"

#include "dev/bus.h"
#include "wire/peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BALLOON_F_DEFLATE_ON_OOM = 2, BALLOON_F_PAGE_REPORTING = 5 };

/* Without a queue for statistics the reports come in the third one (5.5.2). */
enum { BALLOON_INFLATE, BALLOON_DEFLATE, BALLOON_REPORT, BALLOON_QUEUES };

enum { BALLOON_CONFIG_BYTES = 8, BALLOON_TARGET = 0, BALLOON_ACTUAL = 4, BALLOON_BATCH = 16, PFN_BYTES = 4 };

/* Pages with one home that follow each other; dense numbers. */
struct run {
	uint64_t first, pages;
	node_t home;
};

/* A queue's request, on the devices' node: the worker's while serve() runs, but for what is said. */
struct lane {
	struct virtio_balloon *b;
	unsigned queue;
	bool open;              /* 'chain' is being worked off */
	struct virtq_chain chain;
	unsigned seg;           /* reports: the segment, and how far into it */
	uint64_t at;            /* or, inflating, into the list of page numbers */
	struct pager_discard discard;
	bool away;              /* a run is under way; under the lock */
	node_t to;              /* and where; under the lock */
};

/* A home's run of the same queue; busy is under the lock. */
struct errand {
	struct virtio_balloon *b;
	unsigned queue;
	bool busy;
	struct pager_discard discard;
};

struct virtio_balloon {
	struct virtio_balloon_config c;
	struct plane *plane;
	unsigned device;
	pthread_mutex_t lock;
	struct lane lane[BALLOON_QUEUES];
	struct errand errand[BALLOON_QUEUES];
	_Atomic uint32_t target, actual; /* actual: what the driver says is in the balloon */
	atomic_bool driver;
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The run at the beginning of [gpa, end), both whole pages; -EPROTO: that is no RAM. */
static int run_at(const struct ram *ram, uint64_t gpa, uint64_t end, struct run *run)
{
	for (unsigned i = 0; i < ram->ranges; i++) {
		const struct ram_range *r = &ram->range[i];

		if (gpa < r->gpa.v || gpa - r->gpa.v >= r->bytes)
			continue;
		run->first = (uint64_t)ram_page(ram, (gfn_t){gpa >> PAGE_SHIFT});
		run->pages = (least(end, r->gpa.v + r->bytes) - gpa) >> PAGE_SHIFT;
		run->home = r->home;
		return 0;
	}
	return -EPROTO;
}

/* A run has gone. */
static void lane_back(struct lane *l)
{
	pthread_mutex_lock(&l->b->lock);
	l->away = false;
	pthread_mutex_unlock(&l->b->lock);
	plane_ring(l->b->plane, l->b->device, l->queue);
}

static void lane_freed(struct pager_discard *d)
{
	lane_back(d->user);
}

/* Is a run under way? Else there is one now. */
static bool lane_claim(struct lane *l, node_t to)
{
	bool away;

	pthread_mutex_lock(&l->b->lock);
	away = l->away;
	l->away = true;
	if (!away)
		l->to = to;
	pthread_mutex_unlock(&l->b->lock);
	return away;
}

/* Send a run away. It may be back before this returns. */
static void lane_send(struct lane *l, const struct run *run)
{
	struct virtio_balloon *b = l->b;
	struct peer_balloon_free m = {.device = (uint8_t)b->device, .queue = (uint16_t)l->queue, .page = run->first, .pages = run->pages};
	uint8_t frame[WIRE_HEADER_BYTES + sizeof m];
	int err;

	if (lane_claim(l, run->home))
		return;
	l->discard = (struct pager_discard){.first = run->first, .pages = run->pages, .done = lane_freed, .user = l};
	if (node_eq(run->home, b->c.self))
		err = b->c.free_pages(b->c.user, &l->discard);
	else
		err = plane_send(b->plane, run->home, frame, peer_put_balloon_free(&m, frame, sizeof frame));
	if (err) { /* the VM is at its end; the request stays */
		pthread_mutex_lock(&b->lock);
		l->away = false;
		pthread_mutex_unlock(&b->lock);
	}
}

static bool lane_away(struct lane *l)
{
	bool away;

	pthread_mutex_lock(&l->b->lock);
	away = l->away;
	pthread_mutex_unlock(&l->b->lock);
	return away;
}

/* The next run of a report: its writable segments are the pages. 1, 0 at the end, -EPROTO. */
static int report_next(struct lane *l, struct run *run)
{
	for (; l->seg < l->chain.segs; l->seg++, l->at = 0) {
		const struct virtq_seg *s = &l->chain.seg[l->seg];
		uint64_t from = (s->at.v + PAGE_BYTES - 1) & ~(uint64_t)(PAGE_BYTES - 1), end = (s->at.v + s->bytes) & ~(uint64_t)(PAGE_BYTES - 1);

		if (l->seg < l->chain.readable || from < s->at.v || from + l->at >= end)
			continue;
		if (run_at(l->b->c.ram, from + l->at, end, run))
			return -EPROTO;
		l->at += run->pages << PAGE_SHIFT;
		return 1;
	}
	return 0;
}

static int inflate_number(struct lane *l, struct virtq *q, uint64_t at, uint64_t *gpa)
{
	uint8_t bytes[PFN_BYTES];
	int err = virtq_read(q, &l->chain, at, bytes, sizeof bytes);

	*gpa = err ? 0 : bus_get(bytes, sizeof bytes) << PAGE_SHIFT;
	return err;
}

/* The next run of a list of page numbers: those that follow each other go together. */
static int inflate_next(struct lane *l, struct virtq *q, struct run *run)
{
	uint64_t gpa, next;
	struct run more;

	if (l->at + PFN_BYTES > l->chain.readable_bytes)
		return 0;
	if (inflate_number(l, q, l->at, &gpa) || run_at(l->b->c.ram, gpa, gpa + PAGE_BYTES, run))
		return -EPROTO;
	for (l->at += PFN_BYTES; l->at + PFN_BYTES <= l->chain.readable_bytes; l->at += PFN_BYTES, run->pages++) {
		if (inflate_number(l, q, l->at, &next))
			return -EPROTO;
		if (run_at(l->b->c.ram, next, next + PAGE_BYTES, &more) || more.first != run->first + run->pages || !node_eq(more.home, run->home))
			break;
	}
	return 1;
}

/* 1: the request is done; 0: a run is under way, or a stop; -EPROTO. */
static int lane_go(struct lane *l, struct virtq *q, const atomic_bool *stop)
{
	unsigned seg = l->seg;
	uint64_t at = l->at;
	struct run run;
	int n;

	if (lane_away(l))
		return 0;
	if (l->queue == BALLOON_DEFLATE)
		return 1;
	n = l->queue == BALLOON_REPORT ? report_next(l, &run) : inflate_next(l, q, &run);
	if (atomic_load(stop)) { /* what was read may be no memory of the guest's any more; if it is, the run is read again when the queue goes on */
		l->seg = seg;
		l->at = at;
		return 0;
	}
	if (n <= 0)
		return n ? n : 1;
	lane_send(l, &run);
	return 0;
}

static int balloon_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	struct lane *l = &((struct virtio_balloon *)dev)->lane[queue];

	for (unsigned i = 0; i < BALLOON_BATCH && !atomic_load(stop); i++) {
		int n = l->open ? 1 : virtq_pop(q, &l->chain);

		if (n <= 0)
			return n ? n : VIRTIO_DRAINED;
		if (!l->open) {
			l->open = true;
			l->seg = 0;
			l->at = 0;
		}
		n = lane_go(l, q, stop);
		if (n <= 0)
			return n ? n : VIRTIO_WAITING;
		virtq_push(q, &l->chain, 0);
		l->open = false;
	}
	return VIRTIO_MORE;
}

static bool balloon_quiet(void *dev, unsigned queue)
{
	return !lane_away(&((struct virtio_balloon *)dev)->lane[queue]);
}

static void balloon_fresh(void *dev, unsigned queue)
{
	((struct virtio_balloon *)dev)->lane[queue].open = false;
}

/* At a home. */

static void errand_done(struct pager_discard *d)
{
	struct errand *e = d->user;
	struct virtio_balloon *b = e->b;
	struct peer_balloon_freed m = {.device = (uint8_t)b->device, .queue = (uint16_t)e->queue};
	uint8_t frame[WIRE_HEADER_BYTES + sizeof m];

	pthread_mutex_lock(&b->lock);
	e->busy = false;
	pthread_mutex_unlock(&b->lock);
	if (plane_send(b->plane, b->c.devices, frame, peer_put_balloon_freed(&m, frame, sizeof frame)))
		return; /* that node is gone, and with it the VM */
}

static int message_free(struct virtio_balloon *b, node_t from, const struct peer_balloon_free *m)
{
	uint64_t all = b->c.ram->bytes >> PAGE_SHIFT;
	struct errand *e = &b->errand[m->queue % BALLOON_QUEUES];
	bool busy;

	if (!node_eq(from, b->c.devices) || node_eq(from, b->c.self) || m->queue >= BALLOON_QUEUES || m->pages == 0 || m->pages > all || m->page > all - m->pages)
		return -EPROTO;
	if (!node_eq(ram_page_home(b->c.ram, m->page), b->c.self) || !node_eq(ram_page_home(b->c.ram, m->page + m->pages - 1), b->c.self))
		return -EPROTO;
	pthread_mutex_lock(&b->lock);
	busy = e->busy;
	e->busy = true;
	pthread_mutex_unlock(&b->lock);
	if (busy)
		return -EPROTO;
	e->discard = (struct pager_discard){.first = m->page, .pages = m->pages, .done = errand_done, .user = e};
	if (b->c.free_pages(b->c.user, &e->discard))
		return 0; /* the VM is at its end */
	return 0;
}

static int message_freed(struct virtio_balloon *b, node_t from, const struct peer_balloon_freed *m)
{
	struct lane *l = &b->lane[m->queue % BALLOON_QUEUES];
	bool owed;

	pthread_mutex_lock(&b->lock);
	owed = m->queue < BALLOON_QUEUES && l->away && node_eq(l->to, from) && !node_eq(from, b->c.self);
	pthread_mutex_unlock(&b->lock);
	if (!owed)
		return -EPROTO;
	lane_back(l);
	return 0;
}

static int balloon_message(void *dev, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct peer_balloon_free free_m;
	struct peer_balloon_freed freed_m;

	if (id == PEER_balloon_free)
		return peer_get_balloon_free(body, bytes, &free_m) ? -EBADMSG : message_free(dev, from, &free_m);
	if (id == PEER_balloon_freed)
		return peer_get_balloon_freed(body, bytes, &freed_m) ? -EBADMSG : message_freed(dev, from, &freed_m);
	return -EPROTO;
}

/* Registers. */

static void balloon_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	const struct virtio_balloon *b = dev;
	uint8_t config[BALLOON_CONFIG_BYTES] = {0};

	bus_put(config + BALLOON_TARGET, 4, atomic_load(&b->target));
	bus_put(config + BALLOON_ACTUAL, 4, atomic_load(&b->actual));
	memcpy(data, config + offset, bytes);
}

static void balloon_config_write(void *dev, unsigned offset, const void *data, unsigned bytes)
{
	struct virtio_balloon *b = dev;

	if (offset == BALLOON_ACTUAL && bytes == 4)
		atomic_store(&b->actual, (uint32_t)bus_get(data, bytes));
}

static void balloon_ready(void *dev, uint64_t features)
{
	atomic_store(&((struct virtio_balloon *)dev)->driver, true);
}

/* All that was in it is the guest's again (5.5.6). */
static void balloon_reset(void *dev)
{
	struct virtio_balloon *b = dev;

	atomic_store(&b->driver, false);
	atomic_store(&b->actual, 0);
}

void virtio_balloon_aim(struct virtio_balloon *b, uint32_t pages)
{
	atomic_store(&b->target, pages);
	plane_changed(b->plane, b->device);
}

void virtio_balloon_stats(const struct virtio_balloon *b, struct virtio_balloon_stats *to)
{
	*to = (struct virtio_balloon_stats){.target = atomic_load(&b->target), .held = atomic_load(&b->actual), .driver = atomic_load(&b->driver)};
}

int virtio_balloon_open(struct virtio_balloon **out, const struct virtio_balloon_config *c)
{
	struct virtio_balloon *b = calloc(1, sizeof *b);

	*out = b;
	if (!b)
		return -ENOMEM;
	b->c = *c;
	pthread_mutex_init(&b->lock, NULL);
	for (unsigned q = 0; q < BALLOON_QUEUES; q++) {
		b->lane[q] = (struct lane){.b = b, .queue = q};
		b->errand[q] = (struct errand){.b = b, .queue = q};
	}
	return 0;
}

void virtio_balloon_close(struct virtio_balloon *b)
{
	if (!b)
		return;
	pthread_mutex_destroy(&b->lock);
	free(b);
}

struct virtio_dev virtio_balloon_dev(struct virtio_balloon *b)
{
	static const struct virtio_ops ops = {.serve = balloon_serve, .quiet = balloon_quiet, .fresh = balloon_fresh, .message = balloon_message,
		.ready = balloon_ready, .reset = balloon_reset, .config_read = balloon_config_read, .config_write = balloon_config_write};

	return (struct virtio_dev){.name = "balloon", .type = VIRTIO_ID_BALLOON, .pci_class = 0x00ff00,
		.features = 1ull << BALLOON_F_DEFLATE_ON_OOM | 1ull << BALLOON_F_PAGE_REPORTING,
		.queues = BALLOON_QUEUES, .queue_size = 128, .config_bytes = BALLOON_CONFIG_BYTES, .ops = &ops, .dev = b};
}

void virtio_balloon_joined(struct virtio_balloon *b, struct plane *p, unsigned device)
{
	b->plane = p;
	b->device = device;
}
