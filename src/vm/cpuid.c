/* Rules for every CPUID register a guest may see, the meet of two hosts by those rules, and what each vCPU adds. See cpuid.h. */
#include "vm/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <asm/kvm_para.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/log.h"

/* What becomes of a register when two hosts meet. */
enum how {
	ZERO,  /* hidden */
	FIRST, /* a description that nothing depends on: the first host's */
	AND,   /* feature bits */
	MIN,   /* a highest leaf */
	BYTES, /* the least of each byte (address widths) */
	SAME,  /* must be equal, else no guest can run on both */
};

struct rule {
	uint32_t leaf, index; /* index ANY: all subleaves */
	uint8_t how[4];
	uint32_t hide[4]; /* bits never shown */
};

enum { ANY = 0xffff };

#define BIT(n) (1u << (n))

enum {
	LEAF_XSAVE = 0xd,
	LEAF_KVM = 0x40000000,
	LEAF_KVM_FEATURES = 0x40000001,
	LEAF_KVM_TIMING = 0x40000010,
	ECX1_XSAVE = 26,
	ECX1_TSC_DEADLINE = 24,
	ECX1_X2APIC = 21,
	ECX1_HYPERVISOR = 31,
	APIC_BUS_KHZ = 1000000, /* KVM's local APIC timer counts nanoseconds */
	CRYSTAL_KHZ = 25000,
	XSTATE_AMX = BIT(17) | BIT(18), /* needs a permission per process; no guest of ours asks for it */
	KVM_FEATURES_KEPT = BIT(KVM_FEATURE_NOP_IO_DELAY) | BIT(KVM_FEATURE_PV_SEND_IPI),
};

static const struct rule rules[] = {
	{0x0, 0, {MIN, SAME, SAME, SAME}},
	/* DTES64, MONITOR, DS-CPL, VMX, PDCM; DS: a VM that spans hosts has no PMU and nests nothing. */
	{0x1, 0, {MIN, FIRST, AND, AND}, {0, 0, BIT(2) | BIT(3) | BIT(4) | BIT(5) | BIT(15), BIT(21)}},
	{0x2, 0, {FIRST, FIRST, FIRST, FIRST}},
	{0x4, ANY, {FIRST, FIRST, FIRST, FIRST}},
	{0x6, 0, {AND, ZERO, ZERO, ZERO}, {~BIT(2), 0, 0, 0}}, /* ARAT */
	/* SGX, PT; SGX_LC; AMX. */
	{0x7, 0, {MIN, AND, AND, AND}, {0, BIT(2) | BIT(25), BIT(30), BIT(22) | BIT(24) | BIT(25)}},
	{0x7, 1, {AND, ZERO, ZERO, AND}},
	{0x7, 2, {ZERO, ZERO, ZERO, AND}},
	{LEAF_XSAVE, 0, {AND, FIRST, FIRST, AND}, {XSTATE_AMX, 0, 0, 0}},
	{LEAF_XSAVE, 1, {AND, FIRST, AND, AND}},
	{LEAF_XSAVE, ANY, {SAME, SAME, SAME, SAME}},
	{LEAF_KVM, 0, {FIRST, SAME, SAME, SAME}},
	{LEAF_KVM_FEATURES, 0, {AND, ZERO, ZERO, ZERO}, {~(uint32_t)KVM_FEATURES_KEPT, 0, 0, 0}},
	{0x80000000, 0, {MIN, FIRST, FIRST, FIRST}},
	/* SVM, IBS, SKINIT, WDT, PERFCTR_CORE, PERFCTR_NB, PERFCTR_LLC. */
	{0x80000001, 0, {FIRST, FIRST, AND, AND}, {0, 0, BIT(2) | BIT(10) | BIT(12) | BIT(13) | BIT(23) | BIT(24) | BIT(28), 0}},
	{0x80000002, 0, {FIRST, FIRST, FIRST, FIRST}},
	{0x80000003, 0, {FIRST, FIRST, FIRST, FIRST}},
	{0x80000004, 0, {FIRST, FIRST, FIRST, FIRST}},
	{0x80000005, 0, {FIRST, FIRST, FIRST, FIRST}},
	{0x80000006, 0, {FIRST, FIRST, FIRST, FIRST}},
	{0x80000007, 0, {ZERO, ZERO, ZERO, AND}, {0, 0, 0, ~BIT(8)}}, /* invariant TSC */
	{0x80000008, 0, {BYTES, AND, ZERO, ZERO}},
	{0x80000019, 0, {FIRST, FIRST, ZERO, ZERO}},
	{0x8000001a, 0, {AND, ZERO, ZERO, ZERO}},
	{0x8000001d, ANY, {FIRST, FIRST, FIRST, FIRST}},
	{0x80000021, 0, {AND, ZERO, ZERO, ZERO}},
};

