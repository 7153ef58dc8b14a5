/* dev/board: the standard machine answers where dev/addrmap.h says, and its ends, keys and interrupts reach vm/. */
#include "dev/addrmap.h"
#include "dev/board.h"
#include "dev/outfit.h"
#include "tests/unit/virtio_driver.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

struct rig {
	struct fixture f; /* its bus is the board's */
	struct driver d;
	struct outfit *o;
	struct board *b;
	unsigned ends[3], routed;
};

static void rig_msi(void *user, uint64_t address, uint32_t data)
{
	struct irq_sink s = fixture_sink(&((struct rig *)user)->f);

	s.msi(s.vm, address, data);
}

static void rig_routes(void *user, const struct ioapic_route route[IOAPIC_PINS])
{
	((struct rig *)user)->routed++;
}

static void rig_output(void *user, const uint8_t *bytes, size_t n)
{
	fixture_bytes(&((struct rig *)user)->f, bytes, n);
}

static void rig_end(void *user, enum board_end why)
{
	((struct rig *)user)->ends[why]++;
}

static struct rig *rig_open(void)
{
	struct rig *r = calloc(1, sizeof *r);

	fixture_init(&r->f);
	bus_close(r->f.bus);
	driver_init(&r->d, 8);
	if (outfit_open(&r->o, &(struct outfit_config){.plane = {.ram = &r->d.ram, .msi = rig_msi, .user = r}}, NULL))
		abort();
	if (board_open(&r->b, &(struct board_config){.plane = outfit_plane(r->o), .msi = rig_msi, .routes = rig_routes, .output = rig_output, .end = rig_end,
		.user = r}, NULL))
		abort();
	r->f.bus = board_bus(r->b);
	return r;
}

static void rig_close(struct rig *r)
{
	outfit_halt(r->o);
	board_close(r->b);
	outfit_close(r->o);
	r->f.bus = NULL;
	fixture_fini(&r->f);
	driver_fini(&r->d);
	free(r);
}

TEST(board_has_its_devices_where_the_map_says)
{
	struct rig *r = rig_open();

	CHECK_EQ(fixture_peek(&r->f, ADDRMAP_ECAM, 4), 0x00081b36);
	CHECK_EQ(fixture_peek(&r->f, ADDRMAP_ECAM + (1 << 15), 4), 0x10441af4);
	fixture_poke(&r->f, ADDRMAP_IOAPIC, 4, 1);
	CHECK_EQ(fixture_peek(&r->f, ADDRMAP_IOAPIC + 0x10, 4), 0x00170020);
	CHECK_EQ(fixture_in(&r->f, ADDRMAP_PORT_COM1 + 5, 1), 0x60);
	CHECK_EQ(fixture_in(&r->f, ADDRMAP_PORT_PVPANIC, 1), 3);
	CHECK_EQ(fixture_in(&r->f, ADDRMAP_PORT_PM1_CONTROL, 2), 1);
	fixture_out(&r->f, ADDRMAP_PORT_RTC, 1, 13);
	CHECK_EQ(fixture_in(&r->f, ADDRMAP_PORT_RTC + 1, 1), 0x80);
	rig_close(r);
}

TEST(board_passes_on_how_the_guest_ends)
{
	struct rig *r = rig_open();

	fixture_out(&r->f, ADDRMAP_PORT_PVPANIC, 1, 2);
	CHECK_EQ(r->ends[BOARD_PANIC], 0); /* a crash kernel takes over: the guest goes on */
	fixture_out(&r->f, ADDRMAP_PORT_PVPANIC, 1, 1);
	CHECK_EQ(r->ends[BOARD_PANIC], 1);
	fixture_out(&r->f, ADDRMAP_PORT_RESET, 1, ADDRMAP_RESET_VALUE);
	fixture_out(&r->f, ADDRMAP_PORT_I8042_COMMAND, 1, 0xfe);
	CHECK_EQ(r->ends[BOARD_RESET], 2);
	fixture_out(&r->f, ADDRMAP_PORT_PM1_CONTROL, 2, ADDRMAP_S5_SLEEP_TYPE << 10 | 1 << 13);
	CHECK_EQ(r->ends[BOARD_POWEROFF], 1);
	rig_close(r);
}

TEST(board_wires_lines_through_the_ioapic)
{
	struct rig *r = rig_open();
	static const uint8_t key = 'k';

	fixture_poke(&r->f, ADDRMAP_IOAPIC, 4, 0x10 + 2 * ADDRMAP_GSI_COM1);
	fixture_poke(&r->f, ADDRMAP_IOAPIC + 0x10, 4, 0x44);
	fixture_poke(&r->f, ADDRMAP_IOAPIC, 4, 0x10 + 2 * ADDRMAP_GSI_SCI);
	fixture_poke(&r->f, ADDRMAP_IOAPIC + 0x10, 4, 0x49 | 1 << 15);
	CHECK_EQ(r->routed, 2);
	fixture_out(&r->f, ADDRMAP_PORT_COM1 + 4, 1, 0x0b);
	fixture_out(&r->f, ADDRMAP_PORT_COM1 + 1, 1, 1);
	CHECK_EQ(board_input(r->b, &key, 1), 1);
	CHECK_EQ(r->f.msis, 1);
	CHECK_EQ(r->f.msi[0].data, 0x44);
	fixture_out(&r->f, ADDRMAP_PORT_PM1 + 2, 2, 0x100);
	board_power_button(r->b);
	CHECK_EQ(r->f.msis, 2);
	CHECK_EQ(r->f.msi[1].data, 0xc049);
	board_eoi(r->b, 0x49); /* still pressed: again */
	CHECK_EQ(r->f.msis, 3);
	fixture_out(&r->f, ADDRMAP_PORT_PM1, 2, 0x100);
	board_eoi(r->b, 0x49);
	CHECK_EQ(r->f.msis, 3);
	for (const char *c = "bye"; *c; c++)
		fixture_out(&r->f, ADDRMAP_PORT_COM1, 1, (unsigned char)*c);
	board_drain(r->b);
	CHECK(r->f.outs == 3 && memcmp(r->f.out, "bye", 3) == 0);
	rig_close(r);
}
