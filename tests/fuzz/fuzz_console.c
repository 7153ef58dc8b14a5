/* A hostile driver and busy hosts against virtio-console. Bytes come out as they went in, what is owed stays bounded, and after a reset it works again. */
#include "base/ensure.h"
#include "dev/virtio_console.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/queue_steps.h"

#include <string.h>

enum { CONTROL_IN = 2, CONTROL_OUT = 3 };

static struct {
	struct virtio_console *c;
	unsigned stingy; /* the next outputs take fewer than all */
	bool open[CONSOLE_PORTS];
	bool full[CONSOLE_PORTS];
} rig;

static size_t host_output(void *user, unsigned port, const uint8_t *bytes, size_t n)
{
	ensure(port < CONSOLE_PORTS && n && n <= 4096);
	if (!rig.stingy)
		return n;
	rig.stingy--;
	return n / 2;
}

static void host_room(void *user, unsigned port)
{
	ensure(rig.full[port]);
	rig.full[port] = false;
}

static void host_guest(void *user, unsigned port, bool open)
{
	ensure(port < CONSOLE_PORTS && rig.open[port] != open);
	rig.open[port] = open;
}

static void host_step(struct steps *s)
{
	static const uint8_t bytes[2 * CONSOLE_INPUT_BYTES];
	unsigned what = (unsigned)steps_take(s, 1), port = what >> 7;
	size_t n = steps_take(s, 2) % sizeof bytes, free;

	switch (what % 5) {
	case 0:
		free = virtio_console_free(rig.c, port);
		ensure(free <= CONSOLE_INPUT_BYTES);
		rig.full[port] |= !free || n > free;
		ensure(virtio_console_input(rig.c, port, bytes, n) == (n < free ? n : free));
		break;
	case 1: virtio_console_connect(rig.c, CONSOLE_AGENT, what & 0x40); break;
	case 2: virtio_console_resize(rig.c, (uint16_t)n, 24); break;
	case 3: virtio_console_resume(rig.c, port); break;
	case 4: rig.stingy = what >> 5 & 3; break;
	}
}

/* Whatever has happened, a reset makes it work. */
static void judge(void)
{
	const uint8_t *m = NULL;

	rig.stingy = 0;
	queue_steps_reset();
	ensure(!rig.open[0] && !rig.open[1]);
	ensure(queue_steps_offer(CONTROL_IN, NULL, 64, NULL) == 0);
	ensure(queue_steps_offer(CONTROL_OUT, "\0\0\0\0\0\0\1\0", 8, NULL) == 1);
	ensure(queue_steps_offer(CONTROL_IN, NULL, 64, &m) == 2);
	ensure(memcmp(m, "\1\0\0\0\1\0\1\0", 8) == 0);
	ensure(queue_steps_offer(CONTROL_OUT, "\0\0\0\0\6\0\1\0", 8, NULL) == 2 && rig.open[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct steps s = {.at = data, .end = data + bytes};
	struct virtio_dev dev;

	memset(&rig, 0, sizeof rig);
	ensure(virtio_console_open(&rig.c, &(struct virtio_console_config){.plane = queue_steps_open(),
		.calls = {.output = host_output, .room = host_room, .guest = host_guest}}) == 0);
	dev = virtio_console_dev(rig.c);
	queue_steps_add(&dev);
	while (steps_left(&s)) {
		unsigned what = (unsigned)steps_take(&s, 1);

		if (what >= 0xc0)
			host_step(&s);
		else
			queue_steps_one(&s, what);
	}
	judge();
	queue_steps_close();
	virtio_console_close(rig.c);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t up[] = {
		0x10, 0x18, 4, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0,             /* both control queues; a message that the device is ready */
		0x1a, 0, 0, 8, 0, 0x1b, 0, 7,                           /* offered */
		0x12, 0x10, 64, 64, 0, 0x13, 0, 7,                      /* room for an answer */
		4, 0, 8, 0, 0, 0, 0, 3, 0, 1, 0, 0x1b, 0, 7,             /* port 0 is ready */
	};
	static const uint8_t talk[] = {
		0, 8, 0xc0, 5, 0, 2, 0x10, 8, 2, 0, 3, 0, 7,             /* input of five bytes, taken in two */
		0xc0, 0x24, 0, 0, 0x0a, 0, 0, 0x40, 0, 0x0b, 0, 7, 9, 8, 7, /* a stingy host, a stop in the middle, and on */
		0xc0, 3, 0, 0, 7,
	};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{up, sizeof up}, {talk, sizeof talk}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
