/* Every verb and every option of the program, defined once (options.c): the reader of the command line, the help, the man page, and the shell
 * completion are made from the same two tables. Pure. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/failure.h"
#include "base/types.h"

enum option_id {
	OPTION_NAME, OPTION_NODE, OPTION_RUN_DIR, OPTION_LISTEN, OPTION_LEND, OPTION_JOIN, OPTION_INSECURE, OPTION_CPUS, OPTION_MEMORY, OPTION_PLACE,
	OPTION_KERNEL, OPTION_INITRD, OPTION_APPEND, OPTION_DISK, OPTION_NET, OPTION_VSOCK, OPTION_PORT, OPTION_DETACH, OPTION_NO_REBOOT, OPTION_JSON, OPTION_WATCH,
	OPTION_ONCE, OPTION_ALL, OPTION_TIMEOUT, OPTION_FORCE, OPTION_KILL_VMS, OPTION_MAN, OPTION_COMPLETION, OPTION_RELEASE, OPTION_PACKAGE, OPTION_OUTPUT, OPTION_SIZE,
	OPTION_MIRROR, OPTION_HOSTNAME, OPTION_SSH_KEY, OPTION_USER_DATA, OPTION_FILE, OPTION_YAML, OPTION_UNSAFE_MMU, OPTION_NO_SANDBOX, OPTION_USER, OPTION_FAKE,
	OPTIONS
};

enum option_verb {
	VERB_NODE, VERB_RUN, VERB_LS, VERB_INFO, VERB_STATS, VERB_TOP, VERB_BALLOON, VERB_CONSOLE, VERB_SSH, VERB_STOP, VERB_KILL, VERB_DOCTOR, VERB_QUIT,
	VERB_IMAGE_BUILD, VERB_IMAGE_INFO,
	VERB_IMAGE_SEED, VERB_VERSION, VERB_HELP,
	VERBS
};

enum { OPTIONS_REPEATS_MAX = 64 }; /* values of all repeatable options together */

struct option_spec {
	const char *name;
	const char *value;  /* what its value is called; NULL: a flag */
	const char *help;   /* one sentence or two, for help and man page */
	uint32_t verbs;     /* a bit each */
	bool hidden;        /* for tests */
	bool repeats;       /* may be given several times; its values keep their order */
	bool path;          /* its value is a path on this host */
	bool client;        /* about this client, not about the VM: no key of a VM file (cli/vmfile.h) */
	char letter;        /* "-o" for "--output"; 0: none */
};

struct verb_spec {
	const char *name;       /* may be two words: "image build" */
	const char *operand;    /* "VM", "[VERB]", "VM [SIZE]", NULL: takes none */
	const char *summary;    /* a line */
	const char *text;       /* a paragraph for the man page */
	bool passes;            /* takes "-- WORD...", for a program it starts */
};

const struct option_spec *options_spec(enum option_id id);
const struct verb_spec *options_verb(enum option_verb v);

struct options {
	enum option_verb verb;
	const char *operand, *second;   /* NULL: none */
	const char *value[OPTIONS];     /* NULL: not given; flags: ""; the first one where it repeats */
	char *const *rest;              /* what follows "--" */
	unsigned rests;
	unsigned repeats;               /* use options_each() */
	struct options_repeat { enum option_id id; const char *value; } repeat[OPTIONS_REPEATS_MAX];
};

/* The n-th value of a repeatable option; NULL: it has no more. */
const char *options_each(const struct options *o, enum option_id id, unsigned n);

/* Set an option as the command line does; text stays the caller's. -EINVAL with the reason. */
int options_set(struct options *o, enum option_id id, const char *text, struct failure *f) MUST_CHECK;

/* Read the command line; strings stay argv's. -EINVAL with what is wrong with it. */
int options_read(struct options *o, int argc, char **argv, struct failure *f) MUST_CHECK;

/* "cpus=2,memory=512M" -> both, in any order, each at most once; CPUs 0 .. 1024. */
int options_read_lend(const char *text, uint64_t *cpus, uint64_t *memory, struct failure *f) MUST_CHECK;

#endif
