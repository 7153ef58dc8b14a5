/* dev/virtio_net and dev/ferry on two nodes: pair 0 is served on node 0, pair 1 on node 1, and the link, which the test plays, is on either. */
#include "base/ensure.h"
#include "dev/virtio_net.h"
#include "tests/test.h"
#include "tests/unit/absent.h"
#include "tests/unit/plane_rig.h"
#include "wire/peer.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { RING = 0x4000, DATA = 0x100000, SLOT = 0x4000, HDR = 12, RX0 = 0, TX0, RX1, TX1, CTRL, QUEUES, SENT_MAX = 64, FRAME_ROOM = 70000 };
enum { CSUM = 1 << 0, GUEST_CSUM = 1 << 1, GUEST_TSO4 = 1 << 7, HOST_TSO4 = 1 << 11, MRG = 1 << 15, CTRL_VQ = 1 << 17, CTRL_RX = 1 << 18, MQ = 1 << 22 };
enum { USUAL = MRG | CTRL_VQ | CTRL_RX | MQ, CONFIG_AT = RIG_BAR + 0x2000, NEEDS_RESET = 0x40 };

/* What the card is plugged into. */
struct fake {
	pthread_mutex_t lock; /* guards what follows */
	struct nic_calls calls;
	struct { uint8_t at[FRAME_ROOM]; size_t bytes; } sent[SENT_MAX];
	unsigned count, resumed, offload;
	atomic_bool busy;
	uint64_t bytes;
};

struct net_rig {
	struct plane_rig p;
	struct fake link;
	struct virtio_net *n[RIG_NODES];
	unsigned link_node;
	uint16_t avail[QUEUES];
};

static int fake_start(void *link, const struct nic_calls *calls)
{
	((struct fake *)link)->calls = *calls;
	calls->link(calls->user, true);
	return 0;
}

static void fake_stop(void *link)
{
}

static int fake_send(void *link, const struct iovec *frame, unsigned frames)
{
	struct fake *f = link;

	pthread_mutex_lock(&f->lock);
	for (unsigned i = 0; i < frames; i++) {
		memcpy(f->sent[f->count % SENT_MAX].at, frame[i].iov_base, frame[i].iov_len < sizeof f->sent[0].at ? frame[i].iov_len : sizeof f->sent[0].at);
		f->sent[f->count++ % SENT_MAX].bytes = frame[i].iov_len;
		f->bytes += frame[i].iov_len;
	}
	pthread_mutex_unlock(&f->lock);
	return 0;
}

static void fake_resume(void *link)
{
	struct fake *f = link;

	pthread_mutex_lock(&f->lock);
	f->resumed++;
	pthread_mutex_unlock(&f->lock);
}

static void fake_offload(void *link, unsigned flags)
{
	((struct fake *)link)->offload = flags;
}

static bool fake_busy(void *link)
{
	return atomic_load(&((struct fake *)link)->busy);
}

