/* dev/pci and dev/msix: both doors to configuration space, BARs that move, vectors that wait behind their masks. */
#include "dev/addrmap.h"
#include "dev/msix.h"
#include "dev/pci.h"
#include "tests/unit/dev_fixture.h"
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ECAM = ADDRMAP_ECAM, WINDOW = ADDRMAP_PCI_MMIO, SLOT = 3, CONFIG = ECAM + (SLOT << 15), BIG = 0x10000, MSI = (int)0xfee00000 };

struct rig {
	struct fixture f;
	struct pci *pci;
	struct pci_dev d;
	struct msix msix;
	unsigned resets;
};

static void rig_reset(void *user)
{
	((struct rig *)user)->resets++;
}

static void bar_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	bus_put(data, bytes, offset ^ 0xabcd0000);
}

static void bar_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

static void rig_written(struct pci_dev *d, unsigned offset, unsigned bytes)
{
	struct rig *r = (struct rig *)((char *)d - offsetof(struct rig, d));

	msix_config_written(&r->msix);
}

static const struct pci_ops rig_ops = {.config_written = rig_written};
static const struct pci_id rig_id = {.vendor = 0x1af4, .device = 0x1234, .subsystem_vendor = 0x1af4, .subsystem = 0x40, .class = 0xff0001, .revision = 7};

static struct rig *rig_open(void)
{
	struct rig *r = calloc(1, sizeof *r);

	fixture_init(&r->f);
	if (pci_open(&r->pci, &(struct pci_config){.bus = r->f.bus, .ecam = ECAM, .window = WINDOW, .window_bytes = ADDRMAP_PCI_MMIO_BYTES, .reset = rig_reset, .user = r}))
		abort();
	pci_dev_init(&r->d, "test", &rig_id, &rig_ops);
	msix_init(&r->msix, &r->d, 2, 3, fixture_sink(&r->f));
	pci_bar_init(&r->d, 0, BIG, &bar_ops, r);
	if (pci_add(r->pci, SLOT, &r->d))
		abort();
	return r;
}

static void rig_close(struct rig *r)
{
	pci_remove(&r->d);
	pci_close(r->pci);
	fixture_fini(&r->f);
	free(r);
}

static uint32_t config(struct rig *r, unsigned offset, unsigned bytes)
{
	return (uint32_t)fixture_peek(&r->f, CONFIG + offset, bytes);
}

static void config_set(struct rig *r, unsigned offset, unsigned bytes, uint32_t value)
{
	fixture_poke(&r->f, CONFIG + offset, bytes, value);
}

