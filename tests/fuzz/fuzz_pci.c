/* Configuration space and MSI-X under any accesses: identity stays, both doors agree, a vector raised with MSI-X on is sent or pending. */
#include "base/ensure.h"
#include "dev/addrmap.h"
#include "dev/msix.h"
#include "dev/pci.h"
#include "tests/fuzz/dev_steps.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { SLOT = 1, CONFIG = ADDRMAP_ECAM + (SLOT << 15), VECTORS = 4 };

struct rig {
	struct bus *bus;
	struct pci *pci;
	struct pci_dev d;
	struct msix m;
	unsigned sent;
};

static void rig_msi(void *vm, uint64_t address, uint32_t data)
{
	struct rig *r = vm;

	ensure(address >> 20 == 0xfee);
	r->sent++;
}

static void rig_reset(void *user)
{
}

static void bar_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	ensure(offset + bytes <= 0x4000);
	memset(data, 0x5a, bytes);
}

static void bar_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	ensure(offset + bytes <= 0x4000);
}

static const struct bus_ops bar_ops = {.read = bar_read, .write = bar_write};

static void rig_written(struct pci_dev *d, unsigned offset, unsigned bytes)
{
	struct rig *r = (struct rig *)(void *)((uint8_t *)d - offsetof(struct rig, d));

	ensure(offset + bytes <= PCI_CONFIG_BYTES);
	msix_config_written(&r->m);
}

static const struct pci_ops rig_ops = {.config_written = rig_written};

static unsigned step_width(struct steps *s)
{
	return 1u << steps_take(s, 1) % 4;
}

static void rig_raise(struct rig *r, unsigned vector)
{
	uint64_t address = bus_get(r->m.table + vector * MSIX_ENTRY_BYTES, 8), pending = r->m.pending;
	unsigned sent = r->sent;

	bus_lock(r->bus);
	msix_raise(&r->m, vector);
	bus_unlock(r->bus);
	if (pci_get(&r->d, r->m.cap + 2, 2) & 0x8000 && address >> 20 == 0xfee)
		ensure(r->sent == sent + 1 || r->m.pending & 1ull << vector);
	ensure((r->m.pending & ~(1ull << vector)) == (pending & ~(1ull << vector)));
}

static void rig_step(struct rig *r, struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), bytes;
	uint64_t at, value;

	switch (what % 6) {
	case 0:
		bytes = step_width(s);
		at = CONFIG + steps_take(s, what & 0x80 ? 2 : 1) % 4096;
		value = steps_take(s, bytes);
		bus_write(r->bus, BUS_MMIO, at, &value, bytes);
		break;
	case 1:
		bytes = 1u << steps_take(s, 1) % 3;
		value = steps_take(s, 4);
		bus_write(r->bus, BUS_PIO, 0xcf8 + (what >> 4) % 8, &value, bytes);
		break;
	case 2: rig_raise(r, what / 8 % VECTORS); break;
	case 3:
		bytes = step_width(s);
		at = (what & 0x80 ? ADDRMAP_PCI_MMIO : r->d.bar[2].at) + steps_take(s, 2);
		value = steps_take(s, bytes);
		bus_write(r->bus, BUS_MMIO, at, &value, bytes);
		break;
	case 4: bus_read(r->bus, BUS_MMIO, r->d.bar[what & 0x80 ? 0 : 2].at + steps_take(s, 2), &value, step_width(s)); break;
	case 5: bus_read(r->bus, BUS_MMIO, CONFIG + steps_take(s, 2) % 4096, &value, step_width(s)); break;
	}
}

static void rig_judge(struct rig *r)
{
	uint32_t ecam, port, address = 0x80000000u | SLOT << 11;

	for (unsigned at = 0; at < PCI_CONFIG_BYTES; at += 4) {
		uint32_t where = address | at;

		ensure(bus_read(r->bus, BUS_MMIO, CONFIG + at, &ecam, 4));
		ensure(bus_write(r->bus, BUS_PIO, 0xcf8, &where, 4) && bus_read(r->bus, BUS_PIO, 0xcfc, &port, 4));
		ensure(ecam == port);
		if (at == 0)
			ensure(ecam == 0x56781af4);
	}
	for (unsigned i = 0; i < PCI_BARS; i++)
		ensure(!r->d.bar[i].mapped || (r->d.bar[i].bytes && r->d.bar[i].at % r->d.bar[i].bytes == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const struct pci_id id = {.vendor = 0x1af4, .device = 0x5678, .class = 0xff0000};
	struct rig r = {0};
	struct steps s = {.at = data, .end = data + bytes};

	ensure(bus_open(&r.bus) == 0);
	ensure(pci_open(&r.pci, &(struct pci_config){.bus = r.bus, .ecam = ADDRMAP_ECAM, .window = ADDRMAP_PCI_MMIO, .window_bytes = ADDRMAP_PCI_MMIO_BYTES,
		.reset = rig_reset}) == 0);
	pci_dev_init(&r.d, "fuzzed", &id, &rig_ops);
	pci_bar_init(&r.d, 0, 0x4000, &bar_ops, &r);
	msix_init(&r.m, &r.d, 2, VECTORS, (struct irq_sink){.msi = rig_msi, .vm = &r});
	ensure(pci_add(r.pci, SLOT, &r.d) == 0);
	while (steps_left(&s))
		rig_step(&r, &s);
	rig_judge(&r);
	pci_remove(&r.d);
	pci_close(r.pci);
	bus_close(r.bus);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t story[] = {
		0, 1, 4, 6, 0,                                       /* memory, mastering */
		0, 1, 0x42, 0, 0x80,                                 /* MSI-X on */
		3, 2, 0, 0, 0, 0, 0xe0, 0xfe, 3, 3, 8, 0, 0x41, 0, 0, 0, 0, 0, 0, 0, 2, 10, 0, 2, 0x18, 0, 0, 0, 0xd0, 4, 0, 8, 3, 5, 0x10, 0, 2,
	};

	if (n > 0 || sizeof story > room)
		return 0;
	memcpy(to, story, sizeof story);
	return sizeof story;
}
