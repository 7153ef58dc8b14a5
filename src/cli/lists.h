/* `tessera ls` and `tessera info`: the cluster and a VM, as tables or JSON. */
#ifndef CLI_LISTS_H
#define CLI_LISTS_H

#include "cli/options.h"

/* Both return an exit code (cli/report.h). */
int lists_ls(const struct options *o);
int lists_info(const struct options *o);

#endif
