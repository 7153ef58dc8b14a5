/* All that one guest CPU is, between two KVMs or in a file, and the bytes that say so. Pure: no I/O, no clock; any thread. Taken and given by vm/vcpu_state.h.
 *
 * The bytes: magic, version, length and CRC-32 of what follows; then fields in one fixed order, little-endian, no padding, counts before what they count.
 * The order is written once (image_walk) and serves both ways. Reading is bounded by what arrived and by the limits below; what the values mean is
 * KVM's to judge, which takes no guest register that could hurt the host. */
#ifndef VM_VCPU_IMAGE_H
#define VM_VCPU_IMAGE_H

#include <linux/kvm.h>

#include "base/types.h"

enum {
	VCPU_IMAGE_VERSION = 1,
	VCPU_XSAVE_MIN = 4096,      /* struct kvm_xsave: what KVM_GET_XSAVE2 fills at least */
	VCPU_XSAVE_MAX = 16 * 1024, /* AMX needs 11 KiB */
	VCPU_MSRS_MAX = 512,
	VCPU_IMAGE_BYTES_MAX = 32 * 1024,
	VCPU_VECTOR_WORDS = 8,
};

struct vcpu_msr {
	uint32_t index;
	uint64_t value;
};

struct vcpu_image {
	struct kvm_regs regs;
	struct kvm_sregs2 sregs; /* with IA32_APIC_BASE and EFER */
	struct kvm_debugregs debug;
	struct kvm_xcrs xcrs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	struct kvm_lapic_state lapic;
	uint64_t tsc;          /* the guest's clock when it was captured */
	uint64_t tsc_deadline; /* 0: not armed */
	uint32_t xsave_bytes;
	uint8_t xsave[VCPU_XSAVE_MAX];
	uint32_t msrs;         /* by index, ascending; without the TSC and its deadline */
	struct vcpu_msr msr[VCPU_MSRS_MAX];
};

/* Bytes written to 'to', which has room for VCPU_IMAGE_BYTES_MAX. */
size_t vcpu_image_put(const struct vcpu_image *s, uint8_t *to);

/* Any bytes. -EBADMSG: not an image, cut short, damaged, or beyond the limits; -EPROTONOSUPPORT: of another version. *s is unspecified then. */
int vcpu_image_get(struct vcpu_image *s, const uint8_t *from, size_t bytes) MUST_CHECK;

/* Interrupts that have come for this CPU elsewhere are pending in it as well. */
void vcpu_image_merge(struct vcpu_image *s, const uint32_t pending[VCPU_VECTOR_WORDS]);

/* The pending fixed interrupts of a LAPIC (its IRR; SDM 3A 11.8.4). */
void vcpu_image_pending(const struct kvm_lapic_state *l, uint32_t pending[VCPU_VECTOR_WORDS]);

/* Has the timer of a LAPIC, read twice, run out between? Only one that counts; a deadline tells by itself. */
bool vcpu_image_timer_ran_out(const struct kvm_lapic_state *before, const struct kvm_lapic_state *after);

/* So much of the guest's time (ns) has passed since that LAPIC was read: its timer has counted on. What ran out meanwhile is pending, once. A one-shot timer whose
 * interrupt has come is stopped (its initial count reads 0): KVM_SET_LAPIC would let it fire again. A deadline needs no help: it names a time. */
void vcpu_image_age(struct kvm_lapic_state *l, uint64_t ns);

#endif
