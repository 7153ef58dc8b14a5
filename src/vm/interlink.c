/* See interlink.h. One epoll thread; senders append to a peer's queue under its lock and flush it themselves when the socket takes it. */
#include "vm/interlink.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/ensure.h"
#include "base/log.h"
#include "net/link.h"
#include "wire/peer.h"

enum { ECHOES_PER_SILENCE = 8, SILENCES_TO_BEGIN = 20, TAG_WAKE = NODES_MAX, TAG_TIMER };

/* A vCPU's one access under way. Guarded by waits_lock. */
struct io_wait {
	bool waiting, done;
	node_t from;
	uint64_t value;
};

struct peer {
	struct link *link;     /* NULL for self and for a lost peer; guarded by lock for writing */
	pthread_mutex_t lock;  /* guards the outgoing queue of link, and link itself */
	bool wants_out;        /* EPOLLOUT is armed; guarded by lock */
	uint64_t heard_ms;     /* interlink thread */
	bool heard;            /* interlink thread: it has said something; before that it may still be getting ready */
	struct clock_estimate clock;
	uint64_t bytes_sent, messages_sent; /* guarded by lock */
};

struct interlink {
	struct interlink_config c;
	struct peer peer[NODES_MAX];
	int epoll, wake, timer;
	pthread_t thread;
	bool started;
	bool closing;              /* guarded by waits_lock */
	pthread_mutex_t waits_lock; /* guards wait[] and closing */
	pthread_cond_t wait_done[VCPUS_MAX];
	struct io_wait wait[VCPUS_MAX];
	struct interlink_stats stats; /* relaxed atomics */
};

static void count(uint64_t *what)
{
	__atomic_fetch_add(what, 1, __ATOMIC_RELAXED);
}

static uint64_t clock_now(const struct interlink *il)
{
	return clock_scaled(&il->c.scale, __rdtsc());
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Called with the peer's lock. */
static void peer_watch(struct interlink *il, unsigned n, bool out)
{
	struct epoll_event e = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.u32 = n};

	if (il->peer[n].wants_out == out)
		return;
	il->peer[n].wants_out = out;
	ensure(epoll_ctl(il->epoll, EPOLL_CTL_MOD, link_fd(il->peer[n].link), &e) == 0);
}

static int peer_send(struct interlink *il, node_t to, const uint8_t *frame, size_t bytes)
{
	struct peer *p = &il->peer[to.v];
	int err = -EPIPE;

	ensure(bytes > 0);
	pthread_mutex_lock(&p->lock);
	if (p->link) {
		err = link_queue(p->link, frame, bytes, NULL);
		if (!err) {
			p->bytes_sent += bytes;
			p->messages_sent++;
			err = link_flush(p->link);
			if (err == -EAGAIN) {
				peer_watch(il, to.v, true);
				err = 0;
			}
		}
	}
	pthread_mutex_unlock(&p->lock);
	return err;
}

#define PEER_SEND(il, to, name, ...) ({ \
	uint8_t frame_[256 + WIRE_STR_MAX]; \
	struct peer_##name message_ = {__VA_ARGS__}; \
	peer_send((il), (to), frame_, peer_put_##name(&message_, frame_, sizeof frame_)); \
})

/* Interlink thread. The waiters for that peer are told; the fragment decides what its loss means. */
static void peer_lost(struct interlink *il, unsigned n, const char *why)
{
	struct peer *p = &il->peer[n];

	pthread_mutex_lock(&p->lock);
	if (!p->link) {
		pthread_mutex_unlock(&p->lock);
		return;
	}
	link_close(p->link);
	p->link = NULL;
	pthread_mutex_unlock(&p->lock);
	pthread_mutex_lock(&il->waits_lock);
	for (unsigned v = 0; v < VCPUS_MAX; v++)
		if (il->wait[v].waiting && il->wait[v].from.v == n)
			pthread_cond_signal(&il->wait_done[v]);
	pthread_mutex_unlock(&il->waits_lock);
	il->c.calls.lost(il->c.calls.vm, (node_t){(uint8_t)n}, why);
}

