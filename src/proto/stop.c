/* See stop.h. */
#include "proto/stop.h"

const char *stop_reason_name(unsigned reason)
{
	static const char *const names[STOP_REASONS] = {
		[STOP_NONE] = "none",
		[STOP_POWEROFF] = "power-off",
		[STOP_RESET] = "reset",
		[STOP_PANIC] = "panic",
		[STOP_TRIPLE_FAULT] = "triple-fault",
		[STOP_KILLED] = "killed",
		[STOP_LOST] = "lost-node",
		[STOP_NODE_ERROR] = "node-error",
		[STOP_PROTOCOL] = "protocol",
	};

	return reason < STOP_REASONS ? names[reason] : "unknown";
}
