/* dev/virtio_balloon: pages homed on two nodes, freed when the test says so. */
#include "base/ensure.h"
#include "dev/virtio_balloon.h"
#include "tests/test.h"
#include "tests/unit/absent.h"
#include "tests/unit/plane_rig.h"
#include "wire/peer.h"

#include <errno.h>
#include <string.h>

enum { INFLATE, DEFLATE, REPORT, HALF_PAGES = (DRIVER_RAM >> PAGE_SHIFT) / 2, QUEUE_STRIDE = 0x4000 };

/* A node's pager: what it was asked to free last. */
struct side {
	struct virtio_balloon *b;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct pager_discard *d;
};

static struct side side[RIG_NODES];
static struct ram two_homes;

static int side_free(void *user, struct pager_discard *d)
{
	struct side *s = user;

	pthread_mutex_lock(&s->lock);
	ensure(!s->d);
	s->d = d;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void side_wait(struct side *s)
{
	pthread_mutex_lock(&s->lock);
	while (!s->d)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static struct plane_rig *open_all(void)
{
	static struct plane_rig r;
	struct virtio_dev dev[RIG_NODES];
	node_t node[VIRTIO_QUEUES_MAX] = {{0}};

	rig_open_planes(&r);
	two_homes = (struct ram){.ranges = 2, .bytes = DRIVER_RAM, .range = {{.bytes = DRIVER_RAM / 2},
		{.gpa = {DRIVER_RAM / 2}, .bytes = DRIVER_RAM / 2, .home = {1}}}};
	for (unsigned n = 0; n < RIG_NODES; n++) {
		struct virtio_balloon_config c = {.ram = &two_homes, .self = {(uint8_t)n}, .free_pages = side_free, .user = &side[n]};

		side[n] = (struct side){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
		ensure(virtio_balloon_open(&side[n].b, &c) == 0);
		virtio_balloon_joined(side[n].b, r.plane[n], 0);
		dev[n] = virtio_balloon_dev(side[n].b);
	}
	rig_add(&r, dev, node);
	rig_open_function(&r);
	return &r;
}

static void close_all(struct plane_rig *r)
{
	rig_close(r);
	for (unsigned n = 0; n < RIG_NODES; n++)
		virtio_balloon_close(side[n].b);
}

static void drive(struct plane_rig *r, unsigned queue)
{
	rig_negotiate(r, 1u << 5);
	rig_queue_up(r, queue);
	rig_driver_ok(r);
}

TEST(balloon_target_is_told_to_the_driver)
{
	struct plane_rig *r = open_all();
	struct virtio_balloon *b = side[0].b;
	struct virtio_balloon_stats s;

	virtio_balloon_aim(b, 7); /* before there is a driver: it reads it when it comes */
	CHECK(r->f[0].msis == 0 && rig_peek(r, RIG_BAR + 0x2000, 4) == 7);
	virtio_balloon_stats(b, &s);
	CHECK(!s.driver && s.target == 7 && s.held == 0);
	rig_negotiate(r, 1u << 5);
	rig_poke(r, RIG_BAR + 16, 2, 0); /* configuration changes: vector 0 */
	rig_queue_up(r, INFLATE);
	rig_driver_ok(r);
	virtio_balloon_aim(b, 0x12345678);
	CHECK(r->f[0].msis == 1 && rig_peek(r, RIG_BAR + 0x2000, 4) == 0x12345678);
	rig_poke(r, RIG_BAR + 0x2000, 4, 99); /* the target is not the driver's to write */
	rig_poke(r, RIG_BAR + 0x2004, 4, 5);
	virtio_balloon_stats(b, &s);
	CHECK(s.driver && s.target == 0x12345678 && s.held == 5 && rig_peek(r, RIG_BAR + 0x2004, 4) == 5);
	rig_reset(r);
	virtio_balloon_stats(b, &s);
	CHECK(!s.driver && s.target == 0x12345678 && s.held == 0); /* what was in it is the guest's again */
	close_all(r);
}

/* Offer the chain that begins at descriptor 0 of a queue, and notify. */
static void offer(struct plane_rig *r, unsigned queue)
{
	uint64_t avail = DRIVER_AVAIL + (uint64_t)queue * QUEUE_STRIDE;
	uint16_t n = driver_get16(&r->d, avail + 2);

	driver_set16(&r->d, avail + 4 + 2u * (n % 8), 0);
	driver_set16(&r->d, avail + 2, (uint16_t)(n + 1));
	rig_poke(r, RIG_NOTIFY + 4 * (int)queue, 2, queue);
}

static void desc(struct plane_rig *r, unsigned queue, unsigned i, uint64_t at, uint32_t bytes, unsigned flags)
{
	driver_desc(&r->d, DRIVER_DESC + (uint64_t)queue * QUEUE_STRIDE, i, at, bytes, flags, i + 1);
}

/* Wait until that node is asked, check what for, and say that it is done. */
#define FREES(n, first_, pages_) do { \
	struct pager_discard *d_; \
	side_wait(&side[n]); \
	d_ = side[n].d; \
	side[n].d = NULL; \
	CHECK_EQ(d_->first, first_); \
	CHECK_EQ(d_->pages, pages_); \
	d_->done(d_); \
} while (0)

static void balloon_wait_used(struct plane_rig *r, unsigned msis)
{
	fixture_wait_msis(&r->f[0], msis);
}

TEST(balloon_reports_go_to_the_pages_homes)
{
	struct plane_rig *r = open_all();

	drive(r, REPORT);
	desc(r, REPORT, 0, (HALF_PAGES - 2) * PAGE_BYTES, 5 * PAGE_BYTES, DRIVER_WRITE | DRIVER_NEXT);
	desc(r, REPORT, 1, 900 * PAGE_BYTES + 100, 2 * PAGE_BYTES, DRIVER_WRITE | DRIVER_NEXT); /* one whole page only */
	desc(r, REPORT, 2, 910 * PAGE_BYTES + 100, PAGE_BYTES, DRIVER_WRITE);                   /* none */
	offer(r, REPORT);
	FREES(0, HALF_PAGES - 2, 2);
	rig_wait_sent(r, 1, 1);
	CHECK_EQ(rig_deliver(r, 1), PEER_balloon_free);
	FREES(1, HALF_PAGES, 3);
	CHECK_EQ(rig_deliver(r, 0), PEER_balloon_freed);
	FREES(0, 901, 1);
	balloon_wait_used(r, 1);
	CHECK_EQ(driver_get16(&r->d, DRIVER_USED + REPORT * QUEUE_STRIDE + 2), 1);
	close_all(r);
}

TEST(balloon_inflates_run_by_run)
{
	static const uint32_t pages[] = {5, 6, 7, 100, HALF_PAGES - 1, HALF_PAGES, HALF_PAGES + 1};
	struct plane_rig *r = open_all();

	drive(r, INFLATE);
	memcpy(driver_at(&r->d, 0x80000), pages, sizeof pages);
	desc(r, INFLATE, 0, 0x80000, sizeof pages, 0);
	offer(r, INFLATE);
	FREES(0, 5, 3);
	FREES(0, 100, 1);
	FREES(0, HALF_PAGES - 1, 1);
	rig_wait_sent(r, 1, 1);
	CHECK_EQ(rig_deliver(r, 1), PEER_balloon_free);
	FREES(1, HALF_PAGES, 2);
	CHECK_EQ(rig_deliver(r, 0), PEER_balloon_freed);
	balloon_wait_used(r, 1);
	close_all(r);
}

TEST(balloon_asks_for_a_reset_when_given_what_is_no_ram)
{
	static const uint32_t pages[] = {5, DRIVER_RAM >> PAGE_SHIFT};
	struct plane_rig *r = open_all();

	drive(r, INFLATE);
	memcpy(driver_at(&r->d, 0x80000), pages, sizeof pages);
	desc(r, INFLATE, 0, 0x80000, sizeof pages, 0);
	offer(r, INFLATE);
	FREES(0, 5, 1);
	while (!(rig_peek(r, RIG_BAR + RIG_STATUS, 1) & 0x40))
		;
	CHECK_EQ(driver_get16(&r->d, DRIVER_USED + 2), 0);
	rig_reset(r);
	close_all(r);
}

/* The VM ends while the list of pages is waited for: it reads as zeros then, and page 0 is not meant. */
TEST(balloon_frees_nothing_that_was_read_after_the_end)
{
	struct plane_rig *r = open_all();
	int absent;

	drive(r, INFLATE);
	absent = absent_page(driver_at(&r->d, 0x80000));
	if (absent < 0)
		SKIP("no userfaultfd here");
	desc(r, INFLATE, 0, 0x80000, 4, 0);
	offer(r, INFLATE);
	CHECK(absent_wanted(absent));
	plane_hush(r->plane[0]);
	absent_give_up(absent);
	rig_halt(r);
	CHECK(!side[0].d);
	close_all(r);
}

/* A report at the end of all addresses, which rounded up to whole pages begins at 0. */
TEST(balloon_does_not_wrap)
{
	struct plane_rig *r = open_all();
	bool asked;

	drive(r, REPORT);
	desc(r, REPORT, 0, UINT64_MAX - 2000, 2000, DRIVER_WRITE);
	offer(r, REPORT);
	do {
		pthread_mutex_lock(&side[0].lock);
		asked = side[0].d;
		pthread_mutex_unlock(&side[0].lock);
	} while (!asked && driver_get16(&r->d, DRIVER_USED + REPORT * QUEUE_STRIDE + 2) == 0);
	CHECK(!asked);
	close_all(r);
}

/* Status reads 0 when the pages that are under way, here or elsewhere, have been seen to. */
TEST(balloon_reset_with_pages_under_way)
{
	for (unsigned home = 0; home < RIG_NODES; home++) {
		struct plane_rig *r = open_all();

		drive(r, REPORT);
		desc(r, REPORT, 0, (home * HALF_PAGES + 300) * PAGE_BYTES, 2 * PAGE_BYTES, DRIVER_WRITE);
		offer(r, REPORT);
		if (home)
			rig_wait_sent(r, 1, 1);
		else
			side_wait(&side[0]);
		rig_poke(r, RIG_BAR + RIG_STATUS, 1, 0);
		CHECK(rig_peek(r, RIG_BAR + RIG_STATUS, 1) != 0);
		if (home)
			CHECK_EQ(rig_deliver(r, 1), PEER_balloon_free);
		FREES(home, home * HALF_PAGES + 300, 2);
		while (rig_peek(r, RIG_BAR + RIG_STATUS, 1))
			CHECK_EQ(rig_settle(r), 0);
		CHECK_EQ(driver_get16(&r->d, DRIVER_USED + REPORT * QUEUE_STRIDE + 2), 0);
		close_all(r);
	}
}

static int say(struct plane_rig *r, unsigned to, unsigned from, uint64_t page, uint64_t pages)
{
	struct peer_balloon_free m = {.queue = REPORT, .page = page, .pages = pages};
	uint8_t frame[64];
	size_t n = peer_put_balloon_free(&m, frame, sizeof frame);

	return plane_bulk(r->plane[to], (node_t){(uint8_t)from}, PEER_balloon_free, frame + WIRE_HEADER_BYTES, n - WIRE_HEADER_BYTES);
}

TEST(balloon_refuses_what_no_node_may_say)
{
	struct plane_rig *r = open_all();
	struct peer_balloon_freed m = {.queue = REPORT};
	uint8_t frame[64];
	size_t n = peer_put_balloon_freed(&m, frame, sizeof frame);

	CHECK_EQ(plane_bulk(r->plane[0], (node_t){1}, PEER_balloon_freed, frame + WIRE_HEADER_BYTES, n - WIRE_HEADER_BYTES), -EPROTO); /* nothing was asked */
	CHECK_EQ(say(r, 1, 1, HALF_PAGES, 1), -EPROTO);                  /* not from the devices' node */
	CHECK_EQ(say(r, 1, 0, HALF_PAGES - 1, 2), -EPROTO);              /* not all of it is homed there */
	CHECK_EQ(say(r, 1, 0, HALF_PAGES, HALF_PAGES + 1), -EPROTO);     /* beyond the end */
	CHECK_EQ(say(r, 1, 0, HALF_PAGES, UINT64_MAX - 1), -EPROTO);
	CHECK_EQ(say(r, 1, 0, HALF_PAGES, 0), -EPROTO);
	CHECK_EQ(say(r, 1, 0, HALF_PAGES, 1), 0);
	CHECK_EQ(say(r, 1, 0, HALF_PAGES, 1), -EPROTO);                  /* one at a time */
	CHECK_EQ(plane_bulk(r->plane[1], (node_t){0}, PEER_balloon_free, frame + WIRE_HEADER_BYTES, 3), -EBADMSG);
	FREES(1, HALF_PAGES, 1);
	close_all(r);
}