static bool io_args_good(unsigned space, uint64_t addr, unsigned bytes)
{
	if (bytes != 1 && bytes != 2 && bytes != 4 && bytes != 8)
		return false;
	return space == BUS_MMIO || (space == BUS_PIO && addr < 0x10000);
}

static int on_io_read(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_io_read m;
	uint64_t value = 0;

	if (peer_get_io_read(body, bytes, &m) || !io_args_good(m.space, m.addr, m.bytes))
		return -EBADMSG;
	il->c.calls.io_read(il->c.calls.vm, m.space, m.addr, &value, m.bytes);
	count(&il->stats.io_served);
	return PEER_SEND(il, from, io_done, .vcpu = m.vcpu, .value = value);
}

static int on_io_write(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_io_write m;

	if (peer_get_io_write(body, bytes, &m) || !io_args_good(m.space, m.addr, m.bytes))
		return -EBADMSG;
	il->c.calls.io_write(il->c.calls.vm, m.space, m.addr, &m.value, m.bytes);
	count(&il->stats.io_served);
	return PEER_SEND(il, from, io_done, .vcpu = m.vcpu);
}

static int on_io_done(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_io_done m;
	struct io_wait *w;
	int err = -EPROTO;

	if (peer_get_io_done(body, bytes, &m) || m.vcpu >= VCPUS_MAX)
		return -EBADMSG;
	w = &il->wait[m.vcpu];
	pthread_mutex_lock(&il->waits_lock);
	if (w->waiting && !w->done && node_eq(w->from, from)) {
		w->done = true;
		w->value = m.value;
		pthread_cond_signal(&il->wait_done[m.vcpu]);
		err = 0;
	}
	pthread_mutex_unlock(&il->waits_lock);
	return err;
}

static int on_irq(struct interlink *il, const uint8_t *body, size_t bytes)
{
	struct peer_irq m;

	if (peer_get_irq(body, bytes, &m) || m.vcpu >= VCPUS_MAX)
		return -EBADMSG;
	count(&il->stats.irqs_received);
	il->c.calls.irq(il->c.calls.vm, (vcpu_t){m.vcpu}, m.mode, m.vector);
	return 0;
}

static int on_echo(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	uint64_t received = clock_now(il);
	struct peer_echo m;

	if (peer_get_echo(body, bytes, &m))
		return -EBADMSG;
	return PEER_SEND(il, from, echo_reply, .tsc_sent = m.tsc_sent, .tsc_received = received, .tsc_replied = clock_now(il));
}

/* Only node 0's clock matters: it is the one that the guest's TSC is counted from. */
static int on_echo_reply(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct clock_estimate *c = &il->peer[from.v].clock;
	struct clock_echo e = {.returned = clock_now(il)};
	struct peer_echo_reply m;
	int64_t cycles;
	uint64_t error;

	if (peer_get_echo_reply(body, bytes, &m))
		return -EBADMSG;
	e.sent = m.tsc_sent;
	e.received = m.tsc_received;
	e.replied = m.tsc_replied;
	clock_add(c, &e);
	__atomic_store_n(&il->stats.round_trip_cycles[from.v], clock_round_trip(c), __ATOMIC_RELAXED);
	if (from.v != 0)
		return 0;
	if (c->n < CLOCK_WINDOW / 2) /* a good estimate to begin with, at once */
		return PEER_SEND(il, from, echo, .tsc_sent = clock_now(il));
	if (clock_difference(c, e.returned, &cycles, &error))
		il->c.calls.clock(il->c.calls.vm, cycles, error);
	return 0;
}

static int on_stop(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_stop m;

	if (peer_get_stop(body, bytes, &m) || m.node >= NODES_MAX)
		return -EBADMSG;
	il->c.calls.stopped(il->c.calls.vm, from, m.reason, (node_t){m.node}, m.what.s);
	return 0;
}

