/* Wires KVM, vCPU threads, memory slots and devices together. See machine.h. */
#include "vm/machine.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/ensure.h"
#include "base/log.h"
#include "base/thread.h"
#include "dev/addrmap.h"
#include "dev/board.h"
#include "vm/absent.h"
#include "vm/exit.h"
#include "vm/memmap.h"
#include "vm/rendezvous.h"
#include "vm/trial.h"
#include "vm/vcpu.h"
#include "vm/wiring.h"

enum { SLOT_PROXY_STUB = RAM_RANGES_MAX, VCPU_STACK_BYTES = 256 * 1024, MSI_ASSERT = 1 << 14 };

/* One guest CPU on this node. Counters belong to its thread. */
struct cpu {
	struct machine *m;
	struct vcpu v;
	struct proxy proxy; /* of one that runs elsewhere */
	unsigned clock_seen; /* the call of m->clock_change this vCPU has followed */
	uint64_t tsc_offset;
	struct machine_vcpu_stats stats;
	clockid_t clock;     /* of its thread's CPU time; good once stats.tid is not 0 */
};

struct machine {
	struct machine_config c;
	int kvm_fd, vm_fd;
	uint32_t tsc_khz;
	uint8_t *stub; /* proxies' code, PROXY_STUB_BYTES; NULL without proxies */
	struct outfit *outfit;
	struct board *board; /* NULL on nodes without the devices */
	bool level_routes;   /* KVM has routes of level-triggered pins; guarded by the IOAPIC's lock */
	struct cpu *cpu;
	unsigned cpus; /* opened */
	pthread_mutex_t threads_lock; /* guards vcpu.threaded, so that nobody kicks a thread that was joined */
	bool lock_made;
	bool leaving; /* atomic: vCPUs leave for good */
	bool ended;   /* atomic: hooks.end was called */
	struct clock_scale scale; /* of the host's TSC for the guest */
	uint64_t tsc_offset;           /* atomic; of all vCPUs here */
	struct rendezvous clock_change; /* of the threads of vCPUs here; its word: the next tsc_offset */
	bool running;                  /* vCPU threads have been started */
};

static bool cpu_is_here(const struct machine *m, unsigned i)
{
	return m->c.vcpus_here >> i & 1;
}

static void machine_kick_all(struct machine *m)
{
	pthread_mutex_lock(&m->threads_lock);
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_kick(&m->cpu[i].v);
	pthread_mutex_unlock(&m->threads_lock);
}

void machine_leave(struct machine *m)
{
	__atomic_store_n(&m->leaving, true, __ATOMIC_SEQ_CST);
	machine_kick_all(m);
}

static void machine_ended(void *owner, enum machine_end why, const char *text)
{
	struct machine *m = owner;

	if (__atomic_exchange_n(&m->ended, true, __ATOMIC_SEQ_CST))
		return;
	machine_leave(m);
	m->c.hooks.end(m->c.hooks.owner, why, text);
}

/* What the devices call. */

static void board_console(void *user, const uint8_t *bytes, size_t n)
{
	struct machine *m = user;

	m->c.hooks.console(m->c.hooks.owner, bytes, n);
}

static void board_console_room(void *user)
{
	struct machine *m = user;

	if (m->c.hooks.console_room)
		m->c.hooks.console_room(m->c.hooks.owner);
}

static void board_ended(void *user, enum board_end why)
{
	static const struct { enum machine_end end; const char *text; } ends[] = {
		[BOARD_POWEROFF] = {MACHINE_POWEROFF, "the guest powered off"},
		[BOARD_RESET] = {MACHINE_RESET, "the guest reset"},
		[BOARD_PANIC] = {MACHINE_PANIC, "the guest's kernel panicked"},
	};

	machine_ended(user, ends[why].end, ends[why].text);
}

static void board_msi(void *user, uint64_t address, uint32_t data)
{
	wiring_msi(((struct machine *)user)->vm_fd, address, data);
}

static int plane_doorbell(void *user, uint64_t addr, int fd, bool on)
{
	return wiring_doorbell(((struct machine *)user)->vm_fd, addr, fd, on);
}

static void board_routes(void *user, const struct ioapic_route route[IOAPIC_PINS])
{
	struct machine *m = user;

	m->level_routes = wiring_routes(m->vm_fd, route, m->level_routes);
}

/* vCPU exits. */

