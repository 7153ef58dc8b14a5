/* See function_steps.h. */
#include "tests/fuzz/function_steps.h"

#include "base/ensure.h"

#include <string.h>

struct function function;

static void on_msi(void *user, uint64_t address, uint32_t data)
{
	ensure(address >> 20 == 0xfee);
}

static void on_other_msi(void *user, uint64_t address, uint32_t data)
{
}

static void on_reset(void *user)
{
}

void function_open(uint64_t ram_bytes, struct plane_config c)
{
	memset(&function, 0, sizeof function);
	ensure(ram_bytes <= FUNCTION_RAM_MAX);
	function.ram = (struct ram){.range = {{.bytes = ram_bytes}}, .hva = {function.memory}, .ranges = 1, .bytes = ram_bytes};
	c.ram = &function.ram;
	c.msi = on_other_msi; /* as another node's message says, if it is a queue's */
	ensure(plane_open(&function.plane, &c) == 0);
}

void function_add(const struct virtio_dev *dev, const node_t node[VIRTIO_QUEUES_MAX])
{
	ensure(plane_add(function.plane, 0, dev, node) == 0);
}

void function_attach(void)
{
	ensure(bus_open(&function.bus) == 0);
	ensure(pci_open(&function.pci, &(struct pci_config){.bus = function.bus, .ecam = ADDRMAP_ECAM, .window = ADDRMAP_PCI_MMIO,
		.window_bytes = ADDRMAP_PCI_MMIO_BYTES, .reset = on_reset}) == 0);
	ensure(virtio_pci_open(&function.v, &(struct virtio_pci_config){.bus = function.bus, .pci = function.pci, .slot = 1, .irq_sink = {.msi = on_msi},
		.plane = function.plane}) == 0);
}

void function_halt(void)
{
	plane_halt(function.plane);
	virtio_pci_close(function.v);
}

void function_close(void)
{
	plane_close(function.plane);
	pci_close(function.pci);
	bus_close(function.bus);
}

void function_poke(uint64_t at, unsigned bytes, uint64_t value)
{
	bus_write(function.bus, BUS_MMIO, at, &value, bytes);
}

void function_common(unsigned at, unsigned bytes, uint64_t value)
{
	function_poke(FUNCTION_BAR + at, bytes, value);
}

void function_ring(unsigned queue)
{
	function_poke(FUNCTION_BAR + 0x3000 + 4 * queue, 2, 0);
}

unsigned function_status(void)
{
	uint64_t value = 0;

	ensure(bus_read(function.bus, BUS_MMIO, FUNCTION_BAR + 20, &value, 1));
	return (unsigned)value;
}

void function_map(void)
{
	function_poke(FUNCTION_CONFIG + 0x10, 4, FUNCTION_BAR);
	function_poke(FUNCTION_CONFIG + 0x14, 4, 0);
	function_poke(FUNCTION_CONFIG + 0x18, 4, FUNCTION_BAR + 0x10000); /* the MSI-X BAR, out of the way */
	function_poke(FUNCTION_CONFIG + 0x1c, 4, 0);
	function_poke(FUNCTION_CONFIG + 4, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

void function_negotiate(uint32_t features)
{
	function_common(20, 1, 3);
	function_common(8, 4, 0);
	function_common(12, 4, features);
	function_common(8, 4, 1);
	function_common(12, 4, 1);
	function_common(20, 1, 11);
}

void function_queue(unsigned queue, uint64_t desc, uint64_t avail, uint64_t used)
{
	function_common(22, 2, queue);
	function_common(24, 2, FUNCTION_SIZE);
	function_common(26, 2, 1);
	function_common(32, 8, desc);
	function_common(40, 8, avail);
	function_common(48, 8, used);
	function_common(28, 2, 1);
}

void function_begin(void)
{
	function_common(20, 1, 15);
}

void function_set(uint64_t at, const void *bytes, size_t n)
{
	at %= function.ram.bytes;
	if (at + n <= function.ram.bytes)
		memcpy(function.memory + at, bytes, n);
}

void function_desc(uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d = {addr, len, (uint16_t)flags, (uint16_t)next};

	function_set(table + 16ull * i, &d, sizeof d);
}

void function_offer(unsigned queue, uint64_t avail, uint16_t head)
{
	function_set(avail + 4 + 2u * (function.offered[queue] % FUNCTION_SIZE), &head, 2);
	function.offered[queue]++;
	function_set(avail + 2, &function.offered[queue], 2);
}

void function_clear(void)
{
	memset(function.memory, 0, sizeof function.memory);
	memset(function.offered, 0, sizeof function.offered);
}