static int on_tsc_base(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_tsc_base m;

	if (from.v != 0 || peer_get_tsc_base(body, bytes, &m))
		return -EBADMSG;
	il->c.calls.tsc_base(il->c.calls.vm, m.guest_tsc_offset);
	return 0;
}

static int on_boot_entry(struct interlink *il, const uint8_t *body, size_t bytes)
{
	struct peer_boot_entry m;

	if (peer_get_boot_entry(body, bytes, &m))
		return -EBADMSG;
	il->c.calls.boot_entry(il->c.calls.vm, &(struct boot_entry){.eip = m.eip, .esi = m.esi, .ebx = m.ebx});
	return 0;
}

static int on_message(struct interlink *il, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	switch (id) {
	case PEER_irq: return on_irq(il, body, bytes);
	case PEER_io_read: return on_io_read(il, from, body, bytes);
	case PEER_io_write: return on_io_write(il, from, body, bytes);
	case PEER_io_done: return on_io_done(il, from, body, bytes);
	case PEER_echo: return on_echo(il, from, body, bytes);
	case PEER_echo_reply: return on_echo_reply(il, from, body, bytes);
	case PEER_tsc_base: return on_tsc_base(il, from, body, bytes);
	case PEER_boot_entry: return on_boot_entry(il, body, bytes);
	case PEER_stop: return on_stop(il, from, body, bytes);
	default: return -EBADMSG;
	}
}

/* Everything that has arrived. -EAGAIN: nothing more for now; else why the stream is over. */
static int peer_drain(struct interlink *il, unsigned n)
{
	struct peer *p = &il->peer[n];
	struct link_frame frame;
	int err, got;

	while ((err = link_fill(p->link)) == 0) {
		while ((got = link_next(p->link, &frame)) == 1) {
			__atomic_fetch_add(&il->stats.bytes_received, WIRE_HEADER_BYTES + frame.bytes, __ATOMIC_RELAXED);
			err = on_message(il, (node_t){(uint8_t)n}, frame.id, frame.body, frame.bytes);
			if (err)
				return err;
		}
		if (got < 0)
			return got;
	}
	return err;
}

static void peer_ready(struct interlink *il, unsigned n, uint32_t events)
{
	struct peer *p = &il->peer[n];
	int err = 0;

	if (!p->link)
		return;
	if (events & EPOLLOUT) {
		pthread_mutex_lock(&p->lock);
		err = link_flush(p->link);
		if (err != -EAGAIN)
			peer_watch(il, n, false);
		pthread_mutex_unlock(&p->lock);
	}
	if (events & ~(uint32_t)EPOLLOUT) {
		p->heard_ms = now_ms();
		p->heard = true;
		err = peer_drain(il, n);
	}
	if (err == -EBADMSG || err == -EPROTO)
		peer_lost(il, n, "it sent what no correct node sends");
	else if (err && err != -EAGAIN)
		peer_lost(il, n, err == -EPIPE ? "it closed the connection" : strerror(-err));
}

static void on_timer(struct interlink *il)
{
	uint64_t now = now_ms(), fired;
	char why[96];

	if (read(il->timer, &fired, sizeof fired) != sizeof fired)
		return;
	for (unsigned n = 0; n < il->c.nodes; n++) {
		if (!il->peer[n].link)
			continue;
		if (now - il->peer[n].heard_ms > il->c.silence_ms * (il->peer[n].heard ? 1u : SILENCES_TO_BEGIN)) {
			snprintf(why, sizeof why, "it has not answered for %llu ms", (unsigned long long)(now - il->peer[n].heard_ms));
			peer_lost(il, n, why);
		} else if (PEER_SEND(il, ((node_t){(uint8_t)n}), echo, .tsc_sent = clock_now(il))) {
			log_debug("echo to node %u not sent", n);
		}
	}
	il->c.calls.tick(il->c.calls.vm, now);
}

