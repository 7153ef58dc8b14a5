/* Every verb and every option of the program, defined once (options.c): the reader of the command line, the help, the man page, and the shell
 * completion are made from the same two tables. Pure. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/failure.h"
#include "base/types.h"

enum option_id {
	OPTION_NAME, OPTION_NODE, OPTION_RUN_DIR, OPTION_LISTEN, OPTION_LEND, OPTION_JOIN, OPTION_INSECURE, OPTION_CPUS, OPTION_MEMORY, OPTION_PLACE,
	OPTION_KERNEL, OPTION_INITRD, OPTION_APPEND, OPTION_DETACH, OPTION_JSON, OPTION_WATCH, OPTION_ALL, OPTION_TIMEOUT, OPTION_FORCE, OPTION_KILL_VMS,
	OPTION_MAN, OPTION_COMPLETION, OPTION_UNSAFE_MMU, OPTION_NO_SANDBOX, OPTION_FAKE,
	OPTIONS
};

enum option_verb {
	VERB_NODE, VERB_RUN, VERB_LS, VERB_INFO, VERB_STATS, VERB_CONSOLE, VERB_STOP, VERB_KILL, VERB_DOCTOR, VERB_QUIT, VERB_VERSION, VERB_HELP,
	VERBS
};

struct option_spec {
	const char *name;
	const char *value;  /* what its value is called; NULL: a flag */
	const char *help;   /* one sentence or two, for help and man page */
	uint32_t verbs;     /* a bit each */
	bool hidden;        /* for tests */
};

struct verb_spec {
	const char *name;
	const char *operand;    /* "VM", "[VERB]", NULL: takes none */
	const char *summary;    /* a line */
	const char *text;       /* a paragraph for the man page */
};

const struct option_spec *options_spec(enum option_id id);
const struct verb_spec *options_verb(enum option_verb v);

struct options {
	enum option_verb verb;
	const char *operand;            /* NULL: none */
	const char *value[OPTIONS];     /* NULL: not given; flags: "" */
};

/* Read the command line; strings stay argv's. -EINVAL with what is wrong with it. */
int options_read(struct options *o, int argc, char **argv, struct failure *f) MUST_CHECK;

/* "cpus=2,memory=512M" -> both, in any order, each at most once; CPUs 0 .. 1024. */
int options_read_lend(const char *text, uint64_t *cpus, uint64_t *memory, struct failure *f) MUST_CHECK;

#endif