static int sink_access(void *owner, vcpu_t vcpu, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write)
{
	struct machine *m = owner;
	struct machine_vcpu_stats *stats = &m->cpu[vcpu.v].stats;
	int err = 0;

	(*(space == BUS_PIO ? &stats->io : &stats->mmio))++;
	if (write && space == BUS_MMIO && plane_bell(outfit_plane(m->outfit), addr))
		return 0;
	if (m->board)
		machine_io(m, space, addr, data, bytes, write);
	else
		err = m->c.hooks.io(m->c.hooks.owner, vcpu, space, addr, data, bytes, write);
	if (write)
		plane_settle(outfit_plane(m->outfit));
	return err;
}

/* Only a guest that programs a level-triggered pin gets here, though the tables call all of them edge-triggered; on another node its EOI is lost. */
static void sink_ioapic_eoi(void *owner, uint8_t vector)
{
	struct machine *m = owner;

	if (m->board)
		board_eoi(m->board, vector);
}

static void sink_end(void *owner, vcpu_t vcpu, enum exit_kind kind, const char *text)
{
	static const enum machine_end ends[] = {
		[EXIT_SHUTDOWN] = MACHINE_TRIPLE_FAULT, [EXIT_CRASH] = MACHINE_PANIC, [EXIT_RESET] = MACHINE_RESET,
		[EXIT_POWEROFF] = MACHINE_POWEROFF, [EXIT_BROKEN] = MACHINE_ERROR,
	};
	struct machine *m = owner;

	if (kind == EXIT_BROKEN || kind == EXIT_SHUTDOWN) {
		log_error("vCPU %u: %s", vcpu.v, text);
		vcpu_dump(&m->cpu[vcpu.v].v);
	}
	machine_ended(m, ends[kind], text);
}

/* vCPU threads. */

/* All vCPUs here are out of the guest at met_tsc, and do this before they enter it again; none does before its clock has reached again what any of
 * them can have read. */
static void cpu_change_clock(struct cpu *c, uint64_t next, uint64_t met_tsc)
{
	struct machine *m = c->m;
	uint64_t until = clock_scaled(&m->scale, met_tsc) - (next - c->tsc_offset);
	int err = vcpu_set_tsc_offset(&c->v, next);

	if (err)
		log_warn("vCPU %u: the TSC offset cannot be set: %s", c->v.id.v, strerror(-err));
	while ((int64_t)(clock_scaled(&m->scale, __rdtsc()) - until) < 0)
		_mm_pause();
	c->tsc_offset = next;
	__atomic_store_n(&m->tsc_offset, next, __ATOMIC_RELAXED);
}

static bool cpu_goes_on(struct cpu *c)
{
	struct machine *m = c->m;
	uint64_t next, met_tsc;

	if (__atomic_load_n(&m->leaving, __ATOMIC_SEQ_CST))
		return false;
	if (cpu_is_here(m, c->v.id.v) && rendezvous_due(&m->clock_change, c->clock_seen) && rendezvous_meet(&m->clock_change, &c->clock_seen, &next, &met_tsc))
		cpu_change_clock(c, next, met_tsc);
	return !__atomic_load_n(&m->leaving, __ATOMIC_SEQ_CST);
}

/* A vCPU of this node started it. Its proxies elsewhere must know. */
static int cpu_started(struct cpu *c)
{
	struct machine *m = c->m;
	struct proxy_irq irq = {.mode = IRQ_SIPI};
	int err = vcpu_started(&c->v, &irq.vector);

	if (!err)
		m->c.hooks.irq(m->c.hooks.owner, c->v.id, irq);
	return err;
}

/* 0: go on. -ECANCELED: the guest ended, or the VM does. */
static int cpu_run_once(struct cpu *c, const struct exit_sink *sink, bool *starting)
{
	int err = vcpu_enter(&c->v);

	if (err == -EAGAIN && c->m->c.hooks.irq) {
		*starting = true;
		err = vcpu_watch_start(&c->v);
	} else if (err == -EINTR || err == -EAGAIN) {
		c->stats.kicks++;
		return 0;
	} else if (!err && *starting && c->v.run->exit_reason == KVM_EXIT_DEBUG) {
		*starting = false;
		err = cpu_started(c);
	} else if (!err) {
		c->stats.exits++;
		return exit_handle(c->v.run, c->v.id, sink);
	}
	if (err)
		sink_end(c->m, c->v.id, EXIT_BROKEN, strerror(-err));
	return err;
}

