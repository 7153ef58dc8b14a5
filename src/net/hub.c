/* See hub.h. One epoll thread; senders append to a peer's queue under its lock and flush it themselves when the socket takes it. */
#include "net/hub.h"

#include "base/ensure.h"
#include "base/log.h"
#include "base/thread.h"
#include "net/link.h"
#include "wire/peer.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TAG_WAKE = NODES_MAX, TAG_TIMER, FILLS = 16 /* of one peer in a row */ };

/* A frame that the link had no room for. */
struct waiting {
	struct waiting *next;
	size_t bytes;
	uint8_t frame[];
};

struct peer {
	pthread_mutex_t lock;  /* guards all but what the thread alone does with link: receive */
	struct link *link;     /* NULL for self and for a lost peer; set by the hub's thread */
	struct waiting *first, **last;
	bool wants_out;        /* EPOLLOUT is armed */
	uint64_t bytes_sent, messages_sent;
};

struct hub {
	struct hub_config c;
	struct peer peer[NODES_MAX];
	int epoll, wake, timer;
	pthread_t thread;
	bool started;
	_Atomic uint64_t received;
};

/* Called with the peer's lock. */
static void peer_watch(struct hub *h, unsigned n, bool out)
{
	struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.u32 = n};

	if (h->peer[n].wants_out == out)
		return;
	h->peer[n].wants_out = out;
	ensure(epoll_ctl(h->epoll, EPOLL_CTL_MOD, link_fd(h->peer[n].link), &e) == 0);
}

/* Called with the peer's lock. Queue a frame behind all others. */
static int peer_queue(struct hub *h, struct peer *p, const uint8_t *frame, size_t bytes)
{
	int err = p->first ? -ENOBUFS : link_queue(p->link, frame, bytes, NULL);
	struct waiting *w;

	if (err != -ENOBUFS || !h->c.patient)
		return err;
	w = malloc(sizeof *w + bytes);
	if (!w)
		return -ENOMEM;
	w->next = NULL;
	w->bytes = bytes;
	memcpy(w->frame, frame, bytes);
	*p->last = w;
	p->last = &w->next;
	return 0;
}

static void peer_unwait(struct peer *p)
{
	struct waiting *w = p->first;

	p->first = w->next;
	if (!p->first)
		p->last = &p->first;
	free(w);
}

/* Called with the peer's lock. Give the kernel what it takes; the rest goes when epoll says so. */
static int peer_flush(struct hub *h, unsigned n)
{
	struct peer *p = &h->peer[n];
	int err;

	while ((err = link_flush(p->link)) == 0 && p->first)
		while (p->first && link_queue(p->link, p->first->frame, p->first->bytes, NULL) == 0)
			peer_unwait(p);
	if (err && err != -EAGAIN)
		return err;
	peer_watch(h, n, err == -EAGAIN);
	return 0;
}

/* Called with the peer's lock. */
static int peer_send(struct hub *h, unsigned n, const uint8_t *frame, size_t bytes)
{
	struct peer *p = &h->peer[n];
	int err;

	if (p->first || link_pending(p->link)) {
		err = peer_queue(h, p, frame, bytes);
		return err ? err : peer_flush(h, n);
	}
	err = link_send(p->link, frame, bytes);
	if (err && err != -EAGAIN)
		return err;
	peer_watch(h, n, err == -EAGAIN);
	return 0;
}

