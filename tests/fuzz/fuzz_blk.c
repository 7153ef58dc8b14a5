/* A hostile driver against virtio-blk: any requests in any rings, indirect tables and sizes, sectors out of range, resets and bus mastering while requests are
 * under way, in any order with the worker and with the disk, which is here or on another node (an honest one). The disk is asked for nothing outside itself,
 * a device that was reset owns nothing and touches nothing, and then it works. */
#include "base/ensure.h"
#include "dev/virtio_blk.h"
#include "tests/fuzz/function_steps.h"
#include "tests/fuzz/fuzz.h"
#include "wire/peer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, TABLE = 0x4000, HEAD = 0x5000, DATA = 0x10000, DISK_BYTES = 256 * 1024, ASKED_MAX = BLK_PIECES };

/* What the disk has been asked: a request here, or a message's. */
struct asked {
	struct disk_request *here;
	struct peer_blk_request there;
	uint8_t data[BLK_PIECE_BYTES];
};

struct rig {
	struct virtio_blk *blk;
	uint8_t disk[DISK_BYTES];
	struct asked asked[ASKED_MAX];
	unsigned asks;
	bool readonly, alone, patient;
};

static struct rig rig;

/* dev/disk.c's part. */
bool disk_waits_alone(const struct disk *d)
{
	return rig.patient;
}

static void judge_data(const struct disk_request *r)
{
	bool direct = rig.patient && (rig.alone || r->op == DISK_READ);
	uint64_t sum = 0;

	for (unsigned i = 0; i < r->iovs; i++)
		sum += r->iov[i].iov_len;
	ensure(r->bytes && sum == r->bytes && r->iovs <= (direct ? BLK_QUEUE_SIZE : 1) && r->bytes <= (direct ? BLK_DIRECT_BYTES : BLK_PIECE_BYTES));
}

int disk_submit(struct disk *d, struct disk_request *r)
{
	if ((r->offset | r->bytes) % DISK_SECTOR || (r->op != DISK_READ && r->op != DISK_FLUSH && rig.readonly))
		return -EINVAL;
	ensure(r->offset <= DISK_BYTES && r->bytes <= DISK_BYTES - r->offset && rig.asks < ASKED_MAX);
	if (r->op == DISK_READ || r->op == DISK_WRITE)
		judge_data(r);
	rig.asked[rig.asks++].here = r;
	return 0;
}

static int rig_send(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	struct asked *a = &rig.asked[rig.asks];
	uint32_t body;
	uint16_t id;

	ensure(bulk && to.v == 1 && rig.asks < ASKED_MAX && wire_get_header(frame, &id, &body) == 0 && id == PEER_blk_request);
	a->here = NULL;
	ensure(peer_get_blk_request(frame + WIRE_HEADER_BYTES, body, &a->there) == 0);
	ensure(a->there.offset <= DISK_BYTES && a->there.bytes <= DISK_BYTES - a->there.offset && a->there.op < DISK_OPS);
	ensure(!rig.readonly || a->there.op == DISK_READ || a->there.op == DISK_FLUSH);
	ensure(a->there.data.bytes <= sizeof a->data);
	if (a->there.data.bytes)
		memcpy(a->data, a->there.data.at, a->there.data.bytes);
	rig.asks++;
	return 0;
}

static void disk_do(enum disk_op op, uint64_t offset, uint64_t bytes, void *data)
{
	if (op == DISK_READ)
		memcpy(data, rig.disk + offset, bytes);
	else if (op == DISK_WRITE)
		memcpy(rig.disk + offset, data, bytes);
	else if (op == DISK_WRITE_ZEROES)
		memset(rig.disk + offset, 0, bytes);
}

static void disk_do_here(const struct disk_request *r)
{
	uint64_t at = r->offset;

	if (r->op != DISK_READ && r->op != DISK_WRITE)
		disk_do(r->op, at, r->bytes, NULL);
	for (unsigned i = 0; i < r->iovs; at += r->iov[i++].iov_len)
		disk_do(r->op, at, r->iov[i].iov_len, r->iov[i].iov_base);
}

