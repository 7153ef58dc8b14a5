/* See virtio_net.h: the guest's queues, on their workers, and below them the device. */
#include "dev/virtio_net.h"

#include "base/ensure.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>

enum { F_CSUM = 0, F_GUEST_CSUM = 1, F_MTU = 3, F_MAC = 5, F_GUEST_TSO4 = 7, F_GUEST_TSO6 = 8, F_HOST_TSO4 = 11, F_HOST_TSO6 = 12, F_MRG_RXBUF = 15,
	F_STATUS = 16, F_CTRL_VQ = 17, F_CTRL_RX = 18, F_MQ = 22 };
enum { HDR_NEEDS_CSUM = 1, HDR_DATA_VALID = 2, GSO_NONE = 0, GSO_TCPV4 = 1, GSO_TCPV6 = 4 };
enum { CTRL_RX = 0, CTRL_RX_MODES = 2, CTRL_MAC = 1, CTRL_MAC_TABLE_SET = 0, CTRL_MQ = 4, CTRL_MQ_PAIRS_SET = 0, CTRL_OK = 0, CTRL_ERR = 1 };
enum { TURN_FRAMES = 64 };

/* As the guest sees them; little-endian like this host. */
struct hdr { struct ferry_hdr v; uint16_t buffers; };
struct __attribute__((packed)) net_config { uint8_t mac[NIC_MAC_BYTES]; uint16_t status, pairs, mtu; };
_Static_assert(sizeof(struct hdr) == 12 && sizeof(struct net_config) == 12, "virtio 1.2, 5.1.4 and 5.1.6");

/* A frame on its way into receive buffers: chains that are filled, and given back together. */
struct fill {
	unsigned chains;
	uint32_t done; /* bytes, the header among them */
	struct virtq_chain first;
	uint16_t head[VIRTQ_SIZE_MAX];
	uint32_t written[VIRTQ_SIZE_MAX];
};

/* A queue that is served here; its worker's. */
struct net_queue {
	struct virtio_net *n;
	unsigned index;
	uint32_t at;    /* of the first batch: where its next frame is */
	uint8_t *batch; /* transmit: FERRY_BATCH_HEAD bytes and the batch */
	struct virtq_chain chain;
	struct fill fill;
	_Atomic uint64_t frames, bytes, drops;
};

struct virtio_net {
	struct virtio_net_config c;
	struct ferry *ferry;
	struct net_queue *queue[VIRTIO_QUEUES_MAX]; /* NULL: served elsewhere */
	atomic_bool down; /* the link, on the devices' node */
};

static void count(_Atomic uint64_t *what, uint64_t by)
{
	atomic_fetch_add_explicit(what, by, memory_order_relaxed);
}

struct turn {
	struct net_queue *q;
	struct virtq *vq;
	uint64_t features;
	const atomic_bool *stop;
};

static bool has(uint64_t features, unsigned bit)
{
	return features >> bit & 1;
}

/* What may be left to the guest, as the link says it. */
static unsigned offloads_wanted(uint64_t features)
{
	if (!has(features, F_GUEST_CSUM))
		return 0;
	return TUN_F_CSUM | (has(features, F_GUEST_TSO4) ? TUN_F_TSO4 : 0u) | (has(features, F_GUEST_TSO6) ? TUN_F_TSO6 : 0u);
}

/* Make of a header what may be passed on; false: it asks for what was not negotiated, or makes no sense for a frame of so many bytes. */
static bool vnet_judge(struct ferry_hdr *v, uint32_t bytes, bool csum, bool tso4, bool tso6)
{
	v->flags &= csum ? HDR_NEEDS_CSUM | HDR_DATA_VALID : HDR_NEEDS_CSUM;
	if (!(v->flags & HDR_NEEDS_CSUM)) {
		*v = (struct ferry_hdr){.flags = v->flags, .gso_type = v->gso_type};
		return v->gso_type == GSO_NONE;
	}
	if (!csum || (uint32_t)v->csum_start + v->csum_offset + 2 > bytes)
		return false;
	if (v->gso_type == GSO_NONE) {
		v->gso_size = 0;
		return true;
	}
	return ((v->gso_type == GSO_TCPV4 && tso4) || (v->gso_type == GSO_TCPV6 && tso6)) && v->gso_size && v->hdr_len <= bytes;
}

/* Give back what one frame has filled. */
static void fill_end(struct turn *t)
{
	struct fill *f = &t->q->fill;

	virtq_push_all(t->vq, f->head, f->written, f->chains);
	f->chains = 0;
	f->done = 0;
}