static unsigned fake_count(struct fake *f)
{
	unsigned n;

	pthread_mutex_lock(&f->lock);
	n = f->count;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static struct net_rig *net_open_patient(unsigned link_node, bool offloads, unsigned patience_ms)
{
	struct virtio_net_config c = {
		.ferry = {.link_node = {(uint8_t)link_node}, .offloads = offloads, .patience_ms = patience_ms, .pairs = 2, .pair_node = {{0}, {1}}}, .mtu = 1500,
		.mac = {2, 0, 0, 0, 0, 7}};
	struct net_rig *r = calloc(1, sizeof *r);
	node_t node[VIRTIO_QUEUES_MAX] = {0};
	struct virtio_dev dev[RIG_NODES];

	r->link_node = link_node;
	pthread_mutex_init(&r->link.lock, NULL);
	rig_open_planes(&r->p);
	for (unsigned n = 0; n < RIG_NODES; n++) {
		c.ferry.plane = r->p.plane[n];
		c.ferry.self.v = (uint8_t)n;
		c.ferry.link = (struct ferry_link){0};
		if (n == link_node)
			c.ferry.link = (struct ferry_link){fake_start, fake_stop, fake_send, fake_resume, fake_offload, fake_busy, &r->link};
		ensure(virtio_net_open(&r->n[n], &c) == 0);
		dev[n] = virtio_net_dev(r->n[n]);
		virtio_net_nodes(r->n[n], node);
	}
	rig_add(&r->p, dev, node);
	rig_open_function(&r->p);
	for (unsigned n = 0; n < RIG_NODES; n++)
		ensure(virtio_net_start(r->n[n]) == 0);
	ensure(rig_settle(&r->p) == 0);
	return r;
}

/* Patient for ever. */
static struct net_rig *net_open(unsigned link_node, bool offloads)
{
	return net_open_patient(link_node, offloads, UINT32_MAX);
}

static void net_close(struct net_rig *r)
{
	for (unsigned n = 0; n < RIG_NODES; n++)
		virtio_net_halt(r->n[n]);
	rig_halt(&r->p);
	for (unsigned n = 0; n < RIG_NODES; n++)
		virtio_net_close(r->n[n]);
	rig_close(&r->p);
	free(r);
}

/* Until 'cond', delivering what the nodes say. */
#define UNTIL(r, cond) do { \
	ensure(rig_settle(&(r)->p) == 0); \
	if (cond) \
		break; \
	sched_yield(); \
} while (true)

static void net_drive(struct net_rig *r, uint64_t features)
{
	rig_negotiate(&r->p, features);
	for (unsigned q = 0; q < (features & MQ ? QUEUES : CTRL_VQ & features ? 3 : 2); q++) {
		memset(driver_at(&r->p.d, DRIVER_DESC + q * RING), 0, RING);
		rig_queue_up(&r->p, q);
		r->avail[q] = 0;
	}
	rig_driver_ok(&r->p);
	ensure(rig_settle(&r->p) == 0);
}

static uint16_t used(struct net_rig *r, unsigned q)
{
	return driver_get16(&r->p.d, DRIVER_USED + q * RING + 2);
}

static uint32_t used_bytes(struct net_rig *r, unsigned q, unsigned i)
{
	uint32_t n;

	memcpy(&n, driver_at(&r->p.d, DRIVER_USED + q * RING + 4 + 8 * (i % r->p.d.size) + 4), 4);
	return n;
}

static uint64_t slot(unsigned q, unsigned i)
{
	return DATA + q * 0x80000u + i * SLOT;
}

static void ring(struct net_rig *r, unsigned q)
{
	rig_poke(&r->p, RIG_NOTIFY + 4 * (int)q, 2, q);
}

/* Offer one buffer, descriptor and slot i; the device may write it, or reads it. */
static void offer(struct net_rig *r, unsigned q, unsigned i, uint64_t at, uint32_t bytes, unsigned flags)
{
	struct driver *d = &r->p.d;

	driver_desc(d, DRIVER_DESC + q * RING, i, at, bytes, flags, 0);
	driver_set16(d, DRIVER_AVAIL + q * RING + 4 + 2ull * (r->avail[q] % d->size), (uint16_t)i);
	driver_set16(d, DRIVER_AVAIL + q * RING + 2, ++r->avail[q]);
	ring(r, q);
}

static void offer_rx(struct net_rig *r, unsigned q, unsigned i, uint32_t bytes)
{
	offer(r, q, i, slot(q, i), bytes, DRIVER_WRITE);
}

/* A UDP frame between two ports of 10.0.0.1 and 10.0.0.2, filled with 'fill'. */
static size_t make_frame(uint8_t *to, size_t bytes, unsigned from, unsigned port, uint8_t fill)
{
	static const uint8_t head[42] = {2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 8, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};

	memset(to, fill, bytes);
	memcpy(to, head, sizeof head);
	to[34] = (uint8_t)(from >> 8);
	to[35] = (uint8_t)from;
	to[36] = (uint8_t)(port >> 8);
	to[37] = (uint8_t)port;
	return bytes;
}

