/* Where a daemon can be found on its host: ROOT/NODE/control.sock for clients, ROOT/NODE/vms/VM.sock for its fragments. */
#ifndef BASE_RUNDIR_H
#define BASE_RUNDIR_H

#include "base/failure.h"
#include "base/types.h"

enum { RUNDIR_PATH_BYTES = 108 }; /* what a Unix socket's address holds, with its 0 */

/* option if given, else $TESSERA_RUN_DIR, else /run/tessera. */
const char *rundir_root(const char *option);

/* -ENAMETOOLONG with the remedy. leaf: "control.sock", "vms/vm1.sock", "" for the node's directory. */
int rundir_path(const char *root, const char *node, const char *leaf, char to[RUNDIR_PATH_BYTES], struct failure *f) MUST_CHECK;

/* A name of a node or VM: 1 to 63 of a-z A-Z 0-9 . _ -, not beginning with . or -. */
bool rundir_good_name(const char *name);

#endif
