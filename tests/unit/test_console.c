/* dev/virtio_console: a driver that does as it should, one that does not, hosts that come and go, and resets at every step. */
#include "base/ensure.h"
#include "dev/virtio_console.h"
#include "tests/test.h"
#include "tests/unit/queue_rig.h"

#include <string.h>

enum { IN = 0, OUT = 1, CONTROL_IN = 2, CONTROL_OUT = 3, AGENT_IN = 4, AGENT_OUT = 5 };
enum { EV_DEVICE_READY, EV_PORT_ADD, EV_PORT_REMOVE, EV_PORT_READY, EV_CONSOLE_PORT, EV_RESIZE, EV_PORT_OPEN, EV_PORT_NAME };

/* The host: takes so many bytes and no more until told. */
struct host {
	struct queue_rig r;
	struct virtio_console *c;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	size_t takes[CONSOLE_PORTS], had[CONSOLE_PORTS];
	uint8_t bytes[CONSOLE_PORTS][65536];
	unsigned refusals, rooms, opens, closes;
};

static struct host host;

static size_t host_output(void *user, unsigned port, const uint8_t *bytes, size_t n)
{
	struct host *h = user;
	size_t taken;

	pthread_mutex_lock(&h->lock);
	taken = n < h->takes[port] ? n : h->takes[port];
	ensure(h->had[port] + taken <= sizeof h->bytes[port]);
	memcpy(h->bytes[port] + h->had[port], bytes, taken);
	h->had[port] += taken;
	h->takes[port] -= taken;
	h->refusals += taken < n;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	return taken;
}

