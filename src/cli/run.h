/* `tessera run`, `stop` and `kill`: a VM's beginning and end as a person asks for them. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/options.h"

/* All return an exit code (cli/report.h). */
int run_verb(const struct options *o);
int run_stop(const struct options *o);
int run_kill(const struct options *o);

#endif
