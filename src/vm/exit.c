/* Decodes the run page. See exit.h. */
#include "vm/exit.h"

#include <errno.h>
#include <stdio.h>

#include <linux/kvm.h>

/* A string instruction comes as one exit with a count: each element is an access of its own to the same port. */
static int exit_port(struct kvm_run *run, vcpu_t vcpu, const struct exit_sink *sink)
{
	uint8_t *data = (uint8_t *)run + run->io.data_offset;
	int err = 0;

	for (uint32_t i = 0; !err && i < run->io.count; i++, data += run->io.size)
		err = sink->access(sink->owner, vcpu, BUS_PIO, run->io.port, data, run->io.size, run->io.direction == KVM_EXIT_IO_OUT);
	return err;
}

static int exit_memory(struct kvm_run *run, vcpu_t vcpu, const struct exit_sink *sink)
{
	return sink->access(sink->owner, vcpu, BUS_MMIO, run->mmio.phys_addr, run->mmio.data, run->mmio.len, run->mmio.is_write);
}

static int exit_ended(vcpu_t vcpu, const struct exit_sink *sink, enum exit_kind kind, const char *text)
{
	sink->end(sink->owner, vcpu, kind, text);
	return -ECANCELED;
}

static int exit_event(struct kvm_run *run, vcpu_t vcpu, const struct exit_sink *sink)
{
	switch (run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN: return exit_ended(vcpu, sink, EXIT_POWEROFF, "the guest shut down");
	case KVM_SYSTEM_EVENT_RESET: return exit_ended(vcpu, sink, EXIT_RESET, "the guest reset");
	case KVM_SYSTEM_EVENT_CRASH: return exit_ended(vcpu, sink, EXIT_CRASH, "the guest reported a crash");
	default: return exit_ended(vcpu, sink, EXIT_BROKEN, "an unknown system event");
	}
}

static int exit_broken(const struct kvm_run *run, vcpu_t vcpu, const struct exit_sink *sink)
{
	char text[256];
	int n = 0;

	if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		snprintf(text, sizeof text, "the processor refused to enter the guest (hardware reason 0x%llx)", run->fail_entry.hardware_entry_failure_reason);
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR) {
		n = snprintf(text, sizeof text, "KVM internal error %u", run->internal.suberror);
		for (uint32_t i = 0; i < run->internal.ndata && i < 6; i++)
			n += snprintf(text + n, sizeof text - (size_t)n, " %llx", run->internal.data[i]);
	} else
		snprintf(text, sizeof text, "KVM exit %u, which is not expected", run->exit_reason);
	return exit_ended(vcpu, sink, EXIT_BROKEN, text);
}

int exit_handle(struct kvm_run *run, vcpu_t vcpu, const struct exit_sink *sink)
{
	switch (run->exit_reason) {
	case KVM_EXIT_IO: return exit_port(run, vcpu, sink);
	case KVM_EXIT_MMIO: return exit_memory(run, vcpu, sink);
	case KVM_EXIT_IOAPIC_EOI:
		sink->ioapic_eoi(sink->owner, run->eoi.vector);
		return 0;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return 0;
	case KVM_EXIT_SHUTDOWN: return exit_ended(vcpu, sink, EXIT_SHUTDOWN, "triple fault");
	case KVM_EXIT_SYSTEM_EVENT: return exit_event(run, vcpu, sink);
	default: return exit_broken(run, vcpu, sink);
	}
}
