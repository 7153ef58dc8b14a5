/* See ferry.h. From above to below: batches, the link's side, what is staged for the guest, what it sends, and what other nodes say. */
#include "dev/ferry.h"

#include "base/ensure.h"
#include "base/log.h"
#include "dev/steer.h"
#include "wire/peer.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PIECE_BYTES = 56 * 1024 /* of a batch in one message */, MESSAGE_HEAD = WIRE_HEADER_BYTES + 8 /* what stands before net_frames' data */ };
_Static_assert(sizeof(struct ferry_hdr) == NIC_HEAD_MAX, "virtio 1.2, 5.1.6");
_Static_assert((int)PIECE_BYTES <= (int)WIRE_BLOB_MAX && (int)FERRY_RECORD_MAX + (int)FERRY_BATCH_COST <= (int)FERRY_WINDOW, "bounds");

struct batch {
	struct batch *next;
	uint32_t bytes;
	uint8_t head[MESSAGE_HEAD]; /* for batch_send */
	uint8_t data[];
};
_Static_assert((int)FERRY_BATCH_HEAD >= (int)MESSAGE_HEAD, "room for batch_send");

/* A queue that is served here. */
struct berth {
	struct ferry *f;
	unsigned index;
	pthread_mutex_t lock; /* guards the next four */
	struct batch *first, **last; /* staged for the guest */
	uint32_t staged;      /* what they cost */
	uint32_t away;        /* transmit: cost of what the link's node has not acknowledged */
	struct batch *coming; /* receive: one that comes in several messages; of the io streams' thread */
	_Atomic uint64_t drops;
};

/* The link's side of a queue pair. */
struct way {
	uint32_t away;      /* cost of what the receive queue's node has; guarded by the ferry's lock */
	uint64_t full_ms;   /* since when it has found no room; 0: it has. Guarded, too */
	uint32_t owed;      /* credit that the transmit queue gets when the link is no longer busy; guarded */
	struct batch *to_guest; /* not full yet, or NULL; the link's thread's */
	struct batch *coming;   /* from the guest, in several messages; of the io streams' thread */
};

struct ferry {
	struct ferry_config c;
	struct berth *berth[2 * FERRY_PAIRS_MAX]; /* NULL: elsewhere */
	bool started;
	/* Where the link is. */
	struct steer steer;
	struct way way[FERRY_PAIRS_MAX];
	pthread_mutex_t lock; /* guards paused and each way's away, full_ms and owed */
	bool paused;          /* the link waits for credit */
	_Atomic uint64_t lost;
};

static void count(_Atomic uint64_t *what, uint64_t by)
{
	atomic_fetch_add_explicit(what, by, memory_order_relaxed);
}

static bool ferry_has_link(const struct ferry *f)
{
	return node_eq(f->c.self, f->c.link_node);
}

static void ferry_say(struct ferry *f, node_t to, const uint8_t *frame, size_t bytes)
{
	if (plane_send(f->c.plane, to, frame, bytes))
		log_debug("net: node %u is gone", to.v);
}

#define FERRY_SAY(f, to, name, ...) do { \
	uint8_t frame_[64]; \
	struct peer_##name message_ = {.device = (uint8_t)(f)->c.device, __VA_ARGS__}; \
	ferry_say((f), (to), frame_, peer_put_##name(&message_, frame_, sizeof frame_)); \
} while (0)

/* --- batches --- */

bool ferry_get(const uint8_t *data, uint32_t bytes, uint32_t *at, struct ferry_record *r)
{
	if (bytes - *at < FERRY_RECORD_HEAD)
		return false;
	memcpy(&r->bytes, data + *at, sizeof r->bytes);
	memcpy(&r->v, data + *at + 4, sizeof r->v);
	r->frame = data + *at + FERRY_RECORD_HEAD;
	if (r->bytes < NIC_FRAME_MIN || r->bytes > NIC_FRAME_MAX || r->bytes > bytes - *at - FERRY_RECORD_HEAD)
		return false;
	*at += FERRY_RECORD_HEAD + r->bytes;
	return true;
}

void ferry_head(uint8_t to[FERRY_RECORD_HEAD], const struct ferry_hdr *v, uint32_t bytes)
{
	memcpy(to, &bytes, sizeof bytes);
	memcpy(to + 4, v, sizeof *v);
}

static bool batch_sane(const uint8_t *data, uint32_t bytes)
{
	struct ferry_record r;
	uint32_t at = 0;

	while (at < bytes)
		if (!ferry_get(data, bytes, &at, &r))
			return false;
	return bytes > 0;
}

