/* The IOAPIC under any sequence of register writes, pin changes and EOIs: no level is forgotten, none is sent twice before its EOI, and every
 * message went by a route that vm/ had been told of. */
#include "base/ensure.h"
#include "dev/ioapic.h"
#include "tests/fuzz/dev_steps.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { LEVEL = 1 << 15, RIRR = 1 << 14, MASKED = 1 << 16, MODE = 7 << 8 };

struct rig {
	struct bus *bus;
	struct ioapic *a;
	struct ioapic_route route[IOAPIC_PINS];
	bool level[IOAPIC_PINS];
};

static void rig_msi(void *user, uint64_t address, uint32_t data)
{
	struct rig *r = user;
	bool known = false;

	ensure(address >> 20 == 0xfee);
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		known |= r->route[pin].address == address && r->route[pin].data == data;
	ensure(known);
}

static void rig_routes(void *user, const struct ioapic_route route[IOAPIC_PINS])
{
	struct rig *r = user;

	ensure(memcmp(r->route, route, sizeof r->route) != 0);
	memcpy(r->route, route, sizeof r->route);
}

static void rig_poke(struct rig *r, unsigned offset, uint32_t value)
{
	ensure(bus_write(r->bus, BUS_MMIO, ADDRMAP_IOAPIC + offset, &value, 4));
}

static uint32_t rig_low(struct rig *r, unsigned pin)
{
	uint32_t value;

	rig_poke(r, 0, 0x10 + 2 * pin);
	ensure(bus_read(r->bus, BUS_MMIO, ADDRMAP_IOAPIC + 0x10, &value, 4));
	return value;
}

static void rig_judge(struct rig *r)
{
	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++) {
		uint32_t low = rig_low(r, pin), mode = low & MODE;

		ensure(!(low & RIRR) || low & LEVEL);
		if (low & LEVEL && !(low & MASKED) && r->level[pin] && (mode == 0 || mode == 0x100 || mode == 0x400))
			ensure(low & RIRR);
	}
}

static void rig_step(struct rig *r, struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), pin = what % IOAPIC_PINS;
	uint32_t low;

	switch (what >> 6) {
	case 0:
		rig_poke(r, 0, (uint32_t)steps_take(s, 1));
		rig_poke(r, 0x10, (uint32_t)steps_take(s, 4));
		break;
	case 1:
		r->level[pin] = !r->level[pin];
		ioapic_line(r->a, pin, r->level[pin]);
		break;
	case 2:
		low = rig_low(r, pin);
		ioapic_eoi(r->a, (uint8_t)low);
		break;
	case 3: rig_poke(r, what & 0x3f, (uint32_t)steps_take(s, 4)); break;
	}
	rig_judge(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig r = {0};
	struct steps s = {.at = data, .end = data + (bytes < 2048 ? bytes : 2048)};

	for (unsigned pin = 0; pin < IOAPIC_PINS; pin++)
		r.route[pin].address = 0xfee00000;
	ensure(bus_open(&r.bus) == 0);
	ensure(ioapic_open(&r.a, &(struct ioapic_config){.bus = r.bus, .base = ADDRMAP_IOAPIC, .msi = rig_msi, .routes = rig_routes, .user = &r}) == 0);
	while (steps_left(&s))
		rig_step(&r, &s);
	ioapic_close(r.a);
	bus_close(r.bus);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t story[] = {0, 0x22, 0x31, 0x80, 0, 0, 0, 0x23, 0, 0, 0, 3, 0x40 | 1, 0x80 | 1, 0x40 | 9, 0x80 | 1, 0, 0x22, 0x31, 0x80, 1, 0, 0x40 | 9};

	if (n > 0 || sizeof story > room)
		return 0;
	memcpy(to, story, sizeof story);
	return sizeof story;
}
