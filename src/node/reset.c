/* See reset.h. */
#include "node/reset.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "node/asks.h"
#include "node/birth.h"
#include "node/ending.h"

/* Counts. */
static bool wanted(struct vm *vm)
{
	bool quick = loop_now_ms() - vm->booted_ms < RESET_QUICK_MS;

	vm->quick_resets = quick ? vm->quick_resets + 1 : 0;
	if (vm->unwanted || asks_end_awaited(vm))
		return false;
	if (vm->quick_resets < RESET_QUICK_MAX)
		return true;
	snprintf(vm->what, sizeof vm->what, "the guest reset itself %u times in a row, each time within %u s of its start", vm->quick_resets, RESET_QUICK_MS / 1000u);
	return false;
}

/* It has ended by what kept it from starting again. */
static void fail(struct vm *vm)
{
	struct failure why = vm->failure;

	vm->failure = (struct failure){0};
	vm->reason = why.err == -ECANCELED ? STOP_KILLED : why.err == -EHOSTUNREACH ? STOP_LOST : STOP_NODE_ERROR;
	TEXT_SET(vm->about, *why.node ? why.node : vm->daemon->name);
	snprintf(vm->what, sizeof vm->what, "it reset itself and was not started again: %.180s", why.what);
}

/* Its parts' places are kept for another start, which will not be. True: their daemons have been asked to give them back, and answer. */
static bool let_go(struct vm *vm)
{
	enum stop_reason reason = vm->reason;
	char about[NAME_BYTES], what[sizeof vm->what];

	if (vm->let_go)
		return false;
	vm->let_go = true;
	TEXT_SET(about, vm->about);
	TEXT_SET(what, vm->what);
	for (unsigned k = 0; k < vm->parts; k++)
		vm->part[k].state = CONTROL_PART_STARTED;
	vm->state = CONTROL_VM_RUNNING;
	ending_begin(vm, reason, about, what);
	return true;
}

bool reset_over(struct vm *vm)
{
	bool again;

	if (vm->failure.err && vm->resets)
		fail(vm);
	if (vm->failure.err || vm->reason != STOP_RESET || vm->flags & CONTROL_RUN_NO_REBOOT || vm->let_go)
		return false;
	again = wanted(vm);
	if (!again)
		return let_go(vm);
	vm->resets++;
	log_info("%s was reset by its guest and starts again", vm->name);
	asks_vm_again(vm);
	birth_again(vm);
	return true;
}
