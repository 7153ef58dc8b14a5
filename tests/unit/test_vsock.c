/* dev/virtio_vsock: connections from either side, credit, resets, and guests that do as they should not. Hosts' sockets are pairs; the test holds one end. */
#include "base/ensure.h"
#include "dev/virtio_vsock.h"
#include "tests/test.h"
#include "tests/unit/absent.h"
#include "tests/unit/queue_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN, OUT, CID = 42, HEADER = 44 };
enum { OP_REQUEST = 1, OP_RESPONSE, OP_RST, OP_SHUTDOWN, OP_RW, OP_CREDIT_UPDATE, OP_CREDIT_REQUEST };

struct packet { unsigned op, from, to, bytes, flags, alloc, forwarded; uint8_t data[8192]; };

struct guest {
	struct queue_rig r;
	struct virtio_vsock *v;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	unsigned wants;
	uint32_t wanted_id, wanted_port;
};

static struct guest guest;

static void on_wanted(void *user, uint32_t id, uint32_t port)
{
	struct guest *g = user;

	pthread_mutex_lock(&g->lock);
	g->wants++;
	g->wanted_id = id;
	g->wanted_port = port;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

static struct guest *guest_open(void)
{
	struct guest *g = &guest;
	struct virtio_dev dev;

	memset(g, 0, sizeof *g);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	queue_rig_open(&g->r);
	ensure(virtio_vsock_open(&g->v, &(struct virtio_vsock_config){.plane = g->r.plane, .cid = CID, .calls = {.wanted = on_wanted, .user = g}}) == 0);
	dev = virtio_vsock_dev(g->v);
	queue_rig_add(&g->r, &dev);
	queue_rig_up(&g->r, IN);
	queue_rig_up(&g->r, OUT);
	return g;
}

static void guest_close(struct guest *g)
{
	queue_rig_halt(&g->r);
	virtio_vsock_close(g->v);
	queue_rig_close(&g->r);
}

static void reset(struct guest *g)
{
	struct virtio_dev dev = virtio_vsock_dev(g->v);

	queue_rig_down(&g->r, IN);
	queue_rig_down(&g->r, OUT);
	dev.ops->reset(dev.dev);
	queue_rig_up(&g->r, IN);
	queue_rig_up(&g->r, OUT);
}

static void put32(uint8_t *to, uint64_t v)
{
	for (unsigned i = 0; i < 4; i++)
		to[i] = (uint8_t)(v >> 8 * i);
}

static unsigned get32(const uint8_t *at)
{
	return at[0] | (unsigned)at[1] << 8 | (unsigned)at[2] << 16 | (unsigned)at[3] << 24;
}

/* A packet of the guest; alloc 0: as Linux has it. */
static void say_begin(struct guest *g, unsigned cid, unsigned type, const struct packet *p)
{
	uint8_t bytes[8192] = {0};

	put32(bytes, cid);
	put32(bytes + 8, 2);
	put32(bytes + 16, p->from);
	put32(bytes + 20, p->to);
	put32(bytes + 24, p->bytes);
	bytes[28] = (uint8_t)type;
	bytes[30] = (uint8_t)p->op;
	put32(bytes + 32, p->flags);
	put32(bytes + 36, p->alloc ? p->alloc : 65536);
	put32(bytes + 40, p->forwarded);
	memcpy(bytes + HEADER, p->data, p->bytes);
	queue_rig_put(&g->r, OUT, bytes, HEADER + p->bytes, 0);
}

static void say_from(struct guest *g, unsigned cid, unsigned type, const struct packet *p)
{
	say_begin(g, cid, type, p);
	queue_rig_get(&g->r, OUT, NULL, 0);
}

#define SAY(g, ...) do { static struct packet say_; say_ = (struct packet){__VA_ARGS__}; say_from((g), CID, 1, &say_); } while (0)

static struct packet *hear(struct guest *g)
{
	static struct packet p;
	uint8_t bytes[8192];
	size_t n;

	queue_rig_put(&g->r, IN, NULL, 0, 4096);
	n = queue_rig_get(&g->r, IN, bytes, sizeof bytes);
	ensure(n >= HEADER && get32(bytes) == 2 && get32(bytes + 8) == CID && bytes[28] == 1);
	p = (struct packet){.op = bytes[30], .from = get32(bytes + 16), .to = get32(bytes + 20), .bytes = get32(bytes + 24), .flags = get32(bytes + 32),
		.alloc = get32(bytes + 36), .forwarded = get32(bytes + 40)};
	ensure(n == HEADER + p.bytes);
	memcpy(p.data, bytes + HEADER, p.bytes);
	return &p;
}

static int pair(int *ours)
{
	int s[2];

	ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) == 0 && fcntl(s[1], F_SETFL, O_NONBLOCK) == 0);
	*ours = s[0];
	return s[1];
}

