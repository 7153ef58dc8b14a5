/* dev/plane, dev/vqueue and dev/virtio_pci: one queue served on another node than its function's, whose frames arrive when the test says so. */
#include "base/ensure.h"
#include "tests/test.h"
#include "tests/unit/plane_rig.h"
#include "wire/peer.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

/* A device with a backend somewhere: takes one request, and gives it back when the backend has answered. */
struct slow {
	struct plane *plane;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	enum { SLOW_NONE, SLOW_AWAY, SLOW_BACK } has;
	unsigned taken, fresh;
	struct virtq_chain chain;
};

static struct slow slow[RIG_NODES];

static int slow_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	struct slow *s = dev;
	int got = 0;

	pthread_mutex_lock(&s->lock);
	if (s->has == SLOW_BACK) {
		ensure(virtq_write(q, &s->chain, 0, "!", 1) == 0);
		virtq_push(q, &s->chain, 1);
		s->has = SLOW_NONE;
	}
	if (s->has == SLOW_NONE) {
		got = virtq_pop(q, &s->chain);
		s->has = got == 1 ? SLOW_AWAY : SLOW_NONE;
		s->taken += got == 1;
	}
	got = got < 0 ? got : got == 1 ? VIRTIO_MORE : s->has == SLOW_AWAY ? VIRTIO_WAITING : VIRTIO_DRAINED;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return got;
}

static bool slow_quiet(void *dev, unsigned queue)
{
	struct slow *s = dev;
	bool quiet;

	pthread_mutex_lock(&s->lock);
	quiet = s->has != SLOW_AWAY;
	pthread_mutex_unlock(&s->lock);
	return quiet;
}

static void slow_fresh(void *dev, unsigned queue)
{
	((struct slow *)dev)->fresh++;
	((struct slow *)dev)->has = SLOW_NONE;
}

static unsigned slow_taken(struct slow *s)
{
	unsigned taken;

	pthread_mutex_lock(&s->lock);
	taken = s->taken;
	pthread_mutex_unlock(&s->lock);
	return taken;
}

static void slow_answer(struct slow *s)
{
	pthread_mutex_lock(&s->lock);
	ensure(s->has == SLOW_AWAY);
	s->has = SLOW_BACK;
	pthread_mutex_unlock(&s->lock);
	plane_ring(s->plane, 0, 0);
}

/* An answer to whatever is under way, if anything is. */
static void slow_answer_any(struct slow *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->has == SLOW_AWAY)
		s->has = SLOW_BACK;
	pthread_mutex_unlock(&s->lock);
	plane_ring(s->plane, 0, 0);
}

