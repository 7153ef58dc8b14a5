/* One fragment's part of a virtual machine: KVM's VM, its memory slots, its vCPUs with their threads, and (on the devices' node) the devices.
 *
 * Every node creates all vCPUs. Those in vcpus_here run the guest; the others are proxies (vm/proxy.h) that turn what arrives for
 * them into hooks.irq. PIO and MMIO of a vCPU on a node without the devices become hooks.io. On a single node hooks.io is never
 * called, and hooks.irq has nobody to tell.
 *
 *   machine_open -> machine_enter_at (on the node of vCPU 0) -> machine_start -> ... -> machine_stop -> machine_close
 *
 * Threads: open, start, stop and close belong to one owner thread. The hooks are called on vCPU and device threads. */
#ifndef VM_MACHINE_H
#define VM_MACHINE_H

#include "base/failure.h"
#include "base/types.h"
#include "dev/bus.h"
#include "dev/outfit.h"
#include "mem/ram.h"
#include "vm/boot.h"
#include "vm/cpuid.h"
#include "vm/proxy.h"
#include "vm/topology.h"

/* How a guest ends. */
enum machine_end {
	MACHINE_POWEROFF,
	MACHINE_RESET,        /* asked for by any of the reset registers */
	MACHINE_PANIC,        /* told us through pvpanic */
	MACHINE_TRIPLE_FAULT, /* a vCPU shut down */
	MACHINE_ERROR,        /* KVM could not go on; the text says what it said */
};

struct machine_hooks {
	void *owner;
	/* The guest is over; called once, the first reason wins, maybe under the bus lock. This node's vCPUs leave by themselves; must not
	 * block or call machine_stop(). */
	void (*end)(void *owner, enum machine_end why, const char *text);
	/* Bytes the guest wrote to its serial console. Devices' node only; must not block for long. */
	void (*console)(void *owner, const void *bytes, size_t n);
	/* machine_console_input() would take more than it did. May be NULL. */
	void (*console_room)(void *owner);
	/* Carry out an access on the node of the devices and wait for it: data in for a write, out for a read. Called on the vCPU's own thread.
	 * -errno: give up, the VM stops. */
	int (*io)(void *owner, vcpu_t from, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write);
	/* Something arrived in this node's LAPIC of a vCPU that runs elsewhere; or, a SIPI, of one that runs here, for its proxies elsewhere to know. Called on
	 * the vCPU's thread; may wait. NULL: all vCPUs are here for ever. */
	void (*irq)(void *owner, vcpu_t to, struct proxy_irq irq);
	/* A frame for another node's device plane (dev/plane.h): bulk on the io stream, else on the bus stream. Any thread; never waits. NULL: there is no other node. */
	int (*send)(void *owner, node_t to, bool bulk, const uint8_t *frame, size_t bytes);
	/* Pages homed here that the guest does not need (dev/virtio_balloon.h). NULL on all nodes: the guest has no balloon. */
	int (*free_pages)(void *owner, struct pager_discard *d);
};

struct machine_config {
	struct topology topology;        /* what the guest is told; does not change when a vCPU moves */
	uint64_t vcpus_here;             /* the vCPUs that run on this node, one bit each (at first topology_vcpus(&topology, self)); the rest are proxies */
	node_t self, devices;            /* devices: the node with the devices' registers */
	const struct gear *gear;         /* disks, and where they are; as in dev/outfit.h */
	const struct depot *depot;
	struct porch *porch;
	const node_t *disk_node, *nic_node;
	const struct ram *ram;           /* laid out and mapped; outlives the machine */
	const struct cpuid_table *cpuid; /* the meet of all nodes; read during machine_open only */
	uint32_t tsc_khz;                /* guest TSC frequency; 0: the host's own */
	struct machine_hooks hooks;
};

struct machine;

int machine_open(struct machine **out, const struct machine_config *c, struct failure *f) MUST_CHECK;
void machine_close(struct machine *m);

/* Where vCPU 0 starts (from boot_load). On its node, before machine_start. */
int machine_enter_at(struct machine *m, const struct boot_entry *e, struct failure *f) MUST_CHECK;

/* Guest TSC = this host's TSC, scaled, + offset on every vCPU here. Before start: at once. Afterwards all vCPUs here are kicked out, and do it when all are
 * out (vm/rendezvous.h); if the clock goes back they wait so long, so that no CPU sees it. One of them may wait for a page too long: then nothing changes, as
 * machine_tsc_offset() tells, and the caller tries again. -EBUSY: they are still at it; else -errno of KVM. One thread at a time. */
int machine_set_tsc_offset(struct machine *m, uint64_t offset) MUST_CHECK;
uint64_t machine_tsc_offset(const struct machine *m);

/* What KVM scales this host's TSC by for the guest. */
const struct clock_scale *machine_clock_scale(const struct machine *m);

/* Start all vCPU threads. -errno: none runs. */
int machine_start(struct machine *m, struct failure *f) MUST_CHECK;

/* Kick all vCPUs out for good, and wait for nothing. Any thread. */
void machine_leave(struct machine *m);

/* This node's part of the devices, for what other nodes send to its plane, and for its counters. */
struct outfit *machine_outfit(struct machine *m);

/* Kick all vCPUs out for good, join their threads, and hand out what the guest still had to say on its console. A vCPU that waits for memory or
 * for hooks.io comes out when that ends: fail those first. */
void machine_stop(struct machine *m);

/* Inject into a vCPU that runs here what its proxy caught elsewhere (x2APIC id = vCPU index). For one that does not: only a SIPI means something, namely that the
 * vCPU was started, which its proxy here must know. Any thread, never waits. -EINVAL: neither. */
int machine_deliver(struct machine *m, vcpu_t to, struct proxy_irq irq) MUST_CHECK;

/* An access another node sent here because the devices are here. Any thread that may wait for the bus lock. */
void machine_io(struct machine *m, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write);

/* Keys for the guest's serial console; returns how many were taken, the rest when hooks.console_room is called. Devices' node. Any thread. */
size_t machine_console_input(struct machine *m, const void *bytes, size_t n);

/* Wait until hooks.console has had all that the guest wrote so far: a moment. Devices' node (on others nothing). Not from a hook. */
void machine_drain(struct machine *m);

/* Press the ACPI power button. Devices' node. Any thread. */
void machine_power_button(struct machine *m);

/* KVM's TSC frequency for a VM on this host in kHz. */
int machine_host_tsc_khz(uint32_t *khz, struct failure *f) MUST_CHECK;

/* tid: of its thread, in the kernel; cpu_ns: what it has run. 0 while it does not. */
struct machine_vcpu_stats { uint64_t exits, io, mmio, kicks, irqs, cpu_ns; uint32_t tid; };
void machine_vcpu_stats(const struct machine *m, vcpu_t vcpu, struct machine_vcpu_stats *out);

#endif
