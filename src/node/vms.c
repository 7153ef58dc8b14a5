/* See vms.h. */
#include "node/vms.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/rundir.h"
#include "base/text.h"
#include "node/birth.h"
#include "node/ending.h"
#include "node/furnish.h"
#include "node/members.h"
#include "node/parts.h"

bool vms_mine(const struct vm *vm)
{
	return strcmp(vm->coordinator, vm->daemon->name) == 0;
}

static bool likelier(const struct vm *a, const struct vm *b)
{
	return b->state == CONTROL_VM_ENDED && (a->state != CONTROL_VM_ENDED || a->born_ms > b->born_ms);
}

struct vm *vms_by_name(struct daemon *d, const char *name)
{
	struct vm *found = NULL;

	for (struct vm *vm = d->vms; vm; vm = vm->next)
		if (strcmp(vm->name, name) == 0 && (!found || likelier(vm, found)))
			found = vm;
	return found;
}

struct vm *vms_by_id(struct daemon *d, uint64_t id)
{
	struct vm *vm = d->vms;

	while (vm && vm->id != id)
		vm = vm->next;
	return vm;
}

/* The control socket's place (parts.c), which is refused first when it is too long. */
static void name_sockets(struct vm *vm)
{
	char leaf[RUNDIR_PATH_BYTES];

	snprintf(leaf, sizeof leaf, "vms/%.63s", vm->name);
	if (rundir_path(vm->daemon->root, vm->daemon->name, leaf, vm->sockets, NULL))
		*vm->sockets = 0;
}

struct vm *vms_add(struct daemon *d, uint64_t id, const char *name, const char *coordinator)
{
	struct vm *vm = calloc(1, sizeof *vm);

	if (!vm)
		return NULL;
	vm->next = d->vms;
	vm->daemon = d;
	vm->id = id;
	vm->born_ms = loop_now_ms();
	TEXT_SET(vm->name, name);
	TEXT_SET(vm->coordinator, coordinator);
	if (vms_mine(vm))
		name_sockets(vm);
	d->vms = vm;
	return vm;
}

void vms_remove(struct vm *vm)
{
	struct vm **at = &vm->daemon->vms;

	while (*at != vm)
		at = &(*at)->next;
	*at = vm->next;
	if (vms_mine(vm))
		MEMBERS_TELL(vm->daemon, vm_gone, .vm_id = vm->id);
	loop_disarm(&vm->daemon->loop, &vm->limit);
	for (unsigned k = 0; k < NODES_MAX; k++)
		free(vm->part[k].cpuid);
	for (unsigned k = 0; k < CONTROL_CONSOLES; k++)
		backlog_fini(&vm->console[k]);
	baggage_free(&vm->baggage);
	furnish_end(vm);
	free(vm);
}

void vms_forget_old(struct daemon *d)
{
	struct vm *oldest = NULL;
	unsigned ended = 0;

	for (struct vm *vm = d->vms; vm; vm = vm->next) {
		if (vm->state != CONTROL_VM_ENDED || !vms_mine(vm))
			continue;
		ended++;
		if (!oldest || vm->born_ms < oldest->born_ms)
			oldest = vm;
	}
	if (ended > VMS_ENDED_MAX)
		vms_remove(oldest);
}

void vms_close(struct daemon *d)
{
	while (d->vms)
		vms_remove(d->vms);
}

void vms_print(const struct vm *vm, struct channel *to)
{
	CHANNEL_SEND(to, vm_line, .vm_id = vm->id, .vm = channel_name(vm->name), .coordinator = channel_name(vm->coordinator), .state = (uint8_t)vm->state,
		.cpus = vm->cpus, .memory = vm->memory, .age_ms = loop_now_ms() - vm->born_ms, .kernel = vm->kernel, .resets = vm->resets, .reason = (uint8_t)vm->reason,
		.about = channel_name(vm->about), .what = channel_text(vm->what), .trouble = channel_text(vm->trouble),
		.sockets = channel_text(vm->state == CONTROL_VM_ENDED ? "" : vm->sockets), .cid = vm->cid);
	for (unsigned k = 0; k < vm->parts; k++) {
		const struct vm_part *p = &vm->part[k];

		CHANNEL_SEND(to, part_line, .vm_id = vm->id, .index = (uint8_t)k, .node = channel_name(p->node), .vcpus = p->vcpus, .memory = p->memory,
			.state = (uint8_t)p->state, .pid = p->pid, .address = channel_text(p->address));
	}
}

