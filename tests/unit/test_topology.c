/* vm: packages never span nodes. */
#include "tests/test.h"
#include "vm/topology.h"

#include <string.h>

/* "0011": vCPUs 0 and 1 on node 0, the others on node 1. */
static struct topology of(const char *nodes)
{
	struct topology t = {.nodes = 1};

	for (; *nodes; nodes++) {
		uint8_t node = (uint8_t)(*nodes - '0');

		t.vcpu_node[t.vcpus++].v = node;
		if (node >= t.nodes)
			t.nodes = node + 1u;
	}
	return t;
}

TEST(packages_are_as_wide_as_nodes_allow)
{
	static const struct { const char *nodes; unsigned shift; } cases[] = {
		{"0", 0}, {"00", 1}, {"000", 2}, {"0000", 2}, {"01", 0}, {"0011", 1}, {"0001", 0}, {"00001111", 2}, {"000111", 0}, {"000011", 2}, {"0101", 0},
		{"001122", 1}, {"0000111122", 2},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct topology t = of(cases[i].nodes);

		CHECK(topology_valid(&t));
		CHECK_EQ(topology_package_shift(&t), cases[i].shift);
	}
}

TEST(vcpus_of_a_node_are_a_set)
{
	struct topology t = of("0110");

	CHECK_EQ(topology_vcpus(&t, (node_t){0}), 0x9);
	CHECK_EQ(topology_vcpus(&t, (node_t){1}), 0x6);
	CHECK_EQ(topology_vcpus(&t, (node_t){2}), 0);
}

TEST(absurd_topologies_are_invalid)
{
	struct topology t = of("01");

	t.nodes = 1;
	CHECK(!topology_valid(&t));
	t.nodes = NODES_MAX + 1;
	CHECK(!topology_valid(&t));
	t = of("0");
	t.vcpus = 0;
	CHECK(!topology_valid(&t));
	t.vcpus = VCPUS_MAX + 1;
	CHECK(!topology_valid(&t));
}