/* One more of the guest's buffers. 1: it took a part; 0: there is none; -EPROTO: that is no buffer. */
static int fill_chain(struct turn *t, const struct ferry_record *r)
{
	struct fill *f = &t->q->fill;
	struct virtq_chain *c = f->chains ? &t->q->chain : &f->first;
	uint32_t head = f->chains ? 0 : sizeof(struct hdr), left = (uint32_t)sizeof(struct hdr) + r->bytes - f->done, some;
	int got = virtq_pop(t->vq, c);

	if (got <= 0)
		return got;
	if (c->writable_bytes < (f->chains ? 1 : sizeof(struct hdr)))
		return -EPROTO;
	some = c->writable_bytes < left ? (uint32_t)c->writable_bytes : left;
	if (virtq_write(t->vq, c, head, r->frame + f->done + head - sizeof(struct hdr), some - head))
		return -EPROTO;
	f->head[f->chains] = c->head;
	f->written[f->chains++] = some;
	f->done += some;
	return 1;
}

/* What the guest cannot take: its buffers back, empty. */
static int rx_refuse(struct turn *t)
{
	memset(t->q->fill.written, 0, sizeof t->q->fill.written);
	fill_end(t);
	count(&t->q->drops, 1);
	return 1;
}

/* 1: the frame has been passed on, or dropped; 0: not all of it, for want of buffers or because of a stop; -EPROTO. */
static int rx_frame(struct turn *t, const struct ferry_record *r)
{
	unsigned most = has(t->features, F_MRG_RXBUF) ? t->vq->size : 1;
	struct fill *f = &t->q->fill;
	struct hdr h = {.v = r->v};

	if (!vnet_judge(&h.v, r->bytes, has(t->features, F_GUEST_CSUM), has(t->features, F_GUEST_TSO4), has(t->features, F_GUEST_TSO6)))
		return rx_refuse(t);
	while (f->done < sizeof h + r->bytes) {
		int got;

		if (f->chains == most)
			return rx_refuse(t);
		got = atomic_load(t->stop) ? 0 : fill_chain(t, r);
		if (got <= 0)
			return got;
	}
	h.buffers = (uint16_t)f->chains;
	if (virtq_write(t->vq, &f->first, 0, &h, sizeof h))
		return -EPROTO;
	fill_end(t);
	count(&t->q->frames, 1);
	count(&t->q->bytes, r->bytes);
	return 1;
}

static int rx_serve(struct turn *t)
{
	struct net_queue *q = t->q;

	for (unsigned i = 0; i < TURN_FRAMES; i++) {
		uint32_t bytes, at = q->at;
		const uint8_t *batch = ferry_first(q->n->ferry, q->index, &bytes);
		struct ferry_record r;
		int got;

		if (!batch)
			return VIRTIO_WAITING;
		ensure(ferry_get(batch, bytes, &at, &r));
		got = rx_frame(t, &r);
		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		q->at = at;
		if (at == bytes) {
			q->at = 0;
			ferry_consumed(q->n->ferry, q->index);
		}
	}
	return VIRTIO_MORE;
}

/* The request's frame into the batch: bytes of it, 0: dropped, -EPROTO. */
static int tx_take(struct turn *t, uint8_t *to)
{
	struct net_queue *q = t->q;
	const struct virtq_chain *c = &q->chain;
	uint32_t bytes;
	struct hdr h;

	if (c->readable_bytes < sizeof h || virtq_read(t->vq, c, 0, &h, sizeof h))
		return -EPROTO;
	if (c->readable_bytes - sizeof h < NIC_FRAME_MIN || c->readable_bytes - sizeof h > NIC_FRAME_MAX)
		return 0;
	bytes = (uint32_t)(c->readable_bytes - sizeof h);
	if (!vnet_judge(&h.v, bytes, has(t->features, F_CSUM), has(t->features, F_HOST_TSO4), has(t->features, F_HOST_TSO6)))
		return 0;
	h.v.flags &= HDR_NEEDS_CSUM;
	if (virtq_read(t->vq, c, sizeof h, to + FERRY_RECORD_HEAD, bytes))
		return -EPROTO;
	ferry_head(to, &h.v, bytes);
	count(&q->frames, 1);
	count(&q->bytes, bytes);
	return (int)(FERRY_RECORD_HEAD + bytes);
}