/* In as many messages as it takes. Nothing is copied to make them: the head of each is put in front of its data, over what has been sent, or MESSAGE_HEAD bytes that the
 * caller has there. */
static void batch_send(struct ferry *f, node_t to, unsigned queue, uint8_t *data, uint32_t bytes)
{
	while (bytes) {
		uint32_t some = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
		struct peer_net_frames m = {.device = (uint8_t)f->c.device, .queue = (uint16_t)queue, .more = some < bytes, .data = {data, some}};

		ferry_say(f, to, data - MESSAGE_HEAD, peer_put_net_frames(&m, data - MESSAGE_HEAD, MESSAGE_HEAD + some));
		data += some;
		bytes -= some;
	}
}

static struct batch *batch_make(uint32_t room)
{
	struct batch *b = malloc(sizeof *b + room);

	if (b) {
		b->next = NULL;
		b->bytes = 0;
	}
	return b;
}

/* With no more room than it needs: what is staged is counted without. */
static struct batch *batch_trim(struct batch *b)
{
	struct batch *less = realloc(b, sizeof *b + b->bytes);

	return less ? less : b;
}

/* 1: *out is a batch, the caller's from now on; 0: there is more to come; -EPROTO, -ENOMEM. */
static int batch_add(struct batch **coming, const struct peer_net_frames *m, struct batch **out)
{
	struct batch *b = *coming ? *coming : batch_make(m->more ? FERRY_BATCH_MAX : m->data.bytes);

	if (!b)
		return -ENOMEM;
	if (m->data.bytes > FERRY_BATCH_MAX - b->bytes) {
		*coming = b;
		return -EPROTO;
	}
	memcpy(b->data + b->bytes, m->data.at, m->data.bytes);
	b->bytes += m->data.bytes;
	*coming = m->more ? b : NULL;
	if (m->more)
		return 0;
	if (batch_sane(b->data, b->bytes)) {
		*out = b;
		return 1;
	}
	free(b);
	return -EPROTO;
}

/* --- the link's side --- */

/* Frames that the guest sends through that pair. */
static void link_send(struct ferry *f, unsigned pair, const uint8_t *data, uint32_t bytes)
{
	size_t head = f->c.offloads ? sizeof(struct ferry_hdr) : 0; /* which stands before the frame in the batch, too */
	struct iovec frame[NIC_BATCH_MAX];
	struct ferry_record r;
	unsigned frames = 0;
	uint32_t at = 0;

	while (at < bytes && ferry_get(data, bytes, &at, &r)) {
		steer_learn(&f->steer, r.frame, r.bytes, pair);
		frame[frames++] = (struct iovec){(uint8_t *)(uintptr_t)r.frame - head, r.bytes + head};
		if (frames < NIC_BATCH_MAX && at < bytes)
			continue;
		if (f->c.link.send(f->c.link.link, frame, frames))
			log_debug("net: a frame was refused");
		frames = 0;
	}
}

static void link_apply(struct ferry *f, unsigned pairs, unsigned offloads)
{
	steer_set_pairs(&f->steer, pairs);
	if (f->c.offloads && f->c.link.offload)
		f->c.link.offload(f->c.link.link, offloads);
}

void ferry_setup(struct ferry *f, unsigned pairs, unsigned offloads)
{
	if (ferry_has_link(f))
		link_apply(f, pairs, offloads);
	else
		FERRY_SAY(f, f->c.link_node, net_setup, .pairs = (uint16_t)pairs, .offloads = (uint8_t)offloads);
}

static void way_credit(struct ferry *f, unsigned pair, uint32_t cost)
{
	bool resume;

	pthread_mutex_lock(&f->lock);
	f->way[pair].away -= cost;
	f->way[pair].full_ms = 0;
	resume = f->paused;
	f->paused = false;
	pthread_mutex_unlock(&f->lock);
	if (resume)
		f->c.link.resume(f->c.link.link);
}

static bool berth_stage(struct berth *q, struct batch *b);

