/* See aggregate.h. */
#include "vm/aggregate.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include "base/log.h"
#include "net/hub.h"
#include "vm/verdict.h"
#include "wire/peer.h"

struct aggregate {
	struct aggregate_config c;
	struct topology topology;
	struct ram ram;
	struct pager *pager;
	struct machine *machine;
	struct interlink *interlink;
	struct hub *io;
	uint32_t tsc_khz;
	struct verdict verdict;
	bool opened; /* atomic: pager, machine and interlink are there for all threads to use */

	pthread_mutex_t lock; /* guards what follows; never held across a wait but its own */
	pthread_cond_t told;
	bool have_base, have_clock, have_entry, over, runs, closing;
	uint64_t tsc_base;
	int64_t tsc_difference; /* node 0's clock minus ours (vm/clock.h) */
	uint64_t clock_moves;   /* since the start */
	struct boot_entry entry;
};

static node_t node_at(unsigned n)
{
	return (node_t){(uint8_t)n};
}

/* What the verdict asks for. */

static void on_stopping(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct aggregate *a = owner;

	log_info("stopping: %s, node %s: %s", stop_reason_name(reason), a->c.name[about.v], what);
	if (__atomic_load_n(&a->opened, __ATOMIC_ACQUIRE)) {
		machine_leave(a->machine);
		pager_freeze(a->pager, reason, about, what);
		interlink_stop(a->interlink, reason, about, what);
		hub_stop(a->io, reason, about, what);
	}
	pthread_mutex_lock(&a->lock);
	a->over = true;
	pthread_cond_broadcast(&a->told);
	pthread_mutex_unlock(&a->lock);
}

static void on_verdict(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct aggregate *a = owner;

	log_info("the VM ended: %s, node %s: %s", stop_reason_name(reason), a->c.name[about.v], what);
	a->c.ended(a->c.owner, reason, about, what);
}

void aggregate_end(struct aggregate *a, enum stop_reason reason, node_t about, const char *what)
{
	verdict_cause(&a->verdict, reason, about, what);
}

/* What the pager tells. */

static void on_pager_stop(void *arg, enum stop_reason reason, node_t node, const char *what)
{
	aggregate_end(arg, reason, node, what);
}

/* What the machine tells. */

static void on_machine_end(void *owner, enum machine_end why, const char *text)
{
	static const enum stop_reason reasons[] = {
		[MACHINE_POWEROFF] = STOP_POWEROFF, [MACHINE_RESET] = STOP_RESET, [MACHINE_PANIC] = STOP_PANIC,
		[MACHINE_TRIPLE_FAULT] = STOP_TRIPLE_FAULT, [MACHINE_ERROR] = STOP_NODE_ERROR,
	};
	struct aggregate *a = owner;

	aggregate_end(a, reasons[why], a->c.self, text);
}

static void on_machine_console(void *owner, const void *bytes, size_t n)
{
	struct aggregate *a = owner;

	a->c.console(a->c.owner, bytes, n);
}

static int on_machine_io(void *owner, vcpu_t from, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write)
{
	struct aggregate *a = owner;

	return interlink_io(a->interlink, a->c.devices, from, space, addr, data, bytes, write);
}

/* Nothing is sent before all is open. */
static int on_machine_send(void *owner, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	struct aggregate *a = owner;

	if (bulk)
		return a->io ? hub_send(a->io, to, frame, bytes) : -EPIPE;
	return a->interlink ? interlink_send(a->interlink, to, frame, bytes) : -EPIPE;
}

static int on_machine_free_pages(void *owner, struct pager_discard *d)
{
	struct aggregate *a = owner;
	int err = -ECANCELED;

	pthread_mutex_lock(&a->lock);
	if (!a->closing)
		err = pager_free(a->pager, d);
	pthread_mutex_unlock(&a->lock);
	return err;
}