static int tx_serve(struct turn *t)
{
	struct net_queue *q = t->q;
	uint8_t *batch = q->batch + FERRY_BATCH_HEAD;
	uint32_t used = 0;
	int got = 1;

	for (unsigned i = 0; i < TURN_FRAMES && got > 0 && ferry_room(q->n->ferry, q->index, used) && !atomic_load(t->stop); i++) {
		got = virtq_pop(t->vq, &q->chain);
		if (got > 0) {
			int bytes = tx_take(t, batch + used);

			if (bytes < 0) {
				got = bytes;
				break;
			}
			if (bytes && atomic_load(t->stop))
				bytes = 0; /* it may be no memory of the guest's any more; if it is, a frame is lost */
			count(&q->drops, bytes == 0);
			used += (uint32_t)bytes;
			virtq_push(t->vq, &q->chain, 0);
		}
	}
	if (used)
		ferry_send(q->n->ferry, q->index, batch, used);
	if (got < 0)
		return got;
	return got == 0 ? VIRTIO_DRAINED : used || ferry_room(q->n->ferry, q->index, 0) ? VIRTIO_MORE : VIRTIO_WAITING;
}

static uint8_t ctrl_judge(struct turn *t)
{
	struct virtio_net *n = t->q->n;
	struct __attribute__((packed)) { uint8_t class, command; uint16_t pairs; } m = {0};
	uint64_t bytes = t->q->chain.readable_bytes;

	if (virtq_read(t->vq, &t->q->chain, 0, &m, bytes < sizeof m ? bytes : sizeof m))
		return CTRL_ERR;
	if (m.class == CTRL_RX)
		return has(t->features, F_CTRL_RX) && m.command < CTRL_RX_MODES && bytes == 3 ? CTRL_OK : CTRL_ERR;
	if (m.class == CTRL_MAC)
		return has(t->features, F_CTRL_RX) && m.command == CTRL_MAC_TABLE_SET ? CTRL_OK : CTRL_ERR;
	if (m.class != CTRL_MQ || m.command != CTRL_MQ_PAIRS_SET || bytes != sizeof m || !has(t->features, F_MQ) || m.pairs < 1 || m.pairs > n->c.ferry.pairs)
		return CTRL_ERR;
	ferry_setup(n->ferry, m.pairs, offloads_wanted(t->features));
	return CTRL_OK;
}

static int ctrl_serve(struct turn *t)
{
	struct virtq_chain *c = &t->q->chain;

	for (unsigned i = 0; i < TURN_FRAMES && !atomic_load(t->stop); i++) {
		int got = virtq_pop(t->vq, c);
		uint8_t ack;

		if (got <= 0)
			return got ? got : VIRTIO_DRAINED;
		if (c->readable_bytes < 2 || c->writable_bytes < 1)
			return -EPROTO;
		ack = ctrl_judge(t);
		if (virtq_write(t->vq, c, 0, &ack, 1))
			return -EPROTO;
		virtq_push(t->vq, c, 1);
	}
	return VIRTIO_MORE;
}

/* The control queue's place depends on what was negotiated (5.1.2). */
static unsigned ctrl_index(const struct virtio_net *n, uint64_t features)
{
	return has(features, F_MQ) ? 2 * n->c.ferry.pairs : 2;
}

static int net_serve(void *dev, unsigned queue, struct virtq *vq, uint64_t features, const atomic_bool *stop)
{
	struct virtio_net *n = dev;
	struct turn t = {.q = n->queue[queue], .vq = vq, .features = features, .stop = stop};

	if (has(features, F_CTRL_VQ) && queue == ctrl_index(n, features))
		return ctrl_serve(&t);
	if (queue >= (has(features, F_MQ) ? 2 * n->c.ferry.pairs : 2))
		return -EPROTO;
	return queue % 2 ? tx_serve(&t) : rx_serve(&t);
}

static void net_fresh(void *dev, unsigned queue)
{
	struct net_queue *q = ((struct virtio_net *)dev)->queue[queue];

	q->fill.chains = 0;
	q->fill.done = 0;
	if (queue % 2 == 0 && queue < 2 * q->n->c.ferry.pairs) /* the guest wants nothing of before */
		ferry_discard(q->n->ferry, queue, q->at);
	q->at = 0;
}

/* --- the device --- */

static void net_ready(void *dev, uint64_t features)
{
	ferry_setup(((struct virtio_net *)dev)->ferry, 1, offloads_wanted(features));
}

static void net_reset(void *dev)
{
	ferry_setup(((struct virtio_net *)dev)->ferry, 1, 0);
}

static void net_changed(void *owner, bool up)
{
	struct virtio_net *n = owner;

	if (atomic_exchange(&n->down, !up) == up)
		plane_changed(n->c.ferry.plane, n->c.ferry.device);
}

