/* See queue_steps.h. */
#include "tests/fuzz/queue_steps.h"

#include "base/ensure.h"

#include <string.h>

enum { RAM_BYTES = 64 * 1024, SIZE = 8, AREA = 0x1000, AVAIL = 0x200, USED = 0x400, DATA = 0x8000, QUEUES_MAX = 8 };

static struct {
	struct plane *plane;
	struct ram ram;
	struct virtio_dev dev;
	uint8_t memory[RAM_BYTES] __attribute__((aligned(4096)));
	struct { enum { QUEUE_OFF, QUEUE_ON, QUEUE_ENDS } state; uint16_t offered; struct vqueue_setup setup; } q[QUEUES_MAX];
} rig;

static void on_raise(void *fn, unsigned queue)
{
	ensure(queue < rig.dev.queues);
}

static void on_stopped(void *fn, unsigned queue)
{
	ensure(queue < rig.dev.queues && rig.q[queue].state == QUEUE_ENDS);
	rig.q[queue].state = QUEUE_OFF;
}

static void on_msi(void *user, uint64_t address, uint32_t data)
{
}

struct plane *queue_steps_open(void)
{
	memset(&rig, 0, sizeof rig);
	rig.ram = (struct ram){.range = {{.bytes = RAM_BYTES}}, .hva = {rig.memory}, .ranges = 1, .bytes = RAM_BYTES};
	ensure(plane_open(&rig.plane, &(struct plane_config){.ram = &rig.ram, .msi = on_msi}) == 0);
	return rig.plane;
}

void queue_steps_add(const struct virtio_dev *dev)
{
	rig.dev = *dev;
	ensure(dev->queues <= QUEUES_MAX && plane_add(rig.plane, 0, dev, (node_t[VIRTIO_QUEUES_MAX]){{0}}) == 0);
	plane_attach(rig.plane, 0, &(struct plane_function){.raise = on_raise, .stopped = on_stopped, .broken = on_raise, .fn = &rig});
}

void queue_steps_close(void)
{
	plane_halt(rig.plane);
	plane_close(rig.plane);
}

static void queue_start(unsigned i, bool anew)
{
	uint64_t base = AREA * (uint64_t)i;

	if (rig.q[i].state != QUEUE_OFF)
		return;
	if (anew || !rig.q[i].setup.epoch) {
		rig.q[i].setup = (struct vqueue_setup){.epoch = rig.q[i].setup.epoch + 1, .size = SIZE, .desc = {base}, .avail = {base + AVAIL}, .used = {base + USED},
			.features = 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT_DESC};
		memset(rig.memory + base, 0, AREA);
		rig.q[i].offered = 0;
	}
	rig.q[i].state = QUEUE_ON;
	plane_start(rig.plane, 0, i, &rig.q[i].setup);
}

static void queue_stop(unsigned i)
{
	if (rig.q[i].state != QUEUE_ON)
		return;
	rig.q[i].state = QUEUE_ENDS;
	if (plane_stop(rig.plane, 0, i))
		rig.q[i].state = QUEUE_OFF;
}

static void offer(unsigned i, uint16_t head)
{
	uint8_t *avail = rig.memory + AREA * i + AVAIL;

	memcpy(avail + 4 + 2u * (rig.q[i].offered % SIZE), &head, 2);
	rig.q[i].offered++;
	memcpy(avail + 2, &rig.q[i].offered, 2);
	plane_ring(rig.plane, 0, i);
}

static void put_desc(unsigned queue, unsigned i, uint64_t addr, uint32_t bytes, unsigned flags, unsigned next)
{
	struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d = {.addr = addr, .len = bytes, .flags = (uint16_t)flags, .next = (uint16_t)next};

	memcpy(rig.memory + AREA * queue + 16 * i, &d, sizeof d);
}

/* Bytes into the area of data, where most descriptors point. */
static void step_bytes(struct steps *s)
{
	uint64_t at = DATA + steps_take(s, 1) * 4, n = steps_take(s, 1) % 64;

	for (uint64_t i = 0; i < n; i++)
		rig.memory[at + i] = (uint8_t)steps_take(s, 1);
}

static void step_raw(struct steps *s)
{
	uint64_t at = steps_take(s, 2), bytes = steps_take(s, 8);

	if (at + sizeof bytes <= RAM_BYTES)
		memcpy(rig.memory + at, &bytes, sizeof bytes);
}

void queue_steps_one(struct steps *s, unsigned what)
{
	unsigned queue = what / QUEUE_STEPS_KINDS % rig.dev.queues, at;

	switch (what % QUEUE_STEPS_KINDS) {
	case 0: queue_start(queue, what & 0x80); break;
	case 1: queue_stop(queue); break;
	case 2:
		at = (unsigned)steps_take(s, 1);
		put_desc(queue, at % SIZE, DATA + steps_take(s, 1) * 4, (uint32_t)steps_take(s, 2), at >> 3 & 7, at >> 6);
		break;
	case 3: offer(queue, (uint16_t)(steps_take(s, 1) % (SIZE + 1))); break;
	case 4: step_bytes(s); break;
	case 5: step_raw(s); break;
	case 6: steps_run_worker(queue); break;
	case 7: steps_settle(); break;
	}
}

void queue_steps_reset(void)
{
	for (unsigned i = 0; i < rig.dev.queues; i++)
		queue_stop(i);
	steps_settle();
	for (unsigned i = 0; i < rig.dev.queues; i++)
		ensure(rig.q[i].state == QUEUE_OFF);
	if (rig.dev.ops->reset)
		rig.dev.ops->reset(rig.dev.dev);
	memset(rig.memory, 0, RAM_BYTES);
	for (unsigned i = 0; i < rig.dev.queues; i++)
		queue_start(i, true);
	steps_settle();
}

unsigned queue_steps_offer(unsigned queue, const void *bytes, unsigned n, const uint8_t **to)
{
	unsigned slot = rig.q[queue].offered % SIZE;
	uint8_t *at = rig.memory + DATA + AREA * (queue % 4) + 0x200 * slot, *used = rig.memory + AREA * queue + USED;
	uint16_t back;

	ensure(n <= 0x200);
	if (bytes)
		memcpy(at, bytes, n);
	put_desc(queue, slot, (uint64_t)(at - rig.memory), n, bytes ? 0 : 2, 0);
	offer(queue, (uint16_t)slot);
	steps_settle();
	memcpy(&back, used + 2, 2);
	if (to && back)
		*to = rig.memory + DATA + AREA * (queue % 4) + 0x200 * used[4 + 8 * ((back - 1u) % SIZE)];
	return back;
}
