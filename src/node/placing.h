/* From what a person asked for (--cpus, --memory, --place) and what the nodes have left to which node gives what. Pure but for reading the daemon. */
#ifndef NODE_PLACING_H
#define NODE_PLACING_H

#include "node/vms.h"

/* A VM is coordinated where one of its parts is: the first node in 'place' if it names nodes and this one is not among them; else "". */
void placing_elsewhere(const struct daemon *d, const char *place, char node[NAME_BYTES]);

/* Fill vm->part[] (node, vcpus, memory) and vm->parts from vm->cpus and vm->memory. place: "A:2,B:2", "A:2:512M,B:0:128M" or empty (chosen from
 * what is left; nodes that vm->gear names are among them). The coordinator's node must be among them. -errno with the reason: unknown node, not enough left, no sense. */
int placing_choose(struct vm *vm, const char *place, struct failure *f) MUST_CHECK;

#endif
