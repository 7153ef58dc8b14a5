/* vm: the CPU a guest sees. Tables are made by hand in the manner of a Haswell and a Zen. */
#include "tests/test.h"
#include "vm/cpuid.h"

#include <errno.h>
#include <string.h>

#include <asm/kvm_para.h>

static void put(struct cpuid_table *t, uint32_t leaf, uint32_t index, bool indexed, uint32_t a, uint32_t b, uint32_t c, uint32_t d)
{
	t->leaf[t->leaves++] = (struct cpuid_leaf){leaf, index, indexed, {a, b, c, d}};
}

static struct cpuid_table haswell(void)
{
	struct cpuid_table t = {.tsc_khz = 2400000};

	put(&t, 0, 0, false, 0xd, 0x756e6547, 0x6c65746e, 0x49656e69);
	put(&t, 1, 0, false, 0x306c3, 0x00100800, 0xfffa3223, 0x1f8bfbff);
	put(&t, 4, 0, true, 0x1c004121, 0x1c0003f, 0x3f, 0);
	put(&t, 4, 3, true, 0x1c03c163, 0x3c0003f, 0x1fff, 6);
	put(&t, 7, 0, true, 0, 0x2fb, 0, 0);
	put(&t, 0xa, 0, false, 0x07300403, 0, 0, 0x603);
	put(&t, 0xd, 0, true, 0x7, 832, 832, 0);
	put(&t, 0xd, 1, true, 1, 0, 0, 0);
	put(&t, 0xd, 2, true, 256, 576, 0, 0);
	put(&t, 0x40000000, 0, false, 0x40000001, 0x4b4d564b, 0x564b4d56, 0x4d);
	put(&t, 0x40000001, 0, false, 0x01007efb, 0, 0, 0);
	put(&t, 0x80000000, 0, false, 0x80000008, 0, 0, 0);
	put(&t, 0x80000001, 0, false, 0, 0, 0x21, 0x2c100800);
	put(&t, 0x80000008, 0, false, 0x3027, 0, 0, 0);
	return t;
}

static struct cpuid_leaf *at(struct cpuid_table *t, uint32_t leaf, uint32_t index)
{
	return (struct cpuid_leaf *)cpuid_find(t, leaf, index);
}

static uint32_t reg(const struct cpuid_table *t, uint32_t leaf, uint32_t index, enum cpuid_reg r)
{
	const struct cpuid_leaf *l = cpuid_find(t, leaf, index);

	return l ? l->reg[r] : 0;
}

TEST(meet_with_itself_changes_nothing_twice)
{
	struct cpuid_table a = haswell(), once, twice;

	CHECK_EQ(cpuid_meet(&a, &a, &once, NULL), 0);
	CHECK_EQ(cpuid_meet(&once, &once, &twice, NULL), 0);
	CHECK_EQ(cpuid_compare(&once, &twice, NULL, NULL), 0);
}

TEST(meet_keeps_what_both_have)
{
	struct cpuid_table a = haswell(), b = haswell(), m, n;

	at(&b, 1, 0)->reg[CPUID_ECX] &= ~(1u << 19);
	at(&a, 7, 0)->reg[CPUID_EBX] &= ~(1u << 5);
	at(&b, 0x80000008, 0)->reg[CPUID_EAX] = 0x302e;
	CHECK_EQ(cpuid_meet(&a, &b, &m, NULL), 0);
	CHECK_EQ(reg(&m, 1, 0, CPUID_ECX) & 1u << 19, 0);
	CHECK_EQ(reg(&m, 7, 0, CPUID_EBX), 0x2db);
	CHECK_EQ(reg(&m, 0x80000008, 0, CPUID_EAX), 0x3027);
	CHECK_EQ(cpuid_meet(&b, &a, &n, NULL), 0);
	CHECK_EQ(cpuid_compare(&m, &n, NULL, NULL), 0);
}

TEST(meet_refuses_different_vendors_and_says_so)
{
	struct cpuid_table a = haswell(), b = haswell(), m;
	struct failure f = {0};

	at(&b, 0, 0)->reg[CPUID_EBX] = 0x68747541;
	CHECK_EQ(cpuid_meet(&a, &b, &m, &f), -EXDEV);
	CHECK(strstr(f.what, "leaf 0x0.0 EBX"));
}

