/* Take all of a vCPU's state out of KVM, and put it into a vCPU of another VM that has the same memory and CPUID. For a vCPU that moves (doc/decisions/mobility.md),
 * and for what is saved.
 *
 * Only the vCPU's own thread, like all of vm/vcpu.h. Between get and set nobody may run it. Linux 6.1 on: KVM_GET_SREGS2, KVM_GET_XSAVE2, KVM_VCPU_TSC_OFFSET. */
#ifndef VM_VCPU_STATE_H
#define VM_VCPU_STATE_H

#include "base/failure.h"
#include "vm/vcpu.h"
#include "vm/vcpu_image.h"

/* What this host's KVM has to be asked for. */
struct vcpu_shape {
	uint32_t xsave_bytes;
	unsigned msrs;
	uint32_t msr[VCPU_MSRS_MAX]; /* ascending; without the TSC and its deadline */
};

/* Once a VM, after it was made. kvm_fd: /dev/kvm. */
int vcpu_state_shape(struct vcpu_shape *shape, int kvm_fd, int vm_fd, struct failure *f) MUST_CHECK;

/* Bring the vCPU to rest: an access to a device that it came out for is completed, and a timer that has run out becomes a pending interrupt. The guest executes
 * nothing besides. Kicks are consumed: look for what they meant afterwards; their handler must be there (vcpu_kick_init), the signal not blocked. -EAGAIN: it
 * came out with another access, which is in v->run: serve it, call again. */
int vcpu_state_settle(struct vcpu *v) MUST_CHECK;

/* Settles it, and takes its state; what it has is not changed besides. -EAGAIN as vcpu_state_settle. Nothing may arrive in its LAPIC meanwhile. */
int vcpu_state_get(struct vcpu *v, const struct vcpu_shape *shape, struct vcpu_image *s, struct failure *f) MUST_CHECK;

/* A vCPU that has not run, or is at rest. tsc_offset: of the guest's clock on this host; waits until that clock has passed s->tsc, a moment if the clocks agree.
 * Nothing that the guest can see may differ: -EINVAL for what this KVM does not take (named in f), -ERANGE when the clock is too far behind. */
int vcpu_state_set(struct vcpu *v, const struct vcpu_shape *shape, const struct vcpu_image *s, uint64_t tsc_offset, struct failure *f) MUST_CHECK;

/* Interrupts that wait in a vCPU's LAPIC: those that its proxy had not sent on, to be merged into what replaces it. Nothing may arrive meanwhile. */
int vcpu_state_pending(struct vcpu *v, uint32_t pending[VCPU_VECTOR_WORDS]) MUST_CHECK;

#endif
