/* The doctor's checks of KVM and the CPU. Each says one line. */
#ifndef NODE_KVMCHECK_H
#define NODE_KVMCHECK_H

#include "base/failure.h"
#include "node/doctor.h"

bool kvmcheck_device(const struct doctor *d); /* false: there is nothing to check further */
void kvmcheck_abilities(const struct doctor *d);
void kvmcheck_stock_kernel(const struct doctor *d);
void kvmcheck_mmu(const struct doctor *d);
void kvmcheck_faults(const struct doctor *d);
void kvmcheck_cpuid(const struct doctor *d);
void kvmcheck_tsc(const struct doctor *d);

/* Can this host run a stock kernel at all? -ENOTSUP with the reason and the remedy; such a guest would stand still without a word. Some milliseconds. */
int kvmcheck_stock(const char *node, struct failure *f) MUST_CHECK;

/* May this host take part in a VM that spans nodes? -ENOTSUP with the reason and the remedy: its MMU mode is wrong for that. Some milliseconds. */
int kvmcheck_span(const char *node, struct failure *f) MUST_CHECK;

#endif
