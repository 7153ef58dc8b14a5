/* See mesh.h. */
#include "net/mesh.h"

#include "base/log.h"
#include "wire/peer.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	HELLO_BODY_BYTES = 4 + 8 + 8 + 8 + 1 + 1,
	HELLO_BYTES = WIRE_HEADER_BYTES + HELLO_BODY_BYTES,
	GUESTS_MAX = 2 * NODES_MAX * MESH_STREAMS, /* accepted connections that have not yet said a good hello */
	CALLS_MAX = NODES_MAX * MESH_STREAMS,      /* our own connections under way */
	RETRY_MS = 50,                             /* between two attempts to reach a node that does not listen yet */
};

/* A connection whose hello is not complete; slots are one array, guests behind calls. */
struct talk {
	int fd;              /* -1: free, or a call that waits for its next attempt */
	bool wanted;         /* a call that is still to be made */
	bool connected;      /* our hello may be sent */
	bool heard;          /* a call's hello is out and only the answer misses; a guest's hello was good */
	uint8_t node, stream;
	uint8_t got[HELLO_BYTES], say[HELLO_BYTES];
	unsigned got_bytes, said_bytes;
	uint64_t order;      /* of arrival, for dropping the oldest guest */
	int64_t retry_at_ms;
	int last_err;        /* why the last attempt failed, for the message */
};

struct setup {
	const struct mesh_plan *plan;
	struct mesh *mesh;
	struct talk talk[CALLS_MAX + GUESTS_MAX];
	unsigned missing;    /* streams not yet standing */
	uint64_t arrivals;
	int64_t deadline_ms;
	struct failure *failure;
};

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void say_hello(const struct setup *s, struct talk *t, uint8_t stream)
{
	const struct mesh_plan *p = s->plan;
	struct peer_hello hello = {
		.version = WIRE_VERSION, .vm_id = p->vm_id, .cookie_hi = p->cookie_hi, .cookie_lo = p->cookie_lo, .node = p->self.v, .stream = stream,
	};

	t->said_bytes = 0;
	if (peer_put_hello(&hello, t->say, sizeof t->say) != HELLO_BYTES)
		t->said_bytes = HELLO_BYTES; /* cannot be: the sizes are constants, and a unit test says so */
}

static void talk_close(struct talk *t, int err)
{
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	t->connected = t->heard = false;
	t->got_bytes = 0;
	t->last_err = err;
}

static void drop_guest(struct setup *s, struct talk *t, const char *why)
{
	s->mesh->strangers++;
	log_debug("mesh: dropped a connection: %s", why);
	talk_close(t, -EPROTO);
}

/* The stream stands: hand its fd over. */
static void settle(struct setup *s, struct talk *t)
{
	s->mesh->fd[t->node][t->stream] = t->fd;
	s->missing--;
	t->fd = -1;
	t->wanted = false;
}

/* Whoever listens compares in constant time, so that the time of the refusal tells nothing about the cookie. */
static bool same_secret(const struct mesh_plan *p, const struct peer_hello *h)
{
	uint64_t difference = (p->cookie_hi ^ h->cookie_hi) | (p->cookie_lo ^ h->cookie_lo) | (p->vm_id ^ h->vm_id);

	return difference == 0;
}

static int wrong_version(struct setup *s, unsigned node, uint32_t version)
{
	return failure_set(s->failure, -EPROTO, "install the same version of tessera on every node", "node %s speaks version %u of the fragments' protocol, this one %u",
			   s->plan->name[node], version, WIRE_VERSION);
}

/* Decode a complete hello. 0, or -EBADMSG for a stranger's. */
static int read_hello(const struct setup *s, const struct talk *t, struct peer_hello *h)
{
	uint32_t body;
	uint16_t id;

	if (wire_get_header(t->got, &id, &body) || id != PEER_hello || body != HELLO_BODY_BYTES)
		return -EBADMSG;
	if (peer_get_hello(t->got + WIRE_HEADER_BYTES, body, h) || !same_secret(s->plan, h))
		return -EBADMSG;
	return h->node < s->plan->nodes && h->stream < MESH_STREAMS ? 0 : -EBADMSG;
}

/* A complete hello came in on a call of ours: the stream stands, or we try again (another program may hold the port for now). */
static int call_answered(struct setup *s, struct talk *t)
{
	struct peer_hello h;

	if (read_hello(s, t, &h) || h.node != t->node || h.stream != t->stream) {
		talk_close(t, -EPROTO);
		t->retry_at_ms = now_ms() + RETRY_MS;
		return 0;
	}
	if (h.version != WIRE_VERSION)
		return wrong_version(s, h.node, h.version);
	settle(s, t);
	return 0;
}

