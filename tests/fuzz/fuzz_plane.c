/* A hostile node against the device plane and virtio-blk: any message of the bus and io streams, true to form or not, from any node, at the devices' node
 * or at another, with the disk here or there. Nothing is asserted, and what the node holds for others is bounded. */
#include "base/ensure.h"
#include "dev/virtio_blk.h"
#include "tests/fuzz/function_steps.h"
#include "tests/fuzz/fuzz.h"
#include "wire/peer.h"

#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 64 * 1024, QUEUES = 3, ASKED_MAX = QUEUES * BLK_PIECES };

static struct {
	struct virtio_blk *blk;
	struct disk_request *asked[ASKED_MAX];
	bool *slot[ASKED_MAX];  /* of another node's request: what it has taken */
	bool taken[QUEUES][BLK_PIECES];
	unsigned asks, self;
} rig;

static int rig_send(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	uint32_t body;
	uint16_t id;

	ensure(to.v != rig.self && to.v < QUEUES && wire_get_header(frame, &id, &body) == 0 && body + WIRE_HEADER_BYTES == bytes);
	return 0;
}

bool disk_waits_alone(const struct disk *d)
{
	return true;
}

int disk_submit(struct disk *d, struct disk_request *r)
{
	if (r->offset + r->bytes < r->offset || r->offset + r->bytes > 1 << 20)
		return -ERANGE;
	ensure(rig.asks < ASKED_MAX);
	rig.slot[rig.asks] = NULL;
	rig.asked[rig.asks++] = r;
	return 0;
}

static void step_disk(bool fails)
{
	struct disk_request *r;

	if (!rig.asks)
		return;
	r = rig.asked[--rig.asks];
	if (rig.slot[rig.asks])
		*rig.slot[rig.asks] = false;
	r->done(r, fails ? -EIO : 0);
}

/* A message whose fields are small numbers most of the time, so that some are believed. */
static void step_message(struct steps *s, unsigned what, node_t from)
{
	static const unsigned ids[] = {PEER_queue_start, PEER_queue_stop, PEER_queue_wire, PEER_queue_ring, PEER_queue_stopped, PEER_queue_broken, PEER_queue_raise,
		PEER_blk_request, PEER_blk_done, PEER_irq};
	unsigned id = ids[what % ARRAY_LEN(ids)];
	static uint8_t frame[4096], data[1024];
	uint8_t device = (uint8_t)(steps_take(s, 1) % 3 == 0);
	uint16_t queue = (uint16_t)(steps_take(s, 1) % (QUEUES + 1)), slot = (uint16_t)(steps_take(s, 1) % (BLK_PIECES + 1));
	uint32_t n = (uint32_t)steps_take(s, 2), given = what & 0x80 ? n % sizeof data : n / 2 % sizeof data;
	struct peer_queue_start start = {device, queue, slot, 8, 0x1000, 0x2000, 0x3000ull + n, 1};
	struct peer_queue_wire wire = {device, queue, 0xc0003000, slot & 1, 0xfee00000, n};
	struct peer_blk_request request = {device, queue, slot, (uint8_t)(n % 6), 0, steps_take(s, 3), n % sizeof data, {data, given}};
	struct peer_blk_done done = {device, queue, slot, (uint8_t)(n % 4), {data, given}};
	struct peer_queue_stop other = {device, queue};
	size_t bytes = id == PEER_queue_start ? peer_put_queue_start(&start, frame, sizeof frame) : id == PEER_queue_wire ? peer_put_queue_wire(&wire, frame, sizeof frame)
		: id == PEER_blk_request ? peer_put_blk_request(&request, frame, sizeof frame) : id == PEER_blk_done ? peer_put_blk_done(&done, frame, sizeof frame)
		: peer_put_queue_stop(&other, frame, sizeof frame);
	unsigned asks = rig.asks;
	int err;

	ensure(bytes > WIRE_HEADER_BYTES);
	bytes -= WIRE_HEADER_BYTES;
	if (what & 0x40)
		frame[WIRE_HEADER_BYTES + n % bytes] ^= (uint8_t)(n >> 8);
	if ((what & 0x60) == 0x60)
		bytes = n % bytes;
	err = (id == PEER_blk_request || id == PEER_blk_done ? plane_bulk : plane_message)(function.plane, from, id, frame + WIRE_HEADER_BYTES, bytes);
	ensure(err == 0 || err == -EBADMSG || err == -EPROTO);
	if (id != PEER_blk_request || rig.asks == asks || what & 0x40)
		return;
	ensure(!rig.taken[queue][slot]); /* one request a slot */
	rig.slot[asks] = &rig.taken[queue][slot];
	*rig.slot[asks] = true;
}

/* The driver, on the devices' node. */
static void drive_up(unsigned queue)
{
	function_map();
	function_negotiate(0);
	function_queue(queue % QUEUES, 0x1000, 0x2000, 0x3000);
	function_begin();
}

/* A read of one sector is offered in the rings of every queue. */
static void offer(void)
{
	static const struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d[3] = {{0x5000, 16, 1, 1}, {0x6000, 512, 3, 2}, {0x5800, 1, 2, 0}};

	memcpy(function.memory + 0x1000, d, sizeof d);
	function.memory[0x2002]++;
}

static void rig_step(struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), more = (unsigned)steps_take(s, 1);

	switch (what % 8) {
	case 0: steps_run_worker(more); break;
	case 1: step_disk(more & 1); break;
	case 2: offer(); break;
	case 3:
		if (function.v)
			drive_up(more);
		break;
	case 4:
		if (function.v)
			function_common(20, 1, 0);
		plane_bell(function.plane, FUNCTION_BAR + 0x3000 + more % 16);
		break;
	default: step_message(s, more, (node_t){(uint8_t)((rig.self + 1 + what / 8 % (QUEUES - 1)) % QUEUES)});
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct steps s = {.at = data, .end = data + bytes};
	struct virtio_blk_config c = {.bytes = 1 << 20, .block_bytes = 512, .optimal_bytes = 512, .queues = QUEUES, .queue_node = {{0}, {1}, {2}}, .writes_back = true};
	unsigned kind = (unsigned)steps_take(&s, 1);
	struct virtio_dev dev;

	memset(&rig, 0, sizeof rig);
	rig.self = kind & 1;
	function_open(RAM_BYTES, (struct plane_config){.self = {(uint8_t)rig.self}, .send = rig_send});
	c.plane = function.plane;
	c.self.v = (uint8_t)rig.self;
	c.disk_node.v = (uint8_t)(kind >> 1 & 1);
	c.disk = node_eq(c.self, c.disk_node) ? (struct disk *)(void *)&rig : NULL;
	ensure(virtio_blk_open(&rig.blk, &c) == 0);
	dev = virtio_blk_dev(rig.blk);
	function_add(&dev, c.queue_node);
	if (rig.self == 0)
		function_attach();
	while (steps_left(&s))
		rig_step(&s);
	function_halt();
	while (rig.asks)
		step_disk(false);
	virtio_blk_close(rig.blk);
	function_close();
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	/* At another node: start, a request, its answer, stop. At the devices' node with the disk: a driver, a request of another's. */
	static const uint8_t server[] = {1, 5, 0, 1, 1, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 5, 8, 1, 1, 0, 0, 0, 0, 0, 0, 5, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0};
	static const uint8_t owner[] = {0, 3, 0, 2, 0, 0, 0, 1, 0, 0, 0, 5, 7, 1, 1, 3, 0, 2, 0, 0, 0, 1, 0, 4, 0, 1, 0, 0, 0};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{server, sizeof server}, {owner, sizeof owner}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
