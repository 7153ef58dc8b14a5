/* dev/virtio_pci and dev/virtio_rng: a driver's whole life over the registers, and what a bad driver gets. */
#include "dev/addrmap.h"
#include "dev/virtio_rng.h"
#include "tests/unit/virtio_driver.h"
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CONFIG = ADDRMAP_ECAM + (2 << 15), BAR = (int)0xd0000000, ISR = BAR + 0x1000, NOTIFY = BAR + 0x3000, TABLE = (int)0xd0010000 };
enum { DF_SELECT = 0, DF = 4, GF_SELECT = 8, GF = 12, CONFIG_VECTOR = 16, QUEUES = 18, STATUS = 20, Q_SELECT = 22, Q_SIZE = 24, Q_VECTOR = 26, Q_ENABLE = 28,
	Q_NOTIFY = 30, Q_DESC = 32, Q_AVAIL = 40, Q_USED = 48 };

struct rig {
	struct fixture f;
	struct driver d;
	struct pci *pci;
	struct plane *plane;
	struct virtio_pci *v;
	/* The device under test may be one that waits at a gate in the middle of a request. */
	pthread_mutex_t lock;
	pthread_cond_t moved;
	bool inside, go;
	unsigned resets;
	uint8_t config[8];
};

static void rig_no_reset(void *user)
{
}

static uint64_t peek(struct rig *r, int at, unsigned bytes)
{
	return fixture_peek(&r->f, (uint32_t)at, bytes);
}

static void poke(struct rig *r, int at, unsigned bytes, uint64_t value)
{
	fixture_poke(&r->f, (uint32_t)at, bytes, value);
}

static struct rig *rig_open(struct virtio_dev dev)
{
	struct rig *r = calloc(1, sizeof *r);

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->moved, NULL);
	fixture_init(&r->f);
	driver_init(&r->d, 8);
	if (!dev.dev)
		dev.dev = r;
	if (pci_open(&r->pci, &(struct pci_config){.bus = r->f.bus, .ecam = ADDRMAP_ECAM, .window = ADDRMAP_PCI_MMIO, .window_bytes = ADDRMAP_PCI_MMIO_BYTES,
			.reset = rig_no_reset}))
		abort();
	if (plane_open(&r->plane, &(struct plane_config){.ram = &r->d.ram}) || plane_add(r->plane, 3, &dev, (node_t[VIRTIO_QUEUES_MAX]){{0}}))
		abort();
	if (virtio_pci_open(&r->v, &(struct virtio_pci_config){.bus = r->f.bus, .pci = r->pci, .slot = 2, .irq_sink = fixture_sink(&r->f), .plane = r->plane, .device = 3}))
		abort();
	poke(r, (int)CONFIG + 0x10, 4, (uint32_t)BAR);
	poke(r, (int)CONFIG + 0x18, 4, (uint32_t)TABLE);
	poke(r, (int)CONFIG + 0x04, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned v = 0; v < 2; v++) {
		poke(r, TABLE + 16 * (int)v, 8, 0xfee00000);
		poke(r, TABLE + 16 * (int)v + 8, 8, 0x60 + v);
	}
	poke(r, (int)CONFIG + 0x42, 2, 0x8000);
	return r;
}

static void rig_close(struct rig *r)
{
	plane_halt(r->plane);
	virtio_pci_close(r->v);
	plane_close(r->plane);
	pci_close(r->pci);
	driver_fini(&r->d);
	fixture_fini(&r->f);
	free(r);
}

/* Up to FEATURES_OK with these features; returns the status read back. */
static unsigned negotiate(struct rig *r, uint64_t features)
{
	poke(r, BAR + STATUS, 1, 1);
	poke(r, BAR + STATUS, 1, 3);
	for (unsigned i = 0; i < 2; i++) {
		poke(r, BAR + GF_SELECT, 4, i);
		poke(r, BAR + GF, 4, (uint32_t)(features >> 32 * i));
	}
	poke(r, BAR + STATUS, 1, 11);
	return (unsigned)peek(r, BAR + STATUS, 1);
}

