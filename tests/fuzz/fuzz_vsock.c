/* A hostile guest and busy hosts against virtio-vsock. Packets to the guest are whole and within its credit, nothing is left open, and after a reset it works again. */
#include "base/ensure.h"
#include "dev/virtio_vsock.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/queue_steps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CID = 3, HOSTS = 8, IN = 0, OUT = 1, HEADER = 44, WANTS = 16 };

static struct {
	struct virtio_vsock *v;
	int host[HOSTS]; /* our ends; 0: none */
	unsigned wants;
	uint32_t wanted[WANTS];
} rig;

static void on_wanted(void *user, uint32_t id, uint32_t port)
{
	rig.wanted[rig.wants++ % WANTS] = id;
}

/* The device's end of a pair whose other end takes place i. */
static int pair(unsigned i)
{
	int s[2];

	ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) == 0);
	if (rig.host[i])
		close(rig.host[i]);
	rig.host[i] = s[0];
	return s[1];
}

static void poll_all(void)
{
	struct pollfd at[VSOCK_CONNECTIONS];
	uint32_t id[VSOCK_CONNECTIONS];
	unsigned n = virtio_vsock_poll(rig.v, at, id);

	ensure(n <= VSOCK_CONNECTIONS && poll(at, n, 0) >= 0);
	for (unsigned i = 0; i < n; i++) {
		ensure(!(at[i].revents & POLLNVAL)); /* a socket that was closed */
		if (at[i].revents)
			virtio_vsock_happened(rig.v, id[i], at[i].revents);
	}
}

static void host_step(struct steps *s)
{
	static uint8_t bytes[8192];
	unsigned what = (unsigned)steps_take(s, 1), i = what >> 3 & 7;

	switch (what & 7) {
	case 0:
		if (virtio_vsock_connect(rig.v, pair(i), (uint32_t)steps_take(s, 1)))
			ensure(recv(rig.host[i], bytes, 1, 0) == 0);
		break;
	case 1: virtio_vsock_answer(rig.v, rig.wanted[steps_take(s, 1) % WANTS], pair(i)); break;
	case 2: virtio_vsock_answer(rig.v, rig.wanted[steps_take(s, 1) % WANTS], -1); break;
	case 3:
		if (rig.host[i] && send(rig.host[i], bytes, steps_take(s, 2) % sizeof bytes, MSG_NOSIGNAL) < 0)
			ensure(errno == EPIPE || errno == EAGAIN || errno == ECONNRESET);
		break;
	case 4:
		if (rig.host[i] && recv(rig.host[i], bytes, sizeof bytes, 0) < 0)
			ensure(errno == EAGAIN || errno == ECONNRESET);
		break;
	case 5:
		if (rig.host[i])
			shutdown(rig.host[i], (int)steps_take(s, 1) % 3);
		break;
	case 6:
		if (rig.host[i])
			close(rig.host[i]);
		rig.host[i] = 0;
		break;
	case 7: poll_all(); break;
	}
}

/* Whatever has happened, a reset makes it work. */
static void judge(void)
{
	static const uint8_t request[HEADER] = {CID, [8] = 2, [16] = 9, [20] = 80, [28] = 1, [30] = 1};
	struct pollfd at[VSOCK_CONNECTIONS];
	uint32_t id[VSOCK_CONNECTIONS];
	const uint8_t *p = NULL;
	unsigned wants;

	queue_steps_reset();
	ensure(virtio_vsock_poll(rig.v, at, id) == 0);
	wants = rig.wants;
	ensure(queue_steps_offer(OUT, request, sizeof request, NULL) == 1 && rig.wants == wants + 1);
	virtio_vsock_answer(rig.v, rig.wanted[wants % WANTS], pair(0));
	ensure(queue_steps_offer(IN, NULL, 0x200, &p) == 1 && p[30] == 2 && p[16] == 80 && p[20] == 9);
	ensure(send(rig.host[0], "hi", 2, MSG_NOSIGNAL) == 2);
	ensure(queue_steps_offer(IN, NULL, 0x200, &p) == 1); /* no credit */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct steps s = {.at = data, .end = data + bytes};
	struct virtio_dev dev;

	memset(&rig, 0, sizeof rig);
	ensure(virtio_vsock_open(&rig.v, &(struct virtio_vsock_config){.plane = queue_steps_open(), .cid = CID, .calls = {.wanted = on_wanted}}) == 0);
	dev = virtio_vsock_dev(rig.v);
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
	virtio_vsock_close(rig.v);
	for (unsigned i = 0; i < HOSTS; i++)
		if (rig.host[i])
			close(rig.host[i]);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static const uint8_t guest_asks[] = {
		0, 8, 4, 0, 44, 3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0,
		0x0a, 0, 0, 44, 0, 0x0b, 0, 7,          /* a request of port 9 */
		0xc0, 1, 0, 2, 0x10, 128, 0, 2, 3, 0, 7, /* answered; room for the response */
		0xc0, 3, 100, 0, 0xc0, 7, 2, 0x11, 192, 0, 1, 3, 1, 7, /* bytes for it */
	};
	static const uint8_t host_asks[] = {0, 8, 0xc0, 0, 22, 2, 0x10, 128, 0, 2, 3, 0, 7, 0xc0, 7, 0xc0, 6, 0xc0, 7, 7};
	static const struct { const uint8_t *at; size_t bytes; } seeds[] = {{guest_asks, sizeof guest_asks}, {host_asks, sizeof host_asks}};

	if (n >= ARRAY_LEN(seeds) || seeds[n].bytes > room)
		return 0;
	memcpy(to, seeds[n].at, seeds[n].bytes);
	return seeds[n].bytes;
}
