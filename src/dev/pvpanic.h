/* The guest kernel's cry that it has panicked: one byte at ADDRMAP_PORT_PVPANIC (QEMU docs/specs/pvpanic).
 * Threads: panic() is called under the bus lock by the vCPU's exit: it notes the fact and returns. */
#ifndef DEV_PVPANIC_H
#define DEV_PVPANIC_H

#include "dev/bus.h"

enum pvpanic_event { PVPANIC_PANICKED = 1u << 0, PVPANIC_CRASH_LOADED = 1u << 1 };

struct pvpanic_config {
	struct bus *bus;
	void (*panic)(void *user, unsigned events); /* one or more of enum pvpanic_event */
	void *user;
};

struct pvpanic;

int pvpanic_open(struct pvpanic **out, const struct pvpanic_config *c) MUST_CHECK;
void pvpanic_close(struct pvpanic *p);

#endif