static void queue_up(struct rig *r)
{
	poke(r, BAR + CONFIG_VECTOR, 2, 0);
	poke(r, BAR + Q_SELECT, 2, 0);
	poke(r, BAR + Q_SIZE, 2, 8);
	poke(r, BAR + Q_VECTOR, 2, 1);
	poke(r, BAR + Q_DESC, 8, DRIVER_DESC);
	poke(r, BAR + Q_AVAIL, 4, DRIVER_AVAIL);
	poke(r, BAR + Q_AVAIL + 4, 4, 0);
	poke(r, BAR + Q_USED, 8, DRIVER_USED);
	poke(r, BAR + Q_ENABLE, 2, 1);
}

static void driver_up(struct rig *r)
{
	negotiate(r, 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT_DESC);
	queue_up(r);
	poke(r, BAR + STATUS, 1, 15);
}

static void ask(struct rig *r, uint64_t addr, uint32_t bytes)
{
	driver_desc(&r->d, DRIVER_DESC, 0, addr, bytes, DRIVER_WRITE, 0);
	driver_offer(&r->d, 0);
	poke(r, NOTIFY, 2, 0);
}

TEST(virtio_rng_configuration_space_golden_bytes)
{
	static const uint8_t golden[256] = {
		[0x00] = 0xf4, 0x1a, 0x44, 0x10, 0x06, 0x00, 0x10, 0x00, 0x01, 0x00, 0xff, 0x00, 0, 0, 0, 0,
		[0x10] = 0x04, 0x00, 0x00, 0xd0, 0, 0, 0, 0, 0x04, 0x00, 0x01, 0xd0,
		[0x2c] = 0xf4, 0x1a, 0x40, 0x00, [0x34] = 0x40,
		[0x40] = 0x11, 0x4c, 0x01, 0x80, 0x02, 0, 0, 0, 0x02, 0x08, 0, 0,
		[0x4c] = 0x09, 0x5c, 16, 1, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0,
		[0x5c] = 0x09, 0x6c, 16, 3, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 0, 0, 0,
		[0x6c] = 0x09, 0x80, 20, 2, 0, 0, 0, 0, 0, 0x30, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0,
		[0x80] = 0x09, 0x00, 20, 5};
	struct rig *r = rig_open(virtio_rng_dev());

	for (unsigned i = 0; i < sizeof golden; i++)
		if (peek(r, (int)CONFIG + (int)i, 1) != golden[i]) {
			printf("at 0x%02x: 0x%02x, not 0x%02x\n", i, (unsigned)peek(r, (int)CONFIG + (int)i, 1), golden[i]);
			CHECK(false);
		}
	rig_close(r);
}

TEST(virtio_negotiates)
{
	struct rig *r = rig_open(virtio_rng_dev());

	CHECK_EQ(peek(r, BAR + QUEUES, 2), 1);
	CHECK_EQ(peek(r, BAR + DF, 4), 1u << 28 | 1u << 29);
	poke(r, BAR + DF_SELECT, 4, 1);
	CHECK_EQ(peek(r, BAR + DF, 4), 1);
	poke(r, BAR + DF_SELECT, 4, 2);
	CHECK_EQ(peek(r, BAR + DF, 4), 0);
	CHECK_EQ(negotiate(r, 0), 3); /* not modern: refused */
	CHECK_EQ(negotiate(r, 1ull << VIRTIO_F_VERSION_1 | 1), 3); /* not offered */
	CHECK_EQ(negotiate(r, 1ull << 33 | 1ull << VIRTIO_F_VERSION_1), 3);
	poke(r, BAR + STATUS, 1, 15); /* DRIVER_OK without FEATURES_OK does not count */
	CHECK_EQ(peek(r, BAR + STATUS, 1), 3);
	CHECK_EQ(negotiate(r, 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_EVENT_IDX), 11);
	poke(r, BAR + GF_SELECT, 4, 0);
	poke(r, BAR + GF, 4, 0); /* too late */
	CHECK_EQ(peek(r, BAR + GF, 4), 1u << 29);
	poke(r, BAR + STATUS, 1, 0xff); /* DEVICE_NEEDS_RESET is not the driver's */
	CHECK_EQ(peek(r, BAR + STATUS, 1), 0x8f);
	poke(r, BAR + STATUS, 1, 0);
	CHECK_EQ(peek(r, BAR + STATUS, 1), 0);
	CHECK_EQ(peek(r, BAR + GF, 4), 0);
	rig_close(r);
}

