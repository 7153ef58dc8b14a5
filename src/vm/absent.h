/* Ports of a PC's timer chip, which this machine does not have. Kernels look for it all the same: zeros end their search at once, while the
 * all-ones of an empty bus have them poll 100,000 times (Linux arch/x86/kernel/tsc.c, pit_expect_msb). */
#ifndef VM_ABSENT_H
#define VM_ABSENT_H

#include "base/types.h"
#include "dev/bus.h"

/* Before vCPUs run. */
int absent_add(struct bus *b) MUST_CHECK;

#endif
