/* CPUID tables survive the journey between nodes, and what no node of ours wrote is refused. */
#include "tests/test.h"
#include "vm/leaves.h"

#include <errno.h>
#include <string.h>

static void fill(struct cpuid_table *t, unsigned leaves)
{
	*t = (struct cpuid_table){.leaves = leaves, .tsc_khz = 2400000, .arch_capabilities = 0x123456789abcdef0};
	for (unsigned k = 0; k < leaves; k++)
		t->leaf[k] = (struct cpuid_leaf){.leaf = k << 28 | k, .index = k * 3, .indexed = k & 1, .reg = {k, ~k, k << 16, k * 17}};
}

TEST(a_table_comes_back_as_it_went)
{
	static const unsigned sizes[] = {0, 1, 20, CPUID_LEAVES_MAX};

	for (unsigned k = 0; k < ARRAY_LEN(sizes); k++) {
		struct cpuid_table t, back;
		uint8_t bytes[LEAVES_BYTES_MAX];
		size_t n;

		fill(&t, sizes[k]);
		n = leaves_pack(&t, bytes, sizeof bytes);
		CHECK_EQ(n, 16 + 28 * sizes[k]);
		CHECK_EQ(leaves_unpack(&back, bytes, n), 0);
		CHECK_EQ(cpuid_compare(&t, &back, NULL, NULL), 0);
		CHECK(back.leaves == t.leaves && back.tsc_khz == t.tsc_khz && back.arch_capabilities == t.arch_capabilities);
		for (unsigned l = 0; l < t.leaves; l++)
			CHECK(back.leaf[l].indexed == t.leaf[l].indexed && memcmp(back.leaf[l].reg, t.leaf[l].reg, sizeof t.leaf[l].reg) == 0);
	}
}

TEST(no_other_length_is_believed)
{
	struct cpuid_table t, back;
	uint8_t bytes[LEAVES_BYTES_MAX + 1] = {0};
	size_t n;

	fill(&t, 5);
	n = leaves_pack(&t, bytes, sizeof bytes);
	for (size_t cut = 0; cut < n; cut++)
		CHECK_EQ(leaves_unpack(&back, bytes, cut), -EBADMSG);
	CHECK_EQ(leaves_unpack(&back, bytes, n + 1), -EBADMSG);
	CHECK_EQ(leaves_pack(&t, bytes, n - 1), 0);
	bytes[0] = CPUID_LEAVES_MAX + 1;
	CHECK_EQ(leaves_unpack(&back, bytes, n), -EBADMSG);
	bytes[0] = 5;
	bytes[16 + 8] = 2; /* indexed is neither yes nor no */
	CHECK_EQ(leaves_unpack(&back, bytes, n), -EBADMSG);
}