/* For a vCPU elsewhere: to its node. The SIPI that started one of ours: to all, for its proxies there. */
static void on_machine_irq(void *owner, vcpu_t to, struct proxy_irq irq)
{
	struct aggregate *a = owner;
	node_t home = a->topology.vcpu_node[to.v];

	for (unsigned n = 0; n < a->topology.nodes; n++) {
		if (n == a->c.self.v || (!node_eq(home, a->c.self) && n != home.v))
			continue;
		if (interlink_irq(a->interlink, (node_t){(uint8_t)n}, to, irq.mode, irq.vector))
			log_debug("an interrupt for vCPU %u is lost with node %u", to.v, n);
	}
}

/* What the interlink tells. */

static void on_irq(void *vm, vcpu_t vcpu, unsigned mode, uint8_t vector)
{
	struct aggregate *a = vm;

	if (machine_deliver(a->machine, vcpu, (struct proxy_irq){.mode = (enum irq_mode)mode, .vector = vector}))
		log_warn("an interrupt (mode %u, vector %u) for vCPU %u came to this node, which does not run it", mode, vector, vcpu.v);
}

static void on_io_read(void *vm, enum bus_space space, uint64_t addr, void *data, unsigned bytes)
{
	machine_io(((struct aggregate *)vm)->machine, space, addr, data, bytes, false);
}

static void on_io_write(void *vm, enum bus_space space, uint64_t addr, const void *data, unsigned bytes)
{
	uint64_t value = 0;

	memcpy(&value, data, bytes);
	machine_io(((struct aggregate *)vm)->machine, space, addr, &value, bytes, true);
}

/* Before the guest runs, remember: start_clock sets it. Then follow once we are off by half of what the estimate may be off by itself: the two together are less than
 * a round trip between nodes. */
static void on_clock(void *vm, int64_t cycles, uint64_t error)
{
	struct aggregate *a = vm;
	int64_t off;

	pthread_mutex_lock(&a->lock);
	a->tsc_difference = cycles;
	if (!a->have_clock) {
		a->have_clock = true;
		pthread_cond_broadcast(&a->told);
	}
	if (a->runs) {
		off = (int64_t)(a->tsc_base + (uint64_t)cycles - machine_tsc_offset(a->machine));
		if ((uint64_t)(off < 0 ? -off : off) > error / 2 && machine_set_tsc_offset(a->machine, a->tsc_base + (uint64_t)cycles) == 0)
			a->clock_moves++;
	}
	pthread_mutex_unlock(&a->lock);
}

static void on_tsc_base(void *vm, uint64_t offset)
{
	struct aggregate *a = vm;

	pthread_mutex_lock(&a->lock);
	a->tsc_base = offset;
	a->have_base = true;
	pthread_cond_broadcast(&a->told);
	pthread_mutex_unlock(&a->lock);
}

static void on_boot_entry(void *vm, const struct boot_entry *e)
{
	struct aggregate *a = vm;

	pthread_mutex_lock(&a->lock);
	a->entry = *e;
	a->have_entry = true;
	pthread_cond_broadcast(&a->told);
	pthread_mutex_unlock(&a->lock);
}

static void on_stopped(void *vm, node_t from, unsigned reason, node_t about, const char *what)
{
	verdict_heard(&((struct aggregate *)vm)->verdict, from, reason, about, what);
}

static void on_lost(void *vm, node_t peer, const char *why)
{
	verdict_lost(&((struct aggregate *)vm)->verdict, peer, why);
}

static void on_tick(void *vm, uint64_t now_ms)
{
	verdict_tick(&((struct aggregate *)vm)->verdict, now_ms);
}

static int on_other(void *vm, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	return plane_message(outfit_plane(machine_outfit(((struct aggregate *)vm)->machine)), from, id, body, bytes);
}

/* What the io streams tell. */

static int on_io_frame(void *owner, node_t from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct peer_stop m;

	if (id != PEER_stop)
		return plane_bulk(outfit_plane(machine_outfit(((struct aggregate *)owner)->machine)), from, id, body, bytes);
	if (peer_get_stop(body, bytes, &m) || m.node >= NODES_MAX)
		return -EBADMSG;
	on_stopped(owner, from, m.reason, (node_t){m.node}, m.what.s);
	return 0;
}

