/* A console of a VM on this terminal: bytes both ways until the VM ends or ^] is typed. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include "cli/client.h"
#include "cli/options.h"

struct console {
	struct client client;
	const char *run_dir, *node, *vm; /* to find the daemon again, should it be restarted */
	bool owner;                      /* signals end the VM; so does our own end */
	bool mute;                       /* no console comes (run --detach): say nothing about it */
	unsigned port;                   /* enum control_console */
	bool json;                       /* one document on stdout, the console on stderr */
	/* Private. */
	uint64_t position;               /* of the console's stream, shown so far */
	bool has_ended;
	struct control_vm_ended ended;
};

/* Ask the daemon (frame: ask_run or ask_console), show the console until the VM ends or is let go, tell how it went; an exit code. Waits through
 * restarts of the daemon. Signals: TERM, INT and HUP end the VM for its owner and detach others. */
int console_attend(struct console *c, const uint8_t *frame, size_t bytes);

/* `tessera console`; an exit code. */
int console_verb(const struct options *o);

/* Tell how a VM ended; the exit code that goes with it. */
int console_report_end(const char *vm, const struct control_vm_ended *e, bool json);

#endif