/* What the host's thread would do, once. */
static void poll_once(struct guest *g)
{
	struct pollfd at[VSOCK_CONNECTIONS];
	uint32_t id[VSOCK_CONNECTIONS];
	unsigned n = virtio_vsock_poll(g->v, at, id);

	ensure(poll(at, n, 10000) > 0);
	for (unsigned i = 0; i < n; i++)
		if (at[i].revents)
			virtio_vsock_happened(g->v, id[i], at[i].revents);
}

/* The guest connects to the host's port 80 from its port 1000. */
static bool guest_connects(struct guest *g, int *ours)
{
	unsigned before = g->wants;

	SAY(g, .op = OP_REQUEST, .from = 1000, .to = 80);
	if (g->wants != before + 1 || g->wanted_port != 80)
		return false;
	virtio_vsock_answer(g->v, g->wanted_id, pair(ours));
	return hear(g)->op == OP_RESPONSE;
}

TEST(vsock_host_connects)
{
	struct guest *g = guest_open();
	char text[64] = "";
	struct packet *p;
	unsigned port;
	int s, fd = pair(&s);

	CHECK_EQ(virtio_vsock_connect(g->v, fd, 22), 0);
	p = hear(g);
	CHECK(p->op == OP_REQUEST && p->to == 22 && p->alloc == VSOCK_BUFFER);
	port = p->from;
	SAY(g, .op = OP_RESPONSE, .from = 22, .to = port);
	CHECK(read(s, text, sizeof text) > 3 && memcmp(text, "OK ", 3) == 0);
	CHECK_EQ(write(s, "hello", 5), 5);
	p = hear(g);
	CHECK(p->op == OP_RW && p->bytes == 5 && memcmp(p->data, "hello", 5) == 0);
	SAY(g, .op = OP_RW, .from = 22, .to = port, .bytes = 3, .data = "you");
	CHECK(read(s, text, sizeof text) == 3 && memcmp(text, "you", 3) == 0);
	close(s);
	p = hear(g); /* no thread told that there is news: the socket was last found with bytes, and is read on */
	CHECK(p->op == OP_SHUTDOWN && p->flags == 3 && p->forwarded == 3);
	SAY(g, .op = OP_SHUTDOWN, .from = 22, .to = port, .flags = 3);
	CHECK_EQ(hear(g)->op, OP_RST);
	SAY(g, .op = OP_RW, .from = 22, .to = port, .bytes = 1);
	CHECK_EQ(hear(g)->op, OP_RST); /* of no connection any more */
	guest_close(g);
}

TEST(vsock_host_is_refused_or_gives_up)
{
	struct guest *g = guest_open();
	char text[8];
	unsigned port;
	int s, fd = pair(&s);

	CHECK_EQ(virtio_vsock_connect(g->v, fd, 22), 0);
	port = hear(g)->from;
	SAY(g, .op = OP_RST, .from = 22, .to = port);
	CHECK_EQ(read(s, text, sizeof text), 0);
	close(s);
	fd = pair(&s);
	CHECK_EQ(virtio_vsock_connect(g->v, fd, 22), 0);
	CHECK_EQ(hear(g)->op, OP_REQUEST);
	close(s);
	poll_once(g);
	CHECK_EQ(hear(g)->op, OP_RST);
	guest_close(g);
}

TEST(vsock_guest_connects)
{
	struct guest *g = guest_open();
	char text[8];
	int s;

	SAY(g, .op = OP_REQUEST, .from = 1000, .to = 80);
	CHECK_EQ(g->wanted_port, 80);
	virtio_vsock_answer(g->v, g->wanted_id, -1);
	CHECK_EQ(hear(g)->op, OP_RST);
	CHECK(guest_connects(g, &s));
	SAY(g, .op = OP_RW, .from = 1000, .to = 80, .bytes = 2, .data = "hi");
	SAY(g, .op = OP_SHUTDOWN, .from = 1000, .to = 80, .flags = 2); /* says no more, and still hears */
	CHECK(read(s, text, sizeof text) == 2);
	CHECK_EQ(read(s, text, sizeof text), 0);
	CHECK_EQ(write(s, "answer", 6), 6);
	CHECK_EQ(hear(g)->bytes, 6);
	SAY(g, .op = OP_REQUEST, .from = 1000, .to = 80); /* once more: both are confused, and nothing is left */
	CHECK_EQ(hear(g)->op, OP_RST);
	CHECK_EQ(read(s, text, sizeof text), 0);
	close(s);
	guest_close(g);
}

