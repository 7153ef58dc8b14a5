/* See outfit.h. */
#include "dev/outfit.h"

#include "dev/virtio_balloon.h"
#include "dev/virtio_blk.h"
#include "dev/virtio_console.h"
#include "dev/virtio_net.h"
#include "dev/virtio_rng.h"
#include "dev/virtio_vsock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of devices in the plane. */
enum { OUTFIT_RNG, OUTFIT_BALLOON, OUTFIT_DISKS, OUTFIT_NICS = OUTFIT_DISKS + GEAR_DISKS_MAX, OUTFIT_VSOCK = PLANE_DEVICES_MAX - 2, OUTFIT_CONSOLE };
_Static_assert((int)OUTFIT_NICS + (int)GEAR_NICS_MAX <= (int)OUTFIT_VSOCK, "places for all of them");


struct outfit {
	struct outfit_config c;
	struct plane *plane;
	struct virtio_balloon *balloon;
	unsigned disks, nics;
	struct virtio_blk *disk[GEAR_DISKS_MAX];
	struct virtio_console *console; /* on the devices' node, as the next */
	struct virtio_vsock *vsock;
	struct virtio_net *nic[GEAR_NICS_MAX];
};

static int outfit_open_rng(struct outfit *o)
{
	struct virtio_dev dev = virtio_rng_dev();
	node_t node[VIRTIO_QUEUES_MAX] = {o->c.plane.devices};

	return plane_add(o->plane, OUTFIT_RNG, &dev, node);
}

static int outfit_open_balloon(struct outfit *o)
{
	const struct plane_config *p = &o->c.plane;
	struct virtio_balloon_config c = {.ram = p->ram, .self = p->self, .devices = p->devices, .free_pages = o->c.free_pages, .user = o->c.free_user};
	node_t node[VIRTIO_QUEUES_MAX] = {p->devices, p->devices, p->devices};
	struct virtio_dev dev;
	int err;

	if (!c.free_pages)
		return 0;
	err = virtio_balloon_open(&o->balloon, &c);
	if (err)
		return err;
	virtio_balloon_joined(o->balloon, o->plane, OUTFIT_BALLOON);
	dev = virtio_balloon_dev(o->balloon);
	return plane_add(o->plane, OUTFIT_BALLOON, &dev, node);
}

static int outfit_open_disk(struct outfit *o, unsigned i)
{
	const struct gear_disk *g = &o->c.gear->disk[i];
	struct virtio_blk_config c = {.plane = o->plane, .device = OUTFIT_DISKS + i, .self = o->c.plane.self, .disk_node = o->c.disk_node[i], .bytes = g->bytes,
		.block_bytes = g->block_bytes, .optimal_bytes = g->optimal_bytes, .readonly = g->readonly, .discards = g->discards, .writes_back = g->writes_back,
		.alone = o->c.alone};
	struct virtio_dev dev;
	int err;

	if (node_eq(c.self, c.disk_node))
		c.disk = depot_disk(o->c.depot, i);
	c.queues = o->c.vcpus < VIRTIO_QUEUES_MAX ? o->c.vcpus : VIRTIO_QUEUES_MAX;
	for (unsigned q = 0; q < c.queues; q++)
		c.queue_node[q] = o->c.vcpu_node[q * o->c.vcpus / c.queues];
	snprintf(c.id, sizeof c.id, "tessera-disk-%u", i);
	err = virtio_blk_open(&o->disk[i], &c);
	if (err)
		return err;
	o->disks = i + 1;
	dev = virtio_blk_dev(o->disk[i]);
	return plane_add(o->plane, c.device, &dev, c.queue_node);
}

static int outfit_open_console(struct outfit *o)
{
	struct virtio_console_config c = {.plane = o->plane, .device = OUTFIT_CONSOLE};
	node_t node[VIRTIO_QUEUES_MAX];
	struct virtio_dev dev;
	int err = 0;

	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		node[i] = o->c.plane.devices;
	if (o->c.porch)
		c.calls = porch_calls(o->c.porch);
	if (node_eq(o->c.plane.self, o->c.plane.devices))
		err = virtio_console_open(&o->console, &c);
	dev = virtio_console_dev(o->console);
	if (!err)
		err = plane_add(o->plane, OUTFIT_CONSOLE, &dev, node);
	if (!err && o->console && o->c.porch)
		err = porch_attach(o->c.porch, o->console);
	return err;
}

static int link_start(void *link, const struct nic_calls *calls)
{
	return nic_start(link, calls);
}

static void link_stop(void *link)
{
	nic_stop(link);
}

static int link_send(void *link, const struct iovec *frame, unsigned frames)
{
	return nic_send(link, frame, frames);
}

static bool link_busy(void *link)
{
	return nic_busy(link);
}

static void link_offload(void *link, unsigned tun_flags)
{
	nic_offload(link, tun_flags);
}

static void link_resume(void *link)
{
	nic_resume(link);
}

