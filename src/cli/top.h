/* `tessera top`: what a VM does, second by second: its vCPUs, what its nodes send each other, the pages they wait for. */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include "cli/options.h"

/* An exit code (cli/report.h). */
int top_verb(const struct options *o);

#endif