/* The VM ends while the device waits for a page of what the guest says: the page comes as zeros then, which the host must not hear. */
TEST(vsock_says_nothing_that_was_read_after_the_end)
{
	struct guest *g = guest_open();
	uint8_t bytes[8192] = {CID, [8] = 2, [16] = 232, [17] = 3, [20] = 80, [24] = 0x88, [25] = 0x13, [28] = 1, [30] = OP_RW, [38] = 1};
	int s, absent;

	CHECK(guest_connects(g, &s));
	memset(bytes + HEADER, 'x', 5000);
	queue_rig_down(&g->r, OUT);
	queue_rig_put(&g->r, OUT, bytes, HEADER + 5000, 0);
	absent = absent_page(queue_rig_bytes(&g->r, OUT) + 4096);
	if (absent < 0)
		SKIP("no userfaultfd here");
	queue_rig_on(&g->r, OUT);
	CHECK(absent_wanted(absent));
	plane_hush(g->r.plane);
	absent_give_up(absent);
	queue_rig_halt(&g->r);
	CHECK(recv(s, bytes, sizeof bytes, MSG_DONTWAIT) < 0);
	close(s);
	guest_close(g);
}

/* A stop for a moment only: then all of it is said, once. */
TEST(vsock_goes_on_where_it_was_stopped)
{
	struct guest *g = guest_open();
	static uint8_t bytes[8192], had[8192];
	int s;

	CHECK(guest_connects(g, &s));
	for (unsigned round = 0; round < 200; round++) {
		static struct packet p;

		p = (struct packet){.op = OP_RW, .from = 1000, .to = 80, .bytes = 5000};
		memset(p.data, (int)round, p.bytes);
		memset(bytes, (int)round, sizeof bytes);
		say_begin(g, CID, 1, &p);
		queue_rig_down(&g->r, OUT);
		queue_rig_on(&g->r, OUT);
		queue_rig_get(&g->r, OUT, NULL, 0);
		CHECK(recv(s, had, sizeof had, MSG_DONTWAIT) == 5000 && memcmp(had, bytes, 5000) == 0);
		CHECK(recv(s, had, sizeof had, MSG_DONTWAIT) < 0);
	}
	close(s);
	guest_close(g);
}

TEST(vsock_credit_of_both_sides)
{
	struct guest *g = guest_open();
	static uint8_t bytes[VSOCK_BUFFER];
	unsigned had = 0, said = 0;
	struct packet *p;
	int s, small = 4096;

	CHECK(guest_connects(g, &s));
	SAY(g, .op = OP_CREDIT_UPDATE, .from = 1000, .to = 80, .alloc = 100);
	CHECK_EQ(write(s, bytes, 300), 300);
	p = hear(g);
	CHECK(p->op == OP_RW && p->bytes == 100);
	SAY(g, .op = OP_CREDIT_REQUEST, .from = 1000, .to = 80, .alloc = 100);
	CHECK_EQ(hear(g)->op, OP_CREDIT_UPDATE); /* no more bytes than credit, but word of our own */
	SAY(g, .op = OP_CREDIT_UPDATE, .from = 1000, .to = 80, .alloc = 100, .forwarded = 100);
	CHECK_EQ(hear(g)->bytes, 100);
	SAY(g, .op = OP_CREDIT_UPDATE, .from = 1000, .to = 80, .alloc = 100, .forwarded = 5000); /* nonsense: more than was sent */
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
	SAY(g, .op = OP_RW, .from = 1000, .to = 80, .bytes = 4096, .forwarded = 200);
	for (said = 4096; said < 4u << 20 && queue_rig_back(&g->r, OUT) == 0; said += 4096) { /* past what the socket takes, and past its credit */
		SAY(g, .op = OP_RW, .from = 1000, .to = 80, .bytes = 4096, .forwarded = 200);
		struct virtio_vsock_stats stats;

		virtio_vsock_stats(g->v, &stats);
		if (stats.resets)
			break;
	}
	CHECK(said < 4u << 20);
	for (ssize_t n; (n = read(s, bytes, sizeof bytes)) > 0; had += (unsigned)n)
		;
	CHECK(had >= 4096 && had <= said - VSOCK_BUFFER + 4096); /* what had waited here is lost with the connection */
	for (p = hear(g); p->op != OP_RST; p = hear(g))
		CHECK(p->op == OP_RW || p->op == OP_CREDIT_UPDATE);
	close(s);
	guest_close(g);
}