static void slow_wait_taken(struct slow *s, unsigned taken)
{
	pthread_mutex_lock(&s->lock);
	while (s->taken < taken)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static struct plane_rig *open_all(void)
{
	static const struct virtio_ops ops = {.serve = slow_serve, .quiet = slow_quiet, .fresh = slow_fresh};
	static struct plane_rig r;
	struct virtio_dev dev[RIG_NODES];
	node_t node[VIRTIO_QUEUES_MAX] = {{1}};

	rig_open_planes(&r);
	for (unsigned n = 0; n < RIG_NODES; n++) {
		slow[n] = (struct slow){.plane = r.plane[n], .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
		dev[n] = (struct virtio_dev){.name = "slow", .type = 63, .queues = 1, .queue_size = 8, .ops = &ops, .dev = &slow[n]};
	}
	rig_add(&r, dev, node);
	rig_open_function(&r);
	return &r;
}

static void drive(struct plane_rig *r)
{
	rig_negotiate(r, 0);
	rig_queue_up(r, 0);
	rig_driver_ok(r);
}

static void offer(struct plane_rig *r)
{
	driver_desc(&r->d, DRIVER_DESC, 0, DRIVER_DATA, 8, DRIVER_WRITE, 0);
	driver_offer(&r->d, 0);
}

/* A queue whose driver breaks the rules, and is told to stop while that is being said. */
struct broken {
	struct vqueue q;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	bool idle, told, stopped_first, stopped;
};

static int broken_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	return -EPROTO;
}

static void on_broken(void *owner, unsigned queue)
{
	struct broken *b = owner;
	bool idle = vqueue_stop(&b->q);

	pthread_mutex_lock(&b->lock);
	b->idle = idle;
	b->stopped_first = b->stopped;
	b->told = true;
	pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

static void on_stopped(void *owner, unsigned queue)
{
	struct broken *b = owner;

	pthread_mutex_lock(&b->lock);
	b->stopped = true;
	pthread_cond_signal(&b->changed);
	pthread_mutex_unlock(&b->lock);
}

TEST(vqueue_is_not_idle_before_it_has_said_that_it_is_broken)
{
	static const struct virtio_ops ops = {.serve = broken_serve};
	static const struct virtio_dev dev = {.name = "broken", .queues = 1, .queue_size = 8, .ops = &ops};
	struct broken b = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	struct vqueue_calls calls = {.broken = on_broken, .stopped = on_stopped, .owner = &b};
	struct driver d;

	driver_init(&d, 8);
	CHECK_EQ(vqueue_open(&b.q, &d.ram, &dev, 0, &calls), 0);
	CHECK_EQ(vqueue_start(&b.q, &(struct vqueue_setup){.epoch = 1, .size = 8, .desc = {DRIVER_DESC}, .avail = {DRIVER_AVAIL}, .used = {DRIVER_USED}}), 0);
	pthread_mutex_lock(&b.lock);
	while (!b.stopped && !(b.told && b.idle))
		pthread_cond_wait(&b.changed, &b.lock);
	pthread_mutex_unlock(&b.lock);
	vqueue_close(&b.q);
	driver_fini(&d);
	CHECK(b.told && !b.idle && !b.stopped_first); /* else a reset could end first, and the next driver hear of what this one did */
}

TEST(plane_serves_a_queue_on_its_own_node)
{
	struct plane_rig *r = open_all();
	struct plane_queue_stats queue;
	struct plane_stats s;

	CHECK(!plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	CHECK(!plane_queue_stats(r->plane[1], 0, 0, &queue)); /* nobody has started it */
	drive(r);
	CHECK_EQ(rig_deliver(r, 1), PEER_queue_wire);
	CHECK_EQ(rig_deliver(r, 1), PEER_queue_start);
	CHECK_EQ(rig_deliver(r, 1), 0);
	for (unsigned i = 1; i <= 20; i++) {
		offer(r);
		CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
		slow_wait_taken(&slow[1], i);
		*driver_at(&r->d, DRIVER_DATA) = 0;
		slow_answer(&slow[1]);
		fixture_wait_msis(&r->f[1], i);
		CHECK(r->f[1].msi[i - 1].address == 0xfee00000 && r->f[1].msi[i - 1].data == 0x61);
		CHECK(driver_used_idx(&r->d) == i && *driver_at(&r->d, DRIVER_DATA) == '!');
	}
	CHECK(r->sent[0] == 0 && r->f[0].msis == 0 && slow[0].taken == 0); /* nobody told the other node anything */
	CHECK(!plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY + 4) && !plane_bell(r->plane[0], (uint32_t)RIG_NOTIFY) && !plane_bell(r->plane[1], 0));
	plane_stats(r->plane[1], &s);
	CHECK(s.bells == 20 && s.sent == 20 && s.raised == 0);
	CHECK(plane_queue_stats(r->plane[1], 0, 0, &queue) && queue.requests == 20 && queue.bytes == 20);
	CHECK(!plane_queue_stats(r->plane[0], 0, 0, &queue) && !plane_queue_stats(r->plane[1], 0, 1, &queue) && !plane_queue_stats(r->plane[1], 1, 0, &queue));
	rig_close(r);
}

TEST(plane_forwards_a_doorbell_rung_elsewhere)
{
	struct plane_rig *r = open_all();

	drive(r);
	CHECK_EQ(rig_settle(r), 0);
	offer(r);
	rig_poke(r, RIG_NOTIFY, 2, 0);
	CHECK_EQ(rig_deliver(r, 1), PEER_queue_ring);
	slow_wait_taken(&slow[1], 1);
	slow_answer(&slow[1]);
	fixture_wait_msis(&r->f[1], 1);
	rig_close(r);
}

/* What a reset meets: the start under way, an idle queue, a request under way, one that came back. */
TEST(plane_reset_at_every_step)
{
	for (unsigned step = 0; step < 4; step++) {
		struct plane_rig *r = open_all();
		unsigned taken, msis;

		drive(r);
		offer(r);
		if (step >= 1)
			CHECK_EQ(rig_settle(r), 0);
		if (step >= 2)
			slow_wait_taken(&slow[1], 1);
		if (step == 3) {
			slow_answer(&slow[1]);
			fixture_wait_msis(&r->f[1], 1);
		}
		rig_poke(r, RIG_BAR + RIG_STATUS, 1, 0);
		CHECK_EQ(rig_peek(r, RIG_BAR + RIG_STATUS, 1), 15);
		rig_poke(r, RIG_BAR + RIG_STATUS, 1, 0x80); /* an impatient driver changes nothing */
		if (step == 2) {
			CHECK_EQ(rig_settle(r), 0);
			CHECK_EQ(rig_peek(r, RIG_BAR + RIG_STATUS, 1), 15); /* the backend still owes an answer */
		}
		while (rig_peek(r, RIG_BAR + RIG_STATUS, 1)) { /* at steps 0 and 1 the server may still take the request before it is stopped, or not */
			CHECK_EQ(rig_settle(r), 0);
			slow_answer_any(&slow[1]);
		}
		rig_reset(r);
		CHECK_EQ(rig_peek(r, RIG_BAR + RIG_STATUS, 1), 0);
		plane_ring(r->plane[1], 0, 0);
		CHECK_EQ(rig_settle(r), 0);
		CHECK(!plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
		CHECK_EQ(driver_used_idx(&r->d), 0); /* wiped by rig_reset, and nobody has written since */
		drive(r);
		CHECK_EQ(rig_settle(r), 0);
		CHECK_EQ(slow[1].fresh, 2);
		taken = slow_taken(&slow[1]);
		msis = r->f[1].msis;
		offer(r);
		CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
		slow_wait_taken(&slow[1], taken + 1);
		slow_answer(&slow[1]);
		fixture_wait_msis(&r->f[1], msis + 1);
		CHECK_EQ(driver_used_idx(&r->d), 1);
		rig_close(r);
	}
}

TEST(plane_masked_interrupts_pend_in_the_function)
{
	struct plane_rig *r = open_all();

	drive(r);
	rig_poke(r, RIG_TABLE + 16 + 12, 4, 1);
	CHECK_EQ(rig_settle(r), 0);
	offer(r);
	CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	slow_wait_taken(&slow[1], 1);
	slow_answer(&slow[1]);
	rig_wait_sent(r, 0, 1);
	CHECK_EQ(rig_deliver(r, 0), PEER_queue_raise);
	CHECK(r->f[0].msis == 0 && r->f[1].msis == 0 && rig_peek(r, RIG_TABLE + 2048, 8) == 2);
	rig_poke(r, RIG_TABLE + 16 + 12, 4, 0);
	CHECK(r->f[0].msis == 1 && r->f[0].msi[0].data == 0x61 && rig_peek(r, RIG_TABLE + 2048, 8) == 0);
	/* The server has not yet heard of the unmasking: the function sends it. */
	offer(r);
	CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	slow_wait_taken(&slow[1], 2);
	slow_answer(&slow[1]);
	rig_wait_sent(r, 0, 2);
	CHECK_EQ(rig_deliver(r, 0), PEER_queue_raise);
	CHECK_EQ(r->f[0].msis, 2);
	/* Another message, and another CPU: as the table says. */
	rig_poke(r, RIG_TABLE + 16, 4, 0xfee01000);
	rig_poke(r, RIG_TABLE + 16 + 8, 4, 0x77);
	CHECK_EQ(rig_settle(r), 0);
	offer(r);
	CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	slow_wait_taken(&slow[1], 3);
	slow_answer(&slow[1]);
	fixture_wait_msis(&r->f[1], 1);
	CHECK(r->f[1].msi[0].address == 0xfee01000 && r->f[1].msi[0].data == 0x77);
	rig_close(r);
}

/* No interrupt at all is the function's to know: its status register says so. */
TEST(plane_without_msix_leaves_the_status_register)
{
	struct plane_rig *r = open_all();

	rig_poke(r, (int)0xe0010000 + 0x42, 2, 0);
	drive(r);
	CHECK_EQ(rig_settle(r), 0);
	offer(r);
	CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	slow_wait_taken(&slow[1], 1);
	slow_answer(&slow[1]);
	rig_wait_sent(r, 0, 1);
	CHECK_EQ(rig_settle(r), 0);
	CHECK(r->f[0].msis == 0 && r->f[1].msis == 0);
	CHECK_EQ(rig_peek(r, RIG_BAR + 0x1000, 1), 1);
	rig_close(r);
}

TEST(plane_holds_answers_while_the_function_may_not_master_the_bus)
{
	struct plane_rig *r = open_all();

	drive(r);
	offer(r);
	CHECK_EQ(rig_settle(r), 0);
	slow_wait_taken(&slow[1], 1);
	rig_master(r, false);
	CHECK_EQ(rig_settle(r), 0);
	slow_answer(&slow[1]);
	rig_wait_sent(r, 0, 1);
	CHECK_EQ(rig_deliver(r, 0), PEER_queue_stopped);
	CHECK(driver_used_idx(&r->d) == 0 && *driver_at(&r->d, DRIVER_DATA) == 0);
	rig_master(r, true);
	CHECK_EQ(rig_settle(r), 0);
	fixture_wait_msis(&r->f[1], 1);
	CHECK(driver_used_idx(&r->d) == 1 && *driver_at(&r->d, DRIVER_DATA) == '!' && slow[1].fresh == 1);
	/* On before off has come about: it starts when it has. */
	rig_master(r, false);
	rig_master(r, true);
	CHECK_EQ(rig_settle(r), 0);
	offer(r);
	while (slow_taken(&slow[1]) < 2) { /* a doorbell before the start may ring in vain: the start looks */
		plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY);
		CHECK_EQ(rig_settle(r), 0);
		sched_yield();
	}
	rig_close(r);
}

TEST(plane_fences_a_driver_that_misleads_a_server_elsewhere)
{
	struct plane_rig *r = open_all();

	for (unsigned round = 1; round <= 3; round++) {
		drive(r);
		driver_offer(&r->d, 99);
		CHECK_EQ(rig_settle(r), 0);
		while (rig_peek(r, RIG_BAR + RIG_STATUS, 1) != 0x4f)
			CHECK_EQ(rig_settle(r), 0);
		CHECK_EQ(virtio_pci_violations(r->v), round);
		CHECK(r->f[0].msis == round && r->f[0].msi[round - 1].data == 0x60); /* configuration changed */
		rig_reset(r);
	}
	CHECK_EQ(slow[1].taken, 0);
	rig_close(r);
}

/* What KVM does with a doorbell: the queue is served, and the bell is counted. */
TEST(plane_is_rung_by_kvm)
{
	struct plane_rig *r = open_all();
	const uint64_t one = 1;
	struct plane_stats s;

	drive(r);
	CHECK_EQ(rig_settle(r), 0);
	for (unsigned i = 0; i < 3; i++) {
		offer(r);
		CHECK(write(rig_armed(r, 1, (uint32_t)RIG_NOTIFY), &one, sizeof one) == sizeof one);
		slow_wait_taken(&slow[1], i + 1);
		slow_answer(&slow[1]);
		while (driver_used_idx(&r->d) != i + 1)
			sched_yield();
	}
	plane_stats(r->plane[1], &s);
	CHECK_EQ(s.bells, 3);
	rig_close(r);
}

/* Doorbells follow the BAR, and are nobody's when it is not mapped or the queue is not served. */
TEST(plane_doorbells_follow_the_bar)
{
	struct plane_rig *r = open_all();

	drive(r);
	CHECK_EQ(rig_settle(r), 0);
	CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	rig_poke(r, (int)0xe0010000 + 0x10, 4, 0xd0100000);
	CHECK_EQ(rig_settle(r), 0);
	CHECK(!plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY) && plane_bell(r->plane[1], 0xd0103000));
	CHECK(rig_armed(r, 1, (uint32_t)RIG_NOTIFY) < 0 && rig_armed(r, 1, 0xd0103000) > 0 && rig_armed(r, 0, 0xd0103000) < 0);
	rig_poke(r, (int)0xe0010000 + 0x04, 2, 0);
	CHECK_EQ(rig_settle(r), 0);
	CHECK(!plane_bell(r->plane[1], 0xd0103000) && rig_armed(r, 1, 0xd0103000) < 0);
	rig_close(r);
}

/* KVM lets who changes a doorbell wait for vCPUs that wait for pages: neither who reads the streams nor who writes a register may be held up by that. */
TEST(plane_does_not_wait_for_kvm)
{
	struct plane_rig *r = open_all();

	r->slow = true;
	drive(r);
	CHECK_EQ(rig_settle(r), 0);
	CHECK(plane_bell(r->plane[1], (uint32_t)RIG_NOTIFY));
	pthread_mutex_lock(&r->lock);
	r->slow = false;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_broadcast(&r->changed);
	plane_settle(r->plane[1]);
	CHECK(rig_armed(r, 1, (uint32_t)RIG_NOTIFY) > 0);
	rig_close(r);
}

#define SAY(r, node, from, name, ...) ({ \
	uint8_t frame_[128]; \
	struct peer_##name m_ = {__VA_ARGS__}; \
	size_t n_ = peer_put_##name(&m_, frame_, sizeof frame_); \
	plane_message((r)->plane[node], (node_t){from}, PEER_##name, frame_ + WIRE_HEADER_BYTES, n_ - WIRE_HEADER_BYTES); \
})

