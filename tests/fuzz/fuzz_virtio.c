/* A hostile driver against virtio-pci and its queues: any register writes, any bytes in guest memory (raw and ring-shaped), in any order with the
 * worker. The device stays within the chain it was given, a fenced device touches nothing, and after a reset it works again. */
#include "base/ensure.h"
#include "dev/addrmap.h"
#include "dev/virtio_pci.h"
#include "tests/fuzz/dev_steps.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 64 * 1024, CONFIG = ADDRMAP_ECAM + (1 << 15), BAR = ADDRMAP_PCI_MMIO, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000, SIZE = 8 };

struct rig {
	struct bus *bus;
	struct pci *pci;
	struct plane *plane;
	struct virtio_pci *v;
	struct ram ram;
	uint8_t memory[RAM_BYTES] __attribute__((aligned(4096)));
	unsigned served, resets;
	uint16_t offered;
};

static struct rig rig;

static void rig_msi(void *vm, uint64_t address, uint32_t data)
{
	ensure(address >> 20 == 0xfee);
}

static void rig_reset(void *user)
{
}

/* A device is served only while its driver may be: driving, not fenced, master of the bus. */
static void judge_served(void)
{
	uint64_t command = 0, bar = 0, msix_bar = 0, status = 0;

	ensure(bus_read(rig.bus, BUS_MMIO, CONFIG + 4, &command, 2) && command & PCI_COMMAND_MASTER);
	ensure(bus_read(rig.bus, BUS_MMIO, CONFIG + 0x10, &bar, 8) && bus_read(rig.bus, BUS_MMIO, CONFIG + 0x18, &msix_bar, 8));
	if (bar == (BAR | 4) && (msix_bar ^ bar) >> 14 && bus_read(rig.bus, BUS_MMIO, BAR + 20, &status, 1))
		ensure((status & 0x44) == 4);
}

/* Gives back what it read, as far as it fits. */
static int echo_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	static struct virtq_chain c;
	uint8_t buffer[512];
	uint64_t n;
	int got = virtq_pop(q, &c);

	judge_served();
	ensure(queue < 2 && features >> VIRTIO_F_VERSION_1 & 1 && !atomic_load(stop));
	if (got <= 0)
		return got ? got : VIRTIO_DRAINED;
	ensure(c.readable <= c.segs && c.segs <= VIRTQ_SEGS_MAX && c.readable_bytes <= UINT32_MAX && c.writable_bytes <= UINT32_MAX && c.head < q->size);
	n = c.readable_bytes < c.writable_bytes ? c.readable_bytes : c.writable_bytes;
	n = n < sizeof buffer ? n : sizeof buffer;
	if (virtq_read(q, &c, c.readable_bytes - n, buffer, n) || virtq_write(q, &c, c.writable_bytes - n, buffer, n))
		return -EPROTO;
	virtq_push(q, &c, (uint32_t)n);
	rig.served++;
	return VIRTIO_MORE;
}

static void echo_reset(void *dev)
{
	rig.resets++;
}

static void echo_config_read(void *dev, unsigned offset, void *data, unsigned bytes)
{
	ensure(offset + bytes <= 12);
	memset(data, 0x11, bytes);
}

static void echo_config_write(void *dev, unsigned offset, const void *data, unsigned bytes)
{
	ensure(offset + bytes <= 12);
}

static void poke(uint64_t at, unsigned bytes, uint64_t value)
{
	bus_write(rig.bus, BUS_MMIO, at, &value, bytes);
}

static void common(unsigned at, unsigned bytes, uint64_t value)
{
	poke(BAR + at, bytes, value);
}

/* What an honest driver does, as one step, so that the fuzzer need not find it. */
static void drive_up(unsigned features, unsigned queue)
{
	poke(CONFIG + 0x10, 4, BAR);
	poke(CONFIG + 0x14, 4, 0);
	poke(CONFIG + 4, 2, 6);
	common(20, 1, 3);
	common(8, 4, 0);
	common(12, 4, (uint32_t)(features & 3) << 28);
	common(8, 4, 1);
	common(12, 4, 1);
	common(20, 1, 11);
	common(22, 2, queue);
	common(24, 2, SIZE);
	common(26, 2, 1);
	common(32, 8, DESC);
	common(40, 8, AVAIL);
	common(48, 8, USED);
	common(28, 2, 1);
	common(20, 1, 15);
}

static void memory_set(uint64_t at, const void *bytes, size_t n)
{
	at %= RAM_BYTES;
	if (at + n <= RAM_BYTES)
		memcpy(rig.memory + at, bytes, n);
}

static void step_desc(struct steps *s, unsigned what)
{
	struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d = {.addr = steps_take(s, 2) << (what & 0x40 ? 48 : 0), .len = (uint32_t)steps_take(s, 2),
		.flags = (uint16_t)steps_take(s, 1) % 8, .next = (uint16_t)(steps_take(s, 1) % (SIZE + 1))};

	memory_set((what & 0x80 ? 0x4000 : DESC) + 16 * (what >> 3) % SIZE, &d, sizeof d);
}

static void step_offer(struct steps *s)
{
	uint16_t head = (uint16_t)(steps_take(s, 1) % (SIZE + 1));

	memory_set(AVAIL + 4 + 2u * (rig.offered % SIZE), &head, 2);
	rig.offered++;
	memory_set(AVAIL + 2, &rig.offered, 2);
}