static void transmit(struct net_rig *r, unsigned q, unsigned i, size_t bytes, unsigned from, unsigned to)
{
	uint8_t *at = driver_at(&r->p.d, slot(q, i));

	memset(at, 0, HDR);
	make_frame(at + HDR, bytes, from, to, (uint8_t)i);
	offer(r, q, i, slot(q, i), (uint32_t)(HDR + bytes), 0);
}

/* The link has a frame for the guest. */
static bool arrive(struct net_rig *r, size_t bytes, unsigned from, unsigned to, uint8_t fill)
{
	static uint8_t frame[FRAME_ROOM];
	bool taken = r->link.calls.receive(r->link.calls.user, frame, make_frame(frame, bytes, from, to, fill));

	r->link.calls.flush(r->link.calls.user);
	return taken;
}

static uint8_t control(struct net_rig *r, uint8_t class, uint8_t command, uint16_t value, unsigned bytes)
{
	uint8_t *at = driver_at(&r->p.d, slot(CTRL, 0));
	uint16_t before = used(r, CTRL);

	at[0] = class;
	at[1] = command;
	memcpy(at + 2, &value, 2);
	at[8] = 0xee;
	driver_desc(&r->p.d, DRIVER_DESC + CTRL * RING, 0, slot(CTRL, 0), 2 + bytes, DRIVER_NEXT, 1);
	driver_desc(&r->p.d, DRIVER_DESC + CTRL * RING, 1, slot(CTRL, 0) + 8, 1, DRIVER_WRITE, 0);
	driver_set16(&r->p.d, DRIVER_AVAIL + CTRL * RING + 4 + 2ull * (r->avail[CTRL] % r->p.d.size), 0);
	driver_set16(&r->p.d, DRIVER_AVAIL + CTRL * RING + 2, ++r->avail[CTRL]);
	ring(r, CTRL);
	UNTIL(r, used(r, CTRL) != before);
	return at[8];
}

static struct virtio_net_stats stats(struct net_rig *r, unsigned q)
{
	struct virtio_net_stats s = {0};

	ensure(virtio_net_stats(r->n[q / 2], q, &s) && !virtio_net_stats(r->n[1 - q / 2], q, &s));
	return s;
}

static bool reset_wanted(struct net_rig *r)
{
	return rig_peek(&r->p, RIG_BAR + RIG_STATUS, 1) & NEEDS_RESET;
}

/* --- tests --- */

/* The VM ends while a server waits for a page of a frame: the page comes as zeros then, which must not reach the network. */
TEST(net_sends_nothing_that_was_read_after_the_end)
{
	struct net_rig *r = net_open(0, false);
	int absent;

	net_drive(r, USUAL);
	transmit(r, TX0, 0, 1000, 1, 2);
	UNTIL(r, fake_count(&r->link) == 1);
	make_frame(driver_at(&r->p.d, slot(TX0, 1) + HDR), 6000, 1, 2, 'x');
	absent = absent_page(driver_at(&r->p.d, slot(TX0, 1) + 4096));
	if (absent < 0)
		SKIP("no userfaultfd here");
	offer(r, TX0, 1, slot(TX0, 1), HDR + 6000, 0);
	CHECK(absent_wanted(absent));
	plane_hush(r->p.plane[0]);
	absent_give_up(absent);
	plane_halt(r->p.plane[0]);
	CHECK_EQ(fake_count(&r->link), 1);
	net_close(r);
}

TEST(net_sends_from_every_node)
{
	for (unsigned link_node = 0; link_node < RIG_NODES; link_node++) {
		struct net_rig *r = net_open(link_node, false);

		net_drive(r, USUAL);
		for (unsigned i = 0; i < 4; i++) {
			transmit(r, i % 2 ? TX1 : TX0, i / 2, 60 + 400 * i, 1000 + i, 80);
			UNTIL(r, fake_count(&r->link) == i + 1);
			CHECK_EQ(r->link.sent[i].bytes, 60 + 400 * i);
			CHECK(memcmp(r->link.sent[i].at, driver_at(&r->p.d, slot(i % 2 ? TX1 : TX0, i / 2)) + HDR, 60 + 400 * i) == 0);
		}
		UNTIL(r, used(r, TX0) == 2 && used(r, TX1) == 2);
		CHECK_EQ(stats(r, TX0).frames, 2);
		CHECK_EQ(stats(r, TX1).bytes, 460 + 1260);
		net_close(r);
	}
}

