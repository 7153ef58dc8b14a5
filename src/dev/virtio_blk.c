/* See virtio_blk.h. On top the pieces and who carries them out, below the guest's requests that are cut into them. */
#include "dev/virtio_blk.h"

#include "base/ensure.h"
#include "base/log.h"
#include "wire/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8, TYPE_DISCARD = 11, TYPE_WRITE_ZEROES = 13 };
enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP, STATUS_NONE = 0xff };
enum { F_SEG_MAX = 2, F_RO = 5, F_BLK_SIZE = 6, F_FLUSH = 9, F_TOPOLOGY = 10, F_MQ = 12, F_DISCARD = 13, F_WRITE_ZEROES = 14 };
enum { UNMAP = 1, SPAN_SECTORS_MAX = 1 << 22, FRAME_ROOM = BLK_PIECE_BYTES + 64, REQUESTS = BLK_PIECES + 1 };

/* As the guest sees them; little-endian like this host. */
struct head { uint32_t type, priority; uint64_t sector; };
struct span { uint64_t sector; uint32_t sectors, flags; };
struct blk_config {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
};
_Static_assert(sizeof(struct head) == 16 && sizeof(struct span) == 16 && sizeof(struct blk_config) == 64, "virtio 1.2, 5.2.4 and 5.2.6");
enum { CONFIG_BYTES = 60 };

/* A request of the guest's; the worker's. */
struct request {
	bool used, issued, then_flush; /* issued: all its pieces have been */
	enum disk_op op;
	bool unmap;
	uint8_t status;
	uint64_t offset, bytes, next; /* on the disk; next: how far pieces of it go */
	unsigned away;                /* pieces that have not been collected */
	struct virtq_chain chain;
};

/* FREE and BACK: the worker's. AWAY: of who carries it out. */
enum where { PIECE_FREE, PIECE_AWAY, PIECE_BACK };

struct piece {
	struct virtio_blk *b;
	unsigned queue, slot;
	enum where where; /* under the queue's lock */
	uint8_t status;
	struct request *of;
	uint64_t at, bytes; /* of the request's range */
	uint8_t *data;      /* of reads and writes; while not FREE; NULL when iov is guest memory */
	struct disk_request disk;
	unsigned iovs;
	struct iovec iov[BLK_QUEUE_SIZE];
};

struct blk_queue {
	pthread_mutex_t lock; /* guards where every piece is */
	struct piece piece[BLK_PIECES];
	struct request request[REQUESTS];
	struct request *current; /* whose pieces have not all been issued */
	uint8_t frame[FRAME_ROOM];
};

/* A piece of another node's. */
struct visitor {
	struct virtio_blk *b;
	node_t from;
	uint16_t queue, slot;
	struct disk_request disk;
	struct iovec iov;
	uint8_t data[];
};

struct virtio_blk {
	struct virtio_blk_config c;
	struct blk_config config;
	struct blk_queue *queue[VIRTIO_QUEUES_MAX]; /* NULL: served elsewhere */
	pthread_mutex_t lock;   /* guards visiting and under_way */
	pthread_cond_t ended;
	uint32_t visiting[VIRTIO_QUEUES_MAX]; /* slots that are carried out for other nodes, a bit each */
	unsigned under_way;     /* requests that the disk has */
	_Atomic uint64_t requests, bytes_read, bytes_written, pieces_away, served;
};

static void count(_Atomic uint64_t *what, uint64_t n)
{
	atomic_fetch_add_explicit(what, n, memory_order_relaxed);
}

/* --- pieces --- */

static bool op_has_data(enum disk_op op)
{
	return op == DISK_READ || op == DISK_WRITE;
}

/* Submit to the disk here, and know how many it has. */
static int blk_submit(struct virtio_blk *b, struct disk_request *r)
{
	int err;

	pthread_mutex_lock(&b->lock);
	b->under_way++;
	pthread_mutex_unlock(&b->lock);
	err = disk_submit(b->c.disk, r);
	if (!err)
		return 0;
	pthread_mutex_lock(&b->lock);
	b->under_way--;
	pthread_mutex_unlock(&b->lock);
	return err;
}

/* The last that a done() does. */
static void blk_ended(struct virtio_blk *b)
{
	pthread_mutex_lock(&b->lock);
	if (--b->under_way == 0)
		pthread_cond_broadcast(&b->ended);
	pthread_mutex_unlock(&b->lock);
}

