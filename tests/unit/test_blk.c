/* dev/virtio_blk on two nodes: queue 0 is served on node 0, queue 1 on node 1, and the disk, a real file, is on either. */
#include "base/ensure.h"
#include "tests/test.h"
#include "tests/unit/absent.h"
#include "tests/unit/plane_rig.h"
#include "dev/virtio_blk.h"
#include "wire/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DISK_MIB = 4, RING = 0x4000, HEAD = 0x1f000, STATUS_AT = 0x1ff00, DATA = 0x100000, TABLE = 0x30000, FLUSH = 1 << 9 };
enum { IN = 0, OUT = 1, DO_FLUSH = 4, GET_ID = 8, DISCARD = 11, WRITE_ZEROES = 13 };

struct blk_rig {
	struct plane_rig p;
	struct disk *disk;
	unsigned disk_node;
	char path[64];
	struct virtio_blk *b[RIG_NODES];
	uint16_t avail[2];
	unsigned msis[2];
};

static void blk_drive(struct blk_rig *r, uint64_t features)
{
	rig_negotiate(&r->p, features);
	rig_queue_up(&r->p, 0);
	rig_queue_up(&r->p, 1);
	rig_driver_ok(&r->p);
	ensure(rig_settle(&r->p) == 0);
	r->avail[0] = r->avail[1] = 0;
}

/* ALONE, besides disk_node: devices believe that the VM has one node, so that the disk writes straight from guest memory. */
enum { ALONE = RIG_NODES };

static struct blk_rig *blk_open(unsigned where, bool readonly, bool prompt)
{
	unsigned disk_node = where % RIG_NODES;
	struct virtio_blk_config c = {.disk_node = {(uint8_t)disk_node}, .alone = where >= ALONE, .bytes = DISK_MIB << 20, .block_bytes = 512,
		.optimal_bytes = 4096, .readonly = readonly, .discards = !readonly, .writes_back = !readonly, .id = "an id", .queues = 2, .queue_node = {{0}, {1}}};
	struct blk_rig *r = calloc(1, sizeof *r);
	struct virtio_dev dev[RIG_NODES];
	struct failure f = {0};
	int fd;

	r->disk_node = disk_node;
	snprintf(r->path, sizeof r->path, "/tmp/tessera-blk-XXXXXX");
	fd = mkstemp(r->path);
	ensure(fd >= 0 && ftruncate(fd, DISK_MIB << 20) == 0);
	close(fd);
	ensure(disk_open(&r->disk, &(struct disk_config){.path = r->path, .readonly = readonly}, &f) == 0);
	rig_open_planes(&r->p);
	r->p.prompt = prompt;
	for (unsigned n = 0; n < RIG_NODES; n++) {
		c.plane = r->p.plane[n];
		c.self.v = (uint8_t)n;
		c.disk = n == disk_node ? r->disk : NULL;
		ensure(virtio_blk_open(&r->b[n], &c) == 0);
		dev[n] = virtio_blk_dev(r->b[n]);
	}
	rig_add(&r->p, dev, c.queue_node);
	rig_open_function(&r->p);
	return r;
}

/* The disk's node first, which waits for the disk: where frames are delivered at once, it is the disk's thread that brings its last answers to the other. */
static void blk_close(struct blk_rig *r)
{
	rig_halt(&r->p);
	virtio_blk_close(r->b[r->disk_node]);
	virtio_blk_close(r->b[1 - r->disk_node]);
	rig_close(&r->p);
	disk_close(r->disk);
	unlink(r->path);
	free(r);
}

