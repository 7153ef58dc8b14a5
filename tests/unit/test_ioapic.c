/* dev/ioapic: edge and level, mask, Remote IRR, EOI by every way Linux knows. */
#include "dev/ioapic.h"
#include "tests/unit/dev_fixture.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

enum { BASE = ADDRMAP_IOAPIC, MASKED = 1 << 16, LEVEL = 1 << 15, RIRR = 1 << 14, LOGICAL = 1 << 11 };

struct rig {
	struct fixture f;
	struct ioapic *a;
	struct ioapic_route route[IOAPIC_PINS];
	unsigned routed;
};

static void rig_msi(void *user, uint64_t address, uint32_t data)
{
	struct rig *r = user;
	struct irq_sink s = fixture_sink(&r->f);

	s.msi(s.vm, address, data);
}

static void rig_routes(void *user, const struct ioapic_route route[IOAPIC_PINS])
{
	struct rig *r = user;

	memcpy(r->route, route, sizeof r->route);
	r->routed++;
}

static struct rig *rig_open(void)
{
	struct rig *r = calloc(1, sizeof *r);

	fixture_init(&r->f);
	if (ioapic_open(&r->a, &(struct ioapic_config){.bus = r->f.bus, .base = BASE, .msi = rig_msi, .routes = rig_routes, .user = r}))
		abort();
	return r;
}

static void rig_close(struct rig *r)
{
	ioapic_close(r->a);
	fixture_fini(&r->f);
	free(r);
}

static uint32_t reg(struct rig *r, uint32_t index)
{
	fixture_poke(&r->f, BASE, 4, index);
	return (uint32_t)fixture_peek(&r->f, BASE + 0x10, 4);
}

static void reg_set(struct rig *r, uint32_t index, uint32_t value)
{
	fixture_poke(&r->f, BASE, 4, index);
	fixture_poke(&r->f, BASE + 0x10, 4, value);
}

static void pin_set(struct rig *r, unsigned pin, uint32_t low, uint8_t destination)
{
	reg_set(r, 0x11 + 2 * pin, (uint32_t)destination << 24);
	reg_set(r, 0x10 + 2 * pin, low);
}

TEST(ioapic_identifies_itself_and_starts_masked)
{
	struct rig *r = rig_open();

	CHECK_EQ(reg(r, 1), 0x00170020);
	reg_set(r, 0, 0xffffffff);
	CHECK_EQ(reg(r, 0), 0x0f000000);
	for (unsigned pin = 0; pin < 24; pin++)
		CHECK_EQ(reg(r, 0x10 + 2 * pin), MASKED);
	CHECK_EQ(reg(r, 0x10 + 48), 0);
	CHECK_EQ(reg(r, 0xff), 0);
	ioapic_line(r->a, 4, true);
	CHECK_EQ(r->f.msis, 0);
	rig_close(r);
}

TEST(ioapic_edge_is_one_message_a_rise)
{
	struct rig *r = rig_open();

	pin_set(r, 4, 0x24, 3);
	CHECK_EQ(r->f.msis, 0);
	ioapic_line(r->a, 4, true);
	ioapic_line(r->a, 4, true);
	CHECK_EQ(r->f.msis, 1);
	CHECK_EQ(r->f.msi[0].address, 0xfee03000);
	CHECK_EQ(r->f.msi[0].data, 0x24);
	ioapic_line(r->a, 4, false);
	ioapic_line(r->a, 4, true);
	CHECK_EQ(r->f.msis, 2);
	ioapic_line(r->a, 4, false);
	reg_set(r, 0x18, 0x24 | MASKED);
	ioapic_line(r->a, 4, true);
	reg_set(r, 0x18, 0x24);
	CHECK_EQ(r->f.msis, 2); /* an edge at a masked pin is lost, and no level comes instead */
	rig_close(r);
}

