/* The doctor's checks of the host's kernel, memory and limits. Each says one line or more. */
#ifndef NODE_HOSTCHECK_H
#define NODE_HOSTCHECK_H

#include "node/doctor.h"

void hostcheck_kernel(const struct doctor *d);
void hostcheck_userfaultfd(const struct doctor *d);
void hostcheck_memory(const struct doctor *d);
void hostcheck_sandbox(const struct doctor *d);
void hostcheck_devices(const struct doctor *d);
void hostcheck_limits(const struct doctor *d);

#endif
