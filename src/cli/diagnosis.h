/* `tessera doctor`: every node's findings, and what only a comparison of nodes shows. */
#ifndef CLI_DIAGNOSIS_H
#define CLI_DIAGNOSIS_H

#include "cli/options.h"
#include "cli/verbs.h"

/* An exit code (cli/report.h): REPORT_REFUSED when a check says FAIL. */
int diagnosis_verb(const struct options *o, const struct verbs_host *host);

#endif
