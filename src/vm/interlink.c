/* See interlink.h. */
#include "vm/interlink.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "base/ensure.h"
#include "base/log.h"
#include "net/hub.h"
#include "wire/peer.h"

enum { ECHOES_PER_SILENCE = 8, SILENCES_TO_BEGIN = 20 };

/* A vCPU's one access under way. Guarded by waits_lock. */
struct io_wait {
	bool waiting, done;
	node_t from;
	uint64_t value;
};

/* Of the hub's thread. */
struct peer {
	uint64_t heard_ms;
	bool heard; /* it has said something; before that it may still be getting ready */
	struct clock_estimate clock;
};

struct interlink {
	struct interlink_config c;
	struct hub *hub;
	struct peer peer[NODES_MAX];
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

#define PEER_SEND(il, to, name, ...) ({ \
	uint8_t frame_[256 + WIRE_STR_MAX]; \
	struct peer_##name message_ = {__VA_ARGS__}; \
	hub_send((il)->hub, (to), frame_, peer_put_##name(&message_, frame_, sizeof frame_)); \
})

/* The waiters for that peer are told; the fragment decides what its loss means. */
static void on_peer_lost(void *owner, node_t from, const char *why)
{
	struct interlink *il = owner;

	pthread_mutex_lock(&il->waits_lock);
	for (unsigned v = 0; v < VCPUS_MAX; v++)
		if (il->wait[v].waiting && node_eq(il->wait[v].from, from))
			pthread_cond_signal(&il->wait_done[v]);
	pthread_mutex_unlock(&il->waits_lock);
	il->c.calls.lost(il->c.calls.vm, from, why);
}

static bool io_args_good(unsigned space, uint64_t addr, unsigned bytes)
{
	if (bytes < 1 || bytes > 8) /* also odd ones: KVM cuts an access in two at the end of a page */
		return false;
	return space == BUS_MMIO || (space == BUS_PIO && addr < 0x10000);
}

static int on_io_read(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_io_read m;
	uint64_t value = 0;

	if (peer_get_io_read(body, bytes, &m) || !io_args_good(m.space, m.addr, m.bytes))
		return -EBADMSG;
	if (!il->c.calls.io_read)
		return -EPROTO;
	il->c.calls.io_read(il->c.calls.vm, m.space, m.addr, &value, m.bytes);
	count(&il->stats.io_served);
	return PEER_SEND(il, from, io_done, .vcpu = m.vcpu, .value = value);
}

static int on_io_write(struct interlink *il, node_t from, const uint8_t *body, size_t bytes)
{
	struct peer_io_write m;

	if (peer_get_io_write(body, bytes, &m) || !io_args_good(m.space, m.addr, m.bytes))
		return -EBADMSG;
	if (!il->c.calls.io_write)
		return -EPROTO;
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

static int on_message(void *owner, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct interlink *il = owner;

	il->peer[from.v].heard_ms = now_ms();
	il->peer[from.v].heard = true;
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
	default: return il->c.calls.other(il->c.calls.vm, from, id, body, bytes);
	}
}

static void on_tick(void *owner)
{
	struct interlink *il = owner;
	uint64_t now = now_ms();
	char why[96];

	for (unsigned n = 0; n < il->c.nodes; n++) {
		node_t node = {(uint8_t)n};

		if (!hub_has(il->hub, node))
			continue;
		if (now - il->peer[n].heard_ms > il->c.silence_ms * (il->peer[n].heard ? 1u : SILENCES_TO_BEGIN)) {
			snprintf(why, sizeof why, "it has not answered for %llu ms", (unsigned long long)(now - il->peer[n].heard_ms));
			hub_drop(il->hub, node, why);
		} else if (PEER_SEND(il, node, echo, .tsc_sent = clock_now(il))) {
			log_debug("echo to node %u not sent", n);
		}
	}
	il->c.calls.tick(il->c.calls.vm, now);
}

int interlink_open(struct interlink **out, const struct interlink_config *config, struct failure *f)
{
	struct interlink *il = calloc(1, sizeof *il);
	struct hub_config h = {.self = config->self, .nodes = config->nodes, .dead_ms = config->silence_ms, .tick_ms = config->silence_ms / ECHOES_PER_SILENCE,
		.calls = {on_message, on_peer_lost, on_tick, il}};
	int err;

	if (!il)
		return failure_set(f, -ENOMEM, "free memory on this node", "no memory for the links to the other nodes");
	il->c = *config;
	memcpy(h.fd, config->fd, sizeof h.fd);
	pthread_mutex_init(&il->waits_lock, NULL);
	for (unsigned n = 0; n < NODES_MAX; n++) {
		il->peer[n].heard_ms = now_ms();
		il->peer[n].clock.khz = config->khz;
	}
	for (unsigned v = 0; v < VCPUS_MAX; v++)
		pthread_cond_init(&il->wait_done[v], NULL);
	err = hub_open(&il->hub, &h, f);
	if (err)
		free(il);
	else
		*out = il;
	return err;
}

void interlink_halt(struct interlink *il)
{
	if (!il)
		return;
	pthread_mutex_lock(&il->waits_lock);
	il->closing = true;
	for (unsigned v = 0; v < VCPUS_MAX; v++)
		pthread_cond_signal(&il->wait_done[v]);
	pthread_mutex_unlock(&il->waits_lock);
	hub_halt(il->hub);
}

void interlink_close(struct interlink *il)
{
	if (!il)
		return;
	interlink_halt(il);
	hub_close(il->hub);
	free(il);
}

int interlink_send(struct interlink *il, node_t to, const uint8_t *frame, size_t bytes)
{
	return hub_send(il->hub, to, frame, bytes);
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
	hub_stop(il->hub, reason, about, what);
}

static int io_send(struct interlink *il, node_t to, vcpu_t vcpu, enum bus_space space, uint64_t addr, const void *data, unsigned bytes, bool write)
{
	uint64_t value = 0;

	if (!write)
		return PEER_SEND(il, to, io_read, .vcpu = vcpu.v, .space = (uint8_t)space, .addr = addr, .bytes = (uint8_t)bytes);
	memcpy(&value, data, bytes);
	return PEER_SEND(il, to, io_write, .vcpu = vcpu.v, .space = (uint8_t)space, .addr = addr, .bytes = (uint8_t)bytes, .value = value);
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
	while (!err && !w->done && !il->closing && hub_has(il->hub, to))
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
		hub_sent(il->hub, (node_t){(uint8_t)n}, &s->peer_bytes_sent[n], &s->peer_messages_sent[n]);
		s->bytes_sent += s->peer_bytes_sent[n];
	}
	s->bytes_received = hub_bytes_received(il->hub);
}