TEST(virtio_queue_registers)
{
	struct rig *r = rig_open(virtio_rng_dev());

	negotiate(r, 1ull << VIRTIO_F_VERSION_1);
	CHECK_EQ(peek(r, BAR + Q_SIZE, 2), 64);
	CHECK_EQ(peek(r, BAR + Q_VECTOR, 2), 0xffff);
	poke(r, BAR + Q_VECTOR, 2, 2); /* there are two: 0 and 1 */
	CHECK_EQ(peek(r, BAR + Q_VECTOR, 2), 0xffff);
	poke(r, BAR + Q_SIZE, 2, 65);
	poke(r, BAR + Q_SIZE, 2, 128);
	poke(r, BAR + Q_SIZE, 2, 24);
	CHECK_EQ(peek(r, BAR + Q_SIZE, 2), 64);
	queue_up(r);
	CHECK_EQ(peek(r, BAR + Q_ENABLE, 2), 1);
	CHECK_EQ(peek(r, BAR + Q_SIZE, 2), 8);
	CHECK_EQ(peek(r, BAR + Q_AVAIL, 8), DRIVER_AVAIL);
	poke(r, BAR + Q_DESC, 8, 0x4000); /* in use */
	poke(r, BAR + Q_SIZE, 2, 4);
	CHECK_EQ(peek(r, BAR + Q_DESC, 8), DRIVER_DESC);
	CHECK_EQ(peek(r, BAR + Q_SIZE, 2), 8);
	poke(r, BAR + Q_SELECT, 2, 1); /* no such queue */
	CHECK_EQ(peek(r, BAR + Q_SIZE, 2), 0);
	poke(r, BAR + Q_ENABLE, 2, 1);
	CHECK_EQ(peek(r, BAR + STATUS, 1), 11);
	poke(r, BAR + STATUS, 1, 0);
	poke(r, BAR + Q_SELECT, 2, 0);
	CHECK_EQ(peek(r, BAR + Q_ENABLE, 2), 0);
	CHECK_EQ(peek(r, BAR + Q_SIZE, 2), 64);
	rig_close(r);
}

TEST(virtio_rng_gives_random_bytes_and_an_interrupt)
{
	struct rig *r = rig_open(virtio_rng_dev());
	uint8_t zeros[64] = {0};
	uint32_t head, written;

	driver_up(r);
	ask(r, DRIVER_DATA, 64);
	fixture_wait_msis(&r->f, 1);
	CHECK_EQ(r->f.msi[0].address, 0xfee00000);
	CHECK_EQ(r->f.msi[0].data, 0x61);
	CHECK_EQ(driver_used_idx(&r->d), 1);
	driver_used(&r->d, 0, &head, &written);
	CHECK(head == 0 && written == 64);
	CHECK(memcmp(driver_at(&r->d, DRIVER_DATA), zeros, 64) != 0);
	CHECK(memcmp(driver_at(&r->d, DRIVER_DATA + 64), zeros, 64) == 0); /* and not a byte more */
	CHECK_EQ(peek(r, ISR, 1), 1);
	CHECK_EQ(peek(r, ISR, 1), 0);
	ask(r, DRIVER_DATA, 1 << 20); /* much: gets some */
	fixture_wait_msis(&r->f, 2);
	driver_used(&r->d, 1, &head, &written);
	CHECK_EQ(written, 64 * 1024);
	for (unsigned i = 2; i < 300; i++) {
		ask(r, DRIVER_DATA + 1, 7);
		fixture_wait_msis(&r->f, i + 1);
	}
	CHECK_EQ(driver_used_idx(&r->d), 300);
	CHECK_EQ(virtio_pci_violations(r->v), 0);
	rig_close(r);
}