TEST(net_receives_where_the_flow_was_sent)
{
	for (unsigned link_node = 0; link_node < RIG_NODES; link_node++) {
		struct net_rig *r = net_open(link_node, false);
		const uint8_t *at;

		net_drive(r, USUAL);
		CHECK_EQ(control(r, 4, 0, 2, 2), 0);
		for (unsigned pair = 0; pair < 2; pair++) {
			unsigned q = 2 * pair, before = fake_count(&r->link);

			offer_rx(r, q, 0, 2000);
			transmit(r, q + 1, 0, 100, 1234, 80);
			UNTIL(r, fake_count(&r->link) == before + 1);
			CHECK(arrive(r, 1000, 80, 1234, 0x5a)); /* from 10.0.0.1 again, but flows have no direction */
			UNTIL(r, used(r, q) == 1);
			at = driver_at(&r->p.d, slot(q, 0));
			CHECK_EQ(used_bytes(r, q, 0), HDR + 1000);
			CHECK(at[10] == 1 && at[11] == 0 && at[0] == 0 && at[HDR + 999] == 0x5a && at[HDR + 35] == 80);
			UNTIL(r, stats(r, q).frames == 1);
		}
		net_close(r);
	}
}

TEST(net_merges_buffers)
{
	struct net_rig *r = net_open(1, false);
	const uint8_t *at;

	net_drive(r, USUAL);
	offer_rx(r, RX0, 0, 600);
	offer_rx(r, RX0, 1, 600);
	CHECK(arrive(r, 1500, 1, 2, 0x77));
	for (unsigned i = 0; i < 1000; i++) { /* two do not hold it: nothing is given back */
		CHECK_EQ(rig_settle(&r->p), 0);
		CHECK_EQ(used(r, RX0), 0);
	}
	offer_rx(r, RX0, 2, 600);
	UNTIL(r, used(r, RX0) == 3);
	at = driver_at(&r->p.d, slot(RX0, 0));
	CHECK(at[10] == 3 && at[11] == 0 && at[HDR + 42] == 0x77 && at[599] == 0x77);
	CHECK(*driver_at(&r->p.d, slot(RX0, 1)) == 0x77 && *driver_at(&r->p.d, slot(RX0, 2) + 311) == 0x77 && *driver_at(&r->p.d, slot(RX0, 2) + 312) == 0);
	CHECK(used_bytes(r, RX0, 0) == 600 && used_bytes(r, RX0, 1) == 600 && used_bytes(r, RX0, 2) == 312);
	CHECK(arrive(r, 9000, 1, 2, 0x78)); /* more than the whole ring holds */
	for (unsigned i = 0; i < r->p.d.size; i++)
		offer_rx(r, RX0, i, 64);
	UNTIL(r, used(r, RX0) == 3 + r->p.d.size);
	CHECK_EQ(used_bytes(r, RX0, 3), 0);
	CHECK_EQ(stats(r, RX0).drops, 1);
	offer_rx(r, RX0, 0, 100);
	CHECK(arrive(r, 60, 1, 2, 0x79));
	UNTIL(r, used(r, RX0) == 4 + r->p.d.size);
	CHECK_EQ(used_bytes(r, RX0, 3u + r->p.d.size), 72);
	net_close(r);
}

TEST(net_drops_what_one_buffer_cannot_hold)
{
	struct net_rig *r = net_open(0, false);

	net_drive(r, 0); /* no mergeable buffers, no control queue, one pair */
	offer_rx(r, RX0, 0, 1000);
	offer_rx(r, RX0, 1, 1000);
	CHECK(arrive(r, 1500, 1, 2, 1));
	CHECK(arrive(r, 900, 1, 2, 2));
	UNTIL(r, used(r, RX0) == 2);
	CHECK(used_bytes(r, RX0, 0) == 0 && used_bytes(r, RX0, 1) == 912);
	CHECK_EQ(stats(r, RX0).drops, 1);
	net_close(r);
}

