/* How the client tells a person or a program how it went: exit codes, errors in three parts, JSON. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include <jansson.h>

#include "base/failure.h"
#include "base/types.h"

/* In the man page and `tessera help` too (manual.c makes them from report_exit_text()). */
enum report_exit {
	REPORT_OK = 0,            /* done; the guest switched itself off, or was only to be let go or killed */
	REPORT_FAILED = 1,        /* Tessera, or the host it runs on, failed */
	REPORT_USAGE = 2,
	REPORT_REFUSED = 3,       /* not enough lent, no such node or VM, name taken, unlike CPUs, a kernel that is none, wrong MMU mode */
	REPORT_NO_DAEMON = 4,     /* no daemon, or a node that cannot be reached */
	REPORT_RESET = 10,
	REPORT_PANIC = 11,
	REPORT_TRIPLE_FAULT = 12,
	REPORT_LOST = 13,
	REPORT_KILLED = 14,
	REPORT_NODE_ERROR = 15,
	REPORT_PROTOCOL = 16,
};

/* A sentence on an exit code, NULL if it has no meaning. */
const char *report_exit_text(unsigned code);

/* The exit code for how a VM ended (enum stop_reason). */
enum report_exit report_end(unsigned reason);

/* Print a failure to stderr, or as {"error":{...}} to stdout; returns the exit code that goes with it. */
enum report_exit report_failure(const struct failure *f, bool json);
enum report_exit report_usage(const struct failure *f, bool json);

/* Print a document and let go of it. */
void report_json(json_t *j);

#endif
