/* dev/virtq: honest rings work, hostile rings break the queue and nothing else. */
#include "tests/unit/virtio_driver.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

static struct virtq_chain chain; /* too large for a stack frame; tests run one after the other */

static void open_queue(struct driver *d, struct virtq *q, uint16_t size, bool event_idx)
{
	struct virtq_config c;

	driver_init(d, size);
	d->event_idx = event_idx;
	c = driver_config(d);
	if (virtq_open(q, &c))
		q->size = 0; /* the test's first pop will crash: cannot happen */
}

TEST(virtq_takes_and_gives_back_a_chain)
{
	struct driver d;
	struct virtq q;
	uint32_t head, written;
	char text[8] = "";

	open_queue(&d, &q, 8, false);
	CHECK_EQ(virtq_pop(&q, &chain), 0);
	memcpy(driver_at(&d, DRIVER_DATA), "abcd", 4);
	memcpy(driver_at(&d, DRIVER_DATA + 0x100), "efg", 3);
	driver_desc(&d, DRIVER_DESC, 5, DRIVER_DATA, 4, DRIVER_NEXT, 2);
	driver_desc(&d, DRIVER_DESC, 2, DRIVER_DATA + 0x100, 3, DRIVER_NEXT, 7);
	driver_desc(&d, DRIVER_DESC, 7, DRIVER_DATA + 0x200, 2, DRIVER_NEXT | DRIVER_WRITE, 1);
	driver_desc(&d, DRIVER_DESC, 1, DRIVER_DATA + 0x300, 5, DRIVER_WRITE, 0);
	driver_offer(&d, 5);
	CHECK_EQ(virtq_pop(&q, &chain), 1);
	CHECK_EQ(chain.segs, 4);
	CHECK_EQ(chain.readable, 2);
	CHECK_EQ(chain.readable_bytes, 7);
	CHECK_EQ(chain.writable_bytes, 7);
	CHECK_EQ(virtq_read(&q, &chain, 1, text, 6), 0);
	CHECK(memcmp(text, "bcdefg", 6) == 0);
	CHECK_EQ(virtq_write(&q, &chain, 1, "1234", 4), 0);
	CHECK(memcmp(driver_at(&d, DRIVER_DATA + 0x200), "\0" "1", 2) == 0);
	CHECK(memcmp(driver_at(&d, DRIVER_DATA + 0x300), "234\0", 4) == 0);
	virtq_push(&q, &chain, 5);
	CHECK_EQ(driver_used_idx(&d), 1);
	driver_used(&d, 0, &head, &written);
	CHECK_EQ(head, 5);
	CHECK_EQ(written, 5);
	CHECK_EQ(virtq_pop(&q, &chain), 0);
	CHECK_EQ(virtq_read(&q, &chain, 4, text, 4), -EPROTO); /* one byte too far */
	driver_fini(&d);
}

TEST(virtq_indices_wrap)
{
	struct driver d;
	struct virtq q;

	open_queue(&d, &q, 4, false);
	for (unsigned i = 0; i < 70000; i++) {
		uint32_t head, written;

		driver_desc(&d, DRIVER_DESC, i % 4, DRIVER_DATA, i % 100 + 1, DRIVER_WRITE, 0);
		driver_offer(&d, i % 4);
		CHECK_EQ(virtq_pop(&q, &chain), 1);
		CHECK_EQ(chain.writable_bytes, i % 100 + 1);
		virtq_push(&q, &chain, i);
		CHECK_EQ(driver_used_idx(&d), (i + 1) & 0xffff);
		driver_used(&d, i, &head, &written);
		CHECK(head == i % 4 && written == i);
	}
	driver_fini(&d);
}