static const struct rule *rule_of(uint32_t leaf, uint32_t index)
{
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		if (rules[i].leaf == leaf && (rules[i].index == index || rules[i].index == ANY))
			return &rules[i];
	return NULL;
}

const struct cpuid_leaf *cpuid_find(const struct cpuid_table *t, uint32_t leaf, uint32_t index)
{
	for (unsigned i = 0; i < t->leaves; i++)
		if (t->leaf[i].leaf == leaf && (!t->leaf[i].indexed || t->leaf[i].index == index))
			return &t->leaf[i];
	return NULL;
}

static struct cpuid_leaf *leaf_at(struct cpuid_table *t, uint32_t leaf, uint32_t index)
{
	return (struct cpuid_leaf *)cpuid_find(t, leaf, index);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static uint32_t min_bytes(uint32_t a, uint32_t b)
{
	uint32_t least = 0;

	for (unsigned shift = 0; shift < 32; shift += 8)
		least |= min_u32((a >> shift) & 0xff, (b >> shift) & 0xff) << shift;
	return least;
}

static uint32_t meet_reg(enum how how, uint32_t a, uint32_t b)
{
	switch (how) {
	case AND: return a & b;
	case MIN: return min_u32(a, b);
	case BYTES: return min_bytes(a, b);
	case ZERO: return 0;
	case FIRST:
	case SAME: break;
	}
	return a;
}

/* A state component matters only if both hosts show it. */
static bool component_shown(const struct cpuid_table *t, uint32_t component)
{
	const struct cpuid_leaf *user = cpuid_find(t, LEAF_XSAVE, 0), *supervisor = cpuid_find(t, LEAF_XSAVE, 1);
	uint32_t low = (user ? user->reg[CPUID_EAX] : 0) | (supervisor ? supervisor->reg[CPUID_ECX] : 0);

	return component < 32 && (low & ~(uint32_t)XSTATE_AMX & BIT(component));
}

static int meet_leaf(const struct cpuid_leaf *a, const struct cpuid_leaf *b, struct cpuid_leaf *out, struct failure *f)
{
	const struct rule *r = rule_of(a->leaf, a->index);
	static const char *const names[] = {"EAX", "EBX", "ECX", "EDX"};

	*out = *a;
	for (unsigned i = 0; i < 4; i++) {
		if (r->how[i] == SAME && a->reg[i] != b->reg[i])
			return failure_set(f, -EXDEV, "put the VM on nodes with the same kind of processor",
			                   "CPUID leaf 0x%x.%u %s differs: 0x%08x and 0x%08x", a->leaf, a->index, names[i], a->reg[i], b->reg[i]);
		out->reg[i] = meet_reg((enum how)r->how[i], a->reg[i], b->reg[i]) & ~r->hide[i];
	}
	return 0;
}

/* Sizes in leaf 0xd follow from the components that are left (SDM 1 13.4). */
static void xsave_sizes(struct cpuid_table *t)
{
	struct cpuid_leaf *user = leaf_at(t, LEAF_XSAVE, 0);
	uint32_t bytes = 512 + 64;

	if (!user)
		return;
	for (uint32_t i = 2; i < 32; i++) {
		const struct cpuid_leaf *c = cpuid_find(t, LEAF_XSAVE, i);

		if (c && (user->reg[CPUID_EAX] & BIT(i)) && c->reg[CPUID_EBX] + c->reg[CPUID_EAX] > bytes)
			bytes = c->reg[CPUID_EBX] + c->reg[CPUID_EAX];
	}
	user->reg[CPUID_EBX] = user->reg[CPUID_ECX] = bytes;
}

int cpuid_meet(const struct cpuid_table *a, const struct cpuid_table *b, struct cpuid_table *out, struct failure *f)
{
	struct cpuid_table t = {.arch_capabilities = a->arch_capabilities & b->arch_capabilities, .tsc_khz = a->tsc_khz};

	for (unsigned i = 0; i < a->leaves; i++) {
		const struct cpuid_leaf *la = &a->leaf[i], *lb = cpuid_find(b, la->leaf, la->index);
		bool component = la->leaf == LEAF_XSAVE && la->index >= 2;
		int err;

		if (!lb || !rule_of(la->leaf, la->index))
			continue;
		if (component && (!component_shown(a, la->index) || !component_shown(b, la->index)))
			continue;
		err = meet_leaf(la, lb, &t.leaf[t.leaves], f);
		if (err)
			return err;
		t.leaves++;
	}
	xsave_sizes(&t);
	*out = t;
	return 0;
}

static void force_bits(struct cpuid_table *t, bool tsc_deadline)
{
	struct cpuid_leaf *l = leaf_at(t, 1, 0);

	if (!l)
		return;
	l->reg[CPUID_ECX] |= BIT(ECX1_X2APIC) | BIT(ECX1_HYPERVISOR);
	if (tsc_deadline)
		l->reg[CPUID_ECX] |= BIT(ECX1_TSC_DEADLINE);
}

static int ask_kvm(int kvm_fd, struct cpuid_table *t, struct failure *f)
{
	enum { ENTRIES = 256 };
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + ENTRIES * sizeof c->entries[0]);
	int err = 0;