/* Opening. */

static int open_topology(struct aggregate *a, struct failure *f)
{
	uint64_t all = 0;

	a->topology.nodes = a->c.nodes;
	for (unsigned n = 0; n < a->c.nodes; n++) {
		for (unsigned v = 0; v < VCPUS_MAX; v++)
			if (a->c.vcpus[n] >> v & 1)
				a->topology.vcpu_node[v] = node_at(n);
		if (all & a->c.vcpus[n])
			return failure_set(f, -EINVAL, "report this", "a vCPU is placed on two nodes");
		all |= a->c.vcpus[n];
	}
	a->topology.vcpus = (unsigned)__builtin_popcountll(all);
	if (!topology_valid(&a->topology) || (all & (all + 1)) != 0)
		return failure_set(f, -EINVAL, "report this", "the placement of vCPUs has holes");
	return 0;
}

static int open_memory(struct aggregate *a, struct failure *f)
{
	struct pager_config p = {
		.ram = &a->ram, .self = a->c.self, .nodes = a->c.nodes, .cache_bytes = a->c.cache_bytes ? a->c.cache_bytes : AGGREGATE_CACHE_BYTES,
		.hold_us = a->c.hold_us, .spin_us = a->c.spin_us, .prefetch_off = a->c.prefetch_off, .on_stop = on_pager_stop, .arg = a,
	};
	int err = ram_layout(&a->ram, a->c.bytes, a->c.nodes);

	if (err)
		return failure_set(f, err, "give memory in whole MiB", "the guest's memory cannot be laid out");
	err = ram_map(&a->ram, f);
	if (err)
		return err;
	memcpy(p.fds, a->c.page_fd, sizeof p.fds);
	for (unsigned n = 0; n < NODES_MAX; n++)
		a->c.page_fd[n] = -1;
	return pager_start(&a->pager, &p, f);
}

static int open_machine(struct aggregate *a, struct failure *f)
{
	struct machine_config m = {
		.topology = a->topology, .vcpus_here = a->c.vcpus[a->c.self.v], .self = a->c.self, .devices = a->c.devices,
		.gear = a->c.gear, .depot = a->c.depot, .disk_node = a->c.disk_node, .nic_node = a->c.nic_node, .porch = a->c.porch,
		.ram = &a->ram, .cpuid = a->c.cpuid, .tsc_khz = a->c.cpuid->tsc_khz,
		.hooks = {.owner = a, .end = on_machine_end, .console = on_machine_console, .io = on_machine_io, .irq = on_machine_irq, .send = on_machine_send,
			.free_pages = on_machine_free_pages},
	};

	a->tsc_khz = a->c.cpuid->tsc_khz;
	return machine_open(&a->machine, &m, f);
}

static int open_interlink(struct aggregate *a, struct failure *f)
{
	struct interlink_config i = {
		.self = a->c.self, .nodes = a->c.nodes, .scale = a->c.pretended.ratio ? a->c.pretended : *machine_clock_scale(a->machine), .khz = a->tsc_khz,
		.silence_ms = a->c.silence_ms ? a->c.silence_ms : AGGREGATE_SILENCE_MS,
		.calls = {on_irq, on_io_read, on_io_write, on_clock, on_tsc_base, on_boot_entry, on_stopped, on_lost, on_tick, on_other, a},
	};

	if (!node_eq(a->c.self, a->c.devices))
		i.calls.io_read = NULL, i.calls.io_write = NULL;
	memcpy(i.fd, a->c.bus_fd, sizeof i.fd);
	for (unsigned n = 0; n < NODES_MAX; n++)
		a->c.bus_fd[n] = -1;
	return interlink_open(&a->interlink, &i, f);
}