TEST(virtio_waits_for_bus_mastering_and_driver_ok)
{
	struct rig *r = rig_open(virtio_rng_dev());

	negotiate(r, 1ull << VIRTIO_F_VERSION_1);
	queue_up(r);
	poke(r, (int)CONFIG + 0x04, 2, PCI_COMMAND_MEMORY);
	ask(r, DRIVER_DATA, 8);
	poke(r, BAR + STATUS, 1, 15);
	ask(r, DRIVER_DATA, 8);
	CHECK_EQ(driver_used_idx(&r->d), 0);
	poke(r, (int)CONFIG + 0x04, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	while (driver_used_idx(&r->d) != 2)
		sched_yield();
	rig_close(r);
}

TEST(virtio_fences_a_bad_driver_until_reset)
{
	struct rig *r = rig_open(virtio_rng_dev());

	for (unsigned round = 1; round <= 3; round++) {
		driver_up(r);
		driver_offer(&r->d, 99);
		poke(r, NOTIFY, 2, 0);
		fixture_wait_msis(&r->f, round);
		CHECK_EQ(r->f.msi[round - 1].data, 0x60); /* configuration changed */
		CHECK_EQ(peek(r, BAR + STATUS, 1), 0x4f);
		CHECK_EQ(peek(r, ISR, 1), 2);
		ask(r, DRIVER_DATA, 8); /* nothing more comes of it */
		CHECK_EQ(virtio_pci_violations(r->v), round);
		poke(r, BAR + STATUS, 1, 0);
		while (peek(r, BAR + STATUS, 1))
			sched_yield();
		CHECK_EQ(driver_used_idx(&r->d), 0);
		driver_set16(&r->d, DRIVER_AVAIL + 2, 0);
		r->d.avail = 0;
	}
	driver_up(r);
	ask(r, DRIVER_DATA, 8);
	fixture_wait_msis(&r->f, 4);
	CHECK_EQ(r->f.msi[3].data, 0x61);
	rig_close(r);
}

TEST(virtio_refuses_rings_outside_ram)
{
	struct rig *r = rig_open(virtio_rng_dev());

	negotiate(r, 1ull << VIRTIO_F_VERSION_1);
	poke(r, BAR + Q_USED, 8, 0xffffffff00000000);
	poke(r, BAR + Q_ENABLE, 2, 1);
	CHECK_EQ(peek(r, BAR + Q_ENABLE, 2), 0);
	CHECK_EQ(peek(r, BAR + STATUS, 1), 0x4b);
	CHECK_EQ(virtio_pci_violations(r->v), 1);
	rig_close(r);
}

TEST(virtio_registers_through_the_configuration_window)
{
	struct rig *r = rig_open(virtio_rng_dev());
	int cap = (int)CONFIG + 0x80;

	poke(r, (int)CONFIG + 0x04, 2, 0); /* works without the BAR being decoded */
	poke(r, cap + 8, 4, QUEUES);
	poke(r, cap + 12, 4, 2);
	CHECK_EQ(peek(r, cap + 16, 2), 1);
	poke(r, cap + 8, 4, STATUS);
	poke(r, cap + 12, 4, 1);
	poke(r, cap + 16, 1, 3);
	CHECK_EQ(peek(r, cap + 16, 1), 3);
	poke(r, cap + 8, 4, 0x4000); /* beyond the BAR */
	poke(r, cap + 16, 1, 0);
	poke(r, cap + 8, 4, STATUS + 1); /* misaligned */
	poke(r, cap + 12, 4, 2);
	poke(r, cap + 16, 2, 0);
	poke(r, cap + 8, 4, STATUS);
	poke(r, cap + 12, 4, 1);
	poke(r, cap + 4, 1, 2); /* no such BAR for us */
	poke(r, cap + 16, 1, 0);
	poke(r, cap + 4, 1, 0);
	CHECK_EQ(peek(r, cap + 16, 1), 3);
	rig_close(r);
}

/* A device that stops in the middle of a request until it is let go. */
static int gate_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	static struct virtq_chain chain;
	struct rig *r = dev;

	if (virtq_pop(q, &chain) <= 0)
		return VIRTIO_DRAINED;
	pthread_mutex_lock(&r->lock);
	r->inside = true;
	pthread_cond_broadcast(&r->moved);
	while (!r->go)
		pthread_cond_wait(&r->moved, &r->lock);
	r->inside = r->go = false;
	pthread_mutex_unlock(&r->lock);
	if (!atomic_load(stop))
		virtq_push(q, &chain, 1);
	return VIRTIO_MORE;
}

