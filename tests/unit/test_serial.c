/* dev/serial: the register sequences of Linux's 8250 driver, told as stories. */
#include "dev/serial.h"
#include "tests/unit/dev_fixture.h"
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { COM = 0x3f8, DATA = COM, IER = COM + 1, IIR = COM + 2, FCR = COM + 2, LCR = COM + 3, MCR = COM + 4, LSR = COM + 5, MSR = COM + 6, SCR = COM + 7, IRQ = 4 };

struct rig {
	struct fixture f;
	struct serial *s;
};

static struct rig *rig_open(void)
{
	struct rig *r = calloc(1, sizeof *r);

	fixture_init(&r->f);
	if (serial_open(&r->s, &(struct serial_config){.bus = r->f.bus, .port = COM, .irq = IRQ, .irq_sink = fixture_sink(&r->f),
			.output = fixture_bytes, .room = fixture_event, .user = &r->f}))
		abort();
	return r;
}

static void rig_close(struct rig *r)
{
	serial_close(r->s);
	fixture_fini(&r->f);
	free(r);
}

static unsigned in(struct rig *r, unsigned port)
{
	return fixture_in(&r->f, port, 1);
}

static void out(struct rig *r, unsigned port, unsigned value)
{
	fixture_out(&r->f, port, 1, value);
}

TEST(serial_is_found_by_the_linux_probe)
{
	struct rig *r = rig_open();

	out(r, IER, 0);
	CHECK_EQ(in(r, IER) & 0x0f, 0);
	out(r, IER, 0x0f);
	CHECK_EQ(in(r, IER) & 0x0f, 0x0f);
	out(r, IER, 0);
	out(r, MCR, 0x10 | 0x08 | 0x02); /* loop-back: OUT2 shows as DCD, RTS as CTS */
	CHECK_EQ(in(r, MSR) & 0xf0, 0x80 | 0x10);
	out(r, MCR, 0);
	out(r, LCR, 0xbf);
	out(r, FCR, 0); /* EFR of better UARTs */
	out(r, LCR, 0);
	out(r, FCR, 1);
	CHECK_EQ(in(r, IIR) >> 6, 3); /* a working FIFO: 16550A */
	out(r, FCR, 0);
	CHECK_EQ(in(r, IIR), 1);
	out(r, LCR, 0x80);
	out(r, DATA, 0x12);
	out(r, IER, 0x34);
	CHECK_EQ(fixture_in(&r->f, DATA, 2), 0x3412);
	out(r, LCR, 3);
	CHECK_EQ(in(r, IER), 0);
	out(r, SCR, 0x5a);
	CHECK_EQ(in(r, SCR), 0x5a);
	CHECK_EQ(in(r, LCR), 3);
	CHECK_EQ(in(r, LSR), 0x60);
	CHECK_EQ(in(r, MSR), 0xb0);
	rig_close(r);
}

TEST(serial_passes_the_linux_thre_test)
{
	struct rig *r = rig_open();

	for (int i = 0; i < 3; i++) { /* each time THRI is enabled anew, the interrupt comes anew */
		out(r, IER, 2);
		CHECK_EQ(r->f.level[IRQ], true);
		CHECK_EQ(in(r, IIR), 2);
		CHECK_EQ(r->f.level[IRQ], false); /* reading IIR takes it away */
		CHECK_EQ(in(r, IIR), 1);
		out(r, IER, 0);
	}
	CHECK_EQ(r->f.rises[IRQ], 3);
	out(r, IER, 2);
	out(r, IER, 0); /* masked: gone without being read */
	CHECK_EQ(r->f.level[IRQ], false);
	rig_close(r);
}

TEST(serial_sends_by_interrupt_one_fifo_each)
{
	struct rig *r = rig_open();
	unsigned sent = 0, interrupts = 0;

	out(r, FCR, 1);
	out(r, IER, 2);
	while (sent < 160) {
		CHECK_EQ(r->f.level[IRQ], true);
		CHECK_EQ(in(r, IIR), 0xc2);
		CHECK_EQ(in(r, LSR) & 0x20, 0x20);
		for (int i = 0; i < 16; i++)
			out(r, DATA, 'a' + sent++ % 26);
		interrupts++;
	}
	out(r, IER, 0);
	CHECK_EQ(interrupts, 10);
	serial_drain(r->s);
	CHECK_EQ(r->f.outs, 160);
	for (unsigned i = 0; i < 160; i++)
		CHECK_EQ(r->f.out[i], 'a' + i % 26);
	rig_close(r);
}