static int open_io(struct aggregate *a, struct failure *f)
{
	struct hub_config h = {.self = a->c.self, .nodes = a->c.nodes, .dead_ms = a->c.silence_ms ? a->c.silence_ms : AGGREGATE_SILENCE_MS, .patient = true,
		.calls = {.frame = on_io_frame, .lost = on_lost, .owner = a}};

	memcpy(h.fd, a->c.io_fd, sizeof h.fd);
	for (unsigned n = 0; n < NODES_MAX; n++)
		a->c.io_fd[n] = -1;
	return hub_open(&a->io, &h, f);
}

static void close_fds(int fd[NODES_MAX], unsigned nodes)
{
	for (unsigned n = 0; n < nodes; n++)
		if (fd[n] >= 0)
			close(fd[n]);
}

int aggregate_open(struct aggregate **out, const struct aggregate_config *c, struct failure *f)
{
	struct aggregate *a = calloc(1, sizeof *a);
	int err;

	if (!a)
		return failure_set(f, -ENOMEM, "free memory on this node", "no memory for the VM's bookkeeping");
	a->c = *c;
	verdict_init(&a->verdict, c->self, c->nodes, &(struct verdict_calls){on_stopping, on_verdict, a});
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->told, NULL);
	err = open_topology(a, f);
	if (!err)
		err = open_memory(a, f);
	if (!err)
		err = open_machine(a, f);
	if (!err)
		err = open_io(a, f);
	if (!err)
		err = open_interlink(a, f);
	if (err) {
		aggregate_close(a);
		return err;
	}
	__atomic_store_n(&a->opened, true, __ATOMIC_RELEASE);
	verdict_retell(&a->verdict);
	*out = a;
	return 0;
}

/* Wait until *what, told by another node. -ECANCELED when the VM ends first. */
static int wait_for(struct aggregate *a, const bool *what)
{
	int err;

	pthread_mutex_lock(&a->lock);
	while (!*what && !a->over)
		pthread_cond_wait(&a->told, &a->lock);
	err = *what ? 0 : -ECANCELED;
	pthread_mutex_unlock(&a->lock);
	return err;
}

/* Node 0 names the base: the guest's TSC begins at 0 when its node is ready. */
static int start_clock(struct aggregate *a)
{
	int err = 0;

	if (a->c.self.v == 0) {
		on_tsc_base(a, 0 - clock_scaled(machine_clock_scale(a->machine), __rdtsc()));
		err = interlink_tsc_base(a->interlink, a->tsc_base);
	}
	if (!err)
		err = wait_for(a, &a->have_base);
	if (!err && a->c.self.v != 0)
		err = wait_for(a, &a->have_clock);
	pthread_mutex_lock(&a->lock);
	if (!err)
		err = machine_set_tsc_offset(a->machine, a->tsc_base + (uint64_t)a->tsc_difference);
	pthread_mutex_unlock(&a->lock);
	return err;
}

static int start_boot(struct aggregate *a, struct failure *f)
{
	node_t first = a->topology.vcpu_node[0];
	int err = 0;

	if (node_eq(a->c.self, a->c.devices)) {
		struct boot_config b = {.kernel = a->c.kernel, .initrd = a->c.initrd, .kernel_fd = a->c.kernel_fd,
			.initrd_fd = a->c.initrd_fd, .cmdline = a->c.cmdline, .tsc_khz = a->tsc_khz};
		struct boot_entry e;

		err = boot_load(&a->ram, &a->topology, &b, &e, f);
		if (err)
			return err;
		if (node_eq(first, a->c.self))
			on_boot_entry(a, &e);
		else
			err = interlink_boot_entry(a->interlink, first, &e);
	}
	if (err || !node_eq(first, a->c.self))
		return err;
	err = wait_for(a, &a->have_entry);
	return err ? err : machine_enter_at(a->machine, &a->entry, f);
}