static void step_raw(struct steps *s, unsigned what)
{
	uint64_t at = steps_take(s, 2), bytes = steps_take(s, 8);

	memory_set(at, &bytes, 1 + what / 8 % 8);
}

static void rig_step(struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), bytes = 1u << steps_take(s, 1) % 4;
	uint64_t value;

	switch (what % 8) {
	case 0: drive_up(what >> 3, what >> 5 & 1); break;
	case 1: step_desc(s, what); break;
	case 2: step_offer(s); break;
	case 3: poke(BAR + 0x3000 + 4 * (what >> 3 & 1), 2, 0); break;
	case 4: step_raw(s, what); break;
	case 5: common((unsigned)steps_take(s, 2) % 0x4000, bytes, steps_take(s, bytes)); break;
	case 6:
		poke(CONFIG + steps_take(s, 1), bytes, steps_take(s, bytes));
		bus_read(rig.bus, BUS_MMIO, CONFIG + steps_take(s, 1), &value, bytes);
		break;
	case 7: steps_run_worker(what >> 3 & 1); break;
	}
}

/* Whatever has happened, a reset makes an honest request work. */
static void rig_judge(void)
{
	static const struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d[2] = {{0x8000, 4, 1, 1}, {0x9000, 4, 2, 0}};
	unsigned served;
	uint64_t status = 0;

	steps_settle();
	poke(CONFIG + 0x18, 4, BAR + 0x10000); /* keep the MSI-X BAR out of the way */
	poke(CONFIG + 0x1c, 4, 0);
	drive_up(0, 0);
	common(20, 1, 0);
	ensure(bus_read(rig.bus, BUS_MMIO, BAR + 20, &status, 1) && status == 0);
	memset(rig.memory, 0, RAM_BYTES);
	served = rig.served;
	steps_settle();
	ensure(served == rig.served);
	drive_up(0, 0);
	memory_set(0x8000, "ping", 4);
	memory_set(DESC, d, sizeof d);
	memory_set(AVAIL + 2, "\1", 1);
	poke(BAR + 0x3000, 2, 0);
	steps_settle();
	ensure(rig.served == served + 1 && memcmp(rig.memory + 0x9000, "ping", 4) == 0 && rig.memory[USED + 2] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const struct virtio_ops ops = {.serve = echo_serve, .reset = echo_reset, .config_read = echo_config_read, .config_write = echo_config_write};
	static const struct virtio_dev dev = {.name = "echo", .type = 42, .queues = 2, .queue_size = 16, .config_bytes = 12, .ops = &ops};
	struct steps s = {.at = data, .end = data + bytes};

	memset(&rig, 0, sizeof rig);
	rig.ram = (struct ram){.range = {{.bytes = RAM_BYTES}}, .hva = {rig.memory}, .ranges = 1, .bytes = RAM_BYTES};
	ensure(bus_open(&rig.bus) == 0);
	ensure(pci_open(&rig.pci, &(struct pci_config){.bus = rig.bus, .ecam = ADDRMAP_ECAM, .window = ADDRMAP_PCI_MMIO, .window_bytes = ADDRMAP_PCI_MMIO_BYTES,
		.reset = rig_reset}) == 0);
	ensure(plane_open(&rig.plane, &(struct plane_config){.ram = &rig.ram}) == 0);
	ensure(plane_add(rig.plane, 0, &dev, (node_t[VIRTIO_QUEUES_MAX]){{0}}) == 0);
	ensure(virtio_pci_open(&rig.v, &(struct virtio_pci_config){.bus = rig.bus, .pci = rig.pci, .slot = 1, .irq_sink = {.msi = rig_msi}, .plane = rig.plane}) == 0);
	while (steps_left(&s))
		rig_step(&s);
	rig_judge();
	plane_halt(rig.plane);
	virtio_pci_close(rig.v);
	plane_close(rig.plane);
	pci_close(rig.pci);
	bus_close(rig.bus);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t story[] = {
		0, 0, 1, 0, 0, 0x80, 4, 0, 1, 1, 9, 0, 0, 0x90, 4, 0, 2, 0, 2, 0, 0, 3, 0, 7, 0,   /* up, two descriptors, offer, notify, work */
		1, 0, 0, 0x40, 32, 0, 4, 0, 0x81, 0, 0, 0x80, 4, 0, 1, 1, 0x89, 0, 0, 0x90, 8, 0, 2, 0, 2, 0, 0, 7, 0, /* an indirect one */
		5, 0, 20, 0, 0, 0, 0, /* reset */
	};

	static const uint8_t fenced[] = {
		0, 0, 2, 0, 8, 3, 0, 7, 0,                             /* up on queue 0; a head out of range: fenced */
		2, 0, 0, 3, 0, 7, 0,                                   /* an honest one is not served any more */
		0, 0, 5, 1, 22, 0, 1, 0, 5, 2, 32, 0, 0, 0, 0, 0xff,   /* queue 1 with a bad ring */
		5, 1, 28, 0, 1, 0, 2, 0, 0, 3, 0, 7, 0,
	};
	static const uint8_t masterless[] = {
		0, 0, 1, 0, 0, 0x80, 4, 0, 0, 2, 0, 0, 6, 1, 4, 2, 0, 4, 3, 0, 7, 0, /* up, a request, mastering off, notify */
		6, 1, 4, 6, 0, 4, 7, 0,                                            /* on again */
	};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{story, sizeof story}, {fenced, sizeof fenced}, {masterless, sizeof masterless}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
