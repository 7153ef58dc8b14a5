/* vm/interlink over socket pairs: interrupts, device accesses, the agreed stop, and every way a peer can be lost. */
#include "tests/test.h"
#include "vm/interlink.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One end: counts what its callbacks saw, and posts each event to a pipe that the test reads (no sleeps). */
struct end {
	struct interlink *il;
	int events[2];
	uint64_t reg;
};

struct event {
	enum { EV_IRQ, EV_ENTRY, EV_STOPPED, EV_LOST, EV_OTHER } kind;
	uint64_t a, b, c;
	char text[96];
};

static void post(struct end *e, struct event ev)
{
	if (write(e->events[1], &ev, sizeof ev) != sizeof ev)
		perror("post");
}

static void on_irq(void *vm, vcpu_t vcpu, unsigned mode, uint8_t vector)
{
	post(vm, (struct event){.kind = EV_IRQ, .a = vcpu.v, .b = mode, .c = vector});
}

static void on_read(void *vm, enum bus_space space, uint64_t addr, void *data, unsigned bytes)
{
	uint64_t v = ((struct end *)vm)->reg + addr + space;

	memcpy(data, &v, bytes);
}

static void on_write(void *vm, enum bus_space space, uint64_t addr, const void *data, unsigned bytes)
{
	((struct end *)vm)->reg = 0;
	memcpy(&((struct end *)vm)->reg, data, bytes);
}

static void on_clock(void *vm, int64_t cycles, uint64_t error)
{
}

static void on_base(void *vm, uint64_t offset)
{
}

static void on_entry(void *vm, const struct boot_entry *e)
{
	post(vm, (struct event){.kind = EV_ENTRY, .a = e->eip, .b = e->esi, .c = e->ebx});
}

static void on_stopped(void *vm, node_t from, unsigned reason, node_t about, const char *what)
{
	struct event ev = {.kind = EV_STOPPED, .a = from.v, .b = reason, .c = about.v};

	snprintf(ev.text, sizeof ev.text, "%s", what);
	post(vm, ev);
}

static void on_lost(void *vm, node_t peer, const char *why)
{
	struct event ev = {.kind = EV_LOST, .a = peer.v};

	snprintf(ev.text, sizeof ev.text, "%s", why);
	post(vm, ev);
}

static void on_tick(void *vm, uint64_t now_ms)
{
}

static int on_other(void *vm, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	post(vm, (struct event){.kind = EV_OTHER, .a = from.v, .b = id, .c = bytes});
	return bytes == 3 ? 0 : -EPROTO;
}

static bool end_open(struct end *e, unsigned self, int fd, unsigned silence_ms)
{
	struct interlink_config c = {.self = {(uint8_t)self}, .nodes = 2, .silence_ms = silence_ms,
		.calls = {on_irq, on_read, on_write, on_clock, on_base, on_entry, on_stopped, on_lost, on_tick, on_other, e}};

	if (self) /* node 0 has the devices */
		c.calls.io_read = NULL, c.calls.io_write = NULL;
	c.fd[self] = -1;
	c.fd[1 - self] = fd;
	return pipe(e->events) == 0 && interlink_open(&e->il, &c, NULL) == 0;
}

static bool end_next(struct end *e, struct event *ev)
{
	struct pollfd p = {.fd = e->events[0], .events = POLLIN};

	return poll(&p, 1, 20000) == 1 && read(e->events[0], ev, sizeof *ev) == sizeof *ev;
}

static void end_close(struct end *e)
{
	interlink_close(e->il);
	close(e->events[0]);
	close(e->events[1]);
}

static bool pair_open(struct end e[2], unsigned silence_ms)
{
	int fd[2];

	memset(e, 0, 2 * sizeof *e);
	return socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e[0], 0, fd[0], silence_ms) && end_open(&e[1], 1, fd[1], silence_ms);
}

TEST(interlink_carries_interrupts_in_order)
{
	struct end e[2];
	struct event ev;

	CHECK(pair_open(e, 60000));
	for (unsigned v = 16; v < 256; v++)
		CHECK_EQ(interlink_irq(e[0].il, (node_t){1}, (vcpu_t){7}, 0, (uint8_t)v), 0);
	for (unsigned v = 16; v < 256; v++) {
		CHECK(end_next(&e[1], &ev));
		CHECK(ev.kind == EV_IRQ && ev.a == 7 && ev.b == 0 && ev.c == v);
	}
	CHECK_EQ(interlink_boot_entry(e[0].il, (node_t){1}, &(struct boot_entry){.eip = 1, .esi = 2, .ebx = 3}), 0);
	CHECK(end_next(&e[1], &ev));
	CHECK(ev.kind == EV_ENTRY && ev.a == 1 && ev.b == 2 && ev.c == 3);
	end_close(&e[0]);
	end_close(&e[1]);
}

