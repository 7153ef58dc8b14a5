/* dev/hall and dev/dialer: programs of the host and of the guest that find each other, and those that do not; the guest is this test's hands on the device's queues. */
#include "base/ensure.h"
#include "dev/dialer.h"
#include "dev/porch.h"
#include "tests/test.h"
#include "tests/unit/queue_rig.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { IN, OUT, CID = 42, HEADER = 44, OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW };

struct house {
	struct queue_rig r;
	struct porch *porch;
	struct virtio_vsock *v;
	char folder[32], stem[64];
};

static struct house house;

static struct house *house_open(void)
{
	struct house *h = &house;
	struct virtio_dev dev;

	*h = (struct house){.folder = "/tmp/hall-XXXXXX"};
	ensure(mkdtemp(h->folder));
	snprintf(h->stem, sizeof h->stem, "%s/vm1", h->folder);
	queue_rig_open(&h->r);
	ensure(porch_open(&h->porch, &(struct porch_config){.stem = h->stem, .cid = CID}, NULL) == 0);
	ensure(virtio_vsock_open(&h->v, &(struct virtio_vsock_config){.plane = h->r.plane, .cid = porch_cid(h->porch), .calls = hall_calls(porch_hall(h->porch))}) == 0);
	dev = virtio_vsock_dev(h->v);
	queue_rig_add(&h->r, &dev);
	ensure(hall_attach(porch_hall(h->porch), h->v) == 0);
	queue_rig_up(&h->r, IN);
	queue_rig_up(&h->r, OUT);
	return h;
}

static void house_close(struct house *h)
{
	queue_rig_halt(&h->r);
	hall_detach(porch_hall(h->porch));
	virtio_vsock_close(h->v);
	queue_rig_close(&h->r);
	porch_close(h->porch);
	porch_remove(h->stem);
	ensure(rmdir(h->folder) == 0);
}

static int client(struct house *h, const char *line)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s.vsock", h->stem);
	ensure(s >= 0 && connect(s, (struct sockaddr *)&a, sizeof a) == 0 && write(s, line, strlen(line)) == (ssize_t)strlen(line));
	return s;
}

static void put32(uint8_t *to, unsigned v)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(v >> 8 * i);
}

static void say(struct house *h, unsigned op, unsigned from, const uint8_t to[4], const char *bytes)
{
	uint8_t p[256] = {CID, [8] = 2, [24] = (uint8_t)strlen(bytes), [28] = 1, [30] = (uint8_t)op, [38] = 1};

	put32(p + 16, from);
	memcpy(p + 20, to, 4);
	memcpy(p + HEADER, bytes, strlen(bytes));
	queue_rig_put(&h->r, OUT, p, HEADER + strlen(bytes), 0);
	queue_rig_get(&h->r, OUT, NULL, 0);
}

static unsigned hear(struct house *h, uint8_t p[4096])
{
	queue_rig_put(&h->r, IN, NULL, 0, 4096);
	ensure(queue_rig_get(&h->r, IN, p, 4096) >= HEADER);
	return p[30];
}

TEST(hall_clients_say_where_to)
{
	static const char *const bad[] = {"CONNECT\n", "CONNECT x\n", "CONNECT -1\n", "CONNECT 4294967295\n", "GET / HTTP/1.1\n",
		"CONNECT 000000000000000000000000000000000000022\n", "CONNECT 22 \n"};
	struct house *h = house_open();
	uint8_t p[4096];
	char path[80], text[64] = "";
	struct stat st;
	int s;

	snprintf(path, sizeof path, "%s.vsock", h->stem);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		s = client(h, bad[i]);
		CHECK(read(s, text, sizeof text) <= 0);
		close(s);
	}
	s = client(h, "CONNECT 22\nmore");
	CHECK_EQ(hear(h, p), OP_REQUEST);
	CHECK_EQ(p[20], 22);
	say(h, OP_RESPONSE, 22, p + 16, "");
	CHECK(read(s, text, sizeof text) > 0 && memcmp(text, "OK ", 3) == 0);
	CHECK(hear(h, p) == OP_RW && p[24] == 4 && memcmp(p + HEADER, "more", 4) == 0);
	CHECK_EQ(write(s, "later", 5), 5); /* the thread sees it */
	CHECK(hear(h, p) == OP_RW && p[24] == 5);
	say(h, OP_RW, 22, p + 16, "answer");
	CHECK_EQ(read(s, text, sizeof text), 6);
	close(s);
	CHECK_EQ(hear(h, p), OP_SHUTDOWN);
	house_close(h);
}

TEST(hall_without_a_dialer_refuses_the_guest)
{
	struct house *h = house_open();
	uint8_t p[4096], port[4] = {80};

	say(h, OP_REQUEST, 1000, port, "");
	CHECK_EQ(hear(h, p), OP_RST);
	house_close(h);
}

static void *serve(void *stem)
{
	dialer_serve(*(int *)stem, (char *)stem + sizeof(int));
	return NULL;
}

TEST(dialer_connects_to_ports_of_its_stem)
{
	struct { int fd; char stem[60]; } theirs = {.stem = "/tmp/dial-XXXXXX"};
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct pollfd at = {.events = POLLIN};
	struct dialer d = {0};
	pthread_t thread;
	uint32_t id = 0;
	int ends[2], listener, fd = -1;

	CHECK(mkdtemp(theirs.stem) && socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) == 0);
	strcat(theirs.stem, "/vm1");
	snprintf(a.sun_path, sizeof a.sun_path, "%s.vsock_7", theirs.stem);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 1) == 0);
	theirs.fd = ends[1];
	d.fd = at.fd = ends[0];
	CHECK_EQ(pthread_create(&thread, NULL, serve, &theirs), 0);
	CHECK_EQ(dialer_hear(&d, &id, &fd), 0);
	CHECK_EQ(dialer_ask(&d, 5, 7), 0);
	CHECK(poll(&at, 1, 10000) == 1 && dialer_hear(&d, &id, &fd) == 1);
	CHECK(id == 5 && fd >= 0);
	CHECK_EQ(close(fd), 0);
	CHECK_EQ(dialer_ask(&d, 6, 8), 0);
	CHECK(poll(&at, 1, 10000) == 1 && dialer_hear(&d, &id, &fd) == 1);
	CHECK(id == 6 && fd == -1);
	dialer_close(&d);
	CHECK_EQ(pthread_join(thread, NULL), 0);
	CHECK(dialer_ask(&d, 1, 7) < 0);
	close(ends[1]);
	close(listener);
	unlink(a.sun_path);
	*strrchr(theirs.stem, '/') = 0;
	CHECK_EQ(rmdir(theirs.stem), 0);
}