/* It has been carried out, by whomever. No lock held. */
static void piece_back(struct piece *p, uint8_t status)
{
	struct virtio_blk *b = p->b;
	unsigned queue = p->queue;

	p->status = status;
	pthread_mutex_lock(&b->queue[queue]->lock);
	p->where = PIECE_BACK;
	pthread_mutex_unlock(&b->queue[queue]->lock);
	plane_ring(b->c.plane, b->c.device, queue);
}

static void piece_done(struct disk_request *r, int err)
{
	struct piece *p = r->user;
	struct virtio_blk *b = p->b;

	piece_back(p, err ? STATUS_IOERR : STATUS_OK);
	blk_ended(b);
}

static int piece_submit(struct piece *p, uint64_t offset)
{
	const struct request *r = p->of;

	if (p->data) {
		p->iov[0] = (struct iovec){p->data, p->bytes};
		p->iovs = 1;
	}
	p->disk = (struct disk_request){.op = r->op, .unmap = r->unmap, .offset = offset, .bytes = p->bytes, .iov = p->iov, .iovs = op_has_data(r->op) ? p->iovs : 0,
		.done = piece_done, .user = p};
	return blk_submit(p->b, &p->disk);
}

static int piece_send(struct piece *p, uint64_t offset)
{
	struct virtio_blk *b = p->b;
	struct blk_queue *q = b->queue[p->queue];
	const struct request *r = p->of;
	struct peer_blk_request m = {.device = (uint8_t)b->c.device, .queue = (uint16_t)p->queue, .slot = (uint16_t)p->slot, .op = (uint8_t)r->op, .unmap = r->unmap,
		.offset = offset, .bytes = p->bytes};

	if (r->op == DISK_WRITE)
		m.data = (struct wire_blob){p->data, (uint32_t)p->bytes};
	count(&b->pieces_away, 1);
	return plane_send(b->c.plane, b->c.disk_node, q->frame, peer_put_blk_request(&m, q->frame, sizeof q->frame));
}

/* The piece is filled in; it comes back in any case. */
static void piece_issue(struct piece *p)
{
	struct blk_queue *q = p->b->queue[p->queue];
	uint64_t offset = p->of->offset + p->at;

	p->of->away++;
	pthread_mutex_lock(&q->lock);
	p->where = PIECE_AWAY;
	pthread_mutex_unlock(&q->lock);
	if (p->b->c.disk ? piece_submit(p, offset) : piece_send(p, offset))
		piece_back(p, STATUS_IOERR);
}

static void piece_free(struct piece *p)
{
	struct blk_queue *q = p->b->queue[p->queue];

	free(p->data);
	p->data = NULL;
	p->of = NULL;
	pthread_mutex_lock(&q->lock);
	p->where = PIECE_FREE;
	pthread_mutex_unlock(&q->lock);
}

/* --- what other nodes ask for and answer --- */

static void visitor_answer(struct virtio_blk *b, node_t to, uint16_t queue, uint16_t slot, uint8_t status, const uint8_t *data, uint32_t bytes)
{
	struct peer_blk_done m = {.device = (uint8_t)b->c.device, .queue = queue, .slot = slot, .status = status, .data = {data, bytes}};
	uint8_t frame[FRAME_ROOM];

	pthread_mutex_lock(&b->lock);
	b->visiting[queue] &= ~(1u << slot); /* first: the answer frees it over there */
	pthread_mutex_unlock(&b->lock);
	if (plane_send(b->c.plane, to, frame, peer_put_blk_done(&m, frame, sizeof frame)))
		log_debug("blk: node %u is gone", to.v);
}

static void visitor_done(struct disk_request *r, int err)
{
	struct visitor *v = r->user;
	struct virtio_blk *b = v->b;
	bool gives = r->op == DISK_READ && !err;

	visitor_answer(b, v->from, v->queue, v->slot, err ? STATUS_IOERR : STATUS_OK, gives ? v->data : NULL, gives ? (uint32_t)r->bytes : 0);
	free(v);
	blk_ended(b);
}

static bool visit_sane(const struct virtio_blk *b, node_t from, const struct peer_blk_request *m)
{
	if (!b->c.disk || m->queue >= b->c.queues || !node_eq(b->c.queue_node[m->queue], from) || node_eq(from, b->c.self))
		return false;
	if (m->slot >= BLK_PIECES || m->op >= DISK_OPS || m->data.bytes != (m->op == DISK_WRITE ? m->bytes : 0))
		return false;
	return !op_has_data(m->op) || m->bytes <= BLK_PIECE_BYTES;
}