TEST(virtq_indirect_table_anywhere)
{
	struct driver d;
	struct virtq q;
	uint64_t table = DRIVER_INDIRECT + 3; /* no alignment is asked for */
	uint8_t raw[48];

	open_queue(&d, &q, 4, false);
	driver_desc(&d, DRIVER_INDIRECT + 0x1000, 0, DRIVER_DATA, 4, DRIVER_NEXT, 2);
	driver_desc(&d, DRIVER_INDIRECT + 0x1000, 1, DRIVER_DATA, 8, DRIVER_WRITE, 0);
	driver_desc(&d, DRIVER_INDIRECT + 0x1000, 2, DRIVER_DATA, 2, DRIVER_NEXT, 1);
	memcpy(raw, driver_at(&d, DRIVER_INDIRECT + 0x1000), sizeof raw);
	memcpy(driver_at(&d, table), raw, sizeof raw);
	driver_desc(&d, DRIVER_DESC, 0, DRIVER_DATA, 1, DRIVER_NEXT, 1); /* a direct one before it */
	driver_desc(&d, DRIVER_DESC, 1, table, 48, DRIVER_INDIRECT_FLAG, 0);
	driver_offer(&d, 0);
	CHECK_EQ(virtq_pop(&q, &chain), 1);
	CHECK_EQ(chain.segs, 4);
	CHECK_EQ(chain.readable_bytes, 7);
	CHECK_EQ(chain.writable_bytes, 8);
	driver_fini(&d);
}

TEST(virtq_interrupts_by_flag)
{
	struct driver d;
	struct virtq q;

	open_queue(&d, &q, 4, false);
	CHECK(!virtq_wants_interrupt(&q)); /* nothing pushed */
	for (unsigned i = 0; i < 3; i++) {
		driver_desc(&d, DRIVER_DESC, 0, DRIVER_DATA, 1, DRIVER_WRITE, 0);
		driver_offer(&d, 0);
		driver_set16(&d, DRIVER_AVAIL, i == 1); /* no interrupt, please */
		CHECK_EQ(virtq_pop(&q, &chain), 1);
		virtq_push(&q, &chain, 0);
		CHECK_EQ(virtq_wants_interrupt(&q), i != 1);
	}
	virtq_quiet(&q);
	CHECK_EQ(driver_get16(&d, DRIVER_USED), 1);
	CHECK(!virtq_listen(&q));
	CHECK_EQ(driver_get16(&d, DRIVER_USED), 0);
	driver_offer(&d, 0);
	CHECK(virtq_listen(&q));
	driver_fini(&d);
}

TEST(virtq_interrupts_by_event_index)
{
	struct driver d;
	struct virtq q;

	open_queue(&d, &q, 8, true);
	driver_set16(&d, DRIVER_AVAIL + 4 + 2 * 8, 2); /* used_event: tell me when the third is done */
	for (unsigned i = 0; i < 5; i++) {
		driver_desc(&d, DRIVER_DESC, 0, DRIVER_DATA, 1, DRIVER_WRITE, 0);
		driver_offer(&d, 0);
		CHECK_EQ(virtq_pop(&q, &chain), 1);
		virtq_push(&q, &chain, 0);
		CHECK_EQ(virtq_wants_interrupt(&q), i == 2);
	}
	driver_set16(&d, DRIVER_AVAIL + 4 + 2 * 8, 6);
	for (unsigned i = 0; i < 3; i++) { /* a batch that passes the event */
		driver_offer(&d, 0);
		CHECK_EQ(virtq_pop(&q, &chain), 1);
		virtq_push(&q, &chain, 0);
	}
	CHECK(virtq_wants_interrupt(&q));
	CHECK(!virtq_listen(&q));
	CHECK_EQ(driver_get16(&d, DRIVER_USED + 4 + 8 * 8), 8); /* avail_event: notify at the next */
	driver_fini(&d);
}

TEST(virtq_open_judges_addresses)
{
	struct driver d;
	struct virtq q;
	struct virtq_config good, c;

	driver_init(&d, 8);
	good = c = driver_config(&d);
	CHECK_EQ(virtq_open(&q, &c), 0);
#define REFUSED(change, why) do { c = good; change; CHECK_EQ(virtq_open(&q, &c), why); CHECK(!q.desc); } while (0)
	REFUSED(c.size = 0, -EINVAL);
	REFUSED(c.size = 6, -EINVAL);
	REFUSED(c.size = 512, -EINVAL);
	REFUSED(c.desc.v += 8, -EINVAL);
	REFUSED(c.avail.v += 1, -EINVAL);
	REFUSED(c.used.v += 2, -EINVAL);
	REFUSED(c.desc.v = DRIVER_RAM - 16 * 7, -EFAULT);
	REFUSED(c.avail.v = DRIVER_RAM, -EFAULT);
	REFUSED(c.used.v = UINT64_MAX - 3, -EFAULT);
#undef REFUSED
	driver_fini(&d);
}

