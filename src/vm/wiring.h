/* What a VM's KVM is told of interrupts and doorbells while it runs. Any thread. */
#ifndef VM_WIRING_H
#define VM_WIRING_H

#include "base/types.h"
#include "dev/ioapic.h"

/* Send a message-signalled interrupt. The destination may be a proxy: then KVM hands it to the proxy's thread, which sends it on. */
void wiring_msi(int vm_fd, uint64_t address, uint32_t data);

/* A write of any length and value to this address adds 1 to the eventfd and is over, from now on; or (on false) no longer. -errno: KVM refuses. May take as
 * long as a vCPU waits for a page. */
int wiring_doorbell(int vm_fd, uint64_t address, int fd, bool on) MUST_CHECK;

/* KVM needs routes only to know which vectors' EOIs to report, so level-triggered ones only; setting them is slow and mostly there are none. had: there were
 * some the last time; returns whether there are now. */
bool wiring_routes(int vm_fd, const struct ioapic_route route[IOAPIC_PINS], bool had);

#endif