void vms_tell(struct vm *vm)
{
	for (struct member *m = vm->daemon->members; m; m = m->next)
		if (m->link)
			vms_print(vm, m->link);
}

void vms_tell_all(struct daemon *d, const char *node)
{
	struct member *m = members_find(d, node);

	for (struct vm *vm = d->vms; vm; vm = vm->next)
		if (m && m->link && vms_mine(vm))
			vms_print(vm, m->link);
}

static struct vm_part *part_on(struct vm *vm, const char *node)
{
	for (unsigned k = 0; k < vm->parts; k++)
		if (strcmp(vm->part[k].node, node) == 0)
			return &vm->part[k];
	return NULL;
}

bool vms_on_node(struct daemon *d, const char *node)
{
	for (struct vm *vm = d->vms; vm; vm = vm->next)
		if (vm->state != CONTROL_VM_ENDED && part_on(vm, node))
			return true;
	return false;
}

void vms_node_lost(struct daemon *d, const char *node)
{
	struct vm *next;

	for (struct vm *vm = d->vms; vm; vm = next) {
		struct vm_part *p = part_on(vm, node);

		next = vm->next;
		if (!p || !vms_mine(vm))
			continue;
		p->confirmed = false;
		if (vm->state == CONTROL_VM_STARTING)
			birth_lost(vm, p);
		else if (vm->state == CONTROL_VM_STOPPING)
			ending_lost(vm, p);
	}
}

/* A part that its own daemon does not know any more is gone. */
void vms_node_ready(struct daemon *d, const char *node)
{
	struct vm *next;

	for (struct vm *vm = d->vms; vm; vm = next) {
		struct vm_part *p = part_on(vm, node);

		next = vm->next;
		if (p && vms_mine(vm) && !p->confirmed && p->state == CONTROL_PART_STARTED && vm->state != CONTROL_VM_ENDED)
			ending_part(vm, p, true, STOP_LOST, node, "its daemon came back without it");
	}
}

void vms_adopt(struct daemon *d, const struct part *part)
{
	const struct control_part_prepare *c = &part->config;
	struct vm *vm = vms_by_id(d, c->vm_id) ? NULL : vms_add(d, c->vm_id, c->vm.s, d->name);

	if (!vm)
		return;
	vm->state = CONTROL_VM_RUNNING;
	vm->cpus = c->cpus;
	vm->flags = c->flags;
	vm->resets = c->resets;
	vm->cid = c->cid;
	vm->memory = c->memory;
	vm->born_ms = vm->booted_ms = part->born_ms;
	vm->kernel = c->kernel;
	vm->initrd = c->initrd;
	vm->append_bytes = c->append.bytes;
	memcpy(vm->append, part->append, sizeof vm->append);
	if (baggage_set(&vm->baggage, c->file, c->seed))
		log_warn("%s: out of memory; what was asked for is forgotten", vm->name);
	furnish_adopt(vm, c->gear);
	vm->parts = c->nodes;
	for (unsigned k = 0; k < vm->parts; k++) {
		struct vm_part *p = &vm->part[k];

		memcpy(p->node, part->layout[k].node.s, sizeof p->node);
		p->vcpus = part->layout[k].vcpus;
		p->memory = part->layout[k].memory;
		p->state = CONTROL_PART_STARTED;
	}
	vm->part[c->index].pid = (uint32_t)part->pid;
	vm->part[c->index].confirmed = true;
	TEXT_SET(vm->part[c->index].address, part->address);
}