int aggregate_start(struct aggregate *a, struct failure *f)
{
	int err = start_clock(a);

	if (!err)
		err = start_boot(a, f);
	if (!err)
		err = outfit_start(machine_outfit(a->machine), f);
	if (!err)
		err = machine_start(a->machine, f);
	pthread_mutex_lock(&a->lock);
	a->runs = !err;
	pthread_mutex_unlock(&a->lock);
	return err ? failure_set(f, err, "see what the other nodes say", "the VM ended before it ran: %s", strerror(-err)) : 0;
}

void aggregate_close(struct aggregate *a)
{
	if (!a)
		return;
	verdict_mute(&a->verdict);
	interlink_halt(a->interlink); /* frees vCPUs that wait for a device */
	hub_halt(a->io);
	pthread_mutex_lock(&a->lock);
	a->closing = true;
	pthread_mutex_unlock(&a->lock);
	if (a->machine)
		plane_hush(outfit_plane(machine_outfit(a->machine)));
	pager_stop(a->pager); /* and those that wait for a page */
	if (a->machine) {
		machine_stop(a->machine);
		machine_close(a->machine);
	}
	interlink_close(a->interlink);
	hub_close(a->io);
	ram_unmap(&a->ram);
	close_fds(a->c.page_fd, a->c.nodes);
	close_fds(a->c.bus_fd, a->c.nodes);
	close_fds(a->c.io_fd, a->c.nodes);
	verdict_fini(&a->verdict);
	free(a);
}

size_t aggregate_console_input(struct aggregate *a, const void *bytes, size_t n)
{
	return machine_console_input(a->machine, bytes, n);
}

void aggregate_drain(struct aggregate *a)
{
	machine_drain(a->machine);
}

void aggregate_power_button(struct aggregate *a)
{
	machine_power_button(a->machine);
}

void aggregate_balloon(struct aggregate *a, uint64_t memory)
{
	outfit_aim(machine_outfit(a->machine), memory);
}

struct stats_sink {
	void (*each)(void *to, const char *key, uint64_t value);
	void *to;
};

static void stats_pager(const struct pager_stats *p, struct stats_sink *s)
{
	char key[NAME_BYTES];

#define C(name, what) s->each(s->to, "pager." #name, p->name);
	PAGER_COUNTERS(C)
#undef C
	s->each(s->to, "pager.cached_pages", p->cached_pages);
	s->each(s->to, "pager.cached_pages_max", p->cached_pages_max);
	s->each(s->to, "pager.cache_limit_pages", p->cache_limit_pages);
	for (unsigned w = 0; w < PAGER_WAITS; w++) {
		snprintf(key, sizeof key, "fault.%s.count", tally_wait_name(w));
		s->each(s->to, key, p->wait[w].count);
		snprintf(key, sizeof key, "fault.%s.p50_ns", tally_wait_name(w));
		s->each(s->to, key, p->wait[w].p50_ns);
		snprintf(key, sizeof key, "fault.%s.p99_ns", tally_wait_name(w));
		s->each(s->to, key, p->wait[w].p99_ns);
	}
}

static void stats_peers(const struct pager_stats *p, unsigned nodes, struct stats_sink *s)
{
	struct pager_peer sum = {0};

	for (unsigned n = 0; n < nodes; n++) {
		sum.bytes_sent += p->peer[n].bytes_sent;
		sum.bytes_received += p->peer[n].bytes_received;
		sum.messages_sent += p->peer[n].messages_sent;
		sum.messages_received += p->peer[n].messages_received;
		sum.sends += p->peer[n].sends;
	}
	s->each(s->to, "page.bytes_sent", sum.bytes_sent);
	s->each(s->to, "page.bytes_received", sum.bytes_received);
	s->each(s->to, "page.messages_sent", sum.messages_sent);
	s->each(s->to, "page.messages_received", sum.messages_received);
	s->each(s->to, "page.sends", sum.sends);
}