static void host_room(void *user, unsigned port)
{
	struct host *h = user;

	pthread_mutex_lock(&h->lock);
	h->rooms++;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

static void host_guest(void *user, unsigned port, bool open)
{
	struct host *h = user;

	pthread_mutex_lock(&h->lock);
	if (open)
		h->opens++;
	else
		h->closes++;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
}

static void wait_for(struct host *h, const unsigned *what, unsigned value)
{
	pthread_mutex_lock(&h->lock);
	while (*what < value)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
}

static struct host *host_open(void)
{
	struct host *h = &host;
	struct virtio_dev dev;

	memset(h, 0, sizeof *h);
	pthread_mutex_init(&h->lock, NULL);
	pthread_cond_init(&h->changed, NULL);
	h->takes[0] = h->takes[1] = SIZE_MAX;
	queue_rig_open(&h->r);
	ensure(virtio_console_open(&h->c, &(struct virtio_console_config){.plane = h->r.plane,
		.calls = {.output = host_output, .room = host_room, .guest = host_guest, .user = h}}) == 0);
	dev = virtio_console_dev(h->c);
	queue_rig_add(&h->r, &dev);
	return h;
}

static void host_close(struct host *h)
{
	queue_rig_halt(&h->r);
	virtio_console_close(h->c);
	queue_rig_close(&h->r);
}

static void queues_up(struct host *h)
{
	for (unsigned q = 0; q < CONSOLE_QUEUES; q++)
		queue_rig_up(&h->r, q);
}

static void queues_down(struct host *h)
{
	for (unsigned q = 0; q < CONSOLE_QUEUES; q++)
		queue_rig_down(&h->r, q);
}

static void reset(struct host *h)
{
	struct virtio_dev dev = virtio_console_dev(h->c);

	queues_down(h);
	dev.ops->reset(dev.dev);
}

static void say(struct host *h, unsigned port, unsigned event, unsigned value)
{
	uint8_t m[8] = {(uint8_t)port, (uint8_t)(port >> 8), (uint8_t)(port >> 16), (uint8_t)(port >> 24), (uint8_t)event, 0, (uint8_t)value, 0};

	queue_rig_put(&h->r, CONTROL_OUT, m, sizeof m, 0);
	queue_rig_get(&h->r, CONTROL_OUT, NULL, 0);
}

/* The next message: port, event, value as one number, and what follows. */
static unsigned hear(struct host *h, char *rest, size_t room)
{
	uint8_t m[256] = {0};
	size_t n = queue_rig_get(&h->r, CONTROL_IN, m, sizeof m);

	ensure(n >= 8);
	if (rest)
		snprintf(rest, room, "%.*s", (int)(n - 8), (char *)m + 8);
	return m[0] * 100u + m[4] * 10u + m[6];
}

static void listen_for(struct host *h, unsigned messages)
{
	for (unsigned i = 0; i < messages; i++)
		queue_rig_put(&h->r, CONTROL_IN, NULL, 0, 256);
}

/* As Linux does it; the host has been told of no size, and nobody is at the agent's port. */
static bool ports_up(struct host *h)
{
	bool good;

	listen_for(h, 5);
	say(h, 0, EV_DEVICE_READY, 1);
	good = hear(h, NULL, 0) == EV_PORT_ADD * 10 + 1 && hear(h, NULL, 0) == 100 + EV_PORT_ADD * 10 + 1;
	say(h, 0, EV_PORT_READY, 1);
	good &= hear(h, NULL, 0) == EV_CONSOLE_PORT * 10 + 1 && hear(h, NULL, 0) == EV_PORT_OPEN * 10 + 1;
	say(h, 1, EV_PORT_READY, 1);
	return good & (hear(h, NULL, 0) == 100 + EV_PORT_NAME * 10 + 1);
}

static size_t get_text(struct host *h, unsigned queue, char *to)
{
	size_t n = queue_rig_get(&h->r, queue, to, 4096);

	to[n] = 0;
	return n;
}

TEST(console_ports_are_told_of)
{
	struct host *h = host_open();
	char name[64], size[64];
	struct virtio_dev dev = virtio_console_dev(h->c);
	uint8_t config[8];

	dev.ops->config_read(dev.dev, 0, config, 8);
	CHECK_EQ(config[4], CONSOLE_PORTS);
	CHECK_EQ(dev.features, 3);
	virtio_console_resize(h->c, 132, 50); /* before there is a driver */
	virtio_console_connect(h->c, CONSOLE_AGENT, true);
	queues_up(h);
	listen_for(h, 8);
	say(h, 0, EV_DEVICE_READY, 1);
	CHECK_EQ(hear(h, NULL, 0), EV_PORT_ADD * 10 + 1);
	CHECK_EQ(hear(h, NULL, 0), 100 + EV_PORT_ADD * 10 + 1);
	say(h, 0, EV_PORT_READY, 1);
	CHECK_EQ(hear(h, NULL, 0), EV_CONSOLE_PORT * 10 + 1);
	CHECK_EQ(hear(h, NULL, 0), EV_PORT_OPEN * 10 + 1);
	CHECK_EQ(hear(h, size, sizeof size), EV_RESIZE * 10);
	CHECK_EQ((uint8_t)size[0], 132);
	say(h, 1, EV_PORT_READY, 1);
	CHECK_EQ(hear(h, name, sizeof name), 100 + EV_PORT_NAME * 10 + 1);
	CHECK(strcmp(name, "org.qemu.guest_agent.0") == 0);
	CHECK_EQ(hear(h, NULL, 0), 100 + EV_PORT_OPEN * 10 + 1);
	host_close(h);
}

TEST(console_bytes_go_both_ways)
{
	struct host *h = host_open();
	char text[4097];

	queues_up(h);
	CHECK(ports_up(h));
	CHECK_EQ(virtio_console_input(h->c, CONSOLE_TERMINAL, (const uint8_t *)"hello", 5), 5);
	queue_rig_put(&h->r, IN, NULL, 0, 3);
	queue_rig_put(&h->r, IN, NULL, 0, 4096);
	CHECK_EQ(get_text(h, IN, text), 3);
	CHECK(strcmp(text, "hel") == 0);
	CHECK_EQ(get_text(h, IN, text), 2);
	CHECK(strcmp(text, "lo") == 0);
	queue_rig_put(&h->r, AGENT_OUT, "{}\n", 3, 0);
	queue_rig_put(&h->r, OUT, "login: ", 7, 0);
	queue_rig_get(&h->r, AGENT_OUT, NULL, 0);
	queue_rig_get(&h->r, OUT, NULL, 0);
	CHECK_EQ(h->had[CONSOLE_TERMINAL], 7);
	CHECK(memcmp(h->bytes[CONSOLE_AGENT], "{}\n", 3) == 0);
	host_close(h);
}

TEST(console_input_is_bounded_and_room_is_told)
{
	static const uint8_t bytes[CONSOLE_INPUT_BYTES + 100];
	struct host *h = host_open();
	size_t had = 0;

	CHECK_EQ(virtio_console_input(h->c, CONSOLE_AGENT, bytes, sizeof bytes), CONSOLE_INPUT_BYTES);
	CHECK_EQ(virtio_console_free(h->c, CONSOLE_AGENT), 0);
	CHECK_EQ(virtio_console_input(h->c, CONSOLE_AGENT, bytes, 1), 0);
	queues_up(h);
	while (had < CONSOLE_INPUT_BYTES) {
		queue_rig_put(&h->r, AGENT_IN, NULL, 0, 1000);
		had += queue_rig_get(&h->r, AGENT_IN, NULL, 0);
	}
	wait_for(h, &h->rooms, 1);
	CHECK_EQ(had, CONSOLE_INPUT_BYTES);
	CHECK_EQ(virtio_console_input(h->c, CONSOLE_AGENT, bytes, 1), 1);
	host_close(h);
}

TEST(console_output_waits_for_a_slow_host)
{
	static uint8_t bytes[6000];
	struct host *h = host_open();

	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 7);
	queues_up(h);
	h->takes[CONSOLE_AGENT] = 5000;
	queue_rig_put(&h->r, AGENT_OUT, bytes, sizeof bytes, 0);
	wait_for(h, &h->refusals, 1);
	CHECK_EQ(queue_rig_back(&h->r, AGENT_OUT), 0);
	queue_rig_down(&h->r, AGENT_OUT); /* a stop in the middle, and on */
	queue_rig_on(&h->r, AGENT_OUT);
	wait_for(h, &h->refusals, 2);
	pthread_mutex_lock(&h->lock);
	h->takes[CONSOLE_AGENT] = 1000;
	pthread_mutex_unlock(&h->lock);
	virtio_console_resume(h->c, CONSOLE_AGENT);
	queue_rig_get(&h->r, AGENT_OUT, NULL, 0);
	CHECK_EQ(h->had[CONSOLE_AGENT], sizeof bytes);
	CHECK(memcmp(h->bytes[CONSOLE_AGENT], bytes, sizeof bytes) == 0);
	host_close(h);
}

