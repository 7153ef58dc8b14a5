/* `tessera quit`: end the local daemon, with or without the VMs it coordinates. */
#ifndef CLI_QUIT_H
#define CLI_QUIT_H

#include "cli/options.h"

/* An exit code (cli/report.h). */
int quit_verb(const struct options *o);

#endif