	if (!c)
		return failure_set(f, -ENOMEM, "free some memory", "no memory for the CPUID table");
	c->nent = ENTRIES;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, c) < 0)
		err = failure_set(f, -errno, "look at the kernel log", "KVM does not tell its CPUID: %s", strerror(errno));
	for (unsigned i = 0; !err && i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];
		bool indexed = e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX;

		if (!rule_of(e->function, indexed ? e->index : 0))
			continue;
		if (t->leaves == CPUID_LEAVES_MAX) {
			err = failure_set(f, -ENOSPC, "report this", "this host has more than %d CPUID leaves", CPUID_LEAVES_MAX);
			break;
		}
		t->leaf[t->leaves++] = (struct cpuid_leaf){e->function, indexed ? e->index : 0, indexed, {e->eax, e->ebx, e->ecx, e->edx}};
	}
	free(c);
	return err;
}

static uint64_t host_arch_capabilities(int kvm_fd)
{
	enum { MSR_IA32_ARCH_CAPABILITIES = 0x10a };
	union { struct kvm_msrs head; uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)]; } m = {.room = {0}};

	m.head.nmsrs = 1;
	m.head.entries[0].index = MSR_IA32_ARCH_CAPABILITIES;
	return ioctl(kvm_fd, KVM_GET_MSRS, &m) == 1 ? m.head.entries[0].data : 0;
}

int cpuid_host(int kvm_fd, struct cpuid_table *out, struct failure *f)
{
	struct cpuid_table raw = {.arch_capabilities = host_arch_capabilities(kvm_fd)};
	int err = ask_kvm(kvm_fd, &raw, f);

	if (err)
		return err;
	force_bits(&raw, ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0);
	return cpuid_meet(&raw, &raw, out, f);
}

static bool is_intel(const struct cpuid_table *t)
{
	const struct cpuid_leaf *l = cpuid_find(t, 0, 0);

	return l && l->reg[CPUID_EBX] == 0x756e6547; /* "Genu" */
}

static int leaf_put(struct cpuid_table *t, const struct cpuid_leaf *leaf)
{
	struct cpuid_leaf *there = leaf_at(t, leaf->leaf, leaf->index);

	if (!there && t->leaves == CPUID_LEAVES_MAX)
		return -ENOSPC;
	if (!there)
		there = &t->leaf[t->leaves++];
	*there = *leaf;
	return 0;
}

static void fix_basic(struct cpuid_table *t, uint32_t apic_id, unsigned shift)
{
	struct cpuid_leaf *highest = leaf_at(t, 0, 0), *l = leaf_at(t, 1, 0);
	uint32_t needed = is_intel(t) ? 0x16 : 0xb;

	if (highest && highest->reg[CPUID_EAX] < needed)
		highest->reg[CPUID_EAX] = needed;
	if (!l)
		return;
	l->reg[CPUID_EBX] = (l->reg[CPUID_EBX] & 0xffff) | apic_id << 24 | BIT(shift) << 16;
	l->reg[CPUID_EDX] = (l->reg[CPUID_EDX] & ~BIT(28)) | (shift ? BIT(28) : 0); /* HTT: more than one id in a package */
}

/* Intel leaf 4 and AMD leaf 0x8000001d: levels 1 and 2 are a vCPU's own, level 3 is its package's. */
static void fix_caches(struct cpuid_table *t, unsigned shift)
{
	for (unsigned i = 0; i < t->leaves; i++) {
		struct cpuid_leaf *l = &t->leaf[i];
		uint32_t level = (l->reg[CPUID_EAX] >> 5) & 7, sharing = level == 3 ? BIT(shift) - 1 : 0;

		if ((l->leaf != 0x4 && l->leaf != 0x8000001d) || !(l->reg[CPUID_EAX] & 0x1f))
			continue;
		l->reg[CPUID_EAX] = (l->reg[CPUID_EAX] & 0x3fff) | sharing << 14;
		if (l->leaf == 0x4)
			l->reg[CPUID_EAX] |= (BIT(shift) - 1) << 26;
	}
}