static void answer_there(struct asked *a, bool fails)
{
	static uint8_t frame[BLK_PIECE_BYTES + 64];
	struct peer_blk_done m = {.device = a->there.device, .queue = a->there.queue, .slot = a->there.slot, .status = fails};
	size_t n;

	if (!fails && a->there.op == DISK_READ)
		m.data = (struct wire_blob){a->data, (uint32_t)a->there.bytes};
	n = peer_put_blk_done(&m, frame, sizeof frame);
	ensure(n > 0 && plane_bulk(function.plane, (node_t){1}, PEER_blk_done, frame + WIRE_HEADER_BYTES, n - WIRE_HEADER_BYTES) == 0);
}

/* The disk ends one of what it was asked. */
static void step_disk(unsigned which, bool fails)
{
	static struct asked a;

	if (!rig.asks)
		return;
	which %= rig.asks;
	a = rig.asked[which];
	memmove(&rig.asked[which], &rig.asked[which + 1], (--rig.asks - which) * sizeof a);
	if (a.here) {
		if (!fails)
			disk_do_here(a.here);
		a.here->done(a.here, fails ? -EIO : 0);
	} else {
		if (!fails)
			disk_do(a.there.op, a.there.offset, a.there.bytes, a.data);
		answer_there(&a, fails);
	}
}

static void drive_up(unsigned features)
{
	function_map();
	function_negotiate((features & 3) << 28 | (features & 4) << 7); /* indirect, event index, flush */
	function_queue(0, DESC, AVAIL, USED);
	function_begin();
}

/* A request as a driver makes it, with numbers of the input's, directly or through a table. */
static void step_request(struct steps *s, unsigned what)
{
	static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 2, 0xffffffff};
	struct { uint32_t type, priority; uint64_t sector; } head = {.type = types[what & 7], .sector = steps_take(s, 2) << (what & 0x10 ? 47 : 0)};
	struct { uint64_t sector; uint32_t sectors, flags; } span = {steps_take(s, 2), (uint32_t)steps_take(s, 2), (uint32_t)(what >> 5 & 3)};
	unsigned slot = (unsigned)steps_take(s, 1), bytes = (unsigned)steps_take(s, 2) << 3, first = slot % 3 * 2;
	uint64_t table = what & 8 ? DESC : TABLE;
	uint16_t in = head.type == 0 || head.type == 8 ? 2 : 0;

	function_set(HEAD + 32 * (slot % 4), &head, sizeof head);
	if (what & 4)
		function_set(DATA, &span, sizeof span);
	first = what & 8 ? first : 0;
	function_desc(table, first, HEAD + 32 * (slot % 4), 16, 1, (uint16_t)(first + 1));
	function_desc(table, first + 1, DATA + (slot & 0x80 ? 0xff00 : 0), what & 4 ? 16 : bytes, 1 | in, (uint16_t)(first + 2));
	function_desc(table, first + 2, HEAD + 0x200 + slot % 16, 1, 2, 0);
	if (!(what & 8))
		function_desc(DESC, 7, TABLE, 48, 4, 0);
	function_offer(0, AVAIL, (uint16_t)(what & 8 ? first : 7));
}

static void rig_step(struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), more = (unsigned)steps_take(s, 1);
	uint64_t bytes;

	switch (what % 10) {
	case 0: drive_up(more); break;
	case 1:
	case 2: step_request(s, more); break;
	case 3: function_ring(0); break;
	case 4: steps_run_worker(0); break;
	case 5: step_disk(more, what >= 240); break;
	case 6: function_common(20, 1, 0); break;
	case 7: function_poke(FUNCTION_CONFIG + 4, 2, more & 1 ? 6 : 2); break;
	case 8:
		bytes = steps_take(s, 8);
		function_set(steps_take(s, 2) % 0x6000, &bytes, 1 + more % 8);
		break;
	case 9: function_desc(more & 0x80 ? TABLE : DESC, more % 8, steps_take(s, 3), (uint32_t)steps_take(s, 3), (uint16_t)(steps_take(s, 1) % 8), more >> 3 & 7); break;
	}
}