static int outfit_open_nic(struct outfit *o, unsigned i)
{
	const struct gear_nic *g = &o->c.gear->nic[i];
	struct virtio_net_config c = {.ferry = {.plane = o->plane, .device = OUTFIT_NICS + i, .self = o->c.plane.self, .devices = o->c.plane.devices,
		.link_node = o->c.nic_node[i], .patience_ms = FERRY_PATIENCE_MS, .offloads = g->link.kind == NIC_TAP}, .mtu = g->link.kind == NIC_USER ? NIC_USER_MTU : 0};
	node_t node[VIRTIO_QUEUES_MAX] = {0};
	struct virtio_dev dev;
	int err;

	if (node_eq(c.ferry.self, c.ferry.link_node))
		c.ferry.link = (struct ferry_link){.start = link_start, .stop = link_stop, .send = link_send, .resume = link_resume, .offload = link_offload,
			.busy = link_busy, .link = depot_nic(o->c.depot, i)};
	memcpy(c.mac, g->mac, sizeof c.mac);
	c.ferry.pairs = o->c.vcpus < FERRY_PAIRS_MAX ? o->c.vcpus : FERRY_PAIRS_MAX;
	for (unsigned p = 0; p < c.ferry.pairs; p++)
		c.ferry.pair_node[p] = o->c.vcpu_node[virtio_net_vcpu(p, c.ferry.pairs, o->c.vcpus)];
	err = virtio_net_open(&o->nic[i], &c);
	if (err)
		return err;
	o->nics = i + 1;
	dev = virtio_net_dev(o->nic[i]);
	virtio_net_nodes(o->nic[i], node);
	return plane_add(o->plane, c.ferry.device, &dev, node);
}

static int outfit_open_vsock(struct outfit *o)
{
	struct virtio_vsock_config c = {.plane = o->plane, .device = OUTFIT_VSOCK, .cid = VSOCK_CID_MIN};
	node_t node[VIRTIO_QUEUES_MAX];
	struct virtio_dev dev;
	int err = 0;

	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		node[i] = o->c.plane.devices;
	if (o->c.porch) {
		c.calls = hall_calls(porch_hall(o->c.porch));
		c.cid = porch_cid(o->c.porch);
	}
	if (node_eq(o->c.plane.self, o->c.plane.devices))
		err = virtio_vsock_open(&o->vsock, &c);
	dev = virtio_vsock_dev(o->vsock);
	if (!err)
		err = plane_add(o->plane, OUTFIT_VSOCK, &dev, node);
	if (!err && o->vsock && o->c.porch)
		err = hall_attach(porch_hall(o->c.porch), o->vsock);
	return err;
}

static int outfit_open_all(struct outfit *o)
{
	int err = plane_open(&o->plane, &o->c.plane);

	if (!err)
		err = outfit_open_rng(o);
	if (!err)
		err = outfit_open_balloon(o);
	for (unsigned i = 0; !err && o->c.gear && i < o->c.gear->disks; i++)
		err = outfit_open_disk(o, i);
	if (!err)
		err = outfit_open_console(o);
	for (unsigned i = 0; !err && o->c.gear && i < o->c.gear->nics; i++)
		err = outfit_open_nic(o, i);
	if (!err)
		err = outfit_open_vsock(o);
	o->c.gear = NULL;
	o->c.vcpu_node = o->c.disk_node = o->c.nic_node = NULL;
	return err;
}

int outfit_open(struct outfit **out, const struct outfit_config *c, struct failure *f)
{
	struct outfit *o = calloc(1, sizeof *o);
	int err = -ENOMEM;

	if (o) {
		o->c = *c;
		err = outfit_open_all(o);
	}
	if (err) {
		outfit_close(o);
		return failure_set(f, err, "free memory and threads on this node", "cannot make the devices: %s", strerror(-err));
	}
	*out = o;
	return 0;
}

int outfit_start(struct outfit *o, struct failure *f)
{
	int err = 0;

	for (unsigned i = 0; i < o->nics && !err; i++)
		err = virtio_net_start(o->nic[i]);
	return err ? failure_set(f, err, "free memory and threads on this node", "cannot start a network card: %s", strerror(-err)) : 0;
}

void outfit_halt(struct outfit *o)
{
	if (!o)
		return;
	for (unsigned i = 0; i < o->nics; i++)
		virtio_net_halt(o->nic[i]);
	plane_halt(o->plane);
	if (o->c.porch)
		hall_detach(porch_hall(o->c.porch));
	porch_detach(o->c.porch);
}

void outfit_close(struct outfit *o)
{
	if (!o)
		return;
	outfit_halt(o);
	for (unsigned i = 0; i < o->disks; i++)
		virtio_blk_close(o->disk[i]);
	virtio_console_close(o->console);
	virtio_vsock_close(o->vsock);
	for (unsigned i = 0; i < o->nics; i++)
		virtio_net_close(o->nic[i]);
	plane_close(o->plane);
	virtio_balloon_close(o->balloon);
	free(o);
}