static void fix_amd(struct cpuid_table *t, unsigned shift)
{
	struct cpuid_leaf *features = leaf_at(t, 0x80000001, 0), *sizes = leaf_at(t, 0x80000008, 0);

	if (is_intel(t))
		return;
	if (features)
		features->reg[CPUID_ECX] = (features->reg[CPUID_ECX] & ~BIT(1)) | (shift ? BIT(1) : 0); /* CmpLegacy */
	if (sizes)
		sizes->reg[CPUID_ECX] = shift << 12 | (BIT(shift) - 1);
}

static int put_topology(struct cpuid_table *t, uint32_t apic_id, unsigned shift)
{
	const struct cpuid_leaf *features = cpuid_find(t, 0x80000001, 0);
	bool extended = !is_intel(t) && features && (features->reg[CPUID_ECX] & BIT(22)); /* TopologyExtensions */
	const struct cpuid_leaf leaves[] = {
		{0xb, 0, true, {0, 1, 1 << 8 | 0, apic_id}}, /* threads: one a core */
		{0xb, 1, true, {shift, BIT(shift), 2 << 8 | 1, apic_id}},
		{0xb, 2, true, {0, 0, 2, apic_id}},
		{0x8000001e, 0, false, {apic_id, apic_id & (BIT(shift) - 1), apic_id >> shift, 0}},
	};
	int err = 0;

	for (size_t i = 0; !err && i < ARRAY_LEN(leaves); i++)
		if (leaves[i].leaf != 0x8000001e || extended)
			err = leaf_put(t, &leaves[i]);
	return err;
}

static int put_frequencies(struct cpuid_table *t)
{
	uint32_t mhz = (t->tsc_khz + 500) / 1000;
	const struct cpuid_leaf kvm = {LEAF_KVM_TIMING, 0, false, {t->tsc_khz, APIC_BUS_KHZ, 0, 0}};
	const struct cpuid_leaf tsc = {0x15, 0, false, {CRYSTAL_KHZ, t->tsc_khz, CRYSTAL_KHZ * 1000, 0}};
	const struct cpuid_leaf core = {0x16, 0, false, {mhz, mhz, 100, 0}};
	struct cpuid_leaf *highest = leaf_at(t, LEAF_KVM, 0);
	int err = leaf_put(t, &kvm);

	if (highest)
		highest->reg[CPUID_EAX] = LEAF_KVM_TIMING;
	if (!err && is_intel(t))
		err = leaf_put(t, &tsc);
	if (!err && is_intel(t))
		err = leaf_put(t, &core);
	return err;
}

int cpuid_vcpu(const struct cpuid_table *t, const struct topology *topo, vcpu_t vcpu, struct cpuid_table *out)
{
	unsigned shift = topology_package_shift(topo);
	int err;

	*out = *t;
	fix_basic(out, vcpu.v, shift);
	fix_caches(out, shift);
	fix_amd(out, shift);
	err = put_topology(out, vcpu.v, shift);
	return err ? err : put_frequencies(out);
}

static unsigned compare_leaf(const struct cpuid_leaf *a, const struct cpuid_leaf *b, void (*line)(void *, const char *), void *to)
{
	static const char *const names[] = {"eax", "ebx", "ecx", "edx"};
	const struct cpuid_leaf *id = a ? a : b;
	unsigned found = 0;

	for (unsigned i = 0; i < 4; i++) {
		uint32_t va = a ? a->reg[i] : 0, vb = b ? b->reg[i] : 0;
		char text[96];

		if (va == vb)
			continue;
		found++;
		snprintf(text, sizeof text, "0x%x.%u %s: %08x %08x", id->leaf, id->index, names[i], va, vb);
		if (line)
			line(to, text);
	}
	return found;
}

unsigned cpuid_compare(const struct cpuid_table *a, const struct cpuid_table *b, void (*line)(void *to, const char *text), void *to)
{
	unsigned found = 0;

	for (unsigned i = 0; i < a->leaves; i++)
		found += compare_leaf(&a->leaf[i], cpuid_find(b, a->leaf[i].leaf, a->leaf[i].index), line, to);
	for (unsigned i = 0; i < b->leaves; i++)
		if (!cpuid_find(a, b->leaf[i].leaf, b->leaf[i].index))
			found += compare_leaf(NULL, &b->leaf[i], line, to);
	return found;
}
