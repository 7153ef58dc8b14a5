/* What the option tables (cli/options.h) say to people: help, man page, completion. Nothing here is written twice. */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include "cli/options.h"

/* `tessera help`; an exit code. */
int manual_verb(const struct options *o);

#endif
