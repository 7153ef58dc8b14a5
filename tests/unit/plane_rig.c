/* See plane_rig.h. */
#include "tests/unit/plane_rig.h"

#include "base/ensure.h"
#include "dev/addrmap.h"
#include "wire/codec.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG = ADDRMAP_ECAM + (2 << 15), GF_SELECT = 8, GF = 12, CONFIG_VECTOR = 16, Q_SELECT = 22, Q_SIZE = 24, Q_VECTOR = 26, Q_ENABLE = 28, Q_DESC = 32,
	Q_AVAIL = 40, Q_USED = 48, QUEUE_STRIDE = 0x4000 };

/* What a plane's config knows of its node. */
static struct { struct plane_rig *r; node_t node; } side[RIG_NODES];

static int side_send(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	unsigned from = user == &side[0] ? 0 : 1;
	struct plane_rig *r = side[from].r;
	uint32_t body;
	uint16_t id;

	ensure(to.v == 1 - from && wire_get_header(frame, &id, &body) == 0 && body + WIRE_HEADER_BYTES == bytes);
	if (bulk && r->prompt)
		return plane_bulk(r->plane[to.v], side[from].node, id, frame + WIRE_HEADER_BYTES, body);
	pthread_mutex_lock(&r->lock);
	ensure(r->frames[to.v] < RIG_FRAMES);
	r->frame[to.v][r->frames[to.v]] = (struct rig_frame){.at = malloc(bytes), .bytes = bytes, .from = {(uint8_t)from}, .bulk = bulk};
	memcpy(r->frame[to.v][r->frames[to.v]].at, frame, bytes);
	r->frames[to.v]++;
	r->sent[to.v]++;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_broadcast(&r->changed);
	return 0;
}

static void side_msi(void *user, uint64_t address, uint32_t data)
{
	struct irq_sink s = fixture_sink(&side[0].r->f[user == &side[0] ? 0 : 1]);

	s.msi(s.vm, address, data);
}

static void no_reset(void *user)
{
}

static int side_doorbell(void *user, uint64_t addr, int fd, bool on)
{
	unsigned n = user == &side[0] ? 0 : 1, i = 0;
	struct plane_rig *r = side[n].r;

	pthread_mutex_lock(&r->lock);
	while (r->slow)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
	while (i < RIG_BELLS && (on ? r->armed[n][i].fd != 0 : r->armed[n][i].fd != fd || r->armed[n][i].addr != addr))
		i++;
	if (i == RIG_BELLS)
		return on ? -ENOSPC : -ENOENT;
	r->armed[n][i].addr = addr;
	r->armed[n][i].fd = on ? fd : 0;
	return 0;
}

int rig_armed(const struct plane_rig *r, unsigned node, uint64_t addr)
{
	for (unsigned i = 0; i < RIG_BELLS; i++)
		if (r->armed[node][i].fd && r->armed[node][i].addr == addr)
			return r->armed[node][i].fd;
	return -1;
}

void rig_open_planes(struct plane_rig *r)
{
	memset(r, 0, sizeof *r);
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->changed, NULL);
	driver_init(&r->d, 8);
	for (unsigned n = 0; n < RIG_NODES; n++) {
		side[n].r = r;
		side[n].node.v = (uint8_t)n;
		fixture_init(&r->f[n]);
		ensure(plane_open(&r->plane[n], &(struct plane_config){.self = {(uint8_t)n}, .ram = &r->d.ram, .msi = side_msi, .send = side_send,
			.doorbell = side_doorbell, .user = &side[n]}) == 0);
	}
	ensure(pci_open(&r->pci, &(struct pci_config){.bus = r->f[0].bus, .ecam = ADDRMAP_ECAM, .window = ADDRMAP_PCI_MMIO, .window_bytes = ADDRMAP_PCI_MMIO_BYTES,
		.reset = no_reset}) == 0);
}

void rig_add(struct plane_rig *r, const struct virtio_dev dev[RIG_NODES], const node_t node[VIRTIO_QUEUES_MAX])
{
	for (unsigned n = 0; n < RIG_NODES; n++)
		ensure(plane_add(r->plane[n], 0, &dev[n], node) == 0);
}

void rig_open_function(struct plane_rig *r)
{
	ensure(virtio_pci_open(&r->v, &(struct virtio_pci_config){.bus = r->f[0].bus, .pci = r->pci, .slot = 2, .irq_sink = fixture_sink(&r->f[0]),
		.plane = r->plane[0]}) == 0);
	rig_poke(r, (int)CONFIG + 0x10, 4, (uint32_t)RIG_BAR);
	rig_poke(r, (int)CONFIG + 0x18, 4, (uint32_t)RIG_TABLE);
	rig_master(r, true);
	for (unsigned v = 0; v < 6; v++) {
		rig_poke(r, RIG_TABLE + 16 * (int)v, 8, 0xfee00000);
		rig_poke(r, RIG_TABLE + 16 * (int)v + 8, 8, 0x60 + v);
	}
	rig_poke(r, (int)CONFIG + 0x42, 2, 0x8000);
}