static void stats_interlink(struct aggregate *a, struct stats_sink *s)
{
	struct interlink_stats i;

	interlink_stats(a->interlink, &i);
	s->each(s->to, "bus.irqs_sent", i.irqs_sent);
	s->each(s->to, "bus.irqs_received", i.irqs_received);
	s->each(s->to, "bus.io_sent", i.io_sent);
	s->each(s->to, "bus.io_served", i.io_served);
	s->each(s->to, "bus.bytes_sent", i.bytes_sent);
	s->each(s->to, "bus.bytes_received", i.bytes_received);
	s->each(s->to, "io.bytes_received", hub_bytes_received(a->io));
}

/* What top shows of a pair: all kinds of stream. */
static void stats_pairs(struct aggregate *a, const struct pager_stats *p, struct stats_sink *s)
{
	struct interlink_stats i;
	uint64_t bytes, messages, sum = 0;
	char key[NAME_BYTES];

	interlink_stats(a->interlink, &i);
	for (unsigned n = 0; n < a->c.nodes; n++) {
		if (n == a->c.self.v)
			continue;
		hub_sent(a->io, node_at(n), &bytes, &messages);
		sum += bytes;
		snprintf(key, sizeof key, "peer.%u.bytes_sent", n);
		s->each(s->to, key, p->peer[n].bytes_sent + i.peer_bytes_sent[n] + bytes);
		snprintf(key, sizeof key, "peer.%u.messages_sent", n);
		s->each(s->to, key, p->peer[n].messages_sent + i.peer_messages_sent[n] + messages);
		snprintf(key, sizeof key, "peer.%u.rtt_ns", n);
		s->each(s->to, key, i.round_trip_cycles[n] * 1000 / (a->tsc_khz / 1000 + !(a->tsc_khz / 1000)));
	}
	s->each(s->to, "io.bytes_sent", sum);
}

static void stats_vcpu(struct aggregate *a, unsigned n, const struct machine_vcpu_stats *v, struct stats_sink *s)
{
	struct pager_latency wait;
	char key[NAME_BYTES];

	pager_thread_wait(a->pager, v->tid, &wait);
	snprintf(key, sizeof key, "vcpu.%u.cpu_ns", n);
	s->each(s->to, key, v->cpu_ns);
	snprintf(key, sizeof key, "vcpu.%u.faults", n);
	s->each(s->to, key, wait.count);
	snprintf(key, sizeof key, "vcpu.%u.p50_ns", n);
	s->each(s->to, key, wait.p50_ns);
	snprintf(key, sizeof key, "vcpu.%u.p99_ns", n);
	s->each(s->to, key, wait.p99_ns);
}

void aggregate_stats(struct aggregate *a, void (*each)(void *to, const char *key, uint64_t value), void *to)
{
	struct stats_sink s = {each, to};
	struct machine_vcpu_stats v, sum = {0};
	struct pager_stats p;

	pager_stats(a->pager, &p);
	stats_pager(&p, &s);
	stats_peers(&p, a->c.nodes, &s);
	stats_interlink(a, &s);
	stats_pairs(a, &p, &s);
	outfit_stats(machine_outfit(a->machine), each, to);
	for (unsigned n = 0; n < a->topology.vcpus; n++) {
		machine_vcpu_stats(a->machine, (vcpu_t){(uint16_t)n}, &v);
		sum.exits += v.exits;
		sum.io += v.io;
		sum.mmio += v.mmio;
		sum.irqs += v.irqs;
		if (a->c.vcpus[a->c.self.v] >> n & 1)
			stats_vcpu(a, n, &v, &s);
	}
	pthread_mutex_lock(&a->lock);
	each(to, "clock.moves", a->clock_moves);
	pthread_mutex_unlock(&a->lock);
	each(to, "vcpu.exits", sum.exits);
	each(to, "vcpu.io", sum.io);
	each(to, "vcpu.mmio", sum.mmio);
	each(to, "vcpu.irqs", sum.irqs);
}

unsigned aggregate_hottest(const struct aggregate *a, struct pager_hot *out, unsigned max)
{
	return pager_hottest(a->pager, out, max);
}