TEST(serial_hands_over_what_is_queued_when_closed)
{
	struct rig *r = rig_open();

	for (const char *c = "login: "; *c; c++)
		out(r, DATA, (unsigned char)*c);
	serial_close(r->s);
	CHECK_EQ(r->f.outs, 7);
	CHECK(memcmp(r->f.out, "login: ", 7) == 0);
	r->s = NULL;
	rig_close(r);
}

TEST(serial_input_waits_for_rts_and_interrupts)
{
	struct rig *r = rig_open();

	CHECK_EQ(serial_input(r->s, (const uint8_t *)"abc", 3), 3);
	CHECK_EQ(in(r, LSR) & 1, 0);
	out(r, FCR, 7); /* a reset of the FIFO does not eat what was never received */
	CHECK_EQ(in(r, DATA), 0);
	out(r, IER, 5);
	CHECK_EQ(r->f.level[IRQ], false);
	out(r, MCR, 0x0b);
	CHECK_EQ(r->f.level[IRQ], true);
	CHECK_EQ(in(r, IIR), 0xcc);
	CHECK_EQ(in(r, DATA), 'a');
	CHECK_EQ(in(r, DATA), 'b');
	CHECK_EQ(r->f.level[IRQ], true);
	CHECK_EQ(in(r, DATA), 'c');
	CHECK_EQ(r->f.level[IRQ], false);
	CHECK_EQ(in(r, LSR) & 1, 0);
	CHECK_EQ(serial_input(r->s, (const uint8_t *)"d", 1), 1);
	CHECK_EQ(r->f.rises[IRQ], 2); /* every arrival is a fresh edge */
	rig_close(r);
}

TEST(serial_receive_goes_before_transmit)
{
	struct rig *r = rig_open();

	out(r, FCR, 1);
	out(r, MCR, 0x0b);
	out(r, IER, 7);
	CHECK_EQ(serial_input(r->s, (const uint8_t *)"x", 1), 1);
	CHECK_EQ(in(r, IIR), 0xcc);
	CHECK_EQ(in(r, DATA), 'x');
	CHECK_EQ(in(r, IIR), 0xc2); /* the THRE interrupt was not lost meanwhile */
	CHECK_EQ(in(r, IIR), 0xc1);
	rig_close(r);
}

TEST(serial_loop_back_overtakes_the_queue)
{
	struct rig *r = rig_open();

	CHECK_EQ(serial_input(r->s, (const uint8_t *)"q", 1), 1);
	out(r, FCR, 1);
	out(r, MCR, 0x10);
	out(r, DATA, 'l');
	out(r, DATA, 'o');
	CHECK_EQ(in(r, DATA), 'l');
	CHECK_EQ(in(r, DATA), 'o');
	CHECK_EQ(in(r, LSR) & 1, 0);
	out(r, MCR, 2);
	CHECK_EQ(in(r, DATA), 'q');
	serial_drain(r->s);
	CHECK_EQ(r->f.outs, 0);
	rig_close(r);
}

TEST(serial_input_is_refused_when_full_and_asked_for_again)
{
	struct rig *r = rig_open();
	uint8_t byte = 0;
	size_t accepted = 0, read = 0;

	out(r, MCR, 2);
	while (serial_input(r->s, &byte, 1)) {
		byte++;
		accepted++;
	}
	CHECK(accepted >= 4096);
	CHECK_EQ(r->f.events, 0);
	while (in(r, LSR) & 1)
		CHECK_EQ(in(r, DATA), read++ & 0xff);
	CHECK_EQ(read, accepted);
	fixture_wait_events(&r->f, 1);
	CHECK_EQ(serial_input(r->s, &byte, 1), 1);
	rig_close(r);
}