static int on_request(struct virtio_blk *b, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_blk_request m;
	struct visitor *v;
	bool taken;
	int err = -ENOMEM;

	if (peer_get_blk_request(body, bytes, &m))
		return -EBADMSG;
	if (!visit_sane(b, from, &m))
		return -EPROTO;
	pthread_mutex_lock(&b->lock);
	taken = b->visiting[m.queue] >> m.slot & 1;
	b->visiting[m.queue] |= 1u << m.slot;
	pthread_mutex_unlock(&b->lock);
	if (taken)
		return -EPROTO;
	count(&b->served, 1);
	v = malloc(sizeof *v + (op_has_data(m.op) ? m.bytes : 0));
	if (v) {
		*v = (struct visitor){.b = b, .from = from, .queue = m.queue, .slot = m.slot, .iov = {v->data, m.bytes}};
		v->disk = (struct disk_request){.op = m.op, .unmap = m.unmap != 0, .offset = m.offset, .bytes = m.bytes, .iov = &v->iov, .iovs = op_has_data(m.op),
			.done = visitor_done, .user = v};
		if (m.data.bytes)
			memcpy(v->data, m.data.at, m.data.bytes);
		err = blk_submit(b, &v->disk);
	}
	if (err) {
		free(v);
		visitor_answer(b, from, m.queue, m.slot, STATUS_IOERR, NULL, 0);
	}
	return 0;
}

static int on_done(struct virtio_blk *b, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_blk_done m;
	struct blk_queue *q;
	struct piece *p;
	bool away, gives;

	if (peer_get_blk_done(body, bytes, &m))
		return -EBADMSG;
	q = m.queue < b->c.queues ? b->queue[m.queue] : NULL;
	if (!q || b->c.disk || !node_eq(from, b->c.disk_node) || m.slot >= BLK_PIECES || m.status > STATUS_UNSUPP)
		return -EPROTO;
	p = &q->piece[m.slot];
	pthread_mutex_lock(&q->lock);
	away = p->where == PIECE_AWAY;
	pthread_mutex_unlock(&q->lock);
	if (!away)
		return -EPROTO;
	gives = p->of->op == DISK_READ && m.status == STATUS_OK;
	if (m.data.bytes != (gives ? p->bytes : 0))
		return -EPROTO;
	if (gives)
		memcpy(p->data, m.data.at, m.data.bytes);
	piece_back(p, m.status);
	return 0;
}

static int blk_message(void *dev, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	switch (id) {
	case PEER_blk_request: return on_request(dev, from, body, bytes);
	case PEER_blk_done: return on_done(dev, from, body, bytes);
	default: return -EBADMSG;
	}
}

/* --- the guest's requests, on the queue's worker --- */

struct turn {
	struct virtio_blk *b;
	struct blk_queue *q;
	struct virtq *vq;
	uint64_t features;
	const atomic_bool *stop;
};

/* Give a request back, having written 'filled' bytes from the start of its writable part. */
static int request_end(struct turn *t, struct request *r, uint64_t filled)
{
	uint64_t room = r->chain.writable_bytes - 1;

	if (virtq_write(t->vq, &r->chain, room, &r->status, 1))
		return -EPROTO;
	virtq_push(t->vq, &r->chain, (uint32_t)(filled == room ? room + 1 : filled));
	count(&t->b->requests, 1);
	if (r->status == STATUS_OK && op_has_data(r->op))
		count(r->op == DISK_READ ? &t->b->bytes_read : &t->b->bytes_written, r->bytes);
	r->used = false;
	return 0;
}

static bool range_good(const struct virtio_blk *b, struct request *r, uint64_t sector, uint64_t bytes)
{
	if (bytes % DISK_SECTOR || sector > b->c.bytes / DISK_SECTOR || bytes > b->c.bytes - sector * DISK_SECTOR)
		return false;
	r->offset = sector * DISK_SECTOR;
	r->bytes = bytes;
	return true;
}

static int judge_span(struct turn *t, struct request *r, bool zeroes)
{
	struct span s;

	if (r->chain.readable_bytes != sizeof(struct head) + sizeof s)
		return STATUS_IOERR; /* we said one a request */
	if (virtq_read(t->vq, &r->chain, sizeof(struct head), &s, sizeof s))
		return -EPROTO;
	if (s.flags & ~(zeroes ? (uint32_t)UNMAP : 0))
		return STATUS_UNSUPP;
	if (s.sectors > SPAN_SECTORS_MAX || !range_good(t->b, r, s.sector, (uint64_t)s.sectors * DISK_SECTOR))
		return STATUS_IOERR;
	r->op = zeroes ? DISK_WRITE_ZEROES : DISK_DISCARD;
	r->unmap = s.flags & UNMAP;
	return r->bytes ? STATUS_NONE : STATUS_OK;
}

