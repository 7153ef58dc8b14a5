/* The lines of one answer about nodes and VMs, gathered. */
#ifndef CLI_SNAPSHOT_H
#define CLI_SNAPSHOT_H

#include <stdio.h>

#include "cli/client.h"
#include "cli/options.h"

struct snapshot {
	struct control_node_line *node;
	struct control_vm_line *vm;
	struct control_part_line *part;
	unsigned nodes, vms, parts;
};

/* Gather until 'end'. */
int snapshot_read(struct snapshot *s, struct client *c, struct failure *f) MUST_CHECK;
void snapshot_fini(struct snapshot *s);

/* Ask about the VM that o->operand names. here: the daemon's node, set on success. snapshot_fini *s also after a failure. */
int snapshot_ask(struct snapshot *s, const struct options *o, char here[NAME_BYTES], struct failure *f) MUST_CHECK;

/* Its VM file, as it was asked for. */
int snapshot_ask_file(const struct options *o, FILE *to, struct failure *f) MUST_CHECK;

#endif