struct plane *outfit_plane(struct outfit *o)
{
	return o->plane;
}

static void outfit_stats_disk(const struct virtio_blk *b, unsigned i, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct virtio_blk_stats s;
	char key[NAME_BYTES];

	virtio_blk_stats(b, &s);
	snprintf(key, sizeof key, "blk.%u.requests", i);
	line(to, key, s.requests);
	snprintf(key, sizeof key, "blk.%u.bytes_read", i);
	line(to, key, s.bytes_read);
	snprintf(key, sizeof key, "blk.%u.bytes_written", i);
	line(to, key, s.bytes_written);
	snprintf(key, sizeof key, "blk.%u.pieces_away", i);
	line(to, key, s.pieces_away);
	snprintf(key, sizeof key, "blk.%u.served", i);
	line(to, key, s.served);
}

static void outfit_stats_nic(const struct virtio_net *n, unsigned i, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct virtio_net_stats s;
	char key[NAME_BYTES];

	snprintf(key, sizeof key, "vnet.%u.lost", i);
	line(to, key, virtio_net_lost(n));
	for (unsigned q = 0; q < 2 * FERRY_PAIRS_MAX; q++) {
		if (!virtio_net_stats(n, q, &s))
			continue;
		snprintf(key, sizeof key, "vnet.%u.%s%u.frames", i, q % 2 ? "tx" : "rx", q / 2);
		line(to, key, s.frames);
		snprintf(key, sizeof key, "vnet.%u.%s%u.bytes", i, q % 2 ? "tx" : "rx", q / 2);
		line(to, key, s.bytes);
		snprintf(key, sizeof key, "vnet.%u.%s%u.drops", i, q % 2 ? "tx" : "rx", q / 2);
		line(to, key, s.drops);
	}
}

void outfit_aim(struct outfit *o, uint64_t memory)
{
	uint64_t all = o->c.plane.ram->bytes;

	if (o->balloon)
		virtio_balloon_aim(o->balloon, memory < all ? (uint32_t)((all - memory) >> PAGE_SHIFT) : 0);
}

static void outfit_stats_balloon(struct outfit *o, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct virtio_balloon_stats s;

	if (!o->balloon || !node_eq(o->c.plane.self, o->c.plane.devices))
		return;
	virtio_balloon_stats(o->balloon, &s);
	line(to, "balloon.driver", s.driver);
	line(to, "balloon.target_bytes", (uint64_t)s.target << PAGE_SHIFT);
	line(to, "balloon.held_bytes", (uint64_t)s.held << PAGE_SHIFT);
}

/* As people know it: blk0, net1, ... */
static void outfit_name(unsigned device, char to[NAME_BYTES / 2])
{
	if (device >= OUTFIT_DISKS && device < OUTFIT_NICS)
		snprintf(to, NAME_BYTES / 2, "blk%u", device - OUTFIT_DISKS);
	else if (device >= OUTFIT_NICS && device < OUTFIT_NICS + GEAR_NICS_MAX)
		snprintf(to, NAME_BYTES / 2, "net%u", device - OUTFIT_NICS);
	else
		snprintf(to, NAME_BYTES / 2, "%s", device == OUTFIT_RNG ? "rng" : device == OUTFIT_BALLOON ? "balloon" : device == OUTFIT_VSOCK ? "vsock" : "console");
}

static void outfit_stats_queue(struct outfit *o, unsigned device, unsigned queue, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	char name[NAME_BYTES / 2], key[NAME_BYTES];
	struct plane_queue_stats s;

	if (!plane_queue_stats(o->plane, device, queue, &s))
		return;
	outfit_name(device, name);
	snprintf(key, sizeof key, "queue.%s.%u.requests", name, queue);
	line(to, key, s.requests);
	snprintf(key, sizeof key, "queue.%s.%u.bytes", name, queue);
	line(to, key, s.bytes);
	snprintf(key, sizeof key, "queue.%s.%u.waits", name, queue);
	line(to, key, s.waits);
}

void outfit_stats(struct outfit *o, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct plane_stats p;

	plane_stats(o->plane, &p);
	line(to, "queue.bells", p.bells);
	line(to, "queue.irqs", p.sent);
	line(to, "queue.raised", p.raised);
	line(to, "queue.waits", p.waits);
	for (unsigned i = 0; i < o->disks; i++)
		outfit_stats_disk(o->disk[i], i, line, to);
	for (unsigned i = 0; i < o->nics; i++)
		outfit_stats_nic(o->nic[i], i, line, to);
	outfit_stats_balloon(o, line, to);
	for (unsigned d = 0; d < PLANE_DEVICES_MAX; d++)
		for (unsigned q = 0; q < VIRTIO_QUEUES_MAX; q++)
			outfit_stats_queue(o, d, q, line, to);
}
