/* A VM's serial console on this terminal: bytes both ways until the VM ends or ^] is typed. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include "cli/client.h"
#include "cli/options.h"

enum console_how { CONSOLE_ENDED, CONSOLE_DETACHED };

struct console {
	struct client client;
	const char *run_dir, *node, *vm; /* to find the daemon again, should it be restarted */
	bool owner;                      /* signals end the VM; so does our own end */
	uint64_t position;               /* of the console's stream, shown so far */
	struct control_vm_ended ended;   /* CONSOLE_ENDED */
};

/* The client has asked to run or to attach. Waits through restarts of the daemon. Signals: TERM, INT and HUP end the VM for its owner and detach
 * others. -errno with the reason when the VM did not start, or when no daemon came back. */
int console_show(struct console *c, enum console_how *how, struct failure *f) MUST_CHECK;

/* `tessera console`; an exit code. */
int console_verb(const struct options *o);

/* Tell how a VM ended; the exit code that goes with it. */
int console_report_end(const char *vm, const struct control_vm_ended *e, bool json);

#endif
