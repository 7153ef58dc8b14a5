/* Can this host's KVM run a stock kernel? A tiny guest does at CPL 0 what every kernel does while it boots, and reports each step by a port write. Some
 * KVMs (PVM, shadow paging on old hosts) emulate such code and lack instructions. */
#ifndef NODE_PRIVILEGED_H
#define NODE_PRIVILEGED_H

#include "base/failure.h"
#include "base/types.h"

/* 0: all steps ran. -ENOTSUP: *stuck says at which step it stopped. Other -errno: no guest at all, reason in *f. May hang on a broken KVM: call it
 * where an alarm ends it. */
int privileged_try(const char **stuck, struct failure *f) MUST_CHECK;

#endif