static void cpu_run_guest(struct cpu *c)
{
	const struct exit_sink sink = {.owner = c->m, .access = sink_access, .ioapic_eoi = sink_ioapic_eoi, .end = sink_end};
	bool starting = false;

	while (cpu_goes_on(c) && cpu_run_once(c, &sink, &starting) == 0)
		;
}

static void cpu_run_proxy(struct cpu *c)
{
	struct machine *m = c->m;
	int got = 0;

	while (got >= 0 && cpu_goes_on(c)) {
		struct proxy_irq irq;

		got = proxy_run(&c->proxy, &irq);
		__atomic_store_n(&c->v.run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		c->stats.exits++;
		if (got == 1) {
			c->stats.irqs++;
			m->c.hooks.irq(m->c.hooks.owner, c->v.id, irq);
		}
	}
	if (got < 0)
		sink_end(m, c->v.id, EXIT_BROKEN, strerror(-got));
}

static void *cpu_main(void *arg)
{
	struct cpu *c = arg;
	char name[16];

	snprintf(name, sizeof name, "%s%u", cpu_is_here(c->m, c->v.id.v) ? "vcpu" : "proxy", c->v.id.v);
	if (pthread_getcpuclockid(pthread_self(), &c->clock) == 0)
		__atomic_store_n(&c->stats.tid, (uint32_t)gettid(), __ATOMIC_RELEASE);
	prctl(PR_SET_NAME, name); /* from outside the thread this takes a file, which a sandbox does not have */
	if (cpu_is_here(c->m, c->v.id.v))
		cpu_run_guest(c);
	else
		cpu_run_proxy(c);
	return NULL;
}

/* Opening. */

static int machine_refused(struct failure *f, const char *what)
{
	int err = -errno;

	return failure_set(f, err, "run 'tessera doctor'", "KVM refused %s: %s", what, strerror(-err));
}

static int machine_open_kvm(struct machine *m, struct failure *f)
{
	m->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (m->kvm_fd < 0)
		return failure_set(f, -errno, "load kvm_intel or kvm_amd and give yourself access", "cannot open /dev/kvm: %s", strerror(errno));
	m->vm_fd = ioctl(m->kvm_fd, KVM_CREATE_VM, 0);
	return m->vm_fd < 0 ? machine_refused(f, "a virtual machine") : 0;
}

static int machine_enable(struct machine *m, uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap e = {.cap = cap, .args = {arg}};

	return ioctl(m->vm_fd, KVM_ENABLE_CAP, &e);
}

static int machine_set_chip(struct machine *m, struct failure *f)
{
	uint64_t identity = MEMMAP_KVM_IDENTITY;

	if (ioctl(m->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity) < 0)
		return machine_refused(f, "the identity map address");
	if (ioctl(m->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)MEMMAP_KVM_TSS) < 0)
		return machine_refused(f, "the TSS address");
	if (machine_enable(m, KVM_CAP_SPLIT_IRQCHIP, IOAPIC_PINS) < 0)
		return machine_refused(f, "a split interrupt controller");
	if (machine_enable(m, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK) < 0)
		return machine_refused(f, "32-bit APIC ids");
	if (machine_enable(m, KVM_CAP_PMU_CAPABILITY, KVM_PMU_CAP_DISABLE) < 0)
		log_debug("this KVM cannot switch its PMU off");
	return 0;
}

static int machine_set_slot(struct machine *m, unsigned slot, uint64_t gpa, void *at, uint64_t bytes, struct failure *f)
{
	struct kvm_userspace_memory_region r = {.slot = slot, .guest_phys_addr = gpa, .memory_size = bytes, .userspace_addr = (uintptr_t)at};

	return ioctl(m->vm_fd, KVM_SET_USER_MEMORY_REGION, &r) < 0 ? machine_refused(f, "a memory slot") : 0;
}