TEST(meet_refuses_different_xsave_layouts_only_where_both_have_the_component)
{
	struct cpuid_table a = haswell(), b = haswell(), m;

	at(&b, 0xd, 2)->reg[CPUID_EBX] = 640;
	CHECK_EQ(cpuid_meet(&a, &b, &m, NULL), -EXDEV);
	at(&b, 0xd, 0)->reg[CPUID_EAX] = 3;
	CHECK_EQ(cpuid_meet(&a, &b, &m, NULL), 0);
	CHECK_EQ(reg(&m, 0xd, 0, CPUID_EAX), 3);
	CHECK_EQ(reg(&m, 0xd, 0, CPUID_ECX), 576);
	CHECK(!cpuid_find(&m, 0xd, 2));
}

TEST(meet_hides_what_holds_on_one_host_only)
{
	struct cpuid_table a = haswell(), m;
	uint32_t kept = 1u << KVM_FEATURE_NOP_IO_DELAY | 1u << KVM_FEATURE_PV_SEND_IPI;

	CHECK_EQ(cpuid_meet(&a, &a, &m, NULL), 0);
	CHECK_EQ(reg(&m, 0x40000001, 0, CPUID_EAX) & ~kept, 0);
	CHECK_EQ(reg(&m, 0x40000000, 0, CPUID_EBX), 0x4b4d564b);
	CHECK_EQ(reg(&m, 1, 0, CPUID_ECX) & (1u << 5 | 1u << 3 | 1u << 15), 0); /* VMX, MONITOR, PDCM */
	CHECK(!cpuid_find(&m, 0xa, 0));
}

TEST(every_vcpu_has_its_id_and_its_package)
{
	struct cpuid_table a = haswell(), m, v;
	struct topology t = {.nodes = 2, .vcpus = 4, .vcpu_node = {{0}, {0}, {1}, {1}}};

	CHECK_EQ(cpuid_meet(&a, &a, &m, NULL), 0);
	CHECK_EQ(cpuid_vcpu(&m, &t, (vcpu_t){3}, &v), 0);
	CHECK_EQ(reg(&v, 1, 0, CPUID_EBX) >> 16, 0x0302);
	CHECK_EQ(reg(&v, 0xb, 0, CPUID_EDX), 3);
	CHECK_EQ(reg(&v, 0xb, 1, CPUID_EAX), 1);
	CHECK_EQ(reg(&v, 0xb, 1, CPUID_EBX), 2);
	CHECK_EQ(reg(&v, 4, 0, CPUID_EAX) >> 14, 1u << 12);    /* own level 1; two cores a package */
	CHECK_EQ(reg(&v, 4, 3, CPUID_EAX) >> 14, 1u << 12 | 1); /* level 3 shared by two */
	CHECK_EQ(reg(&v, 0x15, 0, CPUID_EBX), 2400000);
	CHECK_EQ(reg(&v, 0x16, 0, CPUID_EAX), 2400);
	CHECK_EQ(reg(&v, 0x40000010, 0, CPUID_EAX), 2400000);
	CHECK_EQ(reg(&v, 0x40000000, 0, CPUID_EAX), 0x40000010);
}

TEST(an_amd_gets_its_own_topology_leaves)
{
	struct cpuid_table a = haswell(), m, v;
	struct topology t = {.nodes = 1, .vcpus = 4};

	at(&a, 0, 0)->reg[CPUID_EBX] = 0x68747541;
	at(&a, 0x80000001, 0)->reg[CPUID_ECX] |= 1u << 22;
	CHECK_EQ(cpuid_meet(&a, &a, &m, NULL), 0);
	CHECK_EQ(cpuid_vcpu(&m, &t, (vcpu_t){2}, &v), 0);
	CHECK_EQ(reg(&v, 0x80000008, 0, CPUID_ECX), 2u << 12 | 3);
	CHECK_EQ(reg(&v, 0x8000001e, 0, CPUID_EAX), 2);
	CHECK_EQ(reg(&v, 0x8000001e, 0, CPUID_EBX), 2);
	CHECK(!cpuid_find(&v, 0x15, 0));
}

static void count_line(void *to, const char *text)
{
	(*(unsigned *)to)++;
}

TEST(compare_names_every_difference)
{
	struct cpuid_table a = haswell(), b = haswell();
	unsigned lines = 0;

	at(&b, 1, 0)->reg[CPUID_ECX] ^= 1;
	b.leaves--; /* 0x80000008 is only in a: one register of it is not zero */
	CHECK_EQ(cpuid_compare(&a, &b, count_line, &lines), 2);
	CHECK_EQ(lines, 2);
	CHECK_EQ(cpuid_compare(&b, &a, NULL, NULL), 2);
}