static int net_message(void *dev, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	return ferry_message(((struct virtio_net *)dev)->ferry, from, id, body, bytes);
}

static void net_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	const struct virtio_net *n = dev;
	struct net_config c = {.status = !atomic_load(&n->down), .pairs = (uint16_t)n->c.ferry.pairs, .mtu = n->c.mtu};

	memcpy(c.mac, n->c.mac, sizeof c.mac);
	memcpy(data, (const uint8_t *)&c + offset, bytes);
}

static uint64_t net_features(const struct virtio_net_config *c)
{
	uint64_t f = 1u << F_MAC | 1u << F_STATUS | 1u << F_MRG_RXBUF | 1u << F_CTRL_VQ | 1u << F_CTRL_RX;

	if (c->ferry.offloads)
		f |= 1u << F_CSUM | 1u << F_GUEST_CSUM | 1u << F_GUEST_TSO4 | 1u << F_GUEST_TSO6 | 1u << F_HOST_TSO4 | 1u << F_HOST_TSO6;
	return f | (c->mtu ? 1u << F_MTU : 0) | (c->ferry.pairs > 1 ? 1u << F_MQ : 0);
}

struct virtio_dev virtio_net_dev(struct virtio_net *n)
{
	static const struct virtio_ops ops = {.serve = net_serve, .fresh = net_fresh, .message = net_message, .ready = net_ready, .reset = net_reset,
		.config_read = net_config_read};

	return (struct virtio_dev){.name = "virtio-net", .type = VIRTIO_ID_NET, .pci_class = 0x020000, .features = net_features(&n->c),
		.queues = 2 * n->c.ferry.pairs + 1, .queue_size = NET_QUEUE_SIZE, .config_bytes = sizeof(struct net_config), .ops = &ops, .dev = n};
}

unsigned virtio_net_vcpu(unsigned pair, unsigned pairs, unsigned vcpus)
{
	unsigned more = vcpus % pairs;

	return pair * (vcpus / pairs) + (pair < more ? pair : more);
}

void virtio_net_nodes(const struct virtio_net *n, node_t node[VIRTIO_QUEUES_MAX])
{
	for (unsigned i = 0; i < n->c.ferry.pairs; i++)
		node[2 * i] = node[2 * i + 1] = n->c.ferry.pair_node[i];
	node[2 * n->c.ferry.pairs] = n->c.ferry.devices;
}

static int queue_make(struct virtio_net *n, unsigned i)
{
	struct net_queue *q = calloc(1, sizeof *q);

	if (!q)
		return -ENOMEM;
	n->queue[i] = q;
	q->n = n;
	q->index = i;
	if (i % 2 == 0)
		return 0;
	q->batch = malloc(FERRY_BATCH_HEAD + FERRY_BATCH_MAX);
	return q->batch ? 0 : -ENOMEM;
}

int virtio_net_open(struct virtio_net **out, const struct virtio_net_config *c)
{
	node_t node[VIRTIO_QUEUES_MAX];
	struct virtio_net *n = calloc(1, sizeof *n);
	int err;

	if (!n)
		return -ENOMEM;
	n->c = *c;
	n->c.ferry.changed = net_changed;
	n->c.ferry.owner = n;
	err = ferry_open(&n->ferry, &n->c.ferry);
	virtio_net_nodes(n, node);
	for (unsigned i = 0; i <= 2 * c->ferry.pairs && !err; i++)
		if (node_eq(node[i], c->ferry.self))
			err = queue_make(n, i);
	if (err)
		virtio_net_close(n);
	else
		*out = n;
	return err;
}

int virtio_net_start(struct virtio_net *n)
{
	return ferry_start(n->ferry);
}

void virtio_net_halt(struct virtio_net *n)
{
	if (n->ferry)
		ferry_halt(n->ferry);
}

void virtio_net_close(struct virtio_net *n)
{
	if (!n)
		return;
	ferry_close(n->ferry);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		if (n->queue[i])
			free(n->queue[i]->batch);
		free(n->queue[i]);
	}
	free(n);
}

bool virtio_net_stats(const struct virtio_net *n, unsigned queue, struct virtio_net_stats *to)
{
	const struct net_queue *q = queue < 2 * n->c.ferry.pairs ? n->queue[queue] : NULL;

	if (q)
		*to = (struct virtio_net_stats){.frames = atomic_load(&q->frames), .bytes = atomic_load(&q->bytes),
			.drops = atomic_load(&q->drops) + ferry_drops(n->ferry, queue)};
	return q != NULL;
}

uint64_t virtio_net_lost(const struct virtio_net *n)
{
	return ferry_lost(n->ferry);
}