TEST(pci_doors_agree)
{
	struct rig *r = rig_open();

	CHECK_EQ(config(r, 0, 4), 0x12341af4);
	CHECK_EQ(config(r, 8, 4), 0xff000107);
	CHECK_EQ(config(r, 0x2c, 4), 0x00401af4);
	CHECK_EQ(config(r, 0x06, 2), 0x10);
	fixture_out(&r->f, 0xcf8, 4, 0x80000000u | SLOT << 11);
	CHECK_EQ(fixture_in(&r->f, 0xcf8, 4), 0x80000000u | SLOT << 11);
	CHECK_EQ(fixture_in(&r->f, 0xcfc, 4), 0x12341af4);
	CHECK_EQ(fixture_in(&r->f, 0xcfe, 2), 0x1234);
	CHECK_EQ(fixture_in(&r->f, 0xcff, 1), 0x12);
	fixture_out(&r->f, 0xcf8, 4, 0x80000000u | SLOT << 11 | 4);
	fixture_out(&r->f, 0xcfc, 2, 0xffff);
	CHECK_EQ(config(r, 4, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_NO_INTX);
	fixture_out(&r->f, 0xcf8, 4, SLOT << 11); /* not enabled */
	CHECK_EQ(fixture_in(&r->f, 0xcfc, 4), 0xffffffff);
	fixture_out(&r->f, 0xcf8, 4, 0x80010000u | SLOT << 11); /* bus 1 */
	CHECK_EQ(fixture_in(&r->f, 0xcfc, 4), 0xffffffff);
	fixture_out(&r->f, 0xcf8, 4, 0x80000100u | SLOT << 11); /* function 1 */
	CHECK_EQ(fixture_in(&r->f, 0xcfc, 4), 0xffffffff);
	CHECK_EQ(fixture_peek(&r->f, ECAM + (5 << 15), 4), 0xffffffff); /* empty slot */
	CHECK_EQ(fixture_peek(&r->f, CONFIG + 0x100, 4), 0); /* no extended capability */
	CHECK_EQ(fixture_peek(&r->f, CONFIG + 0xff, 2), 0);
	config_set(r, 0, 4, 0);
	CHECK_EQ(config(r, 0, 4), 0x12341af4);
	rig_close(r);
}

TEST(pci_host_bridge_golden_bytes)
{
	static const uint8_t golden[64] = {
		0x36, 0x1b, 0x08, 0x00, 0, 0, 0, 0, 0, 0x00, 0x00, 0x06, [0x2c] = 0xf4, 0x1a, 0x00, 0x11};
	struct rig *r = rig_open();

	for (unsigned i = 0; i < sizeof golden; i++)
		CHECK_EQ(fixture_peek(&r->f, ECAM + i, 1), golden[i]);
	rig_close(r);
}

TEST(pci_reset_register_shares_the_address_port)
{
	struct rig *r = rig_open();

	fixture_out(&r->f, 0xcf8, 4, 0x80001234);
	fixture_out(&r->f, 0xcf9, 1, 0x02);
	CHECK_EQ(fixture_in(&r->f, 0xcf9, 1), 0x02);
	CHECK_EQ(r->resets, 0);
	CHECK_EQ(fixture_in(&r->f, 0xcf8, 4), 0x80001234);
	fixture_out(&r->f, 0xcf9, 1, 0x06);
	CHECK_EQ(r->resets, 1);
	rig_close(r);
}

TEST(pci_bars_are_sized_and_moved)
{
	struct rig *r = rig_open();
	uint32_t placed = config(r, 0x10, 4);

	CHECK_EQ(placed & 0xf, 4);
	CHECK_EQ((placed & ~0xfu) % BIG, 0);
	CHECK((placed & ~0xfu) >= WINDOW);
	CHECK_EQ(fixture_peek(&r->f, placed & ~0xfu, 4), 0xffffffff); /* decoding is off */
	config_set(r, 0x10, 4, 0xffffffff);
	config_set(r, 0x14, 4, 0xffffffff);
	CHECK_EQ(config(r, 0x10, 4), (uint32_t)-BIG | 4);
	CHECK_EQ(config(r, 0x14, 4), 0xffffffff);
	config_set(r, 0x10, 4, 0xd0000000);
	config_set(r, 0x14, 4, 0);
	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY);
	CHECK_EQ(fixture_peek(&r->f, 0xd0000010, 4), 0xabcd0010);
	config_set(r, 0x14, 4, 0x12); /* now at 0x12'd0000000 */
	CHECK_EQ(fixture_peek(&r->f, 0xd0000010, 4), 0xffffffff);
	CHECK_EQ(fixture_peek(&r->f, 0x12d0000010, 4), 0xabcd0010);
	config_set(r, 0x10, 4, 0xffffffff); /* sized with decoding on: as high as can be */
	config_set(r, 0x14, 4, 0xffffffff);
	CHECK_EQ(fixture_peek(&r->f, -(uint64_t)BIG, 4), 0xabcd0000);
	config_set(r, 0x04, 2, 0);
	CHECK_EQ(fixture_peek(&r->f, -(uint64_t)BIG, 4), 0xffffffff);
	rig_close(r);
}

TEST(pci_bar_on_somebody_else_maps_nothing)
{
	struct rig *r = rig_open();

	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY);
	config_set(r, 0x10, 4, ECAM);
	CHECK_EQ(config(r, 0, 4), 0x12341af4); /* ECAM still there */
	config_set(r, 0x18, 4, 0xd0000000);
	config_set(r, 0x10, 4, 0xd0000000); /* own MSI-X BAR is there */
	CHECK_EQ(fixture_peek(&r->f, 0xd000000c, 4), 1);
	config_set(r, 0x18, 4, 0xd1000000); /* moves away: the other is tried again by the same write */
	CHECK_EQ(fixture_peek(&r->f, 0xd000000c, 4), 0xabcd000c);
	CHECK_EQ(fixture_peek(&r->f, 0xd100000c, 4), 1);
	rig_close(r);
}

TEST(pci_refuses_what_does_not_fit)
{
	struct rig *r = rig_open();
	struct pci_dev other;

	pci_dev_init(&other, "other", &rig_id, NULL);
	CHECK_EQ(pci_add(r->pci, SLOT, &other), -EBUSY);
	pci_bar_init(&other, 0, 2ull * ADDRMAP_PCI_MMIO_BYTES, &bar_ops, NULL);
	CHECK_EQ(pci_add(r->pci, 4, &other), -ENOSPC);
	rig_close(r);
}

/* MSI-X: capability at the first place, table in BAR 2. */
enum { CAP = 0x40, TABLE = (int)0xd0000000, ENABLE = 1 << 15, FMASK = 1 << 14 };

