/* A hostile driver's balloon: any bytes in its memory, any requests, and a pager that is done at once, later or never before the end. Only whole
 * pages of RAM are ever freed, one run at a time; messages that no node sends are refused. The first byte's lowest bit: we are the home of pages, and the
 * devices are elsewhere. */
#include "base/ensure.h"
#include "dev/virtio_balloon.h"
#include "tests/fuzz/dev_steps.h"
#include "tests/fuzz/fuzz.h"
#include "wire/peer.h"

#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 64 * 1024, PAGES = RAM_BYTES >> PAGE_SHIFT, QUEUES = 3, SIZE = 8, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, STRIDE = 0x4000 };

static struct {
	struct ram ram, homes;
	struct plane *plane;
	struct virtio_balloon *b;
	struct virtio_dev dev;
	struct virtq q[QUEUES];
	struct pager_discard *under_way;
	uint16_t offered[QUEUES];
	uint8_t memory[RAM_BYTES] __attribute__((aligned(4096)));
} rig;

static int rig_free(void *user, struct pager_discard *d)
{
	ensure(d->pages && d->first < PAGES && d->pages <= PAGES - d->first);
	for (uint64_t p = d->first; p < d->first + d->pages; p++)
		ensure(ram_page_home(&rig.homes, p).v == 0);
	d->next = rig.under_way;
	rig.under_way = d;
	return 0;
}

static void rig_done(void)
{
	struct pager_discard *d = rig.under_way;

	if (!d)
		return;
	rig.under_way = d->next;
	d->done(d);
}

static int rig_send(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	ensure(to.v == 1 && bulk && bytes > WIRE_HEADER_BYTES);
	return 0;
}

static void rig_serve(unsigned queue)
{
	static atomic_bool stop;
	int got = rig.dev.ops->serve(rig.dev.dev, queue, &rig.q[queue], 1u << 5, &stop);

	ensure(got >= 0 || got == -EPROTO);
}

static void rig_step(struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), queue = what / 8 % QUEUES;
	uint64_t at, value;
	uint8_t body[32];

	switch (what % 8) {
	case 0:
	case 1: {
		struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d = {.addr = steps_take(s, 3), .len = (uint32_t)steps_take(s, 2),
			.flags = (uint16_t)steps_take(s, 1) % 4, .next = (uint16_t)(steps_take(s, 1) % SIZE)};

		memcpy(rig.memory + queue * STRIDE + DESC + 16 * (what / 32), &d, sizeof d);
		break;
	}
	case 2:
		value = steps_take(s, 1) % SIZE;
		memcpy(rig.memory + queue * STRIDE + AVAIL + 4 + 2u * (rig.offered[queue]++ % SIZE), &value, 2);
		memcpy(rig.memory + queue * STRIDE + AVAIL + 2, &rig.offered[queue], 2);
		break;
	case 3:
		at = steps_take(s, 2);
		value = steps_take(s, 4);
		memcpy(rig.memory + at % (RAM_BYTES - 4), &value, 4);
		break;
	case 4: rig_done(); break;
	case 5:
		for (unsigned i = 0; i < sizeof body; i++)
			body[i] = (uint8_t)steps_take(s, 1);
		value = rig.dev.ops->message(rig.dev.dev, (node_t){what / 8 % 2}, what & 0x80 ? PEER_balloon_free : PEER_balloon_freed, body, what & 0x40 ? 19 : 3) == 0;
		break;
	default: rig_serve(queue);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct steps s = {.at = data, .end = data + bytes};
	struct virtio_balloon_config c = {.ram = &rig.homes, .devices = {steps_take(&s, 1) & 1}, .free_pages = rig_free};

	memset(&rig, 0, sizeof rig);
	rig.ram = (struct ram){.range = {{.bytes = RAM_BYTES}}, .hva = {rig.memory}, .ranges = 1, .bytes = RAM_BYTES};
	rig.homes = (struct ram){.range = {{.bytes = RAM_BYTES / 2}, {.gpa = {RAM_BYTES / 2}, .bytes = RAM_BYTES / 2, .home = {1}}}, .ranges = 2, .bytes = RAM_BYTES};
	ensure(plane_open(&rig.plane, &(struct plane_config){.devices = c.devices, .ram = &rig.ram, .send = rig_send}) == 0);
	ensure(virtio_balloon_open(&rig.b, &c) == 0);
	virtio_balloon_joined(rig.b, rig.plane, 0);
	rig.dev = virtio_balloon_dev(rig.b);
	ensure(plane_add(rig.plane, 0, &rig.dev, (node_t[VIRTIO_QUEUES_MAX]){{0}}) == 0);
	for (unsigned q = 0; q < QUEUES; q++)
		ensure(virtq_open(&rig.q[q], &(struct virtq_config){.ram = &rig.ram, .size = SIZE, .desc = {q * STRIDE + DESC}, .avail = {q * STRIDE + AVAIL},
			.used = {q * STRIDE + USED}, .indirect = true}) == 0);
	while (steps_left(&s))
		rig_step(&s);
	while (rig.under_way)
		rig_done();
	plane_halt(rig.plane);
	plane_close(rig.plane);
	virtio_balloon_close(rig.b);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t report[] = {0, 16, 0, 0x80, 0, 0, 0x30, 2, 0, 18, 0, 22, 4, 22}; /* a report of pages of node 1 and node 0 */
	static const uint8_t inflate[] = {0, 3, 0, 0, 5, 0, 0, 0, 3, 4, 0, 6, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 2, 0, 6, 4, 6};
	static const uint8_t home[] = {1, 0xc5 | 8, 0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{home, sizeof home}, {report, sizeof report}, {inflate, sizeof inflate}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