/* What the request asks for: STATUS_NONE: pieces of it; another status: that; -EPROTO: nonsense. */
static int request_judge(struct turn *t, struct request *r, uint64_t *filled)
{
	const struct virtio_blk *b = t->b;
	struct head h;

	if (r->chain.readable_bytes < sizeof h || r->chain.writable_bytes < 1 || virtq_read(t->vq, &r->chain, 0, &h, sizeof h))
		return -EPROTO;
	switch (h.type) {
	case TYPE_IN:
		r->op = DISK_READ;
		if (!range_good(b, r, h.sector, r->chain.writable_bytes - 1))
			return STATUS_IOERR;
		return r->bytes ? STATUS_NONE : STATUS_OK;
	case TYPE_OUT:
		r->op = DISK_WRITE;
		if (b->c.readonly || !range_good(b, r, h.sector, r->chain.readable_bytes - sizeof h))
			return STATUS_IOERR;
		return r->bytes ? STATUS_NONE : STATUS_OK;
	case TYPE_FLUSH:
		r->op = DISK_FLUSH;
		return b->c.writes_back ? STATUS_NONE : STATUS_OK;
	case TYPE_GET_ID:
		r->op = DISK_OPS;
		*filled = r->chain.writable_bytes - 1 < BLK_ID_BYTES ? r->chain.writable_bytes - 1 : BLK_ID_BYTES;
		return virtq_write(t->vq, &r->chain, 0, b->c.id, *filled) ? -EPROTO : STATUS_OK;
	case TYPE_DISCARD:
	case TYPE_WRITE_ZEROES:
		if (b->c.readonly)
			return STATUS_IOERR;
		if (h.type == TYPE_DISCARD && !b->c.discards)
			return STATUS_UNSUPP;
		return judge_span(t, r, h.type == TYPE_WRITE_ZEROES);
	default: return STATUS_UNSUPP;
	}
}

/* Take the next request: 1: it is current, or has been given back; 0: none; -EPROTO. */
static int turn_take(struct turn *t)
{
	struct request *r = t->q->request;
	uint64_t filled = 0;
	int got;

	while (r->used)
		ensure(++r < t->q->request + REQUESTS); /* each other one has a piece, and there are fewer of these */
	got = virtq_pop(t->vq, &r->chain);
	if (got <= 0)
		return got;
	r->used = true;
	r->issued = r->unmap = false;
	r->next = r->offset = r->bytes = 0;
	r->away = 0;
	r->op = DISK_OPS;
	got = request_judge(t, r, &filled);
	if (got < 0)
		return got;
	r->status = got == STATUS_NONE ? STATUS_OK : (uint8_t)got;
	r->then_flush = t->b->c.writes_back && !(t->features >> F_FLUSH & 1) && r->op != DISK_READ && r->op != DISK_FLUSH;
	if (got == STATUS_NONE)
		t->q->current = r;
	else
		got = request_end(t, r, filled);
	return got < 0 ? got : 1;
}

static struct piece *queue_free_piece(struct blk_queue *q)
{
	struct piece *found = NULL;

	pthread_mutex_lock(&q->lock);
	for (unsigned i = 0; i < BLK_PIECES && !found; i++)
		if (q->piece[i].where == PIECE_FREE)
			found = &q->piece[i];
	pthread_mutex_unlock(&q->lock);
	return found;
}

/* The disk may have the guest's own memory: p is as long as it can be then. */
static bool piece_map(const struct turn *t, const struct request *r, struct piece *p)
{
	bool reads = r->op == DISK_READ;
	uint64_t bytes = p->bytes < BLK_DIRECT_BYTES ? p->bytes : BLK_DIRECT_BYTES;

	if (!t->b->c.disk || !disk_waits_alone(t->b->c.disk) || !(reads || t->b->c.alone))
		return false;
	p->iovs = virtq_map(t->vq, &r->chain, reads, reads ? p->at : p->at + sizeof(struct head), bytes, p->iov, ARRAY_LEN(p->iov));
	if (p->iovs)
		p->bytes = bytes;
	return p->iovs > 0;
}