static struct rig *msix_rig_open(void)
{
	struct rig *r = rig_open();

	config_set(r, 0x18, 4, (uint32_t)TABLE);
	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	for (unsigned v = 0; v < 3; v++) {
		fixture_poke(&r->f, (uint32_t)TABLE + 16 * v, 4, (uint32_t)MSI + 0x1000 * v);
		fixture_poke(&r->f, (uint32_t)TABLE + 16 * v + 8, 4, 0x50 + v);
	}
	return r;
}

static void raise_vector(struct rig *r, unsigned vector)
{
	bus_lock(r->f.bus);
	msix_raise(&r->msix, vector);
	bus_unlock(r->f.bus);
}

static uint64_t pba(struct rig *r)
{
	return fixture_peek(&r->f, (uint32_t)TABLE + MSIX_PBA_OFFSET, 8);
}

TEST(msix_capability_golden_bytes)
{
	static const uint8_t golden[12] = {0x11, 0x00, 0x02, 0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x08, 0x00, 0x00};
	struct rig *r = msix_rig_open();

	CHECK_EQ(config(r, 0x34, 1), CAP);
	for (unsigned i = 0; i < sizeof golden; i++)
		CHECK_EQ(config(r, CAP + i, 1), golden[i]);
	CHECK_EQ(fixture_peek(&r->f, (uint32_t)TABLE + 0x0c, 4), 1); /* vectors start masked */
	CHECK_EQ(fixture_peek(&r->f, (uint32_t)TABLE + 0x30, 4), 0); /* behind the table */
	rig_close(r);
}

TEST(msix_sends_when_open)
{
	struct rig *r = msix_rig_open();

	fixture_poke(&r->f, (uint32_t)TABLE + 16 + 12, 4, 0);
	raise_vector(r, 1);
	CHECK_EQ(r->f.msis, 0); /* MSI-X off: lost */
	config_set(r, CAP + 2, 2, ENABLE);
	CHECK_EQ(r->f.msis, 0);
	raise_vector(r, 1);
	CHECK_EQ(r->f.msis, 1);
	CHECK_EQ(r->f.msi[0].address, 0xfee01000);
	CHECK_EQ(r->f.msi[0].data, 0x51);
	raise_vector(r, 3);
	raise_vector(r, 0xffff); /* no vector */
	CHECK_EQ(r->f.msis, 1);
	fixture_poke(&r->f, (uint32_t)TABLE + 16, 8, 0x1000); /* plain memory is no interrupt */
	raise_vector(r, 1);
	CHECK_EQ(r->f.msis, 1);
	rig_close(r);
}

TEST(msix_pending_waits_for_every_mask)
{
	struct rig *r = msix_rig_open();

	config_set(r, CAP + 2, 2, ENABLE | FMASK);
	fixture_poke(&r->f, (uint32_t)TABLE + 12, 4, 0);
	raise_vector(r, 0);
	raise_vector(r, 0);
	raise_vector(r, 2);
	CHECK_EQ(r->f.msis, 0);
	CHECK_EQ(pba(r), 5);
	fixture_poke(&r->f, (uint32_t)TABLE + MSIX_PBA_OFFSET, 8, 0); /* not the guest's to clear */
	CHECK_EQ(pba(r), 5);
	config_set(r, CAP + 2, 2, ENABLE); /* function mask goes: 0 is sent once, 2 is still masked itself */
	CHECK_EQ(r->f.msis, 1);
	CHECK_EQ(pba(r), 4);
	fixture_poke(&r->f, (uint32_t)TABLE + 32 + 12, 4, 0xfffffffe); /* reserved bits do not stick */
	CHECK_EQ(fixture_peek(&r->f, (uint32_t)TABLE + 32 + 12, 4), 0);
	CHECK_EQ(r->f.msis, 2);
	CHECK_EQ(r->f.msi[1].data, 0x52);
	CHECK_EQ(pba(r), 0);
	rig_close(r);
}

TEST(msix_waits_for_bus_mastering)
{
	struct rig *r = msix_rig_open();

	config_set(r, CAP + 2, 2, ENABLE);
	fixture_poke(&r->f, (uint32_t)TABLE + 12, 4, 0);
	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY);
	raise_vector(r, 0);
	CHECK_EQ(r->f.msis, 0);
	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	CHECK_EQ(r->f.msis, 1);
	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY);
	raise_vector(r, 0);
	config_set(r, CAP + 2, 2, 0); /* off: what was pending is forgotten */
	config_set(r, CAP + 2, 2, ENABLE);
	config_set(r, 0x04, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
	CHECK_EQ(r->f.msis, 1);
	rig_close(r);
}