static void *interlink_thread(void *arg)
{
	struct interlink *il = arg;
	struct epoll_event events[NODES_MAX + 2];

	for (;;) {
		int n = epoll_wait(il->epoll, events, ARRAY_LEN(events), -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == TAG_WAKE)
				return NULL;
			if (events[i].data.u32 != TAG_TIMER)
				peer_ready(il, events[i].data.u32, events[i].events);
		}
		/* After what had arrived: a peer whose words wait in our own queue is not silent. */
		for (int i = 0; i < n; i++)
			if (events[i].data.u32 == TAG_TIMER)
				on_timer(il);
	}
}

static int interlink_watch(struct interlink *il, int fd, uint32_t tag)
{
	struct epoll_event e = {.events = EPOLLIN, .data.u32 = tag};

	return epoll_ctl(il->epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static int interlink_arm(struct interlink *il)
{
	uint64_t period_ns = (uint64_t)il->c.silence_ms * 1000000 / ECHOES_PER_SILENCE;
	struct timespec period = {.tv_sec = (time_t)(period_ns / 1000000000), .tv_nsec = (long)(period_ns % 1000000000)};
	struct itimerspec every = {.it_interval = period, .it_value = {.tv_nsec = 1}};

	il->epoll = epoll_create1(EPOLL_CLOEXEC);
	il->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	il->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (il->epoll < 0 || il->wake < 0 || il->timer < 0 || timerfd_settime(il->timer, 0, &every, NULL) < 0)
		return -errno;
	return interlink_watch(il, il->wake, TAG_WAKE) || interlink_watch(il, il->timer, TAG_TIMER) ? -errno : 0;
}

static int interlink_adopt(struct interlink *il)
{
	for (unsigned n = 0; n < il->c.nodes; n++) {
		int err;

		if (il->c.fd[n] < 0)
			continue;
		err = link_open(&il->peer[n].link, il->c.fd[n], 0, il->c.silence_ms);
		il->c.fd[n] = -1;
		if (err)
			return err;
		il->peer[n].heard_ms = now_ms();
		err = interlink_watch(il, link_fd(il->peer[n].link), n);
		if (err)
			return err;
	}
	return 0;
}

int interlink_open(struct interlink **out, const struct interlink_config *config, struct failure *f)
{
	struct interlink *il = calloc(1, sizeof *il);
	int err = -ENOMEM;

	if (il) {
		il->c = *config;
		il->epoll = il->wake = il->timer = -1;
		pthread_mutex_init(&il->waits_lock, NULL);
		for (unsigned n = 0; n < NODES_MAX; n++) {
			pthread_mutex_init(&il->peer[n].lock, NULL);
			il->peer[n].clock.khz = config->khz;
		}
		for (unsigned v = 0; v < VCPUS_MAX; v++)
			pthread_cond_init(&il->wait_done[v], NULL);
		err = interlink_arm(il);
		if (!err)
			err = interlink_adopt(il);
		if (!err)
			err = -pthread_create(&il->thread, NULL, interlink_thread, il);
		il->started = !err;
	}
	if (err) {
		interlink_close(il);
		return failure_set(f, err, "look at this node's limits on open files and threads", "cannot watch the links to the other nodes: %s", strerror(-err));
	}
	*out = il;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

void interlink_close(struct interlink *il)
{
	uint64_t one = 1;

	if (!il)
		return;
	pthread_mutex_lock(&il->waits_lock);
	il->closing = true;
	for (unsigned v = 0; v < VCPUS_MAX; v++)
		pthread_cond_signal(&il->wait_done[v]);
	pthread_mutex_unlock(&il->waits_lock);
	if (il->started) {
		ensure(write(il->wake, &one, sizeof one) == sizeof one);
		pthread_join(il->thread, NULL);
	}
	for (unsigned n = 0; n < NODES_MAX; n++) {
		if (il->peer[n].link)
			link_close(il->peer[n].link);
		close_fd(il->c.nodes > n ? il->c.fd[n] : -1);
	}
	close_fd(il->epoll);
	close_fd(il->wake);
	close_fd(il->timer);
	free(il);
}

int interlink_irq(struct interlink *il, node_t to, vcpu_t vcpu, unsigned mode, uint8_t vector)
{
	count(&il->stats.irqs_sent);
	return PEER_SEND(il, to, irq, .vcpu = vcpu.v, .mode = (uint8_t)mode, .vector = vector);
}

int interlink_boot_entry(struct interlink *il, node_t to, const struct boot_entry *e)
{
	return PEER_SEND(il, to, boot_entry, .eip = e->eip, .esi = e->esi, .ebx = e->ebx);
}

int interlink_tsc_base(struct interlink *il, uint64_t offset)
{
	int err = 0;

	for (unsigned n = 0; n < il->c.nodes && !err; n++)
		if (n != il->c.self.v)
			err = PEER_SEND(il, ((node_t){(uint8_t)n}), tsc_base, .guest_tsc_offset = offset);
	return err;
}

void interlink_stop(struct interlink *il, unsigned reason, node_t about, const char *what)
{
	for (unsigned n = 0; n < il->c.nodes; n++) {
		struct peer_stop m = {.reason = (uint8_t)reason, .node = about.v};
		uint8_t frame[64 + WIRE_STR_MAX];

		snprintf(m.what.s, sizeof m.what.s, "%s", what);
		if (n != il->c.self.v && peer_send(il, (node_t){(uint8_t)n}, frame, peer_put_stop(&m, frame, sizeof frame)))
			log_debug("node %u is gone already", n);
	}
}

static int io_send(struct interlink *il, node_t to, vcpu_t vcpu, enum bus_space space, uint64_t addr, const void *data, unsigned bytes, bool write)
{
	uint64_t value = 0;

	if (!write)
		return PEER_SEND(il, to, io_read, .vcpu = vcpu.v, .space = (uint8_t)space, .addr = addr, .bytes = (uint8_t)bytes);
	memcpy(&value, data, bytes);
	return PEER_SEND(il, to, io_write, .vcpu = vcpu.v, .space = (uint8_t)space, .addr = addr, .bytes = (uint8_t)bytes, .value = value);
}

static bool peer_here(struct interlink *il, node_t n)
{
	bool here;

	pthread_mutex_lock(&il->peer[n.v].lock);
	here = il->peer[n.v].link != NULL;
	pthread_mutex_unlock(&il->peer[n.v].lock);
	return here;
}

int interlink_io(struct interlink *il, node_t to, vcpu_t vcpu, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write)
{
	struct io_wait *w = &il->wait[vcpu.v];
	int err;

	ensure(bytes <= sizeof w->value && vcpu.v < VCPUS_MAX);
	pthread_mutex_lock(&il->waits_lock);
	*w = (struct io_wait){.waiting = true, .from = to};
	pthread_mutex_unlock(&il->waits_lock);
	err = io_send(il, to, vcpu, space, addr, data, bytes, write);
	pthread_mutex_lock(&il->waits_lock);
	while (!err && !w->done && !il->closing && peer_here(il, to))
		pthread_cond_wait(&il->wait_done[vcpu.v], &il->waits_lock);
	if (!err && !w->done)
		err = -ECANCELED;
	if (!err && !write)
		memcpy(data, &w->value, bytes);
	w->waiting = false;
	pthread_mutex_unlock(&il->waits_lock);
	if (!err)
		count(&il->stats.io_sent);
	return err == -EPIPE ? -ECANCELED : err;
}

void interlink_stats(struct interlink *il, struct interlink_stats *s)
{
	*s = il->stats;
	for (unsigned n = 0; n < il->c.nodes; n++) {
		pthread_mutex_lock(&il->peer[n].lock);
		s->bytes_sent += s->peer_bytes_sent[n] = il->peer[n].bytes_sent;
		s->peer_messages_sent[n] = il->peer[n].messages_sent;
		pthread_mutex_unlock(&il->peer[n].lock);
	}
}