/* Every hostile ring: set up by a function, popped once, must break the queue for good. */
static void hostile_index(struct driver *d)
{
	driver_set16(d, DRIVER_AVAIL + 2, 5); /* of a queue of 4 */
}

static void hostile_head(struct driver *d)
{
	driver_offer(d, 4);
}

static void hostile_next(struct driver *d)
{
	driver_desc(d, DRIVER_DESC, 0, DRIVER_DATA, 1, DRIVER_NEXT, 4);
	driver_offer(d, 0);
}

static void hostile_loop(struct driver *d)
{
	driver_desc(d, DRIVER_DESC, 0, DRIVER_DATA, 1, DRIVER_NEXT, 1);
	driver_desc(d, DRIVER_DESC, 1, DRIVER_DATA, 1, DRIVER_NEXT, 0);
	driver_offer(d, 0);
}

static void hostile_order(struct driver *d)
{
	driver_desc(d, DRIVER_DESC, 0, DRIVER_DATA, 1, DRIVER_NEXT | DRIVER_WRITE, 1);
	driver_desc(d, DRIVER_DESC, 1, DRIVER_DATA, 1, 0, 0);
	driver_offer(d, 0);
}

static void hostile_wrap(struct driver *d)
{
	driver_desc(d, DRIVER_DESC, 0, UINT64_MAX - 3, 8, 0, 0);
	driver_offer(d, 0);
}

static void hostile_total(struct driver *d)
{
	driver_desc(d, DRIVER_DESC, 0, DRIVER_DATA, UINT32_MAX, DRIVER_NEXT | DRIVER_WRITE, 1);
	driver_desc(d, DRIVER_DESC, 1, DRIVER_DATA, 1, DRIVER_WRITE, 0);
	driver_offer(d, 0);
}

static void indirect(struct driver *d, uint64_t table, uint32_t len, unsigned flags)
{
	driver_desc(d, DRIVER_DESC, 0, table, len, DRIVER_INDIRECT_FLAG | flags, 1);
	driver_desc(d, DRIVER_DESC, 1, DRIVER_DATA, 1, DRIVER_WRITE, 0);
	driver_desc(d, DRIVER_INDIRECT, 0, DRIVER_DATA, 1, DRIVER_NEXT, 1);
	driver_desc(d, DRIVER_INDIRECT, 1, DRIVER_DATA, 1, 0, 0);
	driver_offer(d, 0);
}

static void hostile_indirect_next(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 32, DRIVER_NEXT);
}

static void hostile_indirect_empty(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 0, 0);
}

static void hostile_indirect_length(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 33, 0);
}

static void hostile_indirect_huge(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 0xfffffff0, 0);
}

static void hostile_indirect_nowhere(struct driver *d)
{
	indirect(d, DRIVER_RAM - 8, 32, 0);
}

static void hostile_indirect_short(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 16, 0); /* its entry 0 points to entry 1 */
}

static void hostile_indirect_loop(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 32, 0);
	driver_desc(d, DRIVER_INDIRECT, 1, DRIVER_DATA, 1, DRIVER_NEXT, 0);
}

static void hostile_indirect_nested(struct driver *d)
{
	indirect(d, DRIVER_INDIRECT, 32, 0);
	driver_desc(d, DRIVER_INDIRECT, 1, DRIVER_INDIRECT + 0x100, 16, DRIVER_INDIRECT_FLAG, 0);
	driver_desc(d, DRIVER_INDIRECT + 0x100, 0, DRIVER_DATA, 1, 0, 0);
}

