/* net/hub over socket pairs: order under many senders, a slow peer, a broken one, and the end. (What vm/interlink does with a hub: test_interlink.c.) */
#include "net/hub.h"
#include "tests/test.h"
#include "wire/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SENDERS = 4, EACH = 500, BIG = 40 * 1024 };

struct end {
	struct hub *hub;
	pthread_mutex_t lock; /* guards the rest */
	pthread_cond_t changed;
	unsigned frames, next[SENDERS], disorder, lost;
};

/* queue_ring: device is the sender, queue counts. Anything else: refused. */
static int on_frame(void *owner, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct end *e = owner;
	struct peer_queue_ring m;

	if (id != PEER_queue_ring || peer_get_queue_ring(body, bytes, &m) || m.device >= SENDERS)
		return -EBADMSG;
	pthread_mutex_lock(&e->lock);
	e->disorder += e->next[m.device]++ != m.queue;
	e->frames++;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	return 0;
}

static void on_lost(void *owner, node_t peer, const char *why)
{
	struct end *e = owner;

	pthread_mutex_lock(&e->lock);
	e->lost++;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
}

static bool end_open(struct end *e, unsigned self, int fd, bool patient)
{
	struct hub_config c = {.self = {(uint8_t)self}, .nodes = 2, .patient = patient, .calls = {.frame = on_frame, .lost = on_lost, .owner = e}};

	*e = (struct end){.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
	c.fd[self] = -1;
	c.fd[1 - self] = fd;
	return hub_open(&e->hub, &c, NULL) == 0;
}

static void end_wait(struct end *e, const unsigned *what, unsigned wanted)
{
	pthread_mutex_lock(&e->lock);
	while (*what < wanted)
		pthread_cond_wait(&e->changed, &e->lock);
	pthread_mutex_unlock(&e->lock);
}

struct sender { struct hub *hub; uint8_t number; bool failed; };

static void *send_each(void *arg)
{
	struct sender *s = arg;
	uint8_t frame[64];

	for (unsigned i = 0; i < EACH && !s->failed; i++) {
		struct peer_queue_ring m = {.device = s->number, .queue = (uint16_t)i};

		s->failed = hub_send(s->hub, (node_t){1}, frame, peer_put_queue_ring(&m, frame, sizeof frame)) != 0;
	}
	return NULL;
}

TEST(hub_keeps_each_senders_order)
{
	struct sender s[SENDERS];
	pthread_t thread[SENDERS];
	uint64_t bytes, messages;
	struct end e[2];
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e[0], 0, fd[0], true) && end_open(&e[1], 1, fd[1], true));
	for (unsigned i = 0; i < SENDERS; i++) {
		s[i] = (struct sender){e[0].hub, (uint8_t)i, false};
		CHECK(pthread_create(&thread[i], NULL, send_each, &s[i]) == 0);
	}
	for (unsigned i = 0; i < SENDERS; i++) {
		pthread_join(thread[i], NULL);
		CHECK(!s[i].failed);
	}
	end_wait(&e[1], &e[1].frames, SENDERS * EACH);
	CHECK_EQ(e[1].disorder, 0);
	hub_sent(e[0].hub, (node_t){1}, &bytes, &messages);
	CHECK_EQ(bytes, hub_bytes_received(e[1].hub));
	CHECK_EQ(messages, SENDERS * EACH);
	hub_close(e[0].hub);
	end_wait(&e[1], &e[1].lost, 1);
	CHECK_EQ(hub_send(e[1].hub, (node_t){0}, (const uint8_t[8]){0}, 8), -EPIPE);
	hub_close(e[1].hub);
}

/* A peer that reads nothing for now: 20 MiB wait, and arrive whole and in order. */
TEST(hub_waits_for_a_slow_peer_if_it_is_patient)
{
	static uint8_t frame[WIRE_HEADER_BYTES + BIG], got[WIRE_HEADER_BYTES + BIG];
	enum { MANY = 512 };
	struct end e;
	int fd[2];
	bool right = true;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e, 0, fd[0], true));
	for (unsigned i = 0; i < MANY; i++) {
		memcpy(frame, (const uint8_t[8]){BIG & 0xff, BIG >> 8 & 0xff, 0, 0, 1, 0, 0, 0}, 8);
		memset(frame + 8, (int)(i * 7), BIG);
		CHECK_EQ(hub_send(e.hub, (node_t){1}, frame, sizeof frame), 0);
	}
	for (unsigned i = 0; i < MANY; i++) {
		right &= recv(fd[1], got, sizeof got, MSG_WAITALL) == sizeof got;
		right &= got[8] == (uint8_t)(i * 7) && got[sizeof got - 1] == (uint8_t)(i * 7);
	}
	CHECK(right);
	hub_close(e.hub);
	CHECK_EQ(recv(fd[1], got, 1, 0), 0);
	close(fd[1]);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e, 0, fd[0], false));
	for (unsigned i = 0; i < MANY && right; i++)
		right = hub_send(e.hub, (node_t){1}, frame, sizeof frame) == 0;
	CHECK(!right); /* an impatient one does not hold so much */
	hub_close(e.hub);
	close(fd[1]);
}

TEST(hub_drops_who_sends_what_is_refused)
{
	struct end e;
	int fd[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0 && end_open(&e, 0, fd[0], true));
	CHECK(write(fd[1], (const uint8_t[9]){1, 0, 0, 0, 77, 0, 0, 0, 5}, 9) == 9);
	end_wait(&e, &e.lost, 1);
	CHECK(!hub_has(e.hub, (node_t){1}));
	hub_halt(e.hub);
	hub_halt(e.hub);
	hub_close(e.hub);
	close(fd[1]);
}

/* A peer whose next frame is there before the last one is done with. */
struct babble { int fd; _Atomic unsigned frames; _Atomic bool other; };
enum { BABBLE_MAX = 100000 };

static int on_babble(void *owner, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	static const uint8_t frame[] = {3, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3};
	struct babble *b = owner;

	if (from.v == 1)
		atomic_store(&b->other, true);
	else if (!atomic_load(&b->other) && atomic_fetch_add(&b->frames, 1) < BABBLE_MAX)
		return write(b->fd, frame, sizeof frame) == sizeof frame ? 0 : -EBADMSG;
	return 0;
}

static void on_babbler_lost(void *owner, node_t peer, const char *why)
{
}

TEST(hub_hears_others_while_one_does_not_end)
{
	static const uint8_t frame[] = {3, 0, 0, 0, 9, 0, 0, 0, 1, 2, 3};
	struct hub_config c = {.self = {2}, .nodes = 3, .fd = {-1, -1, -1}};
	int one[2], two[2];
	struct babble b = {0};
	struct hub *h;

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, one) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, two) == 0);
	b.fd = one[1];
	c.fd[0] = one[0];
	c.fd[1] = two[0];
	c.calls = (struct hub_calls){.frame = on_babble, .lost = on_babbler_lost, .owner = &b};
	CHECK_EQ(hub_open(&h, &c, NULL), 0);
	CHECK(write(one[1], frame, sizeof frame) == sizeof frame);
	while (atomic_load(&b.frames) < 100)
		sched_yield();
	CHECK(write(two[1], frame, sizeof frame) == sizeof frame);
	while (!atomic_load(&b.other))
		sched_yield();
	CHECK(atomic_load(&b.frames) < BABBLE_MAX);
	hub_close(h);
	close(one[1]);
	close(two[1]);
}