TEST(net_drops_what_a_guest_without_buffers_cannot_take)
{
	for (unsigned link_node = 0; link_node < RIG_NODES; link_node++) {
		struct net_rig *r = net_open_patient(link_node, false, 0);
		unsigned kept = 0;

		net_drive(r, USUAL);
		for (unsigned i = 0; i < 1000; i++) { /* four windows; the link never waits for the guest */
			CHECK(arrive(r, 1000, 1, 2, (uint8_t)i));
			CHECK_EQ(rig_settle(&r->p), 0);
		}
		kept = 1000 - (unsigned)virtio_net_lost(r->n[link_node]);
		CHECK(kept > 200 && kept < 260);
		for (unsigned i = 0; i < r->p.d.size; i++)
			offer_rx(r, RX0, i, 2000);
		UNTIL(r, used(r, RX0) == r->p.d.size);
		for (unsigned i = 0; i < r->p.d.size; i++)
			CHECK_EQ(*driver_at(&r->p.d, slot(RX0, i) + HDR + 500), i); /* the oldest are kept */
		net_close(r);
	}
}

TEST(net_waits_for_credit)
{
	struct net_rig *r = net_open(0, false);

	net_drive(r, USUAL);
	for (unsigned i = 0; i < 16; i++) { /* of 15000 bytes, more than a window; node 0 hears nothing meanwhile */
		transmit(r, TX1, i % 8, 15000, 1, 2);
		plane_ring(r->p.plane[1], 0, TX1);
		while (i == 7 && used(r, TX1) != 8)
			sched_yield();
	}
	for (unsigned spin = 0; spin < 1000; spin++)
		sched_yield();
	CHECK(used(r, TX1) < 16);
	CHECK_EQ(fake_count(&r->link), 0);
	UNTIL(r, used(r, TX1) == 16 && fake_count(&r->link) == 16);
	net_close(r);
}

TEST(net_waits_for_a_busy_link)
{
	struct net_rig *r = net_open(0, false);

	net_drive(r, USUAL);
	atomic_store(&r->link.busy, true);
	transmit(r, TX0, 0, 100, 1, 2);
	for (unsigned i = 0; i < 16; i++) { /* more than there is credit for */
		transmit(r, TX1, i % 8, 15000, 1, 2);
		plane_ring(r->p.plane[1], 0, TX1);
		if (i == 7)
			UNTIL(r, used(r, TX1) == 8);
	}
	for (unsigned i = 0; i < 20; i++) {
		CHECK_EQ(rig_settle(&r->p), 0);
		sched_yield();
	}
	CHECK_EQ(used(r, TX0), 0);
	CHECK(used(r, TX1) < 16);
	atomic_store(&r->link.busy, false);
	r->link.calls.drained(r->link.calls.user);
	UNTIL(r, used(r, TX0) == 1 && used(r, TX1) == 16 && fake_count(&r->link) == 17);
	net_close(r);
}

TEST(net_holds_the_link_without_credit)
{
	struct net_rig *r = net_open(0, false);
	unsigned taken = 0;

	net_drive(r, USUAL);
	CHECK_EQ(control(r, 4, 0, 2, 2), 0);
	transmit(r, TX1, 0, 100, 1, 2);
	UNTIL(r, fake_count(&r->link) == 1);
	CHECK_EQ(rig_settle(&r->p), 0);
	while (arrive(r, 1000, 1, 2, 3)) /* for node 1, which hears nothing */
		ensure(++taken < 300);
	CHECK(taken > 200 && taken < 260);
	CHECK_EQ(r->link.resumed, 0);
	CHECK(!arrive(r, 1000, 1, 2, 3));
	for (unsigned i = 0; i < r->p.d.size; i++)
		offer_rx(r, RX1, i, 2000);
	UNTIL(r, r->link.resumed > 0);
	CHECK(arrive(r, 1000, 1, 2, 3));
	net_close(r);
}

