/* The real machine of a fragment: KVM, guest memory, devices. */
#include "node/fragment_machine.h"

#include <errno.h>

static int prepare(struct fragment_machine **out, const struct fragment_config *c, const struct fragment_calls *calls, uint8_t *cpuid, uint32_t *cpuid_bytes,
                   struct failure *f)
{
	return failure_set(f, -ENOSYS, "wait for the next version", "guests are not in yet");
}

const struct fragment_machine_ops fragment_machine_real = {.prepare = prepare};