/* Issue the next piece of r through p. -EPROTO: its buffers are no memory; -ECANCELED: not now. */
static int request_issue(struct turn *t, struct request *r, struct piece *p)
{
	p->of = r;
	p->at = r->next;
	p->bytes = r->bytes - r->next;
	if (op_has_data(r->op) && !piece_map(t, r, p)) {
		p->bytes = p->bytes < BLK_PIECE_BYTES ? p->bytes : BLK_PIECE_BYTES;
		p->data = malloc(p->bytes);
		if (!p->data)
			return -ENOMEM;
	}
	if (r->op == DISK_WRITE && p->data && virtq_read(t->vq, &r->chain, sizeof(struct head) + p->at, p->data, p->bytes)) {
		piece_free(p);
		return -EPROTO;
	}
	if (atomic_load(t->stop) && r->op != DISK_FLUSH) { /* what was read may be no memory of the guest's any more; if it is, the piece is issued when the queue goes on */
		piece_free(p);
		return -ECANCELED;
	}
	r->next += p->bytes;
	r->issued = r->next == r->bytes;
	piece_issue(p);
	return 0;
}

/* All pieces of r are back; p was the last. */
static int request_complete(struct turn *t, struct request *r, struct piece *p)
{
	if (!r->then_flush || r->status != STATUS_OK) {
		piece_free(p);
		return request_end(t, r, r->op == DISK_READ && r->status == STATUS_OK ? r->bytes : 0);
	}
	r->then_flush = false;
	count(&t->b->bytes_written, r->op == DISK_WRITE ? r->bytes : 0);
	r->op = DISK_FLUSH;
	r->offset = r->bytes = r->next = 0;
	free(p->data);
	p->data = NULL;
	return request_issue(t, r, p);
}

static int piece_collect(struct turn *t, struct piece *p)
{
	struct request *r = p->of;

	if (p->status != STATUS_OK)
		r->status = p->status;
	else if (r->op == DISK_READ && p->data && virtq_write(t->vq, &r->chain, p->at, p->data, p->bytes))
		return -EPROTO;
	if (--r->away == 0 && r->issued)
		return request_complete(t, r, p);
	piece_free(p);
	return 0;
}

static int turn_collect(struct turn *t)
{
	int err = 0;

	for (unsigned i = 0; i < BLK_PIECES && !err && !atomic_load(t->stop); i++) {
		struct piece *p = &t->q->piece[i];
		bool back;

		pthread_mutex_lock(&t->q->lock);
		back = p->where == PIECE_BACK;
		pthread_mutex_unlock(&t->q->lock);
		if (back)
			err = piece_collect(t, p);
	}
	return err;
}

/* One piece of the current request. 1: done, 0: no slot is free. */
static int turn_issue(struct turn *t)
{
	struct request *r = t->q->current;
	struct piece *p = queue_free_piece(t->q);
	int err;

	if (!p)
		return 0;
	err = request_issue(t, r, p);
	if (err == -ENOMEM) { /* what has been issued comes back and ends it */
		piece_free(p);
		r->status = STATUS_IOERR;
		r->issued = true;
		err = r->away ? 0 : request_end(t, r, 0);
	}
	if (!err && r->issued)
		t->q->current = NULL;
	return err ? err : 1;
}

static int blk_serve(void *dev, unsigned queue, struct virtq *vq, uint64_t features, const atomic_bool *stop)
{
	struct virtio_blk *b = dev;
	struct turn t = {.b = b, .q = b->queue[queue], .vq = vq, .features = features, .stop = stop};
	int got = turn_collect(&t);

	while (!got) {
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
		if (!t.q->current)
			got = turn_take(&t);
		else
			got = turn_issue(&t);
		if (got == 0)
			return t.q->current ? VIRTIO_WAITING : VIRTIO_DRAINED;
		got = got > 0 ? 0 : got;
	}
	return got == -ECANCELED ? VIRTIO_DRAINED : got;
}

static bool blk_quiet(void *dev, unsigned queue)
{
	struct blk_queue *q = ((struct virtio_blk *)dev)->queue[queue];
	bool quiet = true;

	pthread_mutex_lock(&q->lock);
	for (unsigned i = 0; i < BLK_PIECES; i++)
		quiet &= q->piece[i].where != PIECE_AWAY;
	pthread_mutex_unlock(&q->lock);
	return quiet;
}

static void blk_fresh(void *dev, unsigned queue)
{
	struct blk_queue *q = ((struct virtio_blk *)dev)->queue[queue];

	q->current = NULL;
	for (unsigned i = 0; i < REQUESTS; i++)
		q->request[i].used = false;
	for (unsigned i = 0; i < BLK_PIECES; i++)
		piece_free(&q->piece[i]);
}