TEST(net_answers_control_commands)
{
	struct net_rig *r = net_open(1, false);

	net_drive(r, USUAL);
	CHECK_EQ(control(r, 4, 0, 2, 2), 0);
	CHECK_EQ(control(r, 4, 0, 0, 2), 1);
	CHECK_EQ(control(r, 4, 0, 3, 2), 1);
	CHECK_EQ(control(r, 4, 0, 1, 1), 1);
	CHECK_EQ(control(r, 4, 1, 1, 2), 1);
	CHECK_EQ(control(r, 0, 0, 1, 1), 0);
	CHECK_EQ(control(r, 0, 1, 1, 1), 0);
	CHECK_EQ(control(r, 0, 2, 1, 1), 1);
	CHECK_EQ(control(r, 1, 0, 0, 4), 0);
	CHECK_EQ(control(r, 1, 1, 0, 6), 1);
	CHECK_EQ(control(r, 2, 0, 1, 2), 1);
	CHECK_EQ(control(r, 9, 0, 1, 0), 1);
	CHECK(!reset_wanted(r));
	net_close(r);
}

TEST(net_loses_its_link)
{
	for (unsigned link_node = 0; link_node < RIG_NODES; link_node++) {
		struct net_rig *r = net_open(link_node, false);
		unsigned msis;

		net_drive(r, USUAL);
		CHECK_EQ(rig_peek(&r->p, CONFIG_AT, 4), 2); /* the MAC's first bytes */
		CHECK_EQ(rig_peek(&r->p, CONFIG_AT + 6, 2), 1);
		CHECK_EQ(rig_peek(&r->p, CONFIG_AT + 8, 2), 2);
		CHECK_EQ(rig_peek(&r->p, CONFIG_AT + 10, 2), 1500);
		msis = r->p.f[0].msis;
		r->link.calls.link(r->link.calls.user, false);
		CHECK_EQ(rig_settle(&r->p), 0);
		CHECK_EQ(rig_peek(&r->p, CONFIG_AT + 6, 2), 0);
		CHECK_EQ(r->p.f[0].msis, msis + 1);
		transmit(r, TX1, 0, 100, 1, 2);
		UNTIL(r, used(r, TX1) == 1);
		CHECK(!reset_wanted(r));
		net_close(r);
	}
}

TEST(net_breaks_with_a_driver_that_breaks_the_rules)
{
	static const struct { unsigned queue; uint32_t bytes; unsigned flags; uint64_t at; } bad[] = {
		{TX0, 11, 0, DATA}, {TX1, 0, 0, DATA}, {TX1, 200, DRIVER_WRITE, DATA}, {TX1, 200, 0, 1ull << 40},
		{RX0, 11, DRIVER_WRITE, DATA}, {RX0, 2000, DRIVER_WRITE, 1ull << 40}, {CTRL, 2, 0, DATA}, {CTRL, 1, DRIVER_WRITE, DATA}};

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct net_rig *r = net_open(1, false);

		net_drive(r, USUAL);
		offer(r, bad[i].queue, 0, bad[i].at, bad[i].bytes, bad[i].flags);
		if (bad[i].queue == RX0)
			CHECK(arrive(r, 100, 1, 2, 0));
		UNTIL(r, reset_wanted(r));
		rig_reset(&r->p);
		net_drive(r, USUAL);
		transmit(r, TX1, 0, 100, 1, 2);
		UNTIL(r, used(r, TX1) == 1);
		net_close(r);
	}
}

TEST(net_drops_frames_without_sense)
{
	struct net_rig *r = net_open(0, false);
	uint8_t *at;

	net_drive(r, USUAL);
	transmit(r, TX1, 0, 13, 1, 2);
	at = driver_at(&r->p.d, slot(TX1, 1));
	memset(at, 0, 200);
	at[0] = 1; /* a checksum that was not negotiated */
	offer(r, TX1, 1, slot(TX1, 1), 200, 0);
	at = driver_at(&r->p.d, slot(TX1, 2));
	memset(at, 0, 200);
	at[1] = 1; /* nor segmentation */
	offer(r, TX1, 2, slot(TX1, 2), 200, 0);
	offer(r, TX1, 3, slot(TX1, 0), HDR + NIC_FRAME_MAX + 1, 0);
	UNTIL(r, used(r, TX1) == 4);
	CHECK_EQ(stats(r, TX1).drops, 4);
	CHECK_EQ(fake_count(&r->link), 0);
	CHECK(!reset_wanted(r));
	net_close(r);
}