/* A complete hello came in on an accepted connection: answer it if it is one we wait for. */
static int guest_introduced(struct setup *s, struct talk *t)
{
	struct peer_hello h;

	if (read_hello(s, t, &h)) {
		drop_guest(s, t, "no hello of this VM");
		return 0;
	}
	if (h.version != WIRE_VERSION)
		return wrong_version(s, h.node, h.version);
	if (h.node <= s->plan->self.v || s->mesh->fd[h.node][h.stream] >= 0) {
		drop_guest(s, t, "a stream that is not expected");
		return 0;
	}
	t->node = h.node;
	t->stream = h.stream;
	t->heard = true;
	say_hello(s, t, h.stream);
	return 0;
}

/* Send what is left of our hello. 0, also when the socket is full; -errno when the stream is over. */
static int talk_send(struct talk *t)
{
	ssize_t n;

	if (t->said_bytes == HELLO_BYTES)
		return 0;
	n = send(t->fd, t->say + t->said_bytes, HELLO_BYTES - t->said_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	t->said_bytes += (unsigned)n;
	return 0;
}

/* Receive no byte more than a hello: what follows belongs to the stream's owner. 0, also when nothing is there. */
static int talk_receive(struct talk *t)
{
	ssize_t n = recv(t->fd, t->got + t->got_bytes, HELLO_BYTES - t->got_bytes, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -ECONNRESET;
	t->got_bytes += (unsigned)n;
	return 0;
}

static void call_failed(struct talk *t, int err)
{
	talk_close(t, err);
	t->retry_at_ms = now_ms() + RETRY_MS;
}

static void call_start(struct setup *s, struct talk *t)
{
	int r = addr_connect(&s->plan->peer[t->node], &t->fd);

	if (r)
		call_failed(t, r);
	else
		say_hello(s, t, t->stream);
}

static int call_event(struct setup *s, struct talk *t)
{
	int r = 0;

	if (!t->connected)
		r = addr_connected(t->fd);
	if (r == 0) {
		t->connected = true;
		r = talk_send(t);
	}
	if (r == 0)
		r = talk_receive(t);
	if (r)
		call_failed(t, r);
	else if (t->got_bytes == HELLO_BYTES)
		return call_answered(s, t);
	return 0;
}

static int guest_event(struct setup *s, struct talk *t)
{
	int r = 0;

	if (!t->heard) {
		if (talk_receive(t)) {
			drop_guest(s, t, "closed before its hello");
			return 0;
		}
		if (t->got_bytes == HELLO_BYTES)
			r = guest_introduced(s, t);
	}
	if (r || t->fd < 0 || !t->heard)
		return r;
	if (talk_send(t))
		drop_guest(s, t, "closed after its hello");
	else if (t->said_bytes == HELLO_BYTES && s->mesh->fd[t->node][t->stream] >= 0)
		drop_guest(s, t, "the same stream twice");
	else if (t->said_bytes == HELLO_BYTES)
		settle(s, t);
	return 0;
}

/* A free place, or that of the guest who has been silent longest. */
static struct talk *guest_place(struct setup *s)
{
	struct talk *oldest = NULL;

	for (unsigned i = CALLS_MAX; i < ARRAY_LEN(s->talk); i++) {
		struct talk *t = &s->talk[i];

		if (t->fd < 0)
			return t;
		if (!oldest || t->order < oldest->order)
			oldest = t;
	}
	drop_guest(s, oldest, "too many strangers");
	return oldest;
}

static void accept_guests(struct setup *s)
{
	for (unsigned n = 0; n < GUESTS_MAX; n++) { /* bounded: a flood must not keep us from the others */
		int fd = accept4(s->plan->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct talk *t;

		if (fd < 0)
			return;
		t = guest_place(s);
		*t = (struct talk){.fd = fd, .order = s->arrivals++};
	}
}

/* What to poll for; which[i] says whose pfd[i] is. Starts the calls whose time has come. */
static unsigned watch(struct setup *s, struct pollfd *pfd, struct talk **which, int64_t now, int64_t *wake_ms)
{
	unsigned n = 0;

	pfd[n++] = (struct pollfd){.fd = s->plan->listen_fd, .events = POLLIN};
	pfd[n++] = (struct pollfd){.fd = s->plan->cancel_fd, .events = POLLIN};
	for (unsigned i = 0; i < ARRAY_LEN(s->talk); i++) {
		struct talk *t = &s->talk[i];
		bool writes;

		if (t->wanted && t->fd < 0 && t->retry_at_ms <= now)
			call_start(s, t);
		if (t->wanted && t->fd < 0 && t->retry_at_ms < *wake_ms)
			*wake_ms = t->retry_at_ms;
		if (t->fd < 0)
			continue;
		writes = t->wanted ? t->said_bytes < HELLO_BYTES : t->heard;
		pfd[n] = (struct pollfd){.fd = t->fd, .events = (short)(writes ? POLLOUT : POLLIN)};
		which[n++] = t;
	}
	return n;
}

static int one_round(struct setup *s)
{
	struct pollfd pfd[2 + CALLS_MAX + GUESTS_MAX];
	struct talk *which[2 + CALLS_MAX + GUESTS_MAX];
	int64_t now = now_ms(), wake_ms = s->deadline_ms;
	unsigned n = watch(s, pfd, which, now, &wake_ms);
	int r;

	if (now >= s->deadline_ms)
		return -ETIMEDOUT;
	if (poll(pfd, n, wake_ms > now ? (int)(wake_ms - now) : 0) < 0)
		return errno == EINTR ? 0 : -errno;
	if (pfd[1].revents)
		return failure_set(s->failure, -ECANCELED, "start the VM again", "connecting the fragments was cancelled");
	for (unsigned i = 2; i < n; i++) {
		if (!pfd[i].revents)
			continue;
		r = which[i]->wanted ? call_event(s, which[i]) : guest_event(s, which[i]);
		if (r)
			return r;
	}
	if (pfd[0].revents)
		accept_guests(s);
	return 0;
}

static bool node_there(const struct mesh *m, unsigned j)
{
	for (unsigned k = 0; k < MESH_STREAMS; k++)
		if (m->fd[j][k] < 0)
			return false;
	return true;
}

/* Name the first node that misses, and what is known about why. */
static int tell_missing(struct setup *s)
{
	const struct mesh_plan *p = s->plan;
	char where[ADDR_TEXT_BYTES];

	for (unsigned j = 0; j < p->nodes; j++) {
		const struct talk *t = &s->talk[j * MESH_STREAMS];

		if (j == p->self.v || node_there(s->mesh, j))
			continue;
		addr_print(&p->peer[j], where);
		if (j > p->self.v)
			return failure_set(s->failure, -ETIMEDOUT, "see why that node's fragment did not start, and whether it can reach this node's address",
					   "node %s did not connect to node %s within %u ms", p->name[j], p->name[p->self.v], p->deadline_ms);
		return failure_set(s->failure, t->last_err == -EPROTO ? -EPROTO : -ETIMEDOUT, "see that node's log, and whether a firewall lies between",
				   "node %s did not answer at %s within %u ms (%s)", p->name[j], where, p->deadline_ms,
				   t->last_err ? strerror(-t->last_err) : t->connected ? "it accepts but says nothing" : "no reply at all");
	}
	return -ETIMEDOUT;
}

static int check_plan(const struct mesh_plan *p, struct failure *f)
{
	if (p->nodes == 0 || p->nodes > NODES_MAX || p->self.v >= p->nodes)
		return failure_set(f, -EINVAL, "report this", "a mesh of %u nodes has no node %u", p->nodes, p->self.v);
	return 0;
}

static void setup_init(struct setup *s, struct mesh *m, const struct mesh_plan *plan, struct failure *f)
{
	memset(s, 0, sizeof *s);
	memset(m, 0, sizeof *m);
	memset(m->fd, 0xff, sizeof m->fd);
	s->plan = plan;
	s->mesh = m;
	s->failure = f;
	s->deadline_ms = now_ms() + plan->deadline_ms;
	s->missing = (plan->nodes - 1) * MESH_STREAMS;
	for (unsigned i = 0; i < ARRAY_LEN(s->talk); i++) {
		struct talk *t = &s->talk[i];

		t->fd = -1;
		t->node = (uint8_t)(i / MESH_STREAMS);
		t->stream = (uint8_t)(i % MESH_STREAMS);
		t->wanted = i < CALLS_MAX && t->node < plan->self.v;
	}
}

int mesh_open(struct mesh *m, const struct mesh_plan *plan, struct failure *f)
{
	struct setup s;
	int r;

	memset(m->fd, 0xff, sizeof m->fd);
	m->strangers = 0;
	r = check_plan(plan, f);
	if (r)
		return r;
	setup_init(&s, m, plan, f);
	while (r == 0 && s.missing)
		r = one_round(&s);
	for (unsigned i = 0; i < ARRAY_LEN(s.talk); i++)
		talk_close(&s.talk[i], s.talk[i].last_err);
	if (r == -ETIMEDOUT)
		r = tell_missing(&s);
	if (r) {
		failure_set(f, r, "see the log", "connecting the fragments failed: %s", strerror(-r));
		mesh_close(m);
	}
	return r;
}

void mesh_close(struct mesh *m)
{
	for (unsigned j = 0; j < NODES_MAX; j++) {
		for (unsigned k = 0; k < MESH_STREAMS; k++) {
			if (m->fd[j][k] >= 0)
				close(m->fd[j][k]);
			m->fd[j][k] = -1;
		}
	}
}
