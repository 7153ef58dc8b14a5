/* `tessera stats`: what each part of a VM has counted. */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include "cli/options.h"

/* An exit code (cli/report.h). */
int stats_verb(const struct options *o);

#endif
