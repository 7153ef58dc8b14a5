/* A hostile driver, a hostile node and a rude link against the network card: any bytes in rings and headers, chains into holes, control commands, GSO sizes, frames of
 * any length, messages of any content, resets in between, in any order with the workers. What is sent has a size that frames have, what waits is bounded, and after a
 * reset the card works again. */
#include "base/ensure.h"
#include "dev/virtio_net.h"
#include "tests/fuzz/function_steps.h"
#include "tests/fuzz/fuzz.h"
#include "wire/peer.h"

#include <string.h>

enum { QUEUES = 5, RING = 0x1000, AVAIL = 0x400, USED = 0x800, DATA = 0x8000, HDR = 12 };
enum { USUAL = 1 << 15 | 1 << 17 | 1 << 18 | 1 << 22, OFFLOADS = 1 << 0 | 1 << 1 | 1 << 7 | 1 << 11 };

struct rig {
	struct virtio_net *n;
	struct nic_calls calls;
	bool here;             /* the link */
	unsigned head;
	uint64_t sent, owed;   /* frames; what a transmit queue's batches cost that we have not given credit for */
	size_t last;           /* bytes of the last frame sent */
};

static struct rig rig;

static void sent(size_t bytes)
{
	ensure(bytes >= NIC_FRAME_MIN && bytes <= NIC_FRAME_MAX);
	rig.sent++;
	rig.last = bytes;
}

/* Node 1 hears what we say to it. */
static int rig_send(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	struct peer_net_frames m;
	struct ferry_record r;
	uint32_t body, at = 0;
	uint16_t id;

	ensure(to.v == 1 && bulk && wire_get_header(frame, &id, &body) == 0 && body + WIRE_HEADER_BYTES == bytes);
	if (id != PEER_net_frames)
		return 0;
	ensure(peer_get_net_frames(frame + WIRE_HEADER_BYTES, body, &m) == 0);
	rig.owed += m.data.bytes + (m.more ? 0 : FERRY_BATCH_COST);
	ensure(rig.owed <= QUEUES / 2 * FERRY_WINDOW);
	while (!m.more && at < m.data.bytes && ferry_get(m.data.at, m.data.bytes, &at, &r))
		sent(r.bytes);
	return 0;
}

static int link_start(void *link, const struct nic_calls *calls)
{
	rig.calls = *calls;
	return 0;
}

static void link_stop(void *link)
{
}

static int link_send(void *link, const struct iovec *frame, unsigned frames)
{
	ensure(frames >= 1 && frames <= NIC_BATCH_MAX);
	for (unsigned i = 0; i < frames; i++)
		sent(frame[i].iov_len - (rig.head ? sizeof(struct ferry_hdr) : 0));
	return 0;
}

static void link_resume(void *link)
{
}

static bool link_busy(void *link)
{
	return false;
}

static void link_offload(void *link, unsigned flags)
{
	ensure(rig.head && flags < 8);
}

static uint64_t ring(unsigned q)
{
	return RING * (q + 1);
}

static void drive_up(uint32_t features)
{
	function_map();
	function_negotiate(features);
	for (unsigned q = 0; q < (features >> 22 & 1 ? QUEUES : 2); q++)
		function_queue(q, ring(q), ring(q) + AVAIL, ring(q) + USED);
	function_begin();
}

static void desc(unsigned q, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	function_desc(ring(q), i % FUNCTION_SIZE, addr, len, flags, next);
}

static void offer(unsigned q, uint16_t head)
{
	function_offer(q, ring(q) + AVAIL, head);
}

static void arrive(uint32_t bytes, uint64_t start)
{
	static uint8_t frame[NIC_FRAME_MAX + 64];

	memcpy(frame, &start, sizeof start);
	rig.calls.receive(rig.calls.user, frame, bytes % sizeof frame);
	rig.calls.flush(rig.calls.user);
}

/* From the other node: mostly what it may say, with any content. */
static void step_message(struct steps *s, unsigned what)
{
	struct peer_net_frames f = {.queue = (uint16_t)(what % 6), .more = what >> 3 & 1};
	struct peer_net_credit c = {.queue = (uint16_t)(what % 6), .cost = (uint32_t)steps_take(s, 3)};
	struct peer_net_setup u = {.pairs = (uint16_t)(what % 4), .offloads = (uint8_t)(what >> 3 & 15)};
	struct peer_net_link l = {.up = what & 1};
	static uint8_t frame[4096], batch[512];
	uint32_t bytes = (uint32_t)steps_take(s, 1);
	size_t n = 0;

	memset(batch, 0, sizeof batch);
	memcpy(batch, &bytes, sizeof bytes);
	for (unsigned i = 0; i < sizeof(struct ferry_hdr); i++)
		batch[4 + i] = (uint8_t)steps_take(s, 1);
	f.data = (struct wire_blob){batch, what & 0x80 ? bytes : bytes + FERRY_RECORD_HEAD};
	switch (what >> 4 & 3) {
	case 0: n = peer_put_net_frames(&f, frame, sizeof frame); break;
	case 1: n = peer_put_net_credit(&c, frame, sizeof frame); break;
	case 2: n = peer_put_net_setup(&u, frame, sizeof frame); break;
	case 3: n = peer_put_net_link(&l, frame, sizeof frame); break;
	}
	ensure(n > 0);
	if (plane_bulk(function.plane, (node_t){1}, PEER_net_frames + (what >> 4 & 3), frame + WIRE_HEADER_BYTES, n - WIRE_HEADER_BYTES) == 0 && (what >> 4 & 3) == 1)
		rig.owed -= c.queue % 2 ? c.cost : 0;
}