TEST(net_carries_offloads)
{
	struct net_rig *r = net_open(0, true);
	static uint8_t big[FRAME_ROOM];
	uint8_t *at;
	struct ferry_hdr good = {.flags = 1, .gso_type = 1, .hdr_len = 54, .gso_size = 1448, .csum_start = 34, .csum_offset = 16}, bad = good;

	net_drive(r, USUAL | CSUM | HOST_TSO4 | GUEST_CSUM | GUEST_TSO4);
	CHECK_EQ(r->link.offload, 3);
	at = driver_at(&r->p.d, slot(TX1, 0));
	memcpy(at, &good, sizeof good);
	make_frame(at + HDR, 65000, 1, 2, 9);
	for (unsigned i = 42; i < 65000; i++)
		at[HDR + i] = (uint8_t)(i * i >> 4);
	offer(r, TX1, 0, slot(TX1, 0), HDR + 65000, 0); /* two messages */
	UNTIL(r, fake_count(&r->link) == 1);
	CHECK_EQ(r->link.sent[0].bytes, 10 + 65000);
	CHECK(memcmp(r->link.sent[0].at, at, 10) == 0);
	CHECK(memcmp(r->link.sent[0].at + 10, at + HDR, 65000) == 0);
	bad.gso_type = 4;
	memcpy(at, &bad, sizeof bad);
	offer(r, TX1, 0, slot(TX1, 0), 1000, 0);
	bad = good;
	bad.csum_start = 1000;
	UNTIL(r, used(r, TX1) == 2);
	memcpy(at, &bad, sizeof bad);
	offer(r, TX1, 0, slot(TX1, 0), 1000, 0);
	UNTIL(r, used(r, TX1) == 3);
	CHECK_EQ(stats(r, TX1).drops, 2);
	for (unsigned i = 0; i < 5; i++)
		offer_rx(r, RX0, i, SLOT);
	memcpy(big, &good, sizeof good);
	make_frame(big + 10, 65000, 80, 90, 4);
	CHECK(r->link.calls.receive(r->link.calls.user, big, 10 + 65000));
	r->link.calls.flush(r->link.calls.user);
	UNTIL(r, used(r, RX0) == 4);
	CHECK(memcmp(driver_at(&r->p.d, slot(RX0, 0)), &good, sizeof good) == 0);
	rig_reset(&r->p);
	CHECK_EQ(r->link.offload, 0);
	net_close(r);
}

/* With frames under way in both directions, the reset comes when so many messages have been delivered; afterwards guest memory stays as it is, and the card works. */
TEST(net_resets_at_every_step)
{
	for (unsigned step = 0; step < 12; step++) {
		struct net_rig *r = net_open(0, false);
		unsigned sent;

		net_drive(r, USUAL);
		CHECK_EQ(control(r, 4, 0, 2, 2), 0);
		transmit(r, TX1, 0, 100, 1, 2);
		UNTIL(r, fake_count(&r->link) == 1);
		CHECK_EQ(rig_settle(&r->p), 0);
		for (unsigned i = 0; i < 6; i++)
			offer_rx(r, RX1, i, 300);
		for (unsigned i = 0; i < 4; i++) {
			transmit(r, TX1, i, 1000, 1, 2);
			CHECK(arrive(r, 1000, 1, 2, 0xaa));
		}
		for (unsigned i = 0; i < step; i++)
			CHECK(rig_deliver(&r->p, i % 2) >= 0);
		rig_poke(&r->p, RIG_BAR + RIG_STATUS, 1, 0);
		while (rig_peek(&r->p, RIG_BAR + RIG_STATUS, 1)) {
			CHECK_EQ(rig_settle(&r->p), 0);
			sched_yield();
		}
		memset(driver_at(&r->p.d, DATA), 0xbb, 0x200000);
		CHECK_EQ(rig_settle(&r->p), 0);
		for (unsigned i = 0; i < 0x200000; i++)
			CHECK(*driver_at(&r->p.d, DATA + i) == 0xbb);
		rig_reset(&r->p);
		net_drive(r, USUAL);
		CHECK_EQ(control(r, 4, 0, 2, 2), 0);
		offer_rx(r, RX0, 0, 2000);
		offer_rx(r, RX1, 0, 2000);
		sent = fake_count(&r->link);
		transmit(r, TX1, 0, 100, 1, 2);
		UNTIL(r, fake_count(&r->link) == sent + 1);
		CHECK(arrive(r, 700, 1, 2, 0xcc));
		UNTIL(r, used(r, RX1) == 1);
		CHECK_EQ(*driver_at(&r->p.d, slot(RX1, 0) + HDR + 600), 0xcc); /* nothing of before */
		net_close(r);
	}
}