/* A reset, whatever is under way: 0 is read once the disk has answered all, and then nothing is touched. */
static void judge_reset(void)
{
	static uint8_t before[FUNCTION_RAM_MAX];

	function_common(20, 1, 0);
	steps_settle();
	while (rig.asks) {
		ensure(function_status() != 0);
		step_disk(0, false);
		steps_settle();
	}
	ensure(function_status() == 0);
	memcpy(before, function.memory, sizeof before);
	plane_ring(function.plane, 0, 0);
	steps_settle();
	ensure(memcmp(before, function.memory, sizeof before) == 0 && rig.asks == 0);
}

static void honest(uint32_t type, uint64_t sector, uint64_t data, uint32_t bytes)
{
	uint64_t head[2] = {type, sector};

	function_set(HEAD, head, sizeof head);
	function.memory[HEAD + 0x200] = 0x55;
	function_desc(DESC, 0, HEAD, 16, 1, 1);
	function_desc(DESC, 1, data, bytes, type ? 1 : 3, 2);
	function_desc(DESC, 2, HEAD + 0x200, 1, 2, 0);
	function_offer(0, AVAIL, 0);
	function_ring(0);
	for (steps_settle(); rig.asks; steps_settle())
		step_disk(rig.asks - 1, false);
	ensure(function.memory[HEAD + 0x200] == (type && rig.readonly) && function.memory[USED + 2] == function.offered[0]);
}

static void rig_judge(void)
{
	function_map();
	judge_reset();
	function_clear();
	drive_up(0);
	memset(function.memory + DATA, 0xa7, 40 * 1024);
	honest(1, 8, DATA, 40 * 1024);
	memset(function.memory + DATA, 0, 40 * 1024);
	honest(0, 8, DATA, 40 * 1024);
	ensure(memcmp(function.memory + DATA, rig.disk + 4096, 40 * 1024) == 0 && (rig.readonly || function.memory[DATA + 40 * 1024 - 1] == 0xa7));
	judge_reset();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct steps s = {.at = data, .end = data + bytes};
	struct virtio_blk_config c = {.bytes = DISK_BYTES, .block_bytes = 512, .optimal_bytes = 4096, .queues = 1, .discards = true};
	unsigned kind = (unsigned)steps_take(&s, 1);
	struct virtio_dev dev;

	memset(&rig, 0, sizeof rig);
	function_open(FUNCTION_RAM_MAX, (struct plane_config){.send = rig_send});
	rig.readonly = kind & 2;
	rig.patient = !(kind & 4);
	rig.alone = c.alone = kind & 8;
	c.plane = function.plane;
	c.readonly = rig.readonly;
	c.writes_back = !rig.readonly;
	c.disk_node.v = kind & 1;
	c.disk = kind & 1 ? NULL : (struct disk *)(void *)&rig;
	ensure(virtio_blk_open(&rig.blk, &c) == 0);
	dev = virtio_blk_dev(rig.blk);
	function_add(&dev, c.queue_node);
	function_attach();
	while (steps_left(&s))
		rig_step(&s);
	rig_judge();
	function_halt();
	virtio_blk_close(rig.blk);
	function_close();
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t story[] = {
		0, 0, 5, 1, 0x09, 8, 0, 1, 0, 1, 0, 0, 0x10, 3, 0, 4, 0, 5, 0, 5, 0, 4, 0, /* up with indirect and flush; write, notify, work, the disk, again */
		1, 0x00, 8, 0, 1, 0, 1, 0, 0, 0x10, 3, 0, 4, 0, 5, 0, 4, 0,                /* read it through a table */
		1, 0x0c, 0, 0, 9, 0, 4, 0, 1, 0, 0, 4, 0, 5, 0, 4, 0,                      /* discard */
		1, 0x0d, 0, 0, 9, 0, 4, 0, 1, 0, 0, 4, 0, 6, 0,                            /* write zeroes, reset in the middle */
	};
	static const uint8_t held[] = {
		1, 0, 1, 1, 0x08, 8, 0, 1, 0, 1, 0, 0, 0x10, 3, 0, 4, 0, 7, 0, 5, 0, 4, 0, 7, 1, 4, 0, 6, 0, 0, 1, 4, 0, /* elsewhere; bus mastering off and on */
	};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{story, sizeof story}, {held, sizeof held}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
