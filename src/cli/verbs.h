/* The client's verbs: from the command line to an exit code. */
#ifndef CLI_VERBS_H
#define CLI_VERBS_H

#include "cli/options.h"

/* Run any verb but node and fragment, which are no clients. check_here: print this host's checks as the doctor's lines (there is no daemon);
 * filled in by main(). Returns an exit code (cli/report.h). */
struct verbs_host {
	/* Call line() for each check. level: enum control_level. */
	void (*check_here)(void (*line)(void *to, const char *check, unsigned level, const char *found, const char *why, const char *fix), void *to);
};
int verbs_run(const struct options *o, const struct verbs_host *host);

#endif