TEST(serial_handler_comes_to_an_end)
{
	struct rig *r = rig_open();
	static const uint8_t much[8000];
	size_t read = 0;

	out(r, FCR, 1);
	out(r, MCR, 2);
	out(r, IER, 1);
	CHECK_EQ(serial_input(r->s, much, sizeof much), sizeof much);
	for (unsigned rises = 1; read < sizeof much; rises++) {
		size_t burst = 0;

		CHECK_EQ(r->f.rises[IRQ], rises); /* what is left comes with a fresh edge */
		for (; !(in(r, IIR) & 1); burst++) /* and does not come for ever, however fast the far end types */
			in(r, DATA);
		CHECK(burst > 0 && burst <= 4096);
		read += burst;
	}
	CHECK_EQ(read, sizeof much);
	CHECK_EQ(r->f.level[IRQ], false);
	rig_close(r);
}

/* Another thread types while the guest polls: nothing is lost, nothing comes twice. */
static void *typist(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < 20000;) {
		uint8_t b[7];
		unsigned n = 20000 - i < 7 ? 20000 - i : 7;

		for (unsigned k = 0; k < n; k++)
			b[k] = (uint8_t)((i + k) % 251);
		n = (unsigned)serial_input(r->s, b, n);
		i += n;
	}
	return NULL;
}

TEST(serial_input_from_another_thread)
{
	struct rig *r = rig_open();
	pthread_t t;

	out(r, FCR, 1);
	out(r, MCR, 2);
	CHECK_EQ(pthread_create(&t, NULL, typist, r), 0);
	for (unsigned i = 0; i < 20000;) {
		if (!(in(r, LSR) & 1))
			continue;
		CHECK_EQ(in(r, DATA), i++ % 251);
		if (i % 3 == 0)
			out(r, DATA, '.');
	}
	pthread_join(t, NULL);
	serial_drain(r->s);
	CHECK_EQ(r->f.outs, 6666);
	rig_close(r);
}

/* A blocked reader of the console: the guest sees a busy transmitter and gets its interrupt when there is room again. */
struct gate {
	struct rig *rig;
	pthread_mutex_t lock;
	pthread_cond_t opened;
	bool open;
};

static void gate_output(void *user, const uint8_t *bytes, size_t n)
{
	struct gate *g = user;

	pthread_mutex_lock(&g->lock);
	while (!g->open)
		pthread_cond_wait(&g->opened, &g->lock);
	pthread_mutex_unlock(&g->lock);
	fixture_bytes(&g->rig->f, bytes, n);
}

TEST(serial_slow_output_is_a_slow_line)
{
	struct rig r = {0};
	struct gate g = {.rig = &r, .lock = PTHREAD_MUTEX_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER};
	unsigned sent = 0;

	fixture_init(&r.f);
	CHECK_EQ(serial_open(&r.s, &(struct serial_config){.bus = r.f.bus, .port = COM, .irq = IRQ, .irq_sink = fixture_sink(&r.f),
		.output = gate_output, .user = &g}), 0);
	while (in(&r, LSR) & 0x20) {
		out(&r, DATA, sent % 251);
		sent++;
	}
	out(&r, IER, 2);
	CHECK_EQ(r.f.level[IRQ], false);
	pthread_mutex_lock(&g.lock);
	g.open = true;
	pthread_mutex_unlock(&g.lock);
	pthread_cond_signal(&g.opened);
	fixture_wait_outs(&r.f, sent);
	serial_drain(r.s);
	CHECK_EQ(in(&r, LSR) & 0x20, 0x20);
	CHECK_EQ(in(&r, IIR), 2);
	for (unsigned i = 0; i < sent; i++)
		CHECK_EQ(r.f.out[i], i % 251);
	serial_close(r.s);
	fixture_fini(&r.f);
}

TEST(serial_refuses_taken_ports)
{
	struct rig *r = rig_open();
	struct serial *other;

	CHECK_EQ(serial_open(&other, &(struct serial_config){.bus = r->f.bus, .port = COM + 4, .irq = 3, .irq_sink = fixture_sink(&r->f),
		.output = fixture_bytes, .user = &r->f}), -EEXIST);
	rig_close(r);
}