TEST(interlink_reads_and_writes_devices_elsewhere)
{
	struct end e[2];
	uint32_t v = 0x12345678;
	uint64_t wide = 0;

	CHECK(pair_open(e, 60000));
	CHECK_EQ(interlink_io(e[1].il, (node_t){0}, (vcpu_t){3}, BUS_PIO, 0x3f8, &v, 4, true), 0);
	CHECK_EQ(e[0].reg, 0x12345678);
	CHECK_EQ(interlink_io(e[1].il, (node_t){0}, (vcpu_t){3}, BUS_MMIO, 0x10, &wide, 8, false), 0);
	CHECK_EQ(wide, 0x12345678 + 0x10 + BUS_MMIO);
	for (unsigned n = 1; n < 8; n++) { /* KVM cuts an access at the end of a page */
		wide = UINT64_MAX;
		CHECK_EQ(interlink_io(e[1].il, (node_t){0}, (vcpu_t){3}, BUS_MMIO, 0x2000 - n, &wide, n, true), 0);
		CHECK_EQ(e[0].reg, UINT64_MAX >> (64 - 8 * n));
	}
	end_close(&e[0]);
	end_close(&e[1]);
}

/* No correct node does. */
TEST(interlink_drops_a_peer_that_asks_for_devices_where_there_are_none)
{
	for (unsigned write = 0; write < 2; write++) {
		struct end e[2];
		struct event ev;
		uint32_t v = 0;

		CHECK(pair_open(e, 60000));
		CHECK_EQ(interlink_io(e[0].il, (node_t){1}, (vcpu_t){3}, BUS_PIO, 0x3f8, &v, 4, write), -ECANCELED);
		CHECK(end_next(&e[1], &ev) && ev.kind == EV_LOST && ev.a == 0 && strstr(ev.text, "no correct node"));
		end_close(&e[0]);
		end_close(&e[1]);
	}
}

TEST(interlink_hands_on_what_is_not_its_own)
{
	static const uint8_t good[] = {3, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 2, 3}, bad[] = {1, 0, 0, 0, 0xff, 0xff, 0, 0, 1};
	struct end e[2];
	struct event ev;

	CHECK(pair_open(e, 60000));
	CHECK_EQ(interlink_send(e[0].il, (node_t){1}, good, sizeof good), 0);
	CHECK(end_next(&e[1], &ev));
	CHECK(ev.kind == EV_OTHER && ev.a == 0 && ev.b == 0xffff && ev.c == 3);
	CHECK_EQ(interlink_send(e[0].il, (node_t){1}, bad, sizeof bad), 0);
	CHECK(end_next(&e[1], &ev) && ev.kind == EV_OTHER && ev.c == 1);
	CHECK(end_next(&e[1], &ev) && ev.kind == EV_LOST);
	end_close(&e[0]);
	end_close(&e[1]);
}

TEST(interlink_tells_of_a_stop_and_of_a_closed_peer)
{
	struct end e[2];
	struct event ev;
	uint8_t byte = 0;

	CHECK(pair_open(e, 60000));
	interlink_stop(e[0].il, 6, (node_t){1}, "because");
	CHECK(end_next(&e[1], &ev));
	CHECK(ev.kind == EV_STOPPED && ev.a == 0 && ev.b == 6 && ev.c == 1 && strcmp(ev.text, "because") == 0);
	end_close(&e[0]);
	CHECK(end_next(&e[1], &ev));
	CHECK(ev.kind == EV_LOST && ev.a == 0);
	CHECK_EQ(interlink_io(e[1].il, (node_t){0}, (vcpu_t){0}, BUS_PIO, 1, &byte, 1, false), -ECANCELED);
	end_close(&e[1]);
}

static void *read_in_vain(void *arg)
{
	uint8_t byte;

	return (void *)(intptr_t)interlink_io(((struct end *)arg)->il, (node_t){1}, (vcpu_t){0}, BUS_PIO, 1, &byte, 1, false);
}

TEST(interlink_notices_a_silent_peer_and_frees_its_waiters)
{
	struct end e = {0};
	struct event ev;
	pthread_t waiter;
	void *got;
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e, 0, fd[0], 100));
	CHECK(pthread_create(&waiter, NULL, read_in_vain, &e) == 0);
	CHECK(end_next(&e, &ev));
	CHECK(ev.kind == EV_LOST && ev.a == 1 && strstr(ev.text, "not answered"));
	CHECK(pthread_join(waiter, &got) == 0);
	CHECK_EQ((intptr_t)got, -ECANCELED);
	end_close(&e);
	close(fd[1]);
}

TEST(interlink_drops_a_peer_that_sends_garbage)
{
	struct end e = {0};
	struct event ev;
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e, 0, fd[0], 60000));
	CHECK(write(fd[1], "GET / HTTP/1.1\r\n\r\n", 18) == 18);
	CHECK(end_next(&e, &ev));
	CHECK(ev.kind == EV_LOST && strstr(ev.text, "no correct node"));
	end_close(&e);
	close(fd[1]);
}
