/* The lines of one answer about nodes and VMs, gathered. */
#ifndef CLI_SNAPSHOT_H
#define CLI_SNAPSHOT_H

#include "cli/client.h"

struct snapshot {
	struct control_node_line *node;
	struct control_vm_line *vm;
	struct control_part_line *part;
	unsigned nodes, vms, parts;
};

/* Gather until 'end'. */
int snapshot_read(struct snapshot *s, struct client *c, struct failure *f) MUST_CHECK;
void snapshot_fini(struct snapshot *s);

#endif
