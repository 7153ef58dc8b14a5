/* Which vCPU belongs to which node, and what shape of CPU packages the guest is told that means. Pure. */
#ifndef VM_TOPOLOGY_H
#define VM_TOPOLOGY_H

#include "base/types.h"

struct topology {
	unsigned nodes; /* 1 .. NODES_MAX */
	unsigned vcpus; /* 1 .. VCPUS_MAX */
	node_t vcpu_node[VCPUS_MAX];
};

/* Counts within their limits, and every vCPU on a node there is. */
bool topology_valid(const struct topology *t);

/* The vCPUs of one node, one bit each. */
uint64_t topology_vcpus(const struct topology *t, node_t node);

/* x2APIC ids are vCPU indices, and a package is a run of 2^shift of them (SDM 3A 9.9.1). The widest shift for which no package spans two
 * nodes: one node of 4 gives 2, two nodes of 2 give 1, a node of 3 beside a node of 1 gives 0 (every vCPU its own package). */
unsigned topology_package_shift(const struct topology *t);

#endif