static void gate_reset(void *dev)
{
	((struct rig *)dev)->resets++;
}

static void gate_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	memcpy(data, ((struct rig *)dev)->config + offset, bytes);
}

static void gate_config_write(void *dev, unsigned offset, const void *data, unsigned bytes)
{
	memcpy(((struct rig *)dev)->config + offset, data, bytes);
}

static struct virtio_dev gate_dev(void)
{
	static const struct virtio_ops ops = {.serve = gate_serve, .reset = gate_reset, .config_read = gate_config_read, .config_write = gate_config_write};

	return (struct virtio_dev){.name = "gate", .type = 63, .pci_class = 0xff0000, .queues = 1, .queue_size = 64, .config_bytes = 8, .ops = &ops};
}

static void gate_wait_inside(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	while (!r->inside)
		pthread_cond_wait(&r->moved, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

static void gate_let_go(struct rig *r)
{
	pthread_mutex_lock(&r->lock);
	r->go = true;
	pthread_mutex_unlock(&r->lock);
	pthread_cond_broadcast(&r->moved);
}

TEST(virtio_reset_in_mid_request_waits_for_the_worker)
{
	struct rig *r = rig_open(gate_dev());

	driver_up(r);
	ask(r, DRIVER_DATA, 8);
	gate_wait_inside(r);
	poke(r, BAR + STATUS, 1, 0);
	CHECK_EQ(peek(r, BAR + STATUS, 1), 15); /* not yet */
	poke(r, BAR + STATUS, 1, 0x80);         /* an impatient driver changes nothing */
	CHECK_EQ(peek(r, BAR + STATUS, 1), 15);
	CHECK_EQ(r->resets, 0);
	gate_let_go(r);
	while (peek(r, BAR + STATUS, 1))
		sched_yield();
	CHECK_EQ(r->resets, 1);
	CHECK_EQ(driver_used_idx(&r->d), 0); /* the request was forgotten */
	CHECK_EQ(r->f.msis, 0);
	driver_set16(&r->d, DRIVER_AVAIL + 2, 0);
	r->d.avail = 0;
	driver_up(r); /* and the device lives */
	ask(r, DRIVER_DATA, 8);
	gate_wait_inside(r);
	gate_let_go(r);
	fixture_wait_msis(&r->f, 1);
	CHECK_EQ(driver_used_idx(&r->d), 1);
	rig_close(r);
}

/* A driver that adds a request at the last moment before the device goes to sleep, and does not notify because it was told not to. */
static int late_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	static struct virtq_chain chain;
	struct rig *r = dev;

	if (virtq_pop(q, &chain) == 1) {
		virtq_push(q, &chain, 1);
		return VIRTIO_MORE;
	}
	if (!r->inside) {
		r->inside = true;
		driver_desc(&r->d, DRIVER_DESC, 0, DRIVER_DATA, 8, DRIVER_WRITE, 0);
		driver_offer(&r->d, 0);
	}
	return VIRTIO_DRAINED;
}

TEST(virtio_sees_what_came_without_notification)
{
	static const struct virtio_ops ops = {.serve = late_serve};
	struct rig *r = rig_open((struct virtio_dev){.name = "late", .type = 63, .queues = 1, .queue_size = 64, .ops = &ops});

	driver_up(r);
	poke(r, NOTIFY, 2, 0);
	fixture_wait_msis(&r->f, 1);
	CHECK_EQ(driver_used_idx(&r->d), 1);
	rig_close(r);
}

TEST(virtio_device_configuration_is_bounded)
{
	struct rig *r = rig_open(gate_dev());

	poke(r, BAR + 0x2000, 8, 0x1122334455667788);
	CHECK_EQ(peek(r, BAR + 0x2004, 4), 0x11223344);
	poke(r, BAR + 0x2004, 8, 0); /* reaches beyond */
	CHECK_EQ(peek(r, BAR + 0x2004, 4), 0x11223344);
	CHECK_EQ(peek(r, BAR + 0x2005, 4), 0);
	CHECK_EQ(peek(r, BAR + 0x2ffc, 4), 0);
	rig_close(r);
}