/* Offer one request: a header, then 'data' bytes at DATA in segments of 'piece' bytes through an indirect table, then the status. */
static void offer(struct blk_rig *r, unsigned queue, uint32_t type, uint64_t sector, uint32_t data, uint32_t piece)
{
	struct driver *d = &r->p.d;
	uint64_t ring = queue * RING, head = HEAD + queue * 64, table = TABLE + queue * 0x2000;
	uint32_t header[4] = {type, 0, (uint32_t)sector, (uint32_t)(sector >> 32)};
	bool in = type == IN || type == GET_ID;
	unsigned n = 0;

	memcpy(driver_at(d, head), header, sizeof header);
	*driver_at(d, STATUS_AT + queue) = 0x55;
	driver_desc(d, table, n, head, 16, DRIVER_NEXT, n + 1);
	for (uint32_t at = 0; at < data; at += piece) {
		n++;
		driver_desc(d, table, n, DATA + at, data - at < piece ? data - at : piece, DRIVER_NEXT | (in ? (unsigned)DRIVER_WRITE : 0u), n + 1);
	}
	n++;
	driver_desc(d, table, n, STATUS_AT + queue, 1, DRIVER_WRITE, 0);
	driver_desc(d, DRIVER_DESC + ring, 0, table, (n + 1) * 16, DRIVER_INDIRECT_FLAG, 0);
	driver_set16(d, DRIVER_AVAIL + ring + 4 + 2ull * (r->avail[queue] % d->size), 0);
	driver_set16(d, DRIVER_AVAIL + ring + 2, ++r->avail[queue]);
	ensure(plane_bell(r->p.plane[queue], (uint32_t)RIG_NOTIFY + 4 * queue));
}

static uint16_t used(struct blk_rig *r, unsigned queue)
{
	return driver_get16(&r->p.d, DRIVER_USED + queue * RING + 2);
}

/* Offer and wait for it: the status, and the bytes written as the used ring says. */
static unsigned ask(struct blk_rig *r, unsigned queue, uint32_t type, uint64_t sector, uint32_t data, uint32_t *written)
{
	uint32_t *at;

	offer(r, queue, type, sector, data, 3000);
	while (used(r, queue) != r->avail[queue]) {
		ensure(rig_settle(&r->p) == 0);
		sched_yield();
	}
	at = (uint32_t *)(void *)driver_at(&r->p.d, DRIVER_USED + queue * RING + 4 + 8 * ((r->avail[queue] - 1u) % r->p.d.size));
	if (written)
		*written = at[1];
	return *driver_at(&r->p.d, STATUS_AT + queue);
}

static void fill(struct blk_rig *r, uint32_t bytes, unsigned seed)
{
	for (uint32_t i = 0; i < bytes; i++)
		*driver_at(&r->p.d, DATA + i) = (uint8_t)(i * 7 + i / 513 + seed);
}

static bool filled(struct blk_rig *r, uint32_t bytes, unsigned seed)
{
	for (uint32_t i = 0; i < bytes; i++)
		if (*driver_at(&r->p.d, DATA + i) != (uint8_t)(i * 7 + i / 513 + seed))
			return false;
	return true;
}

/* What each queue writes, the other reads; with the disk on either node; through copies, and straight from and to guest memory. */
TEST(blk_writes_and_reads_from_both_nodes)
{
	for (unsigned where = 0; where <= ALONE; where++) {
		struct blk_rig *r = blk_open(where, false, true);
		unsigned disk_node = where % RIG_NODES;
		struct virtio_blk_stats s;
		uint32_t written;

		blk_drive(r, FLUSH);
		for (unsigned round = 0; round < 8; round++) {
			uint32_t bytes = round < 4 ? 512u << round * 3 : 300 * 1024 + 512; /* 512 bytes to 256 KiB; then more than one queue's pieces hold at once, oddly cut */
			unsigned q = round & 1;

			bytes = round >= 6 ? 700 * 1024 : bytes;
			fill(r, bytes, round);
			CHECK_EQ(ask(r, q, OUT, 8 * round, bytes, &written), 0);
			CHECK_EQ(written, 1);
			CHECK_EQ(ask(r, q, DO_FLUSH, 0, 0, &written), 0);
			memset(driver_at(&r->p.d, DATA), 0, bytes);
			CHECK_EQ(ask(r, 1 - q, IN, 8 * round, bytes, &written), 0);
			CHECK_EQ(written, bytes + 1);
			CHECK(filled(r, bytes, round));
		}
		virtio_blk_stats(r->b[disk_node], &s);
		CHECK(s.pieces_away == 0 && s.served > 0);
		virtio_blk_stats(r->b[1 - disk_node], &s);
		CHECK(s.pieces_away > 0 && s.served == 0);
		CHECK_EQ(r->p.sent[0], 0); /* nothing of all that went through the function */
		blk_close(r);
	}
}

