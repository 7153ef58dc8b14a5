/* dev/bus: who is found where, and what an access to nobody gives. */
#include "tests/unit/dev_fixture.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

static void echo_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	bus_put(data, bytes, *(uint64_t *)dev + offset);
}

static void echo_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	*(uint64_t *)dev = bus_get(data, bytes) - offset;
}

static const struct bus_ops echo_ops = {.read = echo_read, .write = echo_write};

TEST(bus_finds_the_range_and_refuses_overlap)
{
	struct fixture f;
	uint64_t a = 100, b = 200, top = 7;

	fixture_init(&f);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, 0x2000, 0x100, &echo_ops, &b, "b"), 0);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, 0x1000, 0x100, &echo_ops, &a, "a"), 0);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, UINT64_MAX - 0xff, 0x100, &echo_ops, &top, "top"), 0);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, 0x10ff, 0x10, &echo_ops, &a, "overlaps the end"), -EEXIST);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, 0x0fff, 2, &echo_ops, &a, "overlaps the start"), -EEXIST);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, 0x0f00, 0x2000, &echo_ops, &a, "swallows"), -EEXIST);
	CHECK_EQ(bus_add(f.bus, BUS_PIO, 0x1000, 0x10, &echo_ops, &a, "another space"), 0);
	CHECK_EQ(fixture_peek(&f, 0x1010, 4), 116);
	CHECK_EQ(fixture_peek(&f, 0x20fc, 4), 200 + 0xfc);
	CHECK_EQ(fixture_peek(&f, UINT64_MAX, 1), (7 + 0xff) & 0xff);
	fixture_poke(&f, 0x2001, 2, 0x1234);
	CHECK_EQ(b, 0x1233);
	bus_remove(f.bus, BUS_MMIO, 0x1000);
	CHECK_EQ(fixture_peek(&f, 0x1010, 4), 0xffffffff);
	CHECK_EQ(bus_add(f.bus, BUS_MMIO, 0x10ff, 0x10, &echo_ops, &a, "room now"), 0);
	fixture_fini(&f);
}

TEST(bus_answers_ones_where_nobody_is)
{
	struct fixture f;
	uint64_t a = 0, value = 0;

	fixture_init(&f);
	CHECK_EQ(bus_add(f.bus, BUS_PIO, 0x10, 4, &echo_ops, &a, "a"), 0);
	CHECK(!bus_read(f.bus, BUS_PIO, 0x0f, &value, 1) && value == 0xff);
	value = 0;
	CHECK(!bus_read(f.bus, BUS_PIO, 0x12, &value, 4) && value == 0xffffffff); /* straddles the end */
	CHECK(!bus_write(f.bus, BUS_PIO, 0x14, &value, 1));
	CHECK(!bus_read(f.bus, BUS_MMIO, UINT64_MAX, &value, 8) && value == UINT64_MAX);
	CHECK(bus_read(f.bus, BUS_PIO, 0x13, &value, 1));
	fixture_fini(&f);
}

TEST(bus_says_when_it_is_full)
{
	struct fixture f;
	uint64_t a = 0, n = 0;
	int err;

	fixture_init(&f);
	while ((err = bus_add(f.bus, BUS_PIO, 16 * n, 1, &echo_ops, &a, "a")) == 0)
		n++;
	CHECK_EQ(err, -ENOSPC);
	CHECK(n >= 64);
	fixture_fini(&f);
}
