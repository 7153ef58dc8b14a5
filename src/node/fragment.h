/* `tessera fragment`: the process that holds one VM's part on one node. Started by the daemon with its listening control socket at SPAWN_CONTROL_FD;
 * everything else it is told in messages (wire/control.h part_*). Lives on when the daemon goes, and lets the next one in; but while its VM is being
 * started, the loss of the daemon ends it.
 * Before its guest runs it locks itself up (node/sandbox.h); what the machine needs later it opens in prepare and connect.
 *
 * Threads: this one (control: the daemon's stream, keys, statistics), one at a time for prepare, connect and start, and the machine's own. */
#ifndef NODE_FRAGMENT_H
#define NODE_FRAGMENT_H

#include "base/failure.h"

/* node, vm: for the log. address: of this host, as ADDR:0, for the other fragments. Returns when the part is over: 0, or -errno if it never could
 * begin. */
int fragment_run(const char *node, const char *vm, const char *address, struct failure *f) MUST_CHECK;

#endif