static void rig_step(struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), arg = (unsigned)steps_take(s, 1), q = arg % QUEUES;
	uint64_t value;

	switch (what % 11) {
	case 0: drive_up((arg & 1 ? 0 : USUAL) | (rig.head && arg & 2 ? OFFLOADS : 0)); break;
	case 1:
		value = steps_take(s, 3);
		desc(q, what / 11, DATA + value, (uint32_t)steps_take(s, 3) & 0x1ffff, arg >> 5, (what / 11 + 1) % FUNCTION_SIZE);
		break;
	case 2: offer(q, (uint16_t)(what / 11)); break;
	case 3: function_ring(q); break;
	case 4: value = steps_take(s, 8); function_set(DATA + 16 * arg, &value, 8); break;
	case 5: value = steps_take(s, 8); function_set(steps_take(s, 2), &value, 8); break;
	case 6: function_common(arg, 1u << what / 11 % 4, steps_take(s, 8)); break;
	case 7: steps_run_worker(arg); break;
	case 8:
		if (rig.here)
			arrive((uint32_t)steps_take(s, 3), steps_take(s, 8));
		break;
	case 9: step_message(s, arg); break;
	case 10:
		if (rig.here)
			rig.calls.link(rig.calls.user, arg & 1);
		break;
	}
}

/* Whatever has happened, after a reset an honest frame leaves. */
static void rig_judge(void)
{
	uint64_t before;

	steps_settle();
	drive_up(USUAL);
	function_common(20, 1, 0);
	ensure(function_status() == 0);
	function_clear();
	before = rig.sent;
	steps_settle();
	ensure(rig.sent == before);
	if (!rig.here && rig.owed > 64 * 1024) /* nobody gives credit any more */
		return;
	drive_up(USUAL);
	desc(1, 0, DATA, HDR + 60, 0, 0);
	offer(1, 0);
	desc(0, 0, DATA + 0x1000, 2000, 2, 0);
	offer(0, 0);
	function_ring(1);
	function_ring(0);
	steps_settle();
	ensure(rig.sent == before + 1 && rig.last == 60 && function.memory[0x2802] == 1);
	if (!rig.here)
		return;
	arrive(rig.head + 100, 0);
	steps_settle();
	ensure(function.memory[0x1802] == 1 && function.memory[0x1808] == HDR + 100);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct steps s = {.at = data, .end = data + bytes};
	unsigned how = (unsigned)steps_take(&s, 1);
	struct virtio_net_config c = {.ferry = {.pairs = 2, .offloads = how & 1, .link_node = {how >> 1 & 1}}, .mtu = 1500};
	node_t node[VIRTIO_QUEUES_MAX] = {0};
	struct virtio_dev dev;

	memset(&rig, 0, sizeof rig);
	rig.here = !(how >> 1 & 1);
	rig.head = how & 1 ? sizeof(struct ferry_hdr) : 0;
	function_open(FUNCTION_RAM_MAX, (struct plane_config){.send = rig_send});
	c.ferry.plane = function.plane;
	if (rig.here)
		c.ferry.link = (struct ferry_link){link_start, link_stop, link_send, link_resume, link_offload, link_busy, &rig};
	ensure(virtio_net_open(&rig.n, &c) == 0);
	dev = virtio_net_dev(rig.n);
	virtio_net_nodes(rig.n, node);
	function_add(&dev, node);
	function_attach();
	ensure(virtio_net_start(rig.n) == 0);
	while (steps_left(&s))
		rig_step(&s);
	rig_judge();
	virtio_net_halt(rig.n);
	function_halt();
	virtio_net_close(rig.n);
	function_close();
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t story[] = {
		0, 0, 0, 1, 1, 0, 0, 0, 112, 0, 0, 2, 1, 3, 1, 7, 1,                   /* up; a frame to send */
		1, 0x40, 0, 16, 0, 208, 7, 0, 2, 0, 8, 0, 100, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 0, /* a buffer; a frame comes */
		10, 0, 6, 20, 0, 0, 0, 0, 0, 0, 0, 0,                                 /* link down; reset */
	};
	static const uint8_t far[] = {
		2, 0, 0, 1, 1, 0, 0, 0, 112, 0, 0, 2, 1, 3, 1, 7, 1,
		9, 0, 0, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0,              /* frames for queue 0 */
		9, 0x11, 190, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                 /* credit */
	};
	static const uint8_t offloads[] = {
		1, 0, 2, 4, 0, 1, 1, 54, 0, 168, 5, 34, 0, 1, 1, 0, 0, 0, 0, 1, 0, 2, 1, 3, 1, 7, 1,
		8, 0, 0, 1, 0, 1, 1, 54, 0, 168, 5, 34, 0, 7, 0,
	};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{story, sizeof story}, {far, sizeof far}, {offloads, sizeof offloads}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