/* --- the device --- */

static void blk_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	memcpy(data, (const uint8_t *)&((struct virtio_blk *)dev)->config + offset, bytes);
}

static unsigned log2_of(uint64_t n)
{
	return n > 1 ? 63 - (unsigned)__builtin_clzll(n) : 0;
}

static struct blk_config blk_describe(const struct virtio_blk_config *c)
{
	uint32_t optimal = c->optimal_bytes > c->block_bytes ? c->optimal_bytes / c->block_bytes : 1, block_sectors = c->block_bytes / DISK_SECTOR;

	return (struct blk_config){.capacity = c->bytes / DISK_SECTOR, .seg_max = BLK_QUEUE_SIZE - 2, .blk_size = c->block_bytes,
		.physical_block_exp = (uint8_t)log2_of(optimal), .min_io_size = (uint16_t)(optimal > UINT16_MAX ? 1 : optimal), .opt_io_size = optimal,
		.num_queues = (uint16_t)c->queues, .max_discard_sectors = SPAN_SECTORS_MAX, .max_discard_seg = 1, .discard_sector_alignment = block_sectors * optimal,
		.max_write_zeroes_sectors = SPAN_SECTORS_MAX, .max_write_zeroes_seg = 1, .write_zeroes_may_unmap = 1};
}

static uint64_t blk_features(const struct virtio_blk_config *c)
{
	uint64_t f = 1u << F_SEG_MAX | 1u << F_BLK_SIZE | 1u << F_TOPOLOGY | 1u << F_MQ;

	if (c->readonly)
		return f | 1u << F_RO;
	return f | 1u << F_WRITE_ZEROES | (c->writes_back ? 1u << F_FLUSH : 0) | (c->discards ? 1u << F_DISCARD : 0);
}

struct virtio_dev virtio_blk_dev(struct virtio_blk *b)
{
	static const struct virtio_ops ops = {.serve = blk_serve, .quiet = blk_quiet, .fresh = blk_fresh, .message = blk_message, .config_read = blk_config_read};

	return (struct virtio_dev){.name = "virtio-blk", .type = VIRTIO_ID_BLK, .pci_class = 0x010000, .features = blk_features(&b->c), .queues = b->c.queues,
		.queue_size = BLK_QUEUE_SIZE, .config_bytes = CONFIG_BYTES, .ops = &ops, .dev = b};
}

static int queue_make(struct virtio_blk *b, unsigned i)
{
	struct blk_queue *q = calloc(1, sizeof *q);

	if (!q)
		return -ENOMEM;
	pthread_mutex_init(&q->lock, NULL);
	for (unsigned k = 0; k < BLK_PIECES; k++)
		q->piece[k] = (struct piece){.b = b, .queue = i, .slot = k};
	b->queue[i] = q;
	return 0;
}

int virtio_blk_open(struct virtio_blk **out, const struct virtio_blk_config *c)
{
	struct virtio_blk *b = calloc(1, sizeof *b);
	int err = 0;

	ensure(node_eq(c->self, c->disk_node) == (c->disk != NULL) && c->queues >= 1 && c->queues <= VIRTIO_QUEUES_MAX);
	if (!b)
		return -ENOMEM;
	b->c = *c;
	b->config = blk_describe(c);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->ended, NULL);
	for (unsigned i = 0; i < c->queues && !err; i++)
		if (node_eq(c->queue_node[i], c->self))
			err = queue_make(b, i);
	if (err)
		virtio_blk_close(b);
	else
		*out = b;
	return err;
}

void virtio_blk_close(struct virtio_blk *b)
{
	if (!b)
		return;
	pthread_mutex_lock(&b->lock);
	while (b->under_way)
		pthread_cond_wait(&b->ended, &b->lock);
	pthread_mutex_unlock(&b->lock);
	for (unsigned i = 0; i < b->c.queues; i++) {
		for (unsigned k = 0; b->queue[i] && k < BLK_PIECES; k++)
			free(b->queue[i]->piece[k].data);
		free(b->queue[i]);
	}
	free(b);
}

void virtio_blk_stats(const struct virtio_blk *b, struct virtio_blk_stats *to)
{
	*to = (struct virtio_blk_stats){.requests = atomic_load(&b->requests), .bytes_read = atomic_load(&b->bytes_read),
		.bytes_written = atomic_load(&b->bytes_written), .pieces_away = atomic_load(&b->pieces_away), .served = atomic_load(&b->served)};
}
