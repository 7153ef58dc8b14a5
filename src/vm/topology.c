/* The arithmetic of packages. See topology.h. */
#include "vm/topology.h"

bool topology_valid(const struct topology *t)
{
	if (t->nodes < 1 || t->nodes > NODES_MAX || t->vcpus < 1 || t->vcpus > VCPUS_MAX)
		return false;
	for (unsigned i = 0; i < t->vcpus; i++)
		if (t->vcpu_node[i].v >= t->nodes)
			return false;
	return true;
}

uint64_t topology_vcpus(const struct topology *t, node_t node)
{
	uint64_t set = 0;

	for (unsigned i = 0; i < t->vcpus; i++)
		set |= (uint64_t)node_eq(t->vcpu_node[i], node) << i;
	return set;
}

static bool packages_stay_on_a_node(const struct topology *t, unsigned shift)
{
	for (unsigned i = 1; i < t->vcpus; i++)
		if (i >> shift == (i - 1) >> shift && !node_eq(t->vcpu_node[i], t->vcpu_node[i - 1]))
			return false;
	return true;
}

unsigned topology_package_shift(const struct topology *t)
{
	unsigned shift = 0;

	while (1u << shift < t->vcpus && packages_stay_on_a_node(t, shift + 1))
		shift++;
	return shift;
}
