/* One vCPU file descriptor of KVM: creation, the state it starts from, entering it, and getting it back out.
 *
 * An ioctl on a vCPU that another thread has inside KVM_RUN blocks, so from the moment a vCPU's thread runs, only that thread calls these, except
 * vcpu_kick(). The same struct serves vCPUs that run the guest and those that are proxies (vm/proxy.h borrows fd and run). */
#ifndef VM_VCPU_H
#define VM_VCPU_H

#include <pthread.h>
#include <signal.h>

#include "base/failure.h"
#include "base/types.h"
#include "vm/boot.h"
#include "vm/clock.h"
#include "vm/cpuid.h"

struct kvm_run;

enum { VCPU_KICK_SIGNAL = SIGUSR1 };

struct vcpu {
	vcpu_t id;
	int fd;
	struct kvm_run *run;
	size_t run_bytes;
	pthread_t thread; /* valid while 'threaded' */
	bool threaded;
};

/* Create it in the VM and map its run page; v is zeroed first. -errno. */
int vcpu_open(struct vcpu *v, int vm_fd, size_t run_bytes, vcpu_t id, struct failure *f) MUST_CHECK;
void vcpu_close(struct vcpu *v);

/* table: this vCPU's, from cpuid_vcpu(). Before anything that depends on CPUID (LAPIC mode, registers). */
int vcpu_set_cpuid(struct vcpu *v, const struct cpuid_table *table, struct failure *f) MUST_CHECK;

/* IA32_APIC_BASE from reset, on every node: x2APIC mode, and vCPU 0 starts the others (SDM 3A 11.4.4). */
uint64_t vcpu_apic_base(vcpu_t id);

/* As after power-on, but with the LAPIC in x2APIC mode: vCPU 0 runnable at the reset vector (see vcpu_set_entry), the others waiting for INIT and SIPI. */
int vcpu_reset(struct vcpu *v, struct failure *f) MUST_CHECK;

/* Where the boot loader left the first vCPU. */
int vcpu_set_entry(struct vcpu *v, const struct boot_entry *e, struct failure *f) MUST_CHECK;

/* Guest TSC frequency, and what KVM scales the host's by for it. -ENOTSUP: a host that cannot scale, and whose own is another. */
int vcpu_set_tsc_khz(struct vcpu *v, int vm_fd, uint32_t khz, struct clock_scale *scale) MUST_CHECK;
/* Does the guest's TSC read what we think it does, to a second? -ENOTSUP if not. */
int vcpu_check_tsc(struct vcpu *v, const struct clock_scale *scale, uint64_t offset, uint32_t khz) MUST_CHECK;

/* Guest TSC = this host's TSC, scaled, + offset, at once. -errno as KVM says (needs KVM_VCPU_TSC_OFFSET, Linux 5.16). */
int vcpu_set_tsc_offset(struct vcpu *v, uint64_t offset) MUST_CHECK;
int vcpu_get_tsc_offset(struct vcpu *v, uint64_t *offset) MUST_CHECK;

/* Enter once. 0: an exit is in v->run; -EINTR: kicked or asked to look around (kicks are consumed); -EAGAIN: an INIT has come to a vCPU that waits for its
 * first start; other -errno: KVM refused. */
int vcpu_enter(struct vcpu *v) MUST_CHECK;

/* After that -EAGAIN: have the vCPU come out after its first instruction, with KVM_EXIT_DEBUG. vcpu_started then lets it run, and tells the SIPI's vector. */
int vcpu_watch_start(struct vcpu *v) MUST_CHECK;
int vcpu_started(struct vcpu *v, uint8_t *vector) MUST_CHECK;

/* Make the next or current vcpu_enter() return -EINTR soon. Any thread, any time between open and close. */
void vcpu_kick(struct vcpu *v);

/* Install the empty handler of the kick signal. Once a process, before threads. */
int vcpu_kick_init(void) MUST_CHECK;

/* Make faults of all vCPUs that vm_fd has so far wait where they happen, in the vCPU's own thread. Otherwise KVM, when a vCPU with interrupts on reads
 * an absent page, halts it and has a kernel worker fetch the page, which always asks to write (kvm/async_pf.c): userfaultfd then tells of a write by
 * a stranger. KVM does this only where it intercepts HLT, and decides that from a flag of the VM, while what a vCPU intercepts was set when it
 * was made: so say now, after the vCPUs are made, that HLT is not intercepted. HLT goes on to exit. (tests/host/uffd_kvm.c holds both halves.)
 * -errno: this KVM refuses that after the first vCPU (Linux 6.14 on); reads of such vCPUs cost what writes do, nothing else changes. */
int vcpu_bar_async_faults(int vm_fd) MUST_CHECK;

/* Registers in a few log lines, after something went wrong. */
void vcpu_dump(struct vcpu *v);

#endif
