/* `tessera balloon`: how much of its memory a guest is asked to do with. */
#ifndef CLI_BALLOON_H
#define CLI_BALLOON_H

#include "cli/options.h"

/* An exit code (cli/report.h). */
int balloon_verb(const struct options *o);

#endif
