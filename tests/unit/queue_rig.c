/* See queue_rig.h. */
#include "tests/unit/queue_rig.h"

#include "base/ensure.h"

#include <string.h>

enum { RIG_RAM = 4 << 20, BASE = 0x10000, STRIDE = 0x40000, AVAIL = 0x1000, USED = 0x2000, DATA = 0x4000, SLOT = 2 * QUEUE_RIG_BYTES, ENTRIES = 2 * QUEUE_RIG_SLOTS };
enum { DESC_NEXT = 1, DESC_WRITE = 2 };

static void on_raise(void *fn, unsigned queue)
{
	struct queue_rig *r = fn;

	pthread_mutex_lock(&r->lock);
	r->raised++;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_broadcast(&r->changed);
}

static void on_stopped(void *fn, unsigned queue)
{
	struct queue_rig *r = fn;

	pthread_mutex_lock(&r->lock);
	r->stopped[queue] = true;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_broadcast(&r->changed);
}

static void on_broken(void *fn, unsigned queue)
{
	struct queue_rig *r = fn;

	pthread_mutex_lock(&r->lock);
	r->broken++;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_broadcast(&r->changed);
}

static void on_msi(void *user, uint64_t address, uint32_t data)
{
}

static uint8_t *at(struct queue_rig *r, unsigned queue, unsigned offset)
{
	return ram_at(&r->ram, (gpa_t){BASE + (uint64_t)queue * STRIDE + offset}, 1);
}

static uint16_t load16(struct queue_rig *r, unsigned queue, unsigned offset)
{
	return __atomic_load_n((uint16_t *)(void *)at(r, queue, offset), __ATOMIC_SEQ_CST);
}

static void store16(struct queue_rig *r, unsigned queue, unsigned offset, unsigned value)
{
	__atomic_store_n((uint16_t *)(void *)at(r, queue, offset), (uint16_t)value, __ATOMIC_SEQ_CST);
}

void queue_rig_open(struct queue_rig *r)
{
	uint64_t bytes[NODES_MAX] = {RIG_RAM};

	*r = (struct queue_rig){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	ensure(ram_layout(&r->ram, bytes, 1) == 0 && ram_map(&r->ram, NULL) == 0);
	ensure(plane_open(&r->plane, &(struct plane_config){.ram = &r->ram, .msi = on_msi, .user = r}) == 0);
}

void queue_rig_add(struct queue_rig *r, const struct virtio_dev *dev)
{
	static const struct plane_function f = {.raise = on_raise, .stopped = on_stopped, .broken = on_broken};
	struct plane_function mine = f;

	mine.fn = r;
	r->queues = dev->queues;
	ensure(r->queues <= QUEUE_RIG_QUEUES && plane_add(r->plane, 0, dev, (node_t[VIRTIO_QUEUES_MAX]){{0}}) == 0);
	plane_attach(r->plane, 0, &mine);
}

void queue_rig_halt(struct queue_rig *r)
{
	plane_halt(r->plane);
}

void queue_rig_close(struct queue_rig *r)
{
	plane_close(r->plane);
	ram_unmap(&r->ram);
}

void queue_rig_up(struct queue_rig *r, unsigned queue)
{
	uint64_t base = BASE + (uint64_t)queue * STRIDE;

	memset(at(r, queue, 0), 0, DATA);
	r->q[queue].avail = r->q[queue].used = 0;
	r->q[queue].setup = (struct vqueue_setup){.epoch = r->q[queue].setup.epoch + 1, .size = ENTRIES, .desc = {base}, .avail = {base + AVAIL}, .used = {base + USED},
		.features = 1ull << VIRTIO_F_VERSION_1};
	queue_rig_on(r, queue);
}

void queue_rig_on(struct queue_rig *r, unsigned queue)
{
	plane_start(r->plane, 0, queue, &r->q[queue].setup);
}

void queue_rig_down(struct queue_rig *r, unsigned queue)
{
	r->stopped[queue] = false;
	if (plane_stop(r->plane, 0, queue))
		return;
	pthread_mutex_lock(&r->lock);
	while (!r->stopped[queue])
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void put_desc(struct queue_rig *r, unsigned queue, unsigned i, uint64_t addr, uint64_t bytes, uint64_t flags)
{
	uint64_t d[2] = {addr, bytes | flags << 32 | (uint64_t)(i + 1) << 48};

	memcpy(at(r, queue, 16 * i), d, sizeof d);
}

void queue_rig_put(struct queue_rig *r, unsigned queue, const void *bytes, size_t n, size_t room)
{
	unsigned slot = r->q[queue].avail % QUEUE_RIG_SLOTS, data = DATA + slot * SLOT, first = 2 * slot + (n ? 0 : 1);
	uint64_t base = BASE + (uint64_t)queue * STRIDE + data;

	ensure(n <= QUEUE_RIG_BYTES && room <= QUEUE_RIG_BYTES && n + room);
	if (n)
		memcpy(at(r, queue, data), bytes, n);
	put_desc(r, queue, 2 * slot, base, n, room ? DESC_NEXT : 0);
	put_desc(r, queue, 2 * slot + 1, base + QUEUE_RIG_BYTES, room, DESC_WRITE);
	store16(r, queue, AVAIL + 4 + 2 * (unsigned)(r->q[queue].avail % ENTRIES), first);
	store16(r, queue, AVAIL + 2, ++r->q[queue].avail);
	plane_ring(r->plane, 0, queue);
}

uint8_t *queue_rig_bytes(struct queue_rig *r, unsigned queue)
{
	return at(r, queue, DATA + (r->q[queue].avail - 1u) % QUEUE_RIG_SLOTS * SLOT);
}

unsigned queue_rig_back(struct queue_rig *r, unsigned queue)
{
	return (uint16_t)(load16(r, queue, USED + 2) - r->q[queue].used);
}

size_t queue_rig_get(struct queue_rig *r, unsigned queue, void *to, size_t room)
{
	unsigned i = r->q[queue].used % ENTRIES;
	uint32_t used[2];

	pthread_mutex_lock(&r->lock);
	while (!queue_rig_back(r, queue))
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
	memcpy(used, at(r, queue, USED + 4 + 8 * i), sizeof used);
	r->q[queue].used++;
	ensure(used[0] < ENTRIES && used[1] <= QUEUE_RIG_BYTES);
	if (to)
		memcpy(to, at(r, queue, DATA + used[0] / 2 * SLOT + QUEUE_RIG_BYTES), used[1] < room ? used[1] : room);
	return used[1];
}

void queue_rig_wait_broken(struct queue_rig *r, unsigned broken)
{
	pthread_mutex_lock(&r->lock);
	while (r->broken < broken)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}
