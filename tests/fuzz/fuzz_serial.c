/* The UART under any sequence of register accesses, typing and worker runs: bytes are conserved and in order, and the interrupt line is up
 * whenever an enabled cause is there. */
#include "base/ensure.h"
#include "dev/serial.h"
#include "tests/fuzz/dev_steps.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

enum { COM = 0x3f8, IER = 1, LCR = 3, MCR = 4, LSR = 5 };

struct rig {
	struct bus *bus;
	struct serial *s;
	bool line, dlab;
	uint8_t ier, mcr;
	uint64_t typed, put_out;
	uint64_t sent;    /* while THRE said that there is room */
	uint64_t unasked; /* while it did not: they may be lost */
};

static void rig_line(void *vm, unsigned gsi, bool level)
{
	struct rig *r = vm;

	ensure(gsi == 4 && level != r->line);
	r->line = level;
}

static void rig_output(void *user, const uint8_t *bytes, size_t n)
{
	struct rig *r = user;

	ensure(n > 0);
	r->put_out += n;
	ensure(r->put_out <= r->sent + r->unasked);
}

static void rig_room(void *user)
{
}

static uint8_t rig_in(struct rig *r, unsigned reg)
{
	uint8_t v = 0;

	ensure(bus_read(r->bus, BUS_PIO, COM + reg, &v, 1));
	return v;
}

static void rig_out(struct rig *r, unsigned reg, uint8_t v)
{
	if (reg == LCR)
		r->dlab = v & 0x80;
	if (reg == MCR)
		r->mcr = v;
	if (reg == IER && !r->dlab)
		r->ier = v;
	if (reg == 0 && !r->dlab && !(r->mcr & 0x10))
		++*(rig_in(r, LSR) & 0x20 ? &r->sent : &r->unasked);
	ensure(bus_write(r->bus, BUS_PIO, COM + reg, &v, 1));
}

static void rig_step(struct rig *r, struct steps *s)
{
	uint8_t what = (uint8_t)steps_take(s, 1), typed[64];
	unsigned n = 0;

	switch (what >> 5) {
	case 0: rig_in(r, what & 7); break;
	case 1:
	case 2: rig_out(r, what & 7, (uint8_t)steps_take(s, 1)); break;
	case 3:
		for (; n < (what & 31); n++)
			typed[n] = (uint8_t)r->typed;
		r->typed += serial_input(r->s, typed, n);
		break;
	case 4:
		for (; n < 40u * (what & 31); n++) /* a driver that minds THRE */
			if (rig_in(r, LSR) & 0x20)
				rig_out(r, 0, 'x');
		break;
	case 5: steps_run_worker(0); break;
	}
	if (r->ier & 1 && rig_in(r, LSR) & 1)
		ensure(r->line);
	if (!(r->ier & 3))
		ensure(!r->line);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig r = {0};
	struct steps s = {.at = data, .end = data + bytes};

	ensure(bus_open(&r.bus) == 0);
	ensure(serial_open(&r.s, &(struct serial_config){.bus = r.bus, .port = COM, .irq = 4, .irq_sink = {.line = rig_line, .vm = &r}, .output = rig_output,
		.room = rig_room, .user = &r}) == 0);
	while (steps_left(&s))
		rig_step(&r, &s);
	steps_settle();
	ensure(r.put_out >= r.sent && r.put_out <= r.sent + r.unasked);
	serial_close(r.s);
	bus_close(r.bus);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t probe[] = {0x21, 0, 0x21, 0x0f, 0x24, 0x1a, 0x06, 0x24, 0, 0x23, 0xbf, 0x22, 0, 0x23, 0, 0x22, 1, 0x02};
	static const uint8_t talk[] = {0x24, 0x0b, 0x22, 7, 0x21, 7, 0x02, 0x9f, 0x02, 0xa0, 0x7f, 0x05, 0x00, 0x00, 0x02, 0x9f, 0x9f, 0x9f, 0xa0, 0x02};
	const uint8_t *seed = n == 0 ? probe : talk;
	size_t bytes = n == 0 ? sizeof probe : sizeof talk;

	if (n > 1 || bytes > room)
		return 0;
	memcpy(to, seed, bytes);
	return bytes;
}
