/* One program, three roles: the daemon of a host, a VM's fragment (started by the daemon), and the client; and the short-lived process that looks into a
 * stranger's disk. Nothing is decided here but which; only main() ends the process. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/options.h"
#include "cli/report.h"
#include "cli/verbs.h"
#include "dev/dialer.h"
#include "node/daemon.h"
#include "node/doctor.h"
#include "node/fragment.h"
#include "vm/bootdisk.h"

static int node(const struct options *o)
{
	struct daemon_options d = {.name = o->value[OPTION_NAME], .listen = o->value[OPTION_LISTEN], .join = o->value[OPTION_JOIN],
		.run_dir = o->value[OPTION_RUN_DIR], .insecure = o->value[OPTION_INSECURE]};
	struct failure f = {0};

	if (o->value[OPTION_LEND] && options_read_lend(o->value[OPTION_LEND], &d.lend_cpus, &d.lend_memory, &f))
		return (int)report_usage(&f, false);
	return daemon_run(&d, &f) ? (int)report_failure(&f, false) : REPORT_OK;
}

/* tessera fragment NODE VM ADDRESS: only a daemon says that. */
static int fragment(char **args)
{
	struct failure f = {0};

	return fragment_run(args[0], args[1], args[2], &f) ? (int)report_failure(&f, false) : REPORT_OK;
}

/* `tessera doctor` where no daemon runs. */
struct here {
	void (*line)(void *to, const char *check, unsigned level, const char *found, const char *why, const char *fix);
	void *to;
};

static void here_line(void *to, const char *check, enum control_level level, const char *found, const char *why, const char *fix)
{
	struct here *h = to;

	h->line(h->to, check, level, found, why, fix);
}

static void check_here(void (*line)(void *to, const char *check, unsigned level, const char *found, const char *why, const char *fix), void *to)
{
	struct here h = {.line = line, .to = to};
	struct doctor d = {.to = &h, .line = here_line};

	doctor_check(&d);
}

int main(int argc, char **argv)
{
	static const struct verbs_host host = {.check_here = check_here};
	struct options o;
	struct failure f = {0};

	if (argc == 5 && strcmp(argv[1], "fragment") == 0)
		return fragment(argv + 2);
	if (argc == 3 && strcmp(argv[1], "bootdisk") == 0) /* only bootdisk_find() says that */
		return bootdisk_child(strcmp(argv[2], "copy") == 0);
	if (argc == 3 && strcmp(argv[1], "dial") == 0) { /* only dialer_open() says that */
		dialer_serve(DIALER_FD, argv[2]);
		return 0;
	}
	if (options_read(&o, argc, argv, &f))
		return (int)report_usage(&f, false);
	if (o.verb == VERB_NODE)
		return node(&o);
	return verbs_run(&o, &host);
}