/* The stub is this process's own memory, not guest RAM: it lies in a hole of the guest's map. */
static int machine_map_stub(struct machine *m, struct failure *f)
{
	void *at = mmap(NULL, PROXY_STUB_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		return failure_set(f, -errno, "free some memory", "no memory for the proxies: %s", strerror(errno));
	m->stub = at;
	proxy_stub_build(m->stub, (gpa_t){MEMMAP_PROXY_STUB});
	return machine_set_slot(m, SLOT_PROXY_STUB, MEMMAP_PROXY_STUB, m->stub, PROXY_STUB_BYTES, f);
}

static int machine_map(struct machine *m, struct failure *f)
{
	const struct ram *ram = m->c.ram;
	bool proxies = false;
	int err = 0;

	for (unsigned i = 0; !err && i < ram->ranges; i++)
		err = machine_set_slot(m, i, ram->range[i].gpa.v, ram->hva[i], ram->range[i].bytes, f);
	for (unsigned i = 0; i < m->c.topology.vcpus; i++)
		proxies |= !cpu_is_here(m, i);
	return !err && proxies ? machine_map_stub(m, f) : err;
}

static int cpu_open(struct machine *m, unsigned i, const struct cpuid_table *table, size_t run_bytes, struct failure *f)
{
	struct cpu *c = &m->cpu[i];
	vcpu_t id = {(uint16_t)i};
	int err;

	c->m = m;
	err = vcpu_open(&c->v, m->vm_fd, run_bytes, id, f);
	if (err)
		return err;
	m->cpus++;
	err = vcpu_set_cpuid(&c->v, table, f);
	if (!err && vcpu_set_tsc_khz(&c->v, m->vm_fd, m->tsc_khz, &m->scale))
		err = failure_set(f, -ENOTSUP, "put the VM on nodes of equal TSC frequency, or whose processors scale it",
		                  "this host cannot give a guest a TSC of %u kHz", m->tsc_khz);
	if (err)
		return err;
	if (cpu_is_here(m, i))
		return vcpu_reset(&c->v, f);
	c->proxy = (struct proxy){.vcpu = id, .fd = c->v.fd, .run = c->v.run, .stub = {MEMMAP_PROXY_STUB}};
	err = i == 0 ? proxy_enter(&c->proxy) : proxy_park(&c->proxy);
	return err ? failure_set(f, err, "run 'tessera doctor'", "KVM refused the proxy of vCPU %u: %s", i, strerror(-err)) : 0;
}

static int machine_open_cpus(struct machine *m, struct failure *f)
{
	int run_bytes = ioctl(m->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0), most = ioctl(m->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	struct cpuid_table all = *m->c.cpuid, one;
	int err = 0;

	if (run_bytes < (int)sizeof(struct kvm_run))
		return machine_refused(f, "a run page");
	close(m->kvm_fd); /* whoever takes this process over shall not make other VMs */
	m->kvm_fd = -1;
	if (most < (int)m->c.topology.vcpus)
		return failure_set(f, -EINVAL, "use fewer vCPUs", "KVM on this host takes %d vCPUs a VM, not %u", most, m->c.topology.vcpus);
	m->cpu = calloc(m->c.topology.vcpus, sizeof *m->cpu);
	if (!m->cpu)
		return failure_set(f, -ENOMEM, "free some memory", "no memory for %u vCPUs", m->c.topology.vcpus);
	all.tsc_khz = m->tsc_khz;
	for (unsigned i = 0; !err && i < m->c.topology.vcpus; i++) {
		if (cpuid_vcpu(&all, &m->c.topology, (vcpu_t){(uint16_t)i}, &one))
			return failure_set(f, -ENOSPC, "report this", "the CPUID table overflows");
		err = cpu_open(m, i, &one, (size_t)run_bytes, f);
	}
	if (!err && vcpu_bar_async_faults(m->vm_fd))
		log_info("this KVM fetches pages behind vCPUs' backs: reads from other nodes cost what writes do");
	return err;
}

/* KVM gave each vCPU an offset when it was made; make them the same, so that a guest CPU's clock is never behind another's. */
static int machine_align_tsc(struct machine *m, struct failure *f)
{
	uint64_t offset;

	if (vcpu_get_tsc_offset(&m->cpu[0].v, &offset))
		return 0; /* a KVM without the attribute synchronises vCPUs made within a second by itself */
	if (vcpu_check_tsc(&m->cpu[0].v, &m->scale, offset, m->tsc_khz))
		return failure_set(f, -ENOTSUP, "put the VM on nodes of equal TSC frequency", "this host's KVM scales its TSC in an unknown way");
	return machine_set_tsc_offset(m, offset);
}

static int plane_out(void *user, node_t to, bool bulk, const uint8_t *frame, size_t bytes)
{
	struct machine *m = user;

	return m->c.hooks.send ? m->c.hooks.send(m->c.hooks.owner, to, bulk, frame, bytes) : -EPIPE;
}

static int machine_open_devices(struct machine *m, struct failure *f)
{
	struct outfit_config o = {.plane = {.self = m->c.self, .devices = m->c.devices, .ram = m->c.ram, .msi = board_msi, .send = plane_out,
			.doorbell = plane_doorbell, .user = m},
		.free_pages = m->c.hooks.free_pages, .free_user = m->c.hooks.owner,
		.alone = m->c.topology.nodes == 1, .vcpus = m->c.topology.vcpus, .vcpu_node = m->c.topology.vcpu_node, .gear = m->c.gear, .depot = m->c.depot,
		.disk_node = m->c.disk_node, .nic_node = m->c.nic_node, .porch = m->c.porch};
	struct board_config b = {.msi = board_msi, .routes = board_routes, .output = board_console, .room = board_console_room, .end = board_ended, .user = m};
	int err = outfit_open(&m->outfit, &o, f);

	if (err || !node_eq(m->c.self, m->c.devices))
		return err;
	b.plane = outfit_plane(m->outfit);
	err = board_open(&m->board, &b, f);
	return err ? err : absent_add(board_bus(m->board));
}

static int machine_build(struct machine *m, struct failure *f)
{
	int err = -pthread_mutex_init(&m->threads_lock, NULL);

	if (!err)
		err = rendezvous_init(&m->clock_change, (unsigned)__builtin_popcountll(m->c.vcpus_here));
	m->lock_made = !err;
	if (!err)
		err = vcpu_kick_init();
	if (!err)
		err = machine_open_kvm(m, f);
	m->tsc_khz = m->c.tsc_khz;
	if (!err && !m->tsc_khz)
		err = machine_host_tsc_khz(&m->tsc_khz, f);
	if (!err)
		err = machine_set_chip(m, f);
	if (!err)
		err = machine_map(m, f);
	if (!err)
		err = machine_open_cpus(m, f);
	if (!err)
		err = machine_align_tsc(m, f);
	return err ? err : machine_open_devices(m, f);
}

int machine_open(struct machine **out, const struct machine_config *c, struct failure *f)
{
	struct machine *m;
	int err;

	*out = NULL;
	if (!topology_valid(&c->topology))
		return failure_set(f, -EINVAL, "use 1 to 64 vCPUs on 1 to 16 nodes", "a machine of %u vCPUs on %u nodes cannot be built", c->topology.vcpus, c->topology.nodes);
	m = calloc(1, sizeof *m);
	if (!m)
		return failure_set(f, -ENOMEM, "free some memory", "no memory for a machine");
	m->c = *c;
	m->kvm_fd = m->vm_fd = -1;
	err = machine_build(m, f);
	m->c.cpuid = NULL; /* the caller's, and only for now */
	if (err) {
		failure_set(f, err, "run 'tessera doctor'", "the machine cannot be built: %s", strerror(-err));
		machine_close(m);
		return err;
	}
	*out = m;
	return 0;
}

void machine_close(struct machine *m)
{
	if (!m)
		return;
	outfit_halt(m->outfit);
	board_close(m->board);
	outfit_close(m->outfit);
	for (unsigned i = 0; i < m->cpus; i++)
		vcpu_close(&m->cpu[i].v);
	free(m->cpu);
	if (m->vm_fd >= 0)
		close(m->vm_fd);
	if (m->kvm_fd >= 0)
		close(m->kvm_fd);
	if (m->stub)
		munmap(m->stub, PROXY_STUB_BYTES);
	if (m->lock_made) {
		pthread_mutex_destroy(&m->threads_lock);
		rendezvous_fini(&m->clock_change);
	}
	free(m);
}

/* Running. */

int machine_enter_at(struct machine *m, const struct boot_entry *e, struct failure *f)
{
	ensure(cpu_is_here(m, 0));
	return vcpu_set_entry(&m->cpu[0].v, e, f);
}

int machine_set_tsc_offset(struct machine *m, uint64_t offset)
{
	int err = 0;

	if (m->running) {
		if (m->c.vcpus_here == 0) {
			__atomic_store_n(&m->tsc_offset, offset, __ATOMIC_RELAXED);
			return 0;
		}
		err = rendezvous_call(&m->clock_change, offset);
		if (!err)
			machine_kick_all(m);
		return err;
	}
	for (unsigned i = 0; !err && i < m->cpus; i++) {
		err = vcpu_set_tsc_offset(&m->cpu[i].v, offset);
		m->cpu[i].tsc_offset = offset;
	}
	m->tsc_offset = offset;
	return err;
}

uint64_t machine_tsc_offset(const struct machine *m)
{
	return __atomic_load_n(&m->tsc_offset, __ATOMIC_RELAXED);
}

const struct clock_scale *machine_clock_scale(const struct machine *m)
{
	return &m->scale;
}

static int cpu_start(struct cpu *c)
{
	pthread_attr_t attr;
	int err = -pthread_attr_init(&attr);

	if (err)
		return err;
	err = -pthread_attr_setstacksize(&attr, VCPU_STACK_BYTES);
	pthread_mutex_lock(&c->m->threads_lock);
	if (!err)
		err = -pthread_create(&c->v.thread, &attr, cpu_main, c);
	c->v.threaded = !err;
	pthread_mutex_unlock(&c->m->threads_lock);
	pthread_attr_destroy(&attr);
	return err;
}

/* Threads inherit the mask: every signal but the kick stays with the threads that expect it. */
int machine_start(struct machine *m, struct failure *f)
{
	sigset_t before;
	int err = 0;

	thread_block(&before, SIGUSR1);
	m->running = true;
	for (unsigned i = 0; !err && i < m->cpus; i++)
		err = cpu_start(&m->cpu[i]);
	thread_unblock(&before);
	if (!err)
		return 0;
	machine_stop(m);
	return failure_set(f, err, "raise the limit on threads", "vCPU threads cannot be started: %s", strerror(-err));
}

struct outfit *machine_outfit(struct machine *m)
{
	return m->outfit;
}

void machine_stop(struct machine *m)
{
	machine_leave(m);
	for (unsigned i = 0; i < m->cpus; i++) {
		bool threaded;

		pthread_mutex_lock(&m->threads_lock);
		threaded = m->cpu[i].v.threaded;
		m->cpu[i].v.threaded = false;
		pthread_mutex_unlock(&m->threads_lock);
		if (threaded)
			pthread_join(m->cpu[i].v.thread, NULL);
	}
	machine_drain(m);
}

void machine_drain(struct machine *m)
{
	if (m->board)
		board_drain(m->board);
}

/* What other nodes and people ask for. */

int machine_deliver(struct machine *m, vcpu_t to, struct proxy_irq irq)
{
	struct kvm_msi msi = {
		.address_lo = MEMMAP_LAPIC | (to.v & 0xffu) << 12,
		.address_hi = to.v & ~0xffu,
		.data = (uint32_t)irq.mode << 8 | irq.vector | MSI_ASSERT,
	};

	if (to.v >= m->cpus || (!cpu_is_here(m, to.v) && irq.mode != IRQ_SIPI))
		return -EINVAL;
	if (cpu_is_here(m, to.v))
		return ioctl(m->vm_fd, KVM_SIGNAL_MSI, &msi) < 0 ? -errno : 0;
	proxy_started(&m->cpu[to.v].proxy, irq.vector);
	pthread_mutex_lock(&m->threads_lock);
	vcpu_kick(&m->cpu[to.v].v);
	pthread_mutex_unlock(&m->threads_lock);
	return 0;
}

void machine_io(struct machine *m, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write)
{
	ensure(m->board);
	if (write)
		bus_write(board_bus(m->board), space, addr, data, bytes);
	else
		bus_read(board_bus(m->board), space, addr, data, bytes);
}

size_t machine_console_input(struct machine *m, const void *bytes, size_t n)
{
	return m->board ? board_input(m->board, bytes, n) : 0;
}

void machine_power_button(struct machine *m)
{
	if (m->board)
		board_power_button(m->board);
}

int machine_host_tsc_khz(uint32_t *khz, struct failure *f)
{
	struct trial t;
	int got = trial_open(&t, PAGE_BYTES);

	if (!got) {
		got = ioctl(t.vcpu, KVM_GET_TSC_KHZ, 0);
		if (got < 0)
			got = -errno;
		trial_close(&t);
	}
	if (got <= 0)
		return failure_set(f, -ENOTSUP, "run 'tessera doctor'", "KVM refused to tell its TSC frequency: %s", strerror(-got));
	*khz = (uint32_t)got;
	return 0;
}

void machine_vcpu_stats(const struct machine *m, vcpu_t vcpu, struct machine_vcpu_stats *out)
{
	const struct cpu *c = &m->cpu[vcpu.v];
	struct timespec t;

	*out = c->stats;
	out->tid = __atomic_load_n(&c->stats.tid, __ATOMIC_ACQUIRE);
	if (out->tid && clock_gettime(c->clock, &t) == 0)
		out->cpu_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
