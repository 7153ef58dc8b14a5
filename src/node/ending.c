/* See ending.h. */
#include "node/ending.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "node/asks.h"
#include "node/birth.h"
#include "node/members.h"
#include "node/reset.h"

static void over(struct vm *vm)
{
	struct daemon *d = vm->daemon;

	loop_disarm(&d->loop, &vm->limit);
	if (reset_over(vm))
		return;
	if (vm->failure.err) {
		log_info("%s did not start: %s", vm->name, vm->failure.what);
		asks_vm_failed(vm);
		vms_remove(vm);
		return;
	}
	vm->state = CONTROL_VM_ENDED;
	log_info("%s ended: %s%s%s", vm->name, stop_reason_name(vm->reason), *vm->what ? ", " : "", vm->what);
	vms_tell(vm);
	asks_vm_ended(vm);
	for (unsigned k = 0; k < CONTROL_CONSOLES; k++)
		backlog_fini(&vm->console[k]);
}

void ending_settle(struct vm *vm, struct vm_part *p)
{
	p->state = CONTROL_PART_ENDED;
	for (unsigned k = 0; k < vm->parts; k++)
		if (vm->part[k].state != CONTROL_PART_ENDED)
			return;
	if (vm->state != CONTROL_VM_ENDED)
		over(vm);
}

static void give_up(struct loop_timer *t)
{
	struct vm *vm = (struct vm *)((char *)t - offsetof(struct vm, limit));

	for (unsigned k = 0; k < vm->parts; k++)
		if (vm->part[k].state != CONTROL_PART_ENDED)
			log_warn("%s: node %s does not say that its part has ended", vm->name, vm->part[k].node);
	for (unsigned k = 0; k < vm->parts; k++)
		vm->part[k].state = CONTROL_PART_ENDED;
	over(vm);
}

static void give_reason(struct vm *vm, enum stop_reason reason, const char *about, const char *what)
{
	vm->reason = reason;
	TEXT_SET(vm->about, about);
	TEXT_SET(vm->what, what);
}

void ending_begin(struct vm *vm, enum stop_reason reason, const char *about, const char *what)
{
	bool waiting = false;

	if (vm->state == CONTROL_VM_STOPPING || vm->state == CONTROL_VM_ENDED)
		return;
	give_reason(vm, reason, about, what);
	vm->state = CONTROL_VM_STOPPING;
	for (unsigned k = 0; k < vm->parts; k++) {
		struct vm_part *p = &vm->part[k];

		if (p->state == CONTROL_PART_ENDED)
			continue;
		if (DAEMON_SEND(vm->daemon, p->node, part_stop, .vm_id = vm->id, .resets = vm->resets, .reason = (uint8_t)reason,
				.about = channel_name(about), .what = channel_text(what)))
			p->state = CONTROL_PART_ENDED;
		else
			waiting = true;
	}
	vm->limit.fire = give_up; /* at once when nobody is left; but not inside our caller */
	loop_arm(&vm->daemon->loop, &vm->limit, waiting ? ENDING_LIMIT_MS : 0);
	vms_tell(vm);
}

void ending_part(struct vm *vm, struct vm_part *p, bool died, enum stop_reason reason, const char *about, const char *what)
{
	if (p->state == CONTROL_PART_ENDED)
		return;
	/* how a part died is a better story than its neighbours' "the stream to it broke" */
	if (vm->state == CONTROL_VM_STOPPING && died && vm->reason == STOP_LOST && strcmp(vm->about, about) == 0)
		give_reason(vm, reason, about, what);
	p->state = CONTROL_PART_ENDED;
	ending_begin(vm, reason, about, what);
	ending_settle(vm, p);
}

void ending_lost(struct vm *vm, struct vm_part *p)
{
	if (p->state != CONTROL_PART_ENDED)
		ending_settle(vm, p);
}

/* Only a guest that ran can do that. */
static bool by_guest(enum stop_reason reason)
{
	return reason == STOP_POWEROFF || reason == STOP_RESET || reason == STOP_PANIC || reason == STOP_TRIPLE_FAULT;
}

void ending_take(struct daemon *d, const char *from, const uint8_t *body, size_t bytes)
{
	struct control_part_ended in;
	struct vm *vm;

	if (control_get_part_ended(body, bytes, &in) || in.reason >= STOP_REASONS)
		return;
	vm = vms_by_id(d, in.vm_id);
	if (!vm || !vms_mine(vm) || in.index >= vm->parts || strcmp(vm->part[in.index].node, from) != 0)
		return;
	if (in.resets != vm->resets)
		return; /* of a start before this one: its end and our part_stop crossed */
	if (vm->state == CONTROL_VM_STARTING && !in.died && by_guest(in.reason))
		birth_done(vm); /* some parts have not yet said that they run */
	if (vm->state == CONTROL_VM_STARTING) {
		struct failure f = {.err = -EIO}; /* gives way to a part_failed: see birth.c */

		TEXT_SET(f.node, from);
		TEXT_SET(f.what, in.what.s);
		TEXT_SET(f.todo, "look at the daemon's log on that node");
		vm->part[in.index].state = CONTROL_PART_ENDED;
		birth_fail(vm, &f);
		return;
	}
	ending_part(vm, &vm->part[in.index], in.died, in.reason, in.about.s, in.what.s);
}
