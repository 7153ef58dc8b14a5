/* See wiring.h. */
#include "vm/wiring.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/kvm.h>

void wiring_msi(int vm_fd, uint64_t address, uint32_t data)
{
	struct kvm_msi msi = {.address_lo = (uint32_t)address, .address_hi = (uint32_t)(address >> 32), .data = data};

	if (ioctl(vm_fd, KVM_SIGNAL_MSI, &msi) < 0)
		log_debug("an interrupt to 0x%llx was refused: %s", (unsigned long long)address, strerror(errno));
}

/* A length of 0 is any, and then KVM need not look at the instruction. */
int wiring_doorbell(int vm_fd, uint64_t address, int fd, bool on)
{
	struct kvm_ioeventfd bell = {.addr = address, .len = 0, .fd = fd, .flags = on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN};

	return ioctl(vm_fd, KVM_IOEVENTFD, &bell) < 0 ? -errno : 0;
}

bool wiring_routes(int vm_fd, const struct ioapic_route route[IOAPIC_PINS], bool had)
{
	enum { LEVEL = 1 << 15 };
	union { struct kvm_irq_routing head; uint8_t room[sizeof(struct kvm_irq_routing) + IOAPIC_PINS * sizeof(struct kvm_irq_routing_entry)]; } table = {.room = {0}};

	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		if (!(route[i].data & LEVEL))
			continue;
		table.head.entries[table.head.nr++] = (struct kvm_irq_routing_entry){.gsi = i, .type = KVM_IRQ_ROUTING_MSI, .u.msi = {
			.address_lo = (uint32_t)route[i].address, .address_hi = (uint32_t)(route[i].address >> 32), .data = route[i].data}};
	}
	if ((had || table.head.nr > 0) && ioctl(vm_fd, KVM_SET_GSI_ROUTING, &table) < 0)
		log_warn("KVM refused the routes of level-triggered interrupts: %s", strerror(errno));
	return table.head.nr > 0;
}
