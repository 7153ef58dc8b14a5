/* What an exit from guest mode asks for. Decodes KVM's run page and calls the machine; touches nothing else, so tests feed it by hand.
 *
 * Source: Linux Documentation/virt/kvm/api.rst, 5 "The kvm_run structure". */
#ifndef VM_EXIT_H
#define VM_EXIT_H

#include "base/types.h"
#include "dev/bus.h"

struct kvm_run;

enum exit_kind {
	EXIT_SHUTDOWN, /* triple fault */
	EXIT_CRASH,    /* KVM's event for a crashed guest */
	EXIT_RESET,
	EXIT_POWEROFF,
	EXIT_BROKEN,   /* KVM cannot go on */
};

/* The machine, as an exit sees it. */
struct exit_sink {
	void *owner;
	/* A port or memory access of the vCPU; -errno: the VM is stopping. */
	int (*access)(void *owner, vcpu_t vcpu, enum bus_space space, uint64_t addr, void *data, unsigned bytes, bool write);
	void (*ioapic_eoi)(void *owner, uint8_t vector);
	void (*end)(void *owner, vcpu_t vcpu, enum exit_kind kind, const char *text);
};

/* 0: enter again. -ECANCELED: the guest ended (end() was called). Another -errno: what access() said. */
int exit_handle(struct kvm_run *run, vcpu_t vcpu, const struct exit_sink *sink) MUST_CHECK;

#endif