void vms_take_status(struct daemon *d, const char *from, const uint8_t *body, size_t bytes)
{
	struct control_part_status in;
	struct vm_part *p = NULL;
	struct vm *vm;

	if (control_get_part_status(body, bytes, &in) || in.state >= CONTROL_PART_STATES)
		return;
	vm = vms_by_id(d, in.vm_id);
	if (vm && vms_mine(vm) && in.index < vm->parts && strcmp(vm->part[in.index].node, from) == 0)
		p = &vm->part[in.index];
	if (p && vm->state == CONTROL_VM_RUNNING && in.state == CONTROL_PART_STARTED) {
		p->confirmed = true;
		p->pid = in.pid;
		TEXT_SET(p->address, in.address.s);
		vms_tell(vm);
		return;
	}
	log_info("node %s still has a part of a VM that is over; ending it", from);
	(void)DAEMON_SEND(d, from, part_stop, .vm_id = in.vm_id, .reason = STOP_KILLED, .about = channel_name(d->name),
		.what = channel_text("the VM is over"));
}

/* Two nodes started a VM of one name at once: all daemons agree that the one with the smaller id goes on, unless the other was there before. */
static void settle_name(struct daemon *d, const struct control_vm_line *other)
{
	struct failure f = {0};
	struct vm *vm = d->vms;

	while (vm && !(strcmp(vm->name, other->vm.s) == 0 && vms_mine(vm) && vm->state == CONTROL_VM_STARTING))
		vm = vm->next;
	if (!vm || other->state > CONTROL_VM_RUNNING || (other->state == CONTROL_VM_STARTING && vm->id < other->vm_id))
		return;
	failure_set(&f, -EEXIST, "choose another --name", "a VM named %s was started from node %s at the same time", vm->name, other->coordinator.s);
	birth_fail(vm, &f);
}

static void take_line(struct daemon *d, const char *from, const struct control_vm_line *in)
{
	struct vm *vm = vms_by_id(d, in->vm_id);

	if (strcmp(in->coordinator.s, from) != 0 || strcmp(from, d->name) == 0 || (vm && strcmp(vm->coordinator, from) != 0) ||
	    !rundir_good_name(in->vm.s) || in->state >= CONTROL_VM_STATES || in->reason >= STOP_REASONS)
		return;
	if (!vm)
		vm = vms_add(d, in->vm_id, in->vm.s, from);
	if (!vm)
		return;
	settle_name(d, in);
	vm->parts = 0;
	vm->state = in->state;
	vm->cpus = in->cpus;
	vm->memory = in->memory;
	vm->born_ms = loop_now_ms() - in->age_ms;
	vm->kernel = in->kernel;
	vm->resets = in->resets;
	vm->reason = in->reason;
	TEXT_SET(vm->about, in->about.s);
	TEXT_SET(vm->what, in->what.s);
	TEXT_SET(vm->trouble, in->trouble.s);
	TEXT_SET(vm->sockets, in->sockets.s);
	vm->cid = in->cid;
}

static void take_part(struct daemon *d, const char *from, const struct control_part_line *in)
{
	struct vm *vm = vms_by_id(d, in->vm_id);
	struct vm_part *p;

	if (!vm || strcmp(vm->coordinator, from) != 0 || in->index != vm->parts || vm->parts == NODES_MAX || in->state >= CONTROL_PART_STATES)
		return;
	p = &vm->part[vm->parts++];
	TEXT_SET(p->node, in->node.s);
	TEXT_SET(p->address, in->address.s);
	p->vcpus = in->vcpus;
	p->memory = in->memory;
	p->state = in->state;
	p->pid = in->pid;
}

void vms_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct control_vm_line line;
	struct control_part_line part;
	struct control_vm_gone gone;
	struct vm *vm;

	if (id == CONTROL_vm_line && !control_get_vm_line(body, bytes, &line))
		take_line(d, from, &line);
	else if (id == CONTROL_part_line && !control_get_part_line(body, bytes, &part))
		take_part(d, from, &part);
	else if (id == CONTROL_vm_gone && !control_get_vm_gone(body, bytes, &gone) && (vm = vms_by_id(d, gone.vm_id)) &&
	         strcmp(vm->coordinator, from) == 0 && !vms_mine(vm))
		vms_remove(vm);
}