TEST(plane_refuses_what_no_correct_node_says)
{
	struct plane_rig *r = open_all();

	CHECK_EQ(SAY(r, 1, 2, queue_start, .epoch = 1, .size = 8), -EPROTO);             /* not from the devices' node */
	CHECK_EQ(SAY(r, 1, 0, queue_start, .epoch = 1, .size = 7), -EPROTO);             /* no ring */
	CHECK_EQ(SAY(r, 1, 0, queue_start, .epoch = 1, .size = 8, .desc = 1 << 30), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, queue_start, .epoch = 0, .size = 8), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, queue_start, .device = 1, .epoch = 1, .size = 8), -EPROTO); /* no such device, queue */
	CHECK_EQ(SAY(r, 1, 0, queue_start, .queue = 1, .epoch = 1, .size = 8), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, queue_start, .device = 255, .epoch = 1, .size = 8), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, queue_start, .epoch = 1, .size = 8, .desc = 0x1000, .avail = 0x2000, .used = 0x3000), 0);
	CHECK_EQ(SAY(r, 1, 0, queue_start, .epoch = 2, .size = 8, .desc = 0x1000, .avail = 0x2000, .used = 0x3000), -EPROTO); /* it runs */
	CHECK_EQ(SAY(r, 0, 1, queue_start, .epoch = 1, .size = 8), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, queue_stopped, .device = 1), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, queue_stopped, .queue = 1), -EPROTO);
	CHECK_EQ(SAY(r, 0, 2, queue_stopped, .queue = 0), -EPROTO); /* not its server */
	CHECK_EQ(SAY(r, 0, 1, queue_stopped, .queue = 0), 0);       /* nobody waits for that */
	CHECK_EQ(SAY(r, 0, 1, queue_raise, .queue = 0), 0);
	CHECK_EQ(SAY(r, 0, 1, queue_broken, .queue = 0), 0);
	CHECK_EQ(SAY(r, 1, 0, queue_raise, .queue = 0), -EPROTO);
	CHECK_EQ(plane_message(r->plane[1], (node_t){0}, PEER_queue_stop, (const uint8_t *)"\0", 1), -EBADMSG);
	CHECK_EQ(plane_message(r->plane[1], (node_t){0}, PEER_irq, (const uint8_t *)"\0", 1), -EBADMSG);
	CHECK_EQ(plane_bulk(r->plane[1], (node_t){0}, 96, (const uint8_t *)"\0", 1), -EPROTO); /* this device has no messages */
	CHECK_EQ(plane_bulk(r->plane[1], (node_t){0}, 96, NULL, 0), -EPROTO);
	CHECK(virtio_pci_violations(r->v) == 0 && r->f[0].msis == 0);
	rig_close(r);
}
