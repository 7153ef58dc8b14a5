/* Proxy vCPUs: how this node's in-kernel LAPICs reach a guest CPU that runs on another node (design: doc/decisions/proxy-vcpus.md).
 *
 * Every node's KVM holds one vCPU per guest CPU. The one whose node it is runs the guest; the others are proxies: their in-kernel LAPIC
 * receives what local vCPUs send to that CPU, and the proxy's thread turns each arrival into a message. A proxy never runs guest code: it runs
 * a stub of 256 handlers in guest-physical memory outside guest RAM, each of which does one OUT with its vector, an x2APIC EOI, and halts.
 *
 *   WAIT_INIT --INIT: KVM_RUN says EAGAIN--> WAIT_SIPI --SIPI: single-step exit, CS base = vector << 12--> STUB
 *   STUB --INIT and SIPI: breakpoint exit at the known trampoline--> STUB
 *
 * WAIT_INIT: an AP before its first start, KVM_MP_STATE_UNINITIALIZED. WAIT_SIPI: blocked in KVM with single-step armed, so that the trampoline
 * stops after at most one instruction. STUB: halted or in a handler. KVM does not report an INIT to a running vCPU, so once the SIPI vector
 * is known a hardware breakpoint on that address catches later starts (CPU hotplug) before their first instruction; the INIT is then reported with
 * the SIPI. Only the proxy's own thread calls these functions once it runs, except proxy_started().
 *
 * INIT and SIPI reach the proxy on the node that sent them and no other, and none when a CPU of the same node sent them. So the node where the CPU runs
 * tells all others when it starts (proxy_started); until then their LAPICs keep what arrives.
 */
#ifndef VM_PROXY_H
#define VM_PROXY_H

#include "base/types.h"

struct kvm_run;

enum { PROXY_STUB_BYTES = 4 * PAGE_BYTES, PROXY_PORT = 0xe9 };

/* APIC delivery modes (SDM 3A 11.6.1), as carried by wire irq.mode. */
enum irq_mode { IRQ_FIXED = 0, IRQ_NMI = 4, IRQ_INIT = 5, IRQ_SIPI = 6 };

struct proxy_irq {
	enum irq_mode mode;
	uint8_t vector;
};

struct proxy {
	vcpu_t vcpu;
	int fd;              /* the vCPU's; borrowed */
	struct kvm_run *run; /* its shared page; borrowed */
	gpa_t stub;          /* where proxy_stub_build()'s bytes lie; below 4 GiB */
	enum proxy_state { PROXY_STUB, PROXY_WAIT_INIT, PROXY_WAIT_SIPI } state;
	uint8_t trampoline;  /* vector of the last SIPI */
	bool started;        /* there was one */
	bool sipi_due;       /* an INIT was reported that came with this SIPI */
	uint32_t started_elsewhere; /* atomic: START_TOLD and the trampoline, not yet acted on; else 0 */
	uint64_t repairs;    /* times the stub was found in a state it cannot reach (a guest that wrote to the hole) */
};

/* Build the stub for guest-physical address 'stub' into to[PROXY_STUB_BYTES]. Pure. */
void proxy_stub_build(uint8_t *to, gpa_t stub);

/* Put the vCPU into the stub: registers, an enabled x2APIC, runnable. CPUID must be set. -errno as KVM says. */
int proxy_enter(struct proxy *p) MUST_CHECK;

/* Put the vCPU into WAIT_INIT instead: the proxy of an AP that has not been started. */
int proxy_park(struct proxy *p) MUST_CHECK;

/* The vector whose handler is about to report it when the proxy is at 'rip'; -ENOENT: none is; -EBUSY: it is in the NMI's handler, which may have interrupted
 * another: let it run on. Pure. */
int proxy_before_out(const struct proxy *p, uint64_t rip);

/* The CPU was started, at this trampoline. Any thread; acted on by the next proxy_run(), so kick the thread then. */
void proxy_started(struct proxy *p, uint8_t trampoline);

/* Enter KVM once. 1: *irq arrived and must be delivered to the real CPU; 0: nothing (kicked, or housekeeping done; look for a stop request and call
 * again); -errno: KVM refused. Blocks in KVM until an interrupt or a kick. */
int proxy_run(struct proxy *p, struct proxy_irq *irq) MUST_CHECK;

#endif
