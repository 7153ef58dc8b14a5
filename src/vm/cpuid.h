/* The CPU the guest is told it runs on. Pure functions on tables, but for cpuid_host(), which asks KVM.
 *
 *   cpuid_host() on every node -> cpuid_meet() over all of them, node 0 first -> printed, compared, kept for the VM's life
 *   -> cpuid_vcpu() adds what differs from vCPU to vCPU: APIC ids and topology.
 *
 * A register not named in the rule table of cpuid.c reads as zero: what we have not thought about, the guest does not see. Of KVM's
 * paravirtual features only those stay that hold across nodes (no kvmclock, PV EOI, PV TLB flush, async page faults, steal time, PV unhalt,
 * PV yield): they work by shared memory that one kernel changes behind the guest's back, or trust a proxy to be the vCPU.
 *
 * Sources: SDM 2A CPUID; AMD APM 3, appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst. */
#ifndef VM_CPUID_H
#define VM_CPUID_H

#include "base/failure.h"
#include "base/types.h"
#include "vm/topology.h"

enum { CPUID_LEAVES_MAX = 96 };

enum cpuid_reg { CPUID_EAX, CPUID_EBX, CPUID_ECX, CPUID_EDX };

struct cpuid_leaf {
	uint32_t leaf, index;
	bool indexed; /* index counts: the leaf has subleaves */
	uint32_t reg[4];
};

struct cpuid_table {
	unsigned leaves;
	struct cpuid_leaf leaf[CPUID_LEAVES_MAX];
	uint64_t arch_capabilities; /* IA32_ARCH_CAPABILITIES, which CPUID 7.EDX[29] announces */
	uint32_t tsc_khz;           /* this host's; the meet takes node 0's */
};

/* What KVM on this host can show a guest, already reduced to what Tessera lets through. Takes an open /dev/kvm. */
int cpuid_host(int kvm_fd, struct cpuid_table *out, struct failure *f) MUST_CHECK;

/* What both can show. -EXDEV with the reason when no guest could run on both (different vendor, different XSAVE layout). out may be a. */
int cpuid_meet(const struct cpuid_table *a, const struct cpuid_table *b, struct cpuid_table *out, struct failure *f) MUST_CHECK;

/* The table of one vCPU: ids, package topology, cache sharing, hypervisor and frequency leaves. out must not be t. -ENOSPC. */
int cpuid_vcpu(const struct cpuid_table *t, const struct topology *topo, vcpu_t vcpu, struct cpuid_table *out) MUST_CHECK;

/* Find a leaf; index is ignored where the leaf has none. NULL: not there (reads as zero). */
const struct cpuid_leaf *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t index);

/* One line "leaf.index reg: a b" per difference, for doctor; returns how many. line() may be NULL. */
unsigned cpuid_compare(const struct cpuid_table *a, const struct cpuid_table *b, void (*line)(void *to, const char *text), void *to);

#endif
