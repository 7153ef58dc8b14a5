/* dev/outfit: which node serves which queue of a disk. */
#include "dev/outfit.h"
#include "dev/virtio_net.h"
#include "tests/test.h"
#include "tests/unit/virtio_driver.h"
#include "wire/peer.h"

#include <string.h>

enum { DISK = 2 }; /* its number in the plane: behind entropy and balloon */

struct told { unsigned stops; uint64_t to; }; /* a bit a node */

static int tell(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	struct told *t = user;

	t->stops++;
	t->to |= 1u << to.v;
	return 0;
}

/* The node that a queue is served on: a server elsewhere is told of a stop, one here is idle already. */
static unsigned node_of(struct outfit *o, struct told *t, unsigned queue)
{
	t->to = 0;
	return plane_stop(outfit_plane(o), DISK, queue) ? 0 : (unsigned)__builtin_ctzll(t->to);
}

static bool right(unsigned vcpus, unsigned queues, unsigned from_b, unsigned from_c)
{
	struct gear gear = {.disks = 1, .disk[0] = {.found = true, .bytes = 1 << 20, .block_bytes = 512, .optimal_bytes = 4096}};
	node_t vcpu_node[VCPUS_MAX], disk_node[GEAR_DISKS_MAX] = {{2}};
	struct told t = {0};
	struct driver d;
	struct outfit_config c = {.plane = {.ram = &d.ram, .send = tell, .user = &t}, .vcpus = vcpus, .vcpu_node = vcpu_node, .gear = &gear, .disk_node = disk_node};
	struct outfit *o;
	bool good;

	for (unsigned v = 0; v < vcpus; v++)
		vcpu_node[v].v = (uint8_t)(v >= from_c ? 2 : v >= from_b ? 1 : 0);
	driver_init(&d, 8);
	if (outfit_open(&o, &c, NULL))
		return false;
	good = plane_dev(outfit_plane(o), DISK)->queues == queues;
	for (unsigned q = 0; q < queues; q++) {
		unsigned first = q * vcpus / queues, last = (q + 1) * vcpus / queues - 1;

		good &= node_of(o, &t, q) == vcpu_node[first].v && node_eq(vcpu_node[first], vcpu_node[last]);
	}
	outfit_halt(o);
	outfit_close(o);
	driver_fini(&d);
	return good;
}

TEST(outfit_serves_each_vcpus_queue_on_its_node)
{
	CHECK(right(1, 1, 1, 1));
	CHECK(right(2, 2, 1, 2));
	CHECK(right(3, 3, 1, 2));
	CHECK(right(32, 32, 5, 20));
	CHECK(right(64, 32, 32, 48)); /* two vCPUs a queue, and none of them elsewhere */
}

TEST(net_spreads_pairs_as_linux_does)
{
	for (unsigned i = 0; i < 15; i++) {
		CHECK_EQ(virtio_net_vcpu(i, 15, 15), i);
		CHECK_EQ(virtio_net_vcpu(i, 15, 16), i ? i + 1 : 0); /* pair 0 has two */
		CHECK_EQ(virtio_net_vcpu(i, 15, 30), 2 * i);
		CHECK_EQ(virtio_net_vcpu(i, 15, 64), i < 4 ? 5 * i : 4 * i + 4);
	}
	CHECK_EQ(virtio_net_vcpu(1, 2, 2), 1);
}