TEST(virtq_hostile_rings_break_the_queue)
{
	static void (*const hostile[])(struct driver *d) = {
		hostile_index, hostile_head, hostile_next, hostile_loop, hostile_order, hostile_wrap, hostile_total, hostile_indirect_next, hostile_indirect_empty,
		hostile_indirect_length, hostile_indirect_huge, hostile_indirect_nowhere, hostile_indirect_short, hostile_indirect_loop, hostile_indirect_nested,
	};

	for (unsigned i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
		struct driver d;
		struct virtq q;
		uint16_t used;

		open_queue(&d, &q, 4, false);
		hostile[i](&d);
		used = driver_used_idx(&d);
		if (virtq_pop(&q, &chain) != -EPROTO)
			printf("hostile ring %u was taken\n", i);
		CHECK(q.broken);
		CHECK_EQ(virtq_pop(&q, &chain), -EPROTO);
		virtq_push(&q, &chain, 0);
		CHECK_EQ(driver_used_idx(&d), used);
		CHECK(!virtq_wants_interrupt(&q) && !virtq_listen(&q));
		driver_fini(&d);
	}
}

TEST(virtq_indirect_only_when_negotiated)
{
	struct driver d;
	struct virtq q;
	struct virtq_config c;

	driver_init(&d, 4);
	c = driver_config(&d);
	c.indirect = false;
	CHECK_EQ(virtq_open(&q, &c), 0);
	indirect(&d, DRIVER_INDIRECT, 32, 0);
	CHECK_EQ(virtq_pop(&q, &chain), -EPROTO);
	driver_fini(&d);
}

/* Where the data lies, for who reads and writes it without us; or nothing, where it is not all at hand. */
TEST(virtq_says_where_data_lies)
{
	struct iovec iov[4];
	struct driver d;
	struct virtq q;

	open_queue(&d, &q, 8, false);
	driver_desc(&d, DRIVER_DESC, 0, DRIVER_DATA, 16, DRIVER_NEXT, 1);
	driver_desc(&d, DRIVER_DESC, 1, DRIVER_DATA + 0x100, 100, DRIVER_NEXT, 2);
	driver_desc(&d, DRIVER_DESC, 2, DRIVER_DATA + 0x200, 50, DRIVER_NEXT | DRIVER_WRITE, 3);
	driver_desc(&d, DRIVER_DESC, 3, DRIVER_RAM - 8, 16, DRIVER_WRITE, 0);
	driver_offer(&d, 0);
	CHECK_EQ(virtq_pop(&q, &chain), 1);
	CHECK_EQ(virtq_map(&q, &chain, false, 16, 100, iov, 4), 1);
	CHECK(iov[0].iov_base == driver_at(&d, DRIVER_DATA + 0x100) && iov[0].iov_len == 100);
	CHECK_EQ(virtq_map(&q, &chain, false, 10, 8, iov, 4), 2);
	CHECK(iov[0].iov_base == driver_at(&d, DRIVER_DATA + 10) && iov[0].iov_len == 6 && iov[1].iov_base == driver_at(&d, DRIVER_DATA + 0x100) && iov[1].iov_len == 2);
	CHECK_EQ(virtq_map(&q, &chain, false, 10, 8, iov, 1), 0);   /* no room */
	CHECK_EQ(virtq_map(&q, &chain, false, 10, 107, iov, 4), 0); /* the readable part ends before */
	CHECK_EQ(virtq_map(&q, &chain, true, 4, 46, iov, 4), 1);
	CHECK(iov[0].iov_base == driver_at(&d, DRIVER_DATA + 0x204) && iov[0].iov_len == 46);
	CHECK_EQ(virtq_map(&q, &chain, true, 4, 54, iov, 4), 2);
	CHECK_EQ(virtq_map(&q, &chain, true, 4, 55, iov, 4), 0); /* RAM ends before */
	CHECK(!q.broken);
	driver_fini(&d);
}

TEST(virtq_data_outside_ram_breaks_the_queue)
{
	struct driver d;
	struct virtq q;

	open_queue(&d, &q, 4, false);
	driver_desc(&d, DRIVER_DESC, 0, DRIVER_RAM - 4, 8, DRIVER_WRITE, 0);
	driver_offer(&d, 0);
	CHECK_EQ(virtq_pop(&q, &chain), 1);
	CHECK_EQ(virtq_write(&q, &chain, 0, "12345678", 8), -EPROTO);
	CHECK(q.broken);
	driver_fini(&d);
}
