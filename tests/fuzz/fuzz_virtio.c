/* A hostile driver against virtio-pci and its queues: any register writes, any bytes in guest memory (raw and ring-shaped), in any order with the
 * worker. The device stays within the chain it was given, a fenced device touches nothing, and after a reset it works again. */
#include "base/ensure.h"
#include "tests/fuzz/function_steps.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <string.h>

enum { RAM_BYTES = 64 * 1024, DESC = 0x1000, AVAIL = 0x2000, USED = 0x3000 };

static unsigned served;

/* A device is served only while its driver may be: driving, not fenced, master of the bus. */
static void judge_served(void)
{
	uint64_t command = 0, bar = 0, msix_bar = 0, status = 0;

	ensure(bus_read(function.bus, BUS_MMIO, FUNCTION_CONFIG + 4, &command, 2) && command & PCI_COMMAND_MASTER);
	ensure(bus_read(function.bus, BUS_MMIO, FUNCTION_CONFIG + 0x10, &bar, 8) && bus_read(function.bus, BUS_MMIO, FUNCTION_CONFIG + 0x18, &msix_bar, 8));
	if (bar == (FUNCTION_BAR | 4) && (msix_bar ^ bar) >> 14 && bus_read(function.bus, BUS_MMIO, FUNCTION_BAR + 20, &status, 1))
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
	served++;
	return VIRTIO_MORE;
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

/* What an honest driver does, as one step, so that the fuzzer need not find it. */
static void drive_up(unsigned features, unsigned queue)
{
	function_map();
	function_negotiate((uint32_t)(features & 3) << 28);
	function_queue(queue, DESC, AVAIL, USED);
	function_begin();
}

static void step_desc(struct steps *s, unsigned what)
{
	uint64_t addr = steps_take(s, 2) << (what & 0x40 ? 48 : 0);
	uint32_t len = (uint32_t)steps_take(s, 2);
	unsigned flags = (unsigned)steps_take(s, 1) % 8;

	function_desc(what & 0x80 ? 0x4000 : DESC, (what >> 3) % FUNCTION_SIZE, addr, len, flags, (unsigned)steps_take(s, 1) % (FUNCTION_SIZE + 1));
}

static void step_raw(struct steps *s, unsigned what)
{
	uint64_t at = steps_take(s, 2), bytes = steps_take(s, 8);

	function_set(at, &bytes, 1 + what / 8 % 8);
}

static void rig_step(struct steps *s)
{
	unsigned what = (unsigned)steps_take(s, 1), bytes = 1u << steps_take(s, 1) % 4;
	uint64_t value;

	switch (what % 8) {
	case 0: drive_up(what >> 3, what >> 5 & 1); break;
	case 1: step_desc(s, what); break;
	case 2: function_offer(0, AVAIL, (uint16_t)(steps_take(s, 1) % (FUNCTION_SIZE + 1))); break;
	case 3: function_ring(what >> 3 & 1); break;
	case 4: step_raw(s, what); break;
	case 5: function_common((unsigned)steps_take(s, 2) % 0x4000, bytes, steps_take(s, bytes)); break;
	case 6:
		function_poke(FUNCTION_CONFIG + steps_take(s, 1), bytes, steps_take(s, bytes));
		bus_read(function.bus, BUS_MMIO, FUNCTION_CONFIG + steps_take(s, 1), &value, bytes);
		break;
	case 7: steps_run_worker(what >> 3 & 1); break;
	}
}

/* Whatever has happened, a reset makes an honest request work. */
static void rig_judge(void)
{
	static const struct { uint64_t addr; uint32_t len; uint16_t flags, next; } d[2] = {{0x8000, 4, 1, 1}, {0x9000, 4, 2, 0}};
	unsigned before;

	steps_settle();
	drive_up(0, 0);
	function_common(20, 1, 0);
	ensure(function_status() == 0);
	function_clear();
	before = served;
	steps_settle();
	ensure(served == before);
	drive_up(0, 0);
	function_set(0x8000, "ping", 4);
	function_set(DESC, d, sizeof d);
	function_set(AVAIL + 2, "\1", 1);
	function_ring(0);
	steps_settle();
	ensure(served == before + 1 && memcmp(function.memory + 0x9000, "ping", 4) == 0 && function.memory[USED + 2] == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static const struct virtio_ops ops = {.serve = echo_serve, .config_read = echo_config_read, .config_write = echo_config_write};
	static const struct virtio_dev dev = {.name = "echo", .type = 42, .queues = 2, .queue_size = 16, .config_bytes = 12, .ops = &ops};
	struct steps s = {.at = data, .end = data + bytes};

	served = 0;
	function_open(RAM_BYTES, (struct plane_config){0});
	function_add(&dev, (node_t[VIRTIO_QUEUES_MAX]){{0}});
	function_attach();
	while (steps_left(&s))
		rig_step(&s);
	rig_judge();
	function_halt();
	function_close();
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
