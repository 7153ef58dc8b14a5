/* See report.h. */
#include "cli/report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "proto/stop.h"

const char *report_exit_text(unsigned code)
{
	static const char *const texts[] = {
		[REPORT_OK] = "done; for run, console and stop: the guest switched itself off, or runs on without its client; for kill: nothing of the VM is left",
		[REPORT_FAILED] = "Tessera, or the host it runs on, failed",
		[REPORT_USAGE] = "the command line makes no sense",
		[REPORT_REFUSED] = "refused: not enough lent, no such node or VM, name taken, unlike CPUs, a kernel that is none, a disk that is not there or in use, a "
			"wrong MMU mode; or a check of doctor failed",
		[REPORT_NO_DAEMON] = "no daemon, or a node that cannot be reached",
		[REPORT_RESET] = "the guest reset itself: with run --no-reboot, while it was asked to end, or five times in a row as soon as it was started",
		[REPORT_PANIC] = "the guest's kernel panicked",
		[REPORT_TRIPLE_FAULT] = "a vCPU of the guest shut down (triple fault)",
		[REPORT_LOST] = "a part of the VM was lost with its node, process or link",
		[REPORT_KILLED] = "the VM was killed by a person (kill, a signal to run) or by the timeout of stop",
		[REPORT_NODE_ERROR] = "a node's kernel refused what the running VM needed",
		[REPORT_PROTOCOL] = "a node broke the protocol between the parts of the VM",
	};

	return code < ARRAY_LEN(texts) ? texts[code] : NULL;
}

enum report_exit report_end(unsigned reason)
{
	static const enum report_exit codes[STOP_REASONS] = {
		[STOP_NONE] = REPORT_FAILED, [STOP_POWEROFF] = REPORT_OK, [STOP_RESET] = REPORT_RESET, [STOP_PANIC] = REPORT_PANIC,
		[STOP_TRIPLE_FAULT] = REPORT_TRIPLE_FAULT, [STOP_KILLED] = REPORT_KILLED, [STOP_LOST] = REPORT_LOST,
		[STOP_NODE_ERROR] = REPORT_NODE_ERROR, [STOP_PROTOCOL] = REPORT_PROTOCOL,
	};

	return reason < STOP_REASONS ? codes[reason] : REPORT_FAILED;
}

static enum report_exit exit_of(int err)
{
	switch (-err) {
	case ECONNREFUSED:
	case ECONNRESET:
	case EHOSTUNREACH:
	case ENOTUNIQ:
	case ENOTCONN:
		return REPORT_NO_DAEMON;
	case EINVAL:
	case ENOENT:
	case EEXIST:
	case ENOSPC:
	case ENOMEM:
	case ERANGE:
	case E2BIG:
	case EXDEV:
	case ESRCH:
	case EPERM:
	case EACCES:
	case ENOTSUP:
	case ENOEXEC:
	case EADDRINUSE:
	case EBUSY:
	case EISDIR:
	case ENETDOWN:
	case EROFS:
	case ENOTDIR:
	case EPROTONOSUPPORT:
		return REPORT_REFUSED;
	case ECANCELED:
		return REPORT_KILLED;
	default:
		return REPORT_FAILED;
	}
}

void report_json(json_t *j)
{
	json_dumpf(j, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
	putchar('\n');
	json_decref(j);
}

static void print_failure(const struct failure *f)
{
	/* most sentences name the node; those that do not get it here */
	fprintf(stderr, "tessera: %s%s%s%s\n", f->what, *f->node && !strstr(f->what, f->node) ? " (node " : "",
		*f->node && !strstr(f->what, f->node) ? f->node : "", *f->node && !strstr(f->what, f->node) ? ")" : "");
	if (*f->todo)
		fprintf(stderr, "  -> %s\n", f->todo);
}

static enum report_exit tell(const struct failure *f, enum report_exit code, bool json)
{
	struct failure clean = *f;

	text_clean(clean.what);
	text_clean(clean.node);
	text_clean(clean.todo);
	if (json)
		report_json(json_pack("{s:{s:s,s:s,s:s,s:i}}", "error", "what", clean.what, "node", clean.node, "todo", clean.todo, "code", (int)code));
	else
		print_failure(&clean);
	return code;
}

enum report_exit report_failure(const struct failure *f, bool json)
{
	return tell(f, exit_of(f->err), json);
}

enum report_exit report_usage(const struct failure *f, bool json)
{
	return tell(f, REPORT_USAGE, json);
}