void rig_halt(struct plane_rig *r)
{
	for (unsigned n = 0; n < RIG_NODES; n++)
		plane_halt(r->plane[n]);
}

void rig_close(struct plane_rig *r)
{
	rig_halt(r);
	virtio_pci_close(r->v);
	pci_close(r->pci);
	for (unsigned n = 0; n < RIG_NODES; n++) {
		plane_close(r->plane[n]);
		fixture_fini(&r->f[n]);
		for (unsigned i = 0; i < r->frames[n]; i++)
			free(r->frame[n][i].at);
	}
	driver_fini(&r->d);
}

int rig_deliver(struct plane_rig *r, unsigned node)
{
	struct rig_frame f = {0};
	uint32_t bytes;
	uint16_t id;
	int err;

	pthread_mutex_lock(&r->lock);
	if (r->frames[node]) {
		f = r->frame[node][0];
		memmove(&r->frame[node][0], &r->frame[node][1], --r->frames[node] * sizeof f);
	}
	pthread_mutex_unlock(&r->lock);
	if (!f.at)
		return 0;
	ensure(wire_get_header(f.at, &id, &bytes) == 0);
	err = (f.bulk ? plane_bulk : plane_message)(r->plane[node], f.from, id, f.at + WIRE_HEADER_BYTES, bytes);
	free(f.at);
	return err ? err : id;
}

int rig_settle(struct plane_rig *r)
{
	int first = 0, got[RIG_NODES];

	do {
		for (unsigned n = 0; n < RIG_NODES; n++) {
			got[n] = rig_deliver(r, n);
			first = got[n] < 0 && !first ? got[n] : first;
		}
	} while (got[0] || got[1]);
	for (unsigned n = 0; n < RIG_NODES && !r->slow; n++)
		plane_settle(r->plane[n]);
	return first;
}

void rig_wait_sent(struct plane_rig *r, unsigned node, unsigned sent)
{
	pthread_mutex_lock(&r->lock);
	while (r->sent[node] < sent)
		pthread_cond_wait(&r->changed, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

uint64_t rig_peek(struct plane_rig *r, int at, unsigned bytes)
{
	return fixture_peek(&r->f[0], (uint32_t)at, bytes);
}

void rig_poke(struct plane_rig *r, int at, unsigned bytes, uint64_t value)
{
	fixture_poke(&r->f[0], (uint32_t)at, bytes, value);
}

void rig_master(struct plane_rig *r, bool on)
{
	rig_poke(r, (int)CONFIG + 0x04, 2, PCI_COMMAND_MEMORY | (on ? PCI_COMMAND_MASTER : 0u));
}

void rig_negotiate(struct plane_rig *r, uint64_t features)
{
	features |= 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT_DESC;
	rig_poke(r, RIG_BAR + RIG_STATUS, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		rig_poke(r, RIG_BAR + GF_SELECT, 4, i);
		rig_poke(r, RIG_BAR + GF, 4, (uint32_t)(features >> 32 * i));
	}
	rig_poke(r, RIG_BAR + RIG_STATUS, 1, 11);
	rig_poke(r, RIG_BAR + CONFIG_VECTOR, 2, 0);
}

void rig_queue_up(struct plane_rig *r, unsigned queue)
{
	rig_poke(r, RIG_BAR + Q_SELECT, 2, queue);
	rig_poke(r, RIG_BAR + Q_SIZE, 2, r->d.size);
	rig_poke(r, RIG_BAR + Q_VECTOR, 2, 1 + queue);
	rig_poke(r, RIG_BAR + Q_DESC, 8, DRIVER_DESC + queue * QUEUE_STRIDE);
	rig_poke(r, RIG_BAR + Q_AVAIL, 8, DRIVER_AVAIL + queue * QUEUE_STRIDE);
	rig_poke(r, RIG_BAR + Q_USED, 8, DRIVER_USED + queue * QUEUE_STRIDE);
	rig_poke(r, RIG_BAR + Q_ENABLE, 2, 1);
}

void rig_driver_ok(struct plane_rig *r)
{
	rig_poke(r, RIG_BAR + RIG_STATUS, 1, 15);
}

void rig_reset(struct plane_rig *r)
{
	rig_poke(r, RIG_BAR + RIG_STATUS, 1, 0);
	while (rig_peek(r, RIG_BAR + RIG_STATUS, 1)) {
		ensure(rig_settle(r) == 0);
		sched_yield();
	}
	memset(driver_at(&r->d, DRIVER_DESC), 0, 2 * QUEUE_STRIDE);
	r->d.avail = r->d.used = 0;
}