#define SAY(r, node, from, name, ...) ({ \
	static uint8_t frame_[64000]; \
	struct peer_##name m_ = {__VA_ARGS__}; \
	size_t n_ = peer_put_##name(&m_, frame_, sizeof frame_); \
	plane_bulk((r)->p.plane[node], (node_t){from}, PEER_##name, frame_ + WIRE_HEADER_BYTES, n_ - WIRE_HEADER_BYTES); \
})

TEST(net_refuses_what_no_correct_node_sends)
{
	struct net_rig *r = net_open(0, false);
	static uint8_t batch[60000];
	const struct ferry_hdr none = {0};

	net_drive(r, USUAL);
	ferry_head(batch, &none, 60);
	ferry_head(batch + 74, &none, 61);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX1, .data = {batch, 74}), 0);
	CHECK_EQ(fake_count(&r->link), 1);
	CHECK_EQ(rig_deliver(&r->p, 1), -EPROTO); /* credit to who has sent nothing */
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX1, .data = {batch, 73}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX1, .data = {batch, 0}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX1, .data = {batch, 100}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX0, .data = {batch, 74}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 2, net_frames, .queue = TX1, .data = {batch, 74}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = CTRL, .data = {batch, 74}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = RX1, .data = {batch, 74}), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, net_frames, .queue = RX0, .data = {batch, 74}), -EPROTO);
	CHECK_EQ(SAY(r, 1, 2, net_frames, .queue = RX1, .data = {batch, 74}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_credit, .queue = RX1, .cost = 1), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_credit, .queue = TX1), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, net_credit, .queue = 99), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_setup, .pairs = 1), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, net_setup, .pairs = 1), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_link, .up = 0), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX1, .more = 1, .data = {batch, 60000}), 0);
	CHECK_EQ(SAY(r, 0, 1, net_frames, .queue = TX1, .more = 1, .data = {batch, 60000}), -EPROTO); /* no batch is so long */
	for (unsigned i = 0, at = 0; i < 40; i++, at += 74)
		ferry_head(batch + at, &none, 60);
	for (unsigned i = 0; i < FERRY_WINDOW / (40 * 74 + FERRY_BATCH_COST); i++)
		CHECK_EQ(SAY(r, 1, 0, net_frames, .queue = RX1, .data = {batch, 40 * 74}), 0);
	CHECK_EQ(SAY(r, 1, 0, net_frames, .queue = RX1, .data = {batch, 40 * 74}), -EPROTO); /* more than there is credit for: the guest has taken nothing */
	net_close(r);
	r = net_open(1, false);
	net_drive(r, USUAL);
	CHECK_EQ(SAY(r, 1, 0, net_setup, .pairs = 0), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, net_setup, .pairs = 3), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, net_setup, .pairs = 2, .offloads = 8), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, net_setup, .pairs = 2), 0);
	CHECK_EQ(SAY(r, 0, 1, net_link, .up = 0), 0);
	CHECK_EQ(rig_peek(&r->p, CONFIG_AT + 6, 2), 0);
	net_close(r);
}
