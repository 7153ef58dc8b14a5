/* A small VM with which something about this host's KVM is found out: one vCPU, one stretch of RAM at guest-physical 0, the CPUID that KVM supports, no
 * interrupt controller, no devices. What the guest does, and what that shows, is its user's.
 *
 *   trial_open -> fill ram, trial_enter_real or trial_enter_user -> trial_run ... -> trial_close
 *
 * One thread at a time, and KVM_RUN always on the same one. Anything else may be asked of the descriptors directly. */
#ifndef VM_TRIAL_H
#define VM_TRIAL_H

#include "base/types.h"

struct kvm_run;

struct trial {
	int kvm, vm, vcpu;
	struct kvm_run *run;
	size_t run_bytes;
	uint8_t *ram; /* guest-physical 0 */
	size_t ram_bytes;
};

/* With that much RAM, zeroed, in small pages. -errno: nothing is open. */
int trial_open(struct trial *t, size_t ram_bytes) MUST_CHECK;

void trial_close(struct trial *t);

/* Next the guest runs at 'rip', below 64 KiB, in real mode with all segments at 0. -errno. */
int trial_enter_real(struct trial *t, uint64_t rip, uint64_t rflags) MUST_CHECK;

/* Next the guest runs at 'rip' in long mode at CPL 3, with IOPL 3 and interrupts off. The tables at 'cr3' must let user code in; there is no GDT, so
 * what loads a segment or raises an exception ends the trial. At CPL 3, since some shadow-paging hosts emulate CPL 0 and walk in software there. */
int trial_enter_user(struct trial *t, uint64_t cr3, uint64_t rip) MUST_CHECK;

/* Run until the guest writes a byte to an I/O port: the byte, if it was this port. -EIO: it came out for another reason. -errno of KVM_RUN; signals
 * are nothing to stop for. */
int trial_run(struct trial *t, uint16_t port) MUST_CHECK;

#endif