TEST(blk_fails_what_cannot_be)
{
	struct blk_rig *r = blk_open(1, false, true);
	uint64_t last = (DISK_MIB << 20) / 512 - 1;
	struct { uint64_t sector; uint32_t sectors, flags; } span = {.sector = 8, .sectors = 16};

	blk_drive(r, FLUSH);
	for (unsigned q = 0; q < 2; q++) {
		CHECK_EQ(ask(r, q, IN, last, 512, NULL), 0);
		CHECK_EQ(ask(r, q, IN, last, 1024, NULL), 1);
		CHECK_EQ(ask(r, q, OUT, last + 1, 512, NULL), 1);
		CHECK_EQ(ask(r, q, IN, UINT64_MAX / 512, 512, NULL), 1);
		CHECK_EQ(ask(r, q, IN, UINT64_MAX, 512, NULL), 1);
		CHECK_EQ(ask(r, q, OUT, 0, 511, NULL), 1);
		CHECK_EQ(ask(r, q, IN, 0, 0, NULL), 0);
		CHECK_EQ(ask(r, q, IN, last + 1, 0, NULL), 0);
		CHECK_EQ(ask(r, q, 2, 0, 512, NULL), 2);
		CHECK_EQ(ask(r, q, 0xffffffff, 0, 512, NULL), 2);
		CHECK_EQ(ask(r, q, GET_ID, 0, 20, NULL), 0);
		CHECK(memcmp(driver_at(&r->p.d, DATA), "an id\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20) == 0);
		fill(r, 65536, q);
		CHECK_EQ(ask(r, q, OUT, 0, 65536, NULL), 0);
		memcpy(driver_at(&r->p.d, DATA), &span, 16);
		CHECK_EQ(ask(r, q, WRITE_ZEROES, 0, 16, NULL), 0);
		CHECK_EQ(ask(r, q, WRITE_ZEROES, 0, 32, NULL), 1);
		span.flags = 1;
		memcpy(driver_at(&r->p.d, DATA), &span, 16);
		CHECK_EQ(ask(r, q, DISCARD, 0, 16, NULL), 2);
		CHECK_EQ(ask(r, q, WRITE_ZEROES, 0, 16, NULL), 0);
		span.flags = 2;
		memcpy(driver_at(&r->p.d, DATA), &span, 16);
		CHECK_EQ(ask(r, q, WRITE_ZEROES, 0, 16, NULL), 2);
		span.flags = 0;
		memcpy(driver_at(&r->p.d, DATA), &span, 16);
		CHECK_EQ(ask(r, q, DISCARD, 0, 16, NULL), 0);
		span.sector = last;
		memcpy(driver_at(&r->p.d, DATA), &span, 16);
		CHECK_EQ(ask(r, q, DISCARD, 0, 16, NULL), 1);
		span.sector = 8;
		CHECK_EQ(ask(r, q, IN, 8, 16 * 512, NULL), 0);
		for (unsigned i = 0; i < 16 * 512; i++)
			CHECK(*driver_at(&r->p.d, DATA + i) == 0);
		CHECK_EQ(ask(r, q, IN, 24, 512, NULL), 0);
		CHECK(*driver_at(&r->p.d, DATA) == (uint8_t)(24 * 512 * 7 + 24 * 512 / 513 + q)); /* and no further */
	}
	CHECK_EQ(virtio_pci_violations(r->p.v), 0);
	blk_close(r);
}

TEST(blk_readonly_disks_stay_as_they_are)
{
	struct blk_rig *r = blk_open(0, true, true);

	rig_negotiate(&r->p, 0);
	CHECK_EQ(rig_peek(&r->p, RIG_BAR + RIG_DEVICE_FEATURES, 4) & 0xffff, 1 << 2 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 12);
	blk_drive(r, 1 << 5);
	for (unsigned q = 0; q < 2; q++) {
		CHECK_EQ(ask(r, q, OUT, 0, 512, NULL), 1);
		CHECK_EQ(ask(r, q, WRITE_ZEROES, 0, 16, NULL), 1);
		CHECK_EQ(ask(r, q, DISCARD, 0, 16, NULL), 1);
		CHECK_EQ(ask(r, q, IN, 0, 512, NULL), 0);
		CHECK_EQ(ask(r, q, DO_FLUSH, 0, 0, NULL), 0);
	}
	blk_close(r);
}

TEST(blk_configuration)
{
	struct blk_rig *r = blk_open(0, false, true);
	int config = RIG_BAR + 0x2000;

	CHECK_EQ(rig_peek(&r->p, RIG_BAR + RIG_DEVICE_FEATURES, 4) & 0xffff, 1 << 2 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 12 | 1 << 13 | 1 << 14);
	CHECK_EQ(rig_peek(&r->p, RIG_BAR + RIG_QUEUES, 2), 2);
	CHECK_EQ(rig_peek(&r->p, config, 8), (DISK_MIB << 20) / 512);
	CHECK_EQ(rig_peek(&r->p, config + 12, 4), BLK_QUEUE_SIZE - 2);
	CHECK_EQ(rig_peek(&r->p, config + 20, 4), 512);
	CHECK_EQ(rig_peek(&r->p, config + 24, 1), 3);
	CHECK_EQ(rig_peek(&r->p, config + 34, 2), 2);
	CHECK_EQ(rig_peek(&r->p, config + 40, 4), 1);
	CHECK_EQ(rig_peek(&r->p, config + 44, 4), 8);
	CHECK_EQ(rig_peek(&r->p, config + 56, 4), 1);
	blk_close(r);
}

/* A driver that knows no flushes finds its writes durable; one that does asks for it. */
TEST(blk_flushes_for_a_driver_that_does_not)
{
	struct blk_rig *r = blk_open(1, false, true);
	struct disk_counts n;

	blk_drive(r, FLUSH);
	CHECK_EQ(ask(r, 0, OUT, 0, 100 * 1024, NULL), 0);
	disk_count(r->disk, &n);
	CHECK(n.requests[DISK_WRITE] == 4 && n.requests[DISK_FLUSH] == 0);
	CHECK_EQ(ask(r, 0, DO_FLUSH, 0, 0, NULL), 0);
	disk_count(r->disk, &n);
	CHECK_EQ(n.requests[DISK_FLUSH], 1);
	rig_reset(&r->p);
	blk_drive(r, 0);
	for (unsigned q = 0; q < 2; q++) {
		CHECK_EQ(ask(r, q, OUT, 0, 100 * 1024, NULL), 0);
		CHECK_EQ(ask(r, q, IN, 0, 100 * 1024, NULL), 0);
		CHECK_EQ(ask(r, q, OUT, 8192, 512, NULL), 1); /* a write that failed is not flushed */
	}
	disk_count(r->disk, &n);
	CHECK_EQ(n.requests[DISK_FLUSH], 3);
	blk_close(r);
}

/* The VM ends while its driver is still at it: nothing is begun, and nobody minds. */
TEST(blk_driver_that_begins_after_the_end)
{
	struct blk_rig *r = blk_open(0, false, false);

	rig_negotiate(&r->p, FLUSH);
	rig_queue_up(&r->p, 0);
	rig_queue_up(&r->p, 1);
	for (unsigned n = 0; n < RIG_NODES; n++)
		plane_hush(r->p.plane[n]);
	rig_driver_ok(&r->p);
	CHECK_EQ(rig_settle(&r->p), 0);
	rig_master(&r->p, false);
	rig_master(&r->p, true);
	CHECK_EQ(rig_settle(&r->p), 0);
	blk_close(r);
}

/* No header, or no place for the status. */
TEST(blk_breaks_on_requests_without_form)
{
	struct blk_rig *r = blk_open(0, false, true);

	for (unsigned round = 0; round < 3; round++) {
		blk_drive(r, FLUSH);
		driver_desc(&r->p.d, DRIVER_DESC + RING, 0, HEAD, round == 1 ? 15 : 16, round == 0 ? 0 : DRIVER_NEXT, 1);
		driver_desc(&r->p.d, DRIVER_DESC + RING, 1, round == 2 ? 0xffff0000 : STATUS_AT, 1, DRIVER_WRITE, 0);
		memset(driver_at(&r->p.d, HEAD), round == 2 ? 0xff : 0, 16); /* unknown, and its status is no memory */
		driver_set16(&r->p.d, DRIVER_AVAIL + RING + 2, 1);
		ensure(plane_bell(r->p.plane[1], (uint32_t)RIG_NOTIFY + 4));
		while (rig_peek(&r->p, RIG_BAR + RIG_STATUS, 1) != 0x4f)
			CHECK_EQ(rig_settle(&r->p), 0);
		rig_reset(&r->p);
	}
	blk_drive(r, FLUSH);
	CHECK_EQ(ask(r, 1, IN, 0, 512, NULL), 0);
	blk_close(r);
}

/* The disk's node has not answered: the reset waits, and what it answers then goes nowhere. */
TEST(blk_reset_waits_for_the_disk_elsewhere)
{
	for (unsigned held = 0; held < 3; held++) {
		struct blk_rig *r = blk_open(0, false, false);
		unsigned frames = 0;

		blk_drive(r, FLUSH);
		memset(driver_at(&r->p.d, DATA), 0xaa, 64 * 1024);
		offer(r, 1, IN, 0, 64 * 1024, 4096); /* two pieces */
		rig_wait_sent(&r->p, 0, 2);
		for (; frames < held; frames++)
			CHECK_EQ(rig_deliver(&r->p, 0), PEER_blk_request);
		rig_poke(&r->p, RIG_BAR + RIG_STATUS, 1, 0);
		while (rig_deliver(&r->p, 1) != PEER_queue_stop) /* an answer may come first */
			;
		CHECK(rig_peek(&r->p, RIG_BAR + RIG_STATUS, 1) != 0);
		while (rig_peek(&r->p, RIG_BAR + RIG_STATUS, 1)) {
			CHECK_EQ(rig_settle(&r->p), 0);
			sched_yield();
		}
		CHECK(held == 2 || used(r, 1) == 0); /* all of it may have been answered before the server heard of the reset */
		memset(driver_at(&r->p.d, DATA), 0xbb, 64 * 1024);
		rig_reset(&r->p);
		CHECK_EQ(rig_settle(&r->p), 0);
		blk_drive(r, FLUSH);
		offer(r, 1, OUT, 64, 512, 512);
		while (used(r, 1) != 1) {
			CHECK_EQ(rig_settle(&r->p), 0);
			sched_yield();
		}
		for (unsigned i = 0; i < 64 * 1024; i++)
			CHECK(*driver_at(&r->p.d, DATA + i) == 0xbb);
		blk_close(r);
	}
}

/* The VM ends while a server waits for a page of what the guest writes: the page comes as zeros then, which must not reach the disk. */
TEST(blk_writes_nothing_that_was_read_after_the_end)
{
	struct blk_rig *r = blk_open(1, false, true);
	struct disk_counts n;
	int absent;

	blk_drive(r, FLUSH);
	fill(r, 16384, 1);
	CHECK_EQ(ask(r, 1, OUT, 0, 16384, NULL), 0);
	absent = absent_page(driver_at(&r->p.d, DATA + 8192));
	if (absent < 0)
		SKIP("no userfaultfd here");
	offer(r, 1, OUT, 0, 16384, 4096);
	CHECK(absent_wanted(absent)); /* the worker waits there */
	plane_hush(r->p.plane[1]);
	absent_give_up(absent);
	plane_halt(r->p.plane[1]);
	disk_count(r->disk, &n);
	CHECK_EQ(n.requests[DISK_WRITE], 1);
	CHECK_EQ(used(r, 1), 1);
	blk_close(r);
}

#define SAY(r, node, from, name, ...) ({ \
	static uint8_t frame_[60000]; \
	struct peer_##name m_ = {__VA_ARGS__}; \
	size_t n_ = peer_put_##name(&m_, frame_, sizeof frame_); \
	plane_bulk((r)->p.plane[node], (node_t){from}, PEER_##name, frame_ + WIRE_HEADER_BYTES, n_ - WIRE_HEADER_BYTES); \
})

TEST(blk_refuses_what_no_correct_node_sends)
{
	struct blk_rig *r = blk_open(0, false, false);
	static uint8_t bytes[BLK_PIECE_BYTES + 512];

	blk_drive(r, FLUSH);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 0, .op = DISK_READ, .bytes = 512), -EPROTO);             /* not its queue */
	CHECK_EQ(SAY(r, 0, 2, blk_request, .queue = 1, .op = DISK_READ, .bytes = 512), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 2, .op = DISK_READ, .bytes = 512), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .device = 9, .queue = 1, .op = DISK_READ, .bytes = 512), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .slot = BLK_PIECES, .op = DISK_READ, .bytes = 512), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .op = DISK_OPS), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .op = DISK_READ, .bytes = BLK_PIECE_BYTES + 512), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .op = DISK_WRITE, .bytes = sizeof bytes, .data = {bytes, sizeof bytes}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .op = DISK_WRITE, .bytes = 1024, .data = {bytes, 512}), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .op = DISK_READ, .bytes = 512, .data = {bytes, 512}), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, blk_request, .queue = 0, .op = DISK_READ, .bytes = 512), -EPROTO);             /* no disk there */
	CHECK_EQ(SAY(r, 1, 0, blk_done, .queue = 1), -EPROTO);                                               /* nothing asked */
	CHECK_EQ(SAY(r, 0, 1, blk_done, .queue = 0), -EPROTO);
	CHECK_EQ(SAY(r, 0, 1, blk_request, .queue = 1, .op = DISK_READ, .offset = UINT64_MAX, .bytes = 512), 0); /* the disk says no */
	CHECK_EQ(rig_deliver(&r->p, 1), -EPROTO); /* to who has not asked */
	offer(r, 1, IN, 0, 512, 512);
	rig_wait_sent(&r->p, 0, 1);
	CHECK_EQ(SAY(r, 1, 0, blk_done, .queue = 1, .slot = 0, .data = {bytes, 511}), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, blk_done, .queue = 1, .slot = 0, .status = 3, .data = {bytes, 512}), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, blk_done, .queue = 1, .slot = 0, .status = 1, .data = {bytes, 512}), -EPROTO);
	CHECK_EQ(SAY(r, 1, 0, blk_done, .queue = 1, .slot = 1, .data = {bytes, 512}), -EPROTO);
	CHECK_EQ(used(r, 1), 0);
	CHECK_EQ(SAY(r, 1, 0, blk_done, .queue = 1, .slot = 0, .status = 1), 0);
	while (used(r, 1) != 1)
		sched_yield();
	CHECK_EQ(*driver_at(&r->p.d, STATUS_AT + 1), 1);
	blk_close(r);
}