int hub_send(struct hub *h, node_t to, const uint8_t *frame, size_t bytes)
{
	struct peer *p = &h->peer[to.v];
	int err = -EPIPE;

	ensure(bytes > 0);
	pthread_mutex_lock(&p->lock);
	if (p->link)
		err = peer_send(h, to.v, frame, bytes);
	if (!err) {
		p->bytes_sent += bytes;
		p->messages_sent++;
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

void hub_stop(struct hub *h, unsigned reason, node_t about, const char *what)
{
	struct peer_stop m = {.reason = (uint8_t)reason, .node = about.v};
	uint8_t frame[64 + WIRE_STR_MAX];
	size_t bytes;

	snprintf(m.what.s, sizeof m.what.s, "%s", what);
	bytes = peer_put_stop(&m, frame, sizeof frame);
	for (unsigned n = 0; n < h->c.nodes; n++)
		if (n != h->c.self.v && hub_send(h, (node_t){(uint8_t)n}, frame, bytes))
			log_debug("node %u is gone already", n);
}

bool hub_has(struct hub *h, node_t peer)
{
	bool has;

	pthread_mutex_lock(&h->peer[peer.v].lock);
	has = h->peer[peer.v].link != NULL;
	pthread_mutex_unlock(&h->peer[peer.v].lock);
	return has;
}

static bool peer_close(struct peer *p)
{
	bool was;

	pthread_mutex_lock(&p->lock);
	was = p->link != NULL;
	link_close(p->link);
	p->link = NULL;
	while (p->first)
		peer_unwait(p);
	pthread_mutex_unlock(&p->lock);
	return was;
}

void hub_drop(struct hub *h, node_t peer, const char *why)
{
	if (peer_close(&h->peer[peer.v]))
		h->c.calls.lost(h->c.calls.owner, peer, why);
}

/* What has arrived; from one who never ends, some of it: the others and the clock are to have their turn. 0, -EAGAIN: that was it for now; else why the stream is
 * over. */
static int peer_drain(struct hub *h, unsigned n)
{
	struct peer *p = &h->peer[n];
	struct link_frame frame;
	int err = 0, got;

	for (unsigned fills = 0; fills < FILLS && p->link && (err = link_fill(p->link)) == 0; fills++) {
		while ((got = link_next(p->link, &frame)) == 1) {
			atomic_fetch_add_explicit(&h->received, WIRE_HEADER_BYTES + frame.bytes, memory_order_relaxed);
			err = h->c.calls.frame(h->c.calls.owner, (node_t){(uint8_t)n}, frame.id, frame.body, frame.bytes);
			if (err)
				return err;
		}
		if (got < 0)
			return got;
	}
	return err;
}

static void peer_ready(struct hub *h, unsigned n, uint32_t events)
{
	struct peer *p = &h->peer[n];
	int err = 0;

	if (!p->link)
		return;
	if (events & EPOLLOUT) {
		pthread_mutex_lock(&p->lock);
		err = peer_flush(h, n);
		if (err)
			peer_watch(h, n, false);
		pthread_mutex_unlock(&p->lock);
	}
	if (events & ~(uint32_t)EPOLLOUT)
		err = peer_drain(h, n);
	if (err == -EBADMSG || err == -EPROTO)
		hub_drop(h, (node_t){(uint8_t)n}, "it sent what no correct node sends");
	else if (err && err != -EAGAIN)
		hub_drop(h, (node_t){(uint8_t)n}, err == -EPIPE ? "it closed the connection" : strerror(-err));
}

static void hub_ticked(struct hub *h)
{
	uint64_t fired;

	if (read(h->timer, &fired, sizeof fired) == sizeof fired)
		h->c.calls.tick(h->c.calls.owner);
}

static void *hub_thread(void *arg)
{
	struct hub *h = arg;
	struct epoll_event events[NODES_MAX + 2];

	for (;;) {
		int n = epoll_wait(h->epoll, events, ARRAY_LEN(events), -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == TAG_WAKE)
				return NULL;
			if (events[i].data.u32 != TAG_TIMER)
				peer_ready(h, events[i].data.u32, events[i].events);
		}
		/* After what had arrived: a peer whose words wait in our own queue is not silent. */
		for (int i = 0; i < n; i++)
			if (events[i].data.u32 == TAG_TIMER)
				hub_ticked(h);
	}
}

static int hub_watch(struct hub *h, int fd, uint32_t tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = tag};

	return epoll_ctl(h->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int hub_arm(struct hub *h)
{
	struct timespec period = {.tv_sec = h->c.tick_ms / 1000, .tv_nsec = h->c.tick_ms % 1000 * 1000000L};
	struct itimerspec every = {.it_interval = period, .it_value = {.tv_nsec = h->c.calls.tick ? 1 : 0}};
	int err;

	h->epoll = epoll_create1(EPOLL_CLOEXEC);
	h->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	h->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (h->epoll < 0 || h->wake < 0 || h->timer < 0 || timerfd_settime(h->timer, 0, &every, NULL) < 0)
		return -errno;
	err = hub_watch(h, h->wake, TAG_WAKE);
	return err ? err : hub_watch(h, h->timer, TAG_TIMER);
}

static int hub_adopt(struct hub *h)
{
	for (unsigned n = 0; n < h->c.nodes; n++) {
		int err;

		if (h->c.fd[n] < 0)
			continue;
		err = link_open(&h->peer[n].link, h->c.fd[n], 0, h->c.dead_ms);
		h->c.fd[n] = -1;
		if (!err)
			err = hub_watch(h, link_fd(h->peer[n].link), n);
		if (err)
			return err;
	}
	return 0;
}

static int hub_start(struct hub *h)
{
	sigset_t before;
	int err;

	thread_block(&before, 0);
	err = -pthread_create(&h->thread, NULL, hub_thread, h);
	thread_unblock(&before);
	h->started = !err;
	return err;
}

int hub_open(struct hub **out, const struct hub_config *config, struct failure *f)
{
	struct hub *h = calloc(1, sizeof *h);
	int err = -ENOMEM;

	if (h) {
		h->c = *config;
		h->epoll = h->wake = h->timer = -1;
		for (unsigned n = 0; n < NODES_MAX; n++) {
			pthread_mutex_init(&h->peer[n].lock, NULL);
			h->peer[n].last = &h->peer[n].first;
		}
		*out = h; /* before the thread, whose callbacks may ask for it */
		err = hub_arm(h);
		if (!err)
			err = hub_adopt(h);
		if (!err)
			err = hub_start(h);
	}
	if (err) {
		*out = NULL;
		hub_close(h);
		return failure_set(f, err, "look at this node's limits on open files and threads", "cannot watch the links to the other nodes: %s", strerror(-err));
	}
	return 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void hub_halt(struct hub *h)
{
	uint64_t one = 1;

	if (!h)
		return;
	if (h->started) {
		ensure(write(h->wake, &one, sizeof one) == sizeof one);
		pthread_join(h->thread, NULL);
		h->started = false;
	}
	for (unsigned n = 0; n < h->c.nodes; n++) {
		peer_close(&h->peer[n]);
		close_fd(&h->c.fd[n]);
	}
}

void hub_close(struct hub *h)
{
	if (!h)
		return;
	hub_halt(h);
	close_fd(&h->epoll);
	close_fd(&h->wake);
	close_fd(&h->timer);
	free(h);
}

void hub_sent(struct hub *h, node_t peer, uint64_t *bytes, uint64_t *messages)
{
	struct peer *p = &h->peer[peer.v];

	pthread_mutex_lock(&p->lock);
	*bytes = p->bytes_sent;
	*messages = p->messages_sent;
	pthread_mutex_unlock(&p->lock);
}

uint64_t hub_bytes_received(struct hub *h)
{
	return atomic_load_explicit(&h->received, memory_order_relaxed);
}