static void way_flush(struct ferry *f, unsigned pair)
{
	struct way *w = &f->way[pair];
	node_t to = f->c.pair_node[pair];
	struct batch *b = w->to_guest;

	if (!b || !b->bytes)
		return;
	pthread_mutex_lock(&f->lock);
	w->away += b->bytes + FERRY_BATCH_COST;
	pthread_mutex_unlock(&f->lock);
	if (node_eq(to, f->c.self)) {
		w->to_guest = NULL;
		ensure(berth_stage(f->berth[2 * pair], batch_trim(b)));
	} else {
		batch_send(f, to, 2 * pair, b->data, b->bytes);
		b->bytes = 0;
	}
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

enum room { ROOM, ROOM_LATER, ROOM_NEVER };

/* Room for so much more? Later: the link waits for way_credit. */
static enum room way_room(struct ferry *f, struct way *w, uint32_t bytes)
{
	enum room room = ROOM;
	uint64_t now;

	pthread_mutex_lock(&f->lock);
	if (w->away + (w->to_guest ? w->to_guest->bytes : 0) + bytes + FERRY_BATCH_COST > FERRY_WINDOW) {
		now = now_ms();
		w->full_ms = w->full_ms ? w->full_ms : now;
		room = now - w->full_ms >= f->c.patience_ms ? ROOM_NEVER : ROOM_LATER;
		f->paused |= room == ROOM_LATER;
	}
	pthread_mutex_unlock(&f->lock);
	return room;
}

static bool on_receive(void *user, const uint8_t *frame, size_t bytes)
{
	struct ferry *f = user;
	size_t head = f->c.offloads ? sizeof(struct ferry_hdr) : 0;
	struct ferry_hdr v = {0};
	struct batch *b;
	struct way *w;
	enum room room;
	unsigned pair;

	if (bytes < head + NIC_FRAME_MIN || bytes - head > NIC_FRAME_MAX)
		return true;
	memcpy(&v, frame, head);
	frame += head;
	bytes -= head;
	pair = steer_choose(&f->steer, frame, bytes);
	w = &f->way[pair];
	if (w->to_guest && w->to_guest->bytes + FERRY_RECORD_HEAD + bytes > FERRY_BATCH_MAX)
		way_flush(f, pair);
	room = way_room(f, w, (uint32_t)(FERRY_RECORD_HEAD + bytes));
	if (room != ROOM) {
		count(&f->lost, room == ROOM_NEVER);
		return room == ROOM_NEVER;
	}
	b = w->to_guest = w->to_guest ? w->to_guest : batch_make(FERRY_BATCH_MAX);
	if (!b) {
		count(&f->lost, 1);
		return true;
	}
	ferry_head(b->data + b->bytes, &v, (uint32_t)bytes);
	memcpy(b->data + b->bytes + FERRY_RECORD_HEAD, frame, bytes);
	b->bytes += (uint32_t)(FERRY_RECORD_HEAD + bytes);
	return true;
}

static void on_flush(void *user)
{
	struct ferry *f = user;

	for (unsigned i = 0; i < f->c.pairs; i++)
		way_flush(f, i);
}

/* Those whose frames it has taken may send more. */
static void on_drained(void *user)
{
	struct ferry *f = user;

	for (unsigned i = 0; i < f->c.pairs; i++) {
		uint32_t cost;

		pthread_mutex_lock(&f->lock);
		cost = f->way[i].owed;
		f->way[i].owed = 0;
		pthread_mutex_unlock(&f->lock);
		if (cost)
			FERRY_SAY(f, f->c.pair_node[i], net_credit, .queue = (uint16_t)(2 * i + 1), .cost = cost);
		else if (node_eq(f->c.pair_node[i], f->c.self))
			plane_ring(f->c.plane, f->c.device, 2 * i + 1);
	}
}

static void on_link(void *user, bool up)
{
	struct ferry *f = user;

	if (node_eq(f->c.self, f->c.devices))
		f->c.changed(f->c.owner, up);
	else
		FERRY_SAY(f, f->c.devices, net_link, .up = up);
}

/* --- what is staged for the guest --- */

static void berth_credit(struct berth *q, uint32_t cost)
{
	struct ferry *f = q->f;

	if (ferry_has_link(f))
		way_credit(f, q->index / 2, cost);
	else
		FERRY_SAY(f, f->c.link_node, net_credit, .queue = (uint16_t)q->index, .cost = cost);
}

static void berth_count_drops(struct berth *q, const uint8_t *data, uint32_t bytes, uint32_t at)
{
	struct ferry_record r;

	while (at < bytes && ferry_get(data, bytes, &at, &r))
		count(&q->drops, 1);
}

/* Take a batch, which is ours then, for the guest; false: more than there is credit for. Not under a lock. */
static bool berth_stage(struct berth *q, struct batch *b)
{
	uint32_t cost = b->bytes + FERRY_BATCH_COST;
	bool fits;

	pthread_mutex_lock(&q->lock);
	fits = q->staged + cost <= FERRY_WINDOW;
	if (fits) {
		*q->last = b;
		q->last = &b->next;
		q->staged += cost;
	}
	pthread_mutex_unlock(&q->lock);
	if (!fits)
		free(b);
	plane_ring(q->f->c.plane, q->f->c.device, q->index);
	return fits;
}

void ferry_discard(struct ferry *f, unsigned queue, uint32_t at)
{
	struct berth *q = f->berth[queue];
	struct batch *b, *next;
	uint32_t cost;

	pthread_mutex_lock(&q->lock);
	b = q->first;
	q->first = NULL;
	q->last = &q->first;
	cost = q->staged;
	q->staged = 0;
	pthread_mutex_unlock(&q->lock);
	for (; b; b = next) {
		next = b->next;
		berth_count_drops(q, b->data, b->bytes, at);
		free(b);
		at = 0;
	}
	if (cost)
		berth_credit(q, cost);
}

void ferry_consumed(struct ferry *f, unsigned queue)
{
	struct berth *q = f->berth[queue];
	struct batch *b;
	uint32_t cost;

	pthread_mutex_lock(&q->lock);
	b = q->first;
	q->first = b->next;
	if (!q->first)
		q->last = &q->first;
	cost = b->bytes + FERRY_BATCH_COST;
	q->staged -= cost;
	pthread_mutex_unlock(&q->lock);
	free(b);
	berth_credit(q, cost);
}

const uint8_t *ferry_first(struct ferry *f, unsigned queue, uint32_t *bytes)
{
	struct berth *q = f->berth[queue];
	struct batch *b;

	pthread_mutex_lock(&q->lock);
	b = q->first;
	pthread_mutex_unlock(&q->lock);
	*bytes = b ? b->bytes : 0;
	return b ? b->data : NULL;
}

uint64_t ferry_drops(const struct ferry *f, unsigned queue)
{
	return atomic_load(&f->berth[queue]->drops);
}

uint64_t ferry_lost(const struct ferry *f)
{
	return atomic_load(&f->lost);
}

/* --- what the guest sends --- */

bool ferry_room(struct ferry *f, unsigned queue, uint32_t used)
{
	struct berth *q = f->berth[queue];
	bool room = used + FERRY_RECORD_MAX <= FERRY_BATCH_MAX;

	if (!room || ferry_has_link(f))
		return room && (used || !f->c.link.busy(f->c.link.link));
	pthread_mutex_lock(&q->lock);
	room = q->away + used + FERRY_RECORD_MAX + FERRY_BATCH_COST <= FERRY_WINDOW;
	pthread_mutex_unlock(&q->lock);
	return room;
}

void ferry_send(struct ferry *f, unsigned queue, uint8_t *batch, uint32_t bytes)
{
	struct berth *q = f->berth[queue];

	if (ferry_has_link(f)) {
		link_send(f, queue / 2, batch, bytes);
		return;
	}
	pthread_mutex_lock(&q->lock);
	q->away += bytes + FERRY_BATCH_COST;
	pthread_mutex_unlock(&q->lock);
	batch_send(f, f->c.link_node, queue, batch, bytes);
}

/* --- what other nodes say --- */

static int on_frames_out(struct ferry *f, node_t from, const struct peer_net_frames *m)
{
	unsigned pair = m->queue / 2;
	struct batch *b;
	uint32_t cost;
	bool busy;
	int got;

	if (!ferry_has_link(f) || !node_eq(from, f->c.pair_node[pair]))
		return -EPROTO;
	got = batch_add(&f->way[pair].coming, m, &b);
	if (got <= 0)
		return got;
	link_send(f, pair, b->data, b->bytes);
	cost = b->bytes + FERRY_BATCH_COST;
	free(b);
	pthread_mutex_lock(&f->lock); /* on_drained comes after it is no longer busy, and takes this lock */
	busy = f->c.link.busy(f->c.link.link);
	f->way[pair].owed += busy ? cost : 0;
	pthread_mutex_unlock(&f->lock);
	if (!busy)
		FERRY_SAY(f, from, net_credit, .queue = m->queue, .cost = cost);
	return 0;
}

static int on_frames_in(struct ferry *f, node_t from, const struct peer_net_frames *m)
{
	struct berth *q = f->berth[m->queue];
	struct batch *b;
	int got;

	if (!q || !node_eq(from, f->c.link_node))
		return -EPROTO;
	got = batch_add(&q->coming, m, &b);
	if (got <= 0)
		return got;
	return berth_stage(q, b) ? 0 : -EPROTO;
}

static int on_frames(struct ferry *f, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_net_frames m;

	if (peer_get_net_frames(body, bytes, &m))
		return -EBADMSG;
	if (m.queue >= 2 * f->c.pairs || node_eq(from, f->c.self))
		return -EPROTO;
	return m.queue % 2 ? on_frames_out(f, from, &m) : on_frames_in(f, from, &m);
}

/* For the link's node: of frames that it sent to a receive queue; for another: of those that its transmit queue sent. */
static int on_credit(struct ferry *f, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_net_credit m;
	struct berth *q;
	bool owed;

	if (peer_get_net_credit(body, bytes, &m))
		return -EBADMSG;
	if (m.queue >= 2 * f->c.pairs || node_eq(from, f->c.self))
		return -EPROTO;
	if (m.queue % 2 == 0) {
		pthread_mutex_lock(&f->lock);
		owed = ferry_has_link(f) && node_eq(from, f->c.pair_node[m.queue / 2]) && m.cost <= f->way[m.queue / 2].away;
		pthread_mutex_unlock(&f->lock);
		if (owed)
			way_credit(f, m.queue / 2, m.cost);
		return owed ? 0 : -EPROTO;
	}
	q = f->berth[m.queue];
	if (!q || !node_eq(from, f->c.link_node))
		return -EPROTO;
	pthread_mutex_lock(&q->lock);
	owed = m.cost <= q->away;
	q->away -= owed ? m.cost : 0;
	pthread_mutex_unlock(&q->lock);
	plane_ring(f->c.plane, f->c.device, m.queue);
	return owed ? 0 : -EPROTO;
}

static int on_setup(struct ferry *f, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_net_setup m;

	if (peer_get_net_setup(body, bytes, &m))
		return -EBADMSG;
	if (!ferry_has_link(f) || !node_eq(from, f->c.devices) || node_eq(from, f->c.self) || m.pairs < 1 || m.pairs > f->c.pairs ||
	    m.offloads & ~(unsigned)(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6))
		return -EPROTO;
	link_apply(f, m.pairs, m.offloads);
	return 0;
}

static int on_link_message(struct ferry *f, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_net_link m;

	if (peer_get_net_link(body, bytes, &m))
		return -EBADMSG;
	if (!node_eq(f->c.self, f->c.devices) || !node_eq(from, f->c.link_node) || node_eq(from, f->c.self))
		return -EPROTO;
	f->c.changed(f->c.owner, m.up != 0);
	return 0;
}

int ferry_message(struct ferry *f, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	switch (id) {
	case PEER_net_frames: return on_frames(f, from, body, bytes);
	case PEER_net_credit: return on_credit(f, from, body, bytes);
	case PEER_net_setup: return on_setup(f, from, body, bytes);
	case PEER_net_link: return on_link_message(f, from, body, bytes);
	default: return -EBADMSG;
	}
}

/* --- life --- */

static int berth_make(struct ferry *f, unsigned i)
{
	struct berth *q = calloc(1, sizeof *q);

	if (!q)
		return -ENOMEM;
	q->f = f;
	q->index = i;
	q->last = &q->first;
	pthread_mutex_init(&q->lock, NULL);
	f->berth[i] = q;
	return 0;
}

int ferry_open(struct ferry **out, const struct ferry_config *c)
{
	struct ferry *f = calloc(1, sizeof *f);
	int err = 0;

	ensure(c->pairs >= 1 && c->pairs <= FERRY_PAIRS_MAX && node_eq(c->self, c->link_node) == (c->link.send != NULL));
	if (!f)
		return -ENOMEM;
	f->c = *c;
	pthread_mutex_init(&f->lock, NULL);
	steer_init(&f->steer);
	for (unsigned i = 0; i < 2 * c->pairs && !err; i++)
		if (node_eq(c->pair_node[i / 2], c->self))
			err = berth_make(f, i);
	if (err)
		ferry_close(f);
	else
		*out = f;
	return err;
}

int ferry_start(struct ferry *f)
{
	struct nic_calls calls = {.receive = on_receive, .flush = on_flush, .drained = on_drained, .link = on_link, .user = f};
	int err = ferry_has_link(f) ? f->c.link.start(f->c.link.link, &calls) : 0;

	f->started = ferry_has_link(f) && !err;
	return err;
}

void ferry_halt(struct ferry *f)
{
	if (f->started)
		f->c.link.stop(f->c.link.link);
	f->started = false;
}

static void berth_free(struct berth *q)
{
	struct batch *next;

	for (struct batch *b = q ? q->first : NULL; b; b = next) {
		next = b->next;
		free(b);
	}
	if (q)
		free(q->coming);
	free(q);
}

void ferry_close(struct ferry *f)
{
	if (!f)
		return;
	ferry_halt(f);
	for (unsigned i = 0; i < ARRAY_LEN(f->berth); i++)
		berth_free(f->berth[i]);
	for (unsigned i = 0; i < FERRY_PAIRS_MAX; i++) {
		free(f->way[i].to_guest);
		free(f->way[i].coming);
	}
	free(f);
}