TEST(vsock_bad_packets)
{
	struct guest *g = guest_open();
	struct packet p = {.op = OP_REQUEST, .from = 5, .to = 6};
	uint8_t lie[HEADER] = {CID, [8] = 2, [24] = 1, [28] = 1, [30] = OP_RW};

	say_from(g, CID, 2, &p); /* datagrams are not offered */
	CHECK_EQ(hear(g)->op, OP_RST);
	say_from(g, CID + 1, 1, &p); /* somebody else: nobody to answer */
	SAY(g, .op = OP_RST, .from = 5, .to = 6);
	SAY(g, .op = OP_SHUTDOWN, .from = 7, .to = 6);
	CHECK_EQ(hear(g)->to, 7);
	CHECK_EQ(g->wants, 0);
	queue_rig_put(&g->r, OUT, lie, sizeof lie, 0); /* a byte that is not there */
	queue_rig_wait_broken(&g->r, 1);
	reset(g);
	queue_rig_put(&g->r, OUT, "short", 5, 0);
	queue_rig_wait_broken(&g->r, 2);
	reset(g);
	queue_rig_put(&g->r, IN, NULL, 0, HEADER - 1);
	queue_rig_wait_broken(&g->r, 3);
	guest_close(g);
}

TEST(vsock_connections_and_strays_are_bounded)
{
	struct guest *g = guest_open();
	uint8_t stray[HEADER] = {CID, [8] = 2, [28] = 1, [30] = OP_SHUTDOWN};
	int s, fd;

	for (unsigned i = 0; i < VSOCK_CONNECTIONS; i++)
		SAY(g, .op = OP_REQUEST, .from = 1000 + i, .to = 80);
	CHECK_EQ(g->wants, VSOCK_CONNECTIONS);
	fd = pair(&s);
	CHECK_EQ(virtio_vsock_connect(g->v, fd, 22), -EMFILE);
	close(s);
	SAY(g, .op = OP_REQUEST, .from = 999, .to = 80);
	CHECK_EQ(hear(g)->op, OP_RST);
	for (unsigned i = 0; i < VSOCK_STRAYS; i++) {
		queue_rig_put(&g->r, OUT, stray, sizeof stray, 0);
		queue_rig_get(&g->r, OUT, NULL, 0);
	}
	queue_rig_put(&g->r, OUT, stray, sizeof stray, 0); /* nobody hears the answers: this one waits */
	for (unsigned i = 0; i < VSOCK_STRAYS; i++)
		CHECK_EQ(hear(g)->op, OP_RST);
	queue_rig_get(&g->r, OUT, NULL, 0);
	CHECK_EQ(hear(g)->op, OP_RST);
	reset(g);
	CHECK(guest_connects(g, &s));
	close(s);
	guest_close(g);
}

TEST(vsock_reset_at_every_step)
{
	struct guest *g = guest_open();

	for (unsigned step = 0; step < 6; step++) {
		char text[64];
		int s = -1, fd;
		uint32_t id;

		if (step == 0) {
			fd = pair(&s);
			CHECK_EQ(virtio_vsock_connect(g->v, fd, 22), 0);
		}
		if (step == 1)
			SAY(g, .op = OP_REQUEST, .from = 1000, .to = 80);
		id = g->wanted_id;
		if (step >= 2)
			CHECK(guest_connects(g, &s));
		if (step == 3)
			SAY(g, .op = OP_RW, .from = 1000, .to = 80, .bytes = 1);
		if (step == 4)
			CHECK_EQ(write(s, "x", 1), 1);
		if (step == 5)
			queue_rig_put(&g->r, IN, NULL, 0, 4096);
		reset(g);
		if (step == 1) { /* the answer comes too late */
			virtio_vsock_answer(g->v, id, pair(&s));
		}
		while (read(s, text, sizeof text) > 0)
			;
		close(s); /* it was closed */
		CHECK(guest_connects(g, &s));
		close(s);
		reset(g);
	}
	guest_close(g);
}

TEST(vsock_queue_stops_in_the_middle)
{
	struct guest *g = guest_open();
	int s;

	CHECK(guest_connects(g, &s));
	queue_rig_put(&g->r, IN, NULL, 0, 4096); /* taken, and kept over the stop */
	queue_rig_down(&g->r, IN);
	CHECK_EQ(write(s, "later", 5), 5);
	virtio_vsock_happened(g->v, g->wanted_id, POLLIN);
	queue_rig_on(&g->r, IN);
	CHECK_EQ(queue_rig_get(&g->r, IN, NULL, 0), HEADER + 5);
	close(s);
	guest_close(g);
}