TEST(console_hosts_come_and_go)
{
	struct host *h = host_open();
	unsigned closed = 100 + EV_PORT_OPEN * 10, open = closed + 1, was = 0, now;
	char text[4097];

	queues_up(h);
	CHECK(ports_up(h));
	for (unsigned i = 0; i < 1000; i++) { /* nobody listens: what is owed does not grow, and a close is told before the open */
		virtio_console_connect(h->c, CONSOLE_AGENT, true);
		CHECK_EQ(virtio_console_input(h->c, CONSOLE_AGENT, (const uint8_t *)"old", 3), 3);
		virtio_console_connect(h->c, CONSOLE_AGENT, false);
	}
	virtio_console_connect(h->c, CONSOLE_AGENT, true);
	CHECK_EQ(virtio_console_input(h->c, CONSOLE_AGENT, (const uint8_t *)"new", 3), 3);
	listen_for(h, 4);
	for (now = hear(h, NULL, 0); was != closed || now != open; was = now, now = hear(h, NULL, 0))
		CHECK(now == closed || now == open); /* one may have been on its way */
	queue_rig_put(&h->r, AGENT_IN, NULL, 0, 100);
	get_text(h, AGENT_IN, text);
	CHECK(strcmp(text, "new") == 0);
	say(h, 1, EV_PORT_OPEN, 1);
	wait_for(h, &h->opens, 1);
	CHECK(virtio_console_guest_open(h->c, CONSOLE_AGENT));
	reset(h);
	CHECK_EQ(h->closes, 1);
	CHECK(!virtio_console_guest_open(h->c, CONSOLE_AGENT));
	host_close(h);
}

TEST(console_reset_at_every_step)
{
	struct host *h = host_open();

	for (unsigned step = 0; step < 7; step++) {
		queues_up(h);
		listen_for(h, 5);
		h->takes[CONSOLE_AGENT] = 1;
		if (step > 0)
			say(h, 0, EV_DEVICE_READY, 1);
		if (step > 1)
			say(h, 0, EV_PORT_READY, 1);
		if (step > 2)
			say(h, 1, EV_PORT_READY, 1);
		if (step > 3)
			queue_rig_put(&h->r, AGENT_OUT, "hanging", 7, 0);
		if (step > 4)
			CHECK_EQ(virtio_console_input(h->c, CONSOLE_TERMINAL, (const uint8_t *)"x", 1), 1);
		if (step > 5)
			queue_rig_put(&h->r, IN, NULL, 0, 1);
		reset(h);
		queues_up(h);
		CHECK(ports_up(h));
		reset(h);
	}
	host_close(h);
}

TEST(console_bad_drivers)
{
	struct host *h = host_open();

	queues_up(h);
	queue_rig_put(&h->r, CONTROL_OUT, "short", 5, 0);
	queue_rig_get(&h->r, CONTROL_OUT, NULL, 0);
	say(h, 7, EV_PORT_OPEN, 1);
	say(h, 0x10001, EV_PORT_READY, 1);
	say(h, 1, EV_PORT_NAME, 1);
	say(h, 1, 200, 1);
	CHECK_EQ(h->opens, 0);
	CHECK_EQ(h->r.broken, 0);
	listen_for(h, 1);
	CHECK_EQ(virtio_console_input(h->c, CONSOLE_TERMINAL, (const uint8_t *)"x", 1), 1);
	queue_rig_put(&h->r, IN, "read-only", 9, 0); /* nothing to write to */
	queue_rig_wait_broken(&h->r, 1);
	reset(h);
	queues_up(h);
	queue_rig_put(&h->r, CONTROL_IN, NULL, 0, 4); /* too small for any message */
	say(h, 0, EV_DEVICE_READY, 1);
	queue_rig_wait_broken(&h->r, 2);
	reset(h);
	queues_up(h);
	CHECK(ports_up(h));
	host_close(h);
}