TEST(ioapic_level_waits_for_eoi)
{
	struct rig *r = rig_open();

	pin_set(r, 9, 0x31 | LEVEL, 255);
	ioapic_line(r->a, 9, true);
	CHECK_EQ(r->f.msis, 1);
	CHECK_EQ(r->f.msi[0].address, 0xfeeff000);
	CHECK_EQ(r->f.msi[0].data, 0x31 | 1 << 15 | 1 << 14);
	CHECK_EQ(reg(r, 0x22), 0x31 | LEVEL | RIRR);
	ioapic_line(r->a, 9, false);
	ioapic_line(r->a, 9, true);
	CHECK_EQ(r->f.msis, 1); /* still in service */
	ioapic_eoi(r->a, 0x32);
	CHECK_EQ(r->f.msis, 1);
	ioapic_eoi(r->a, 0x31);
	CHECK_EQ(r->f.msis, 2); /* still active: again */
	ioapic_line(r->a, 9, false);
	ioapic_eoi(r->a, 0x31);
	CHECK_EQ(r->f.msis, 2);
	CHECK_EQ(reg(r, 0x22), 0x31 | LEVEL);
	rig_close(r);
}

TEST(ioapic_level_survives_masking)
{
	struct rig *r = rig_open();

	pin_set(r, 9, 0x31 | LEVEL | MASKED, 0);
	ioapic_line(r->a, 9, true);
	CHECK_EQ(r->f.msis, 0);
	reg_set(r, 0x22, 0x31 | LEVEL);
	CHECK_EQ(r->f.msis, 1);
	reg_set(r, 0x22, 0x31 | LEVEL | MASKED);
	ioapic_eoi(r->a, 0x31); /* EOI of a masked pin */
	CHECK_EQ(r->f.msis, 1);
	CHECK_EQ(reg(r, 0x22), 0x31 | LEVEL | MASKED);
	reg_set(r, 0x22, 0x31 | LEVEL);
	CHECK_EQ(r->f.msis, 2);
	rig_close(r);
}

TEST(ioapic_eoi_by_register_and_by_edge_trick)
{
	struct rig *r = rig_open();

	pin_set(r, 9, 0x31 | LEVEL, 0);
	ioapic_line(r->a, 9, true);
	fixture_poke(&r->f, BASE + 0x40, 4, 0x31);
	CHECK_EQ(r->f.msis, 2);
	reg_set(r, 0x22, 0x31 | MASKED);
	CHECK_EQ(reg(r, 0x22), 0x31 | MASKED);
	reg_set(r, 0x22, 0x31 | LEVEL);
	CHECK_EQ(r->f.msis, 3);
	reg_set(r, 0x22, 0x31 | LEVEL | RIRR | 1 << 12); /* read-only bits stay ours */
	ioapic_line(r->a, 9, false);
	ioapic_eoi(r->a, 0x31);
	reg_set(r, 0x22, 0x31 | LEVEL | RIRR | 1 << 12);
	CHECK_EQ(reg(r, 0x22), 0x31 | LEVEL);
	rig_close(r);
}

TEST(ioapic_modes_become_messages)
{
	struct rig *r = rig_open();

	pin_set(r, 1, 0x41 | LOGICAL | 1 << 8, 0x0f);
	ioapic_line(r->a, 1, true);
	CHECK_EQ(r->f.msi[0].address, 0xfee0f000 | 1 << 2 | 1 << 3);
	CHECK_EQ(r->f.msi[0].data, 0x141);
	pin_set(r, 2, 4 << 8, 1);
	ioapic_line(r->a, 2, true);
	CHECK_EQ(r->f.msi[1].data, 0x400);
	pin_set(r, 3, 7 << 8, 1); /* ExtINT: there is no PIC */
	ioapic_line(r->a, 3, true);
	pin_set(r, 5, 5 << 8, 1); /* INIT */
	ioapic_line(r->a, 5, true);
	CHECK_EQ(r->f.msis, 2);
	rig_close(r);
}

TEST(ioapic_tells_routes_before_it_uses_them)
{
	struct rig *r = rig_open();
	unsigned told;

	pin_set(r, 9, 0x31 | LEVEL | MASKED, 2);
	CHECK_EQ(r->routed, 2);
	CHECK_EQ(r->route[9].address, 0xfee02000);
	CHECK_EQ(r->route[9].data, 0x31 | 1 << 15 | 1 << 14);
	CHECK_EQ(r->route[8].data, 0);
	told = r->routed;
	reg_set(r, 0x22, 0x31 | LEVEL);
	reg_set(r, 0x22, 0x31 | LEVEL | MASKED);
	CHECK_EQ(r->routed, told); /* masking changes no route */
	rig_close(r);
}
