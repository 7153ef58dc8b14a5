/* Two nodes for tests of devices: node 0 with a virtio function on a bus, both with a device plane, one RAM, and streams whose frames wait until the test
 * delivers them. And a driver's register writes. */
#ifndef TESTS_UNIT_PLANE_RIG_H
#define TESTS_UNIT_PLANE_RIG_H

#include "tests/unit/virtio_driver.h"

enum { RIG_BAR = (int)0xd0000000, RIG_NOTIFY = RIG_BAR + 0x3000, RIG_TABLE = (int)0xd0010000, RIG_FRAMES = 256, RIG_NODES = 2, RIG_BELLS = 8 };
enum { RIG_STATUS = 20, RIG_DEVICE_FEATURES = 4, RIG_QUEUES = 18 }; /* offsets in the common configuration */

struct rig_frame { uint8_t *at; size_t bytes; node_t from; bool bulk; };

struct plane_rig {
	struct driver d;
	struct fixture f[RIG_NODES]; /* where each node's messages go; the bus is node 0's */
	struct pci *pci;
	struct virtio_pci *v;
	struct plane *plane[RIG_NODES];
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	struct rig_frame frame[RIG_NODES][RIG_FRAMES]; /* for node i, not delivered yet */
	unsigned frames[RIG_NODES], sent[RIG_NODES];   /* waiting; ever */
	bool slow;   /* each node's KVM waits with doorbells until this is false */
	bool prompt; /* bulk frames are delivered at once, by the sender */
	struct { uint64_t addr; int fd; } armed[RIG_NODES][RIG_BELLS]; /* what each node's KVM listens for; fd 0: free */
};

/* Planes first, then the devices are added by the test, then the function. */
void rig_open_planes(struct plane_rig *r);
void rig_add(struct plane_rig *r, const struct virtio_dev dev[RIG_NODES], const node_t node[VIRTIO_QUEUES_MAX]);
void rig_open_function(struct plane_rig *r);
void rig_halt(struct plane_rig *r);
void rig_close(struct plane_rig *r);

/* The eventfd that this node's KVM counts writes to that address in; -1: it does not. */
int rig_armed(const struct plane_rig *r, unsigned node, uint64_t addr);

/* Deliver the next frame that waits for that node: its id, 0: none, or -errno as its plane judged. */
int rig_deliver(struct plane_rig *r, unsigned node);
/* All that wait for either node, also those that come of it; -errno: of the first that was refused. */
int rig_settle(struct plane_rig *r);
/* Wait until so many frames were ever sent to that node. */
void rig_wait_sent(struct plane_rig *r, unsigned node, unsigned sent);

uint64_t rig_peek(struct plane_rig *r, int at, unsigned bytes);
void rig_poke(struct plane_rig *r, int at, unsigned bytes, uint64_t value);
void rig_master(struct plane_rig *r, bool on);

/* The driver: up to FEATURES_OK with these features besides VERSION_1 and INDIRECT; queue i with vector i + 1, its rings i * 0x4000 behind those of
 * virtio_driver.h; DRIVER_OK. */
void rig_negotiate(struct plane_rig *r, uint64_t features);
void rig_queue_up(struct plane_rig *r, unsigned queue);
void rig_driver_ok(struct plane_rig *r);
/* Write 0 and wait, delivering frames, until it is read; then forget the rings. */
void rig_reset(struct plane_rig *r);

#endif
