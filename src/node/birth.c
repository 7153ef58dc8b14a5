/* See birth.h. */
#include "node/birth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/log.h"
#include "base/quantity.h"
#include "base/rundir.h"
#include "base/text.h"
#include "dev/virtio_vsock.h"
#include "node/asks.h"
#include "node/ending.h"
#include "node/furnish.h"
#include "node/members.h"
#include "node/placing.h"

static const uint64_t memory_min = 1 << 20, memory_max = 1ull << 40;

static uint64_t random_u64(void)
{
	uint64_t v;

	ensure(getrandom(&v, sizeof v, 0) == sizeof v);
	return v;
}

static void stop_failed(struct vm *vm)
{
	ending_begin(vm, STOP_KILLED, vm->daemon->name, "its start failed");
}

void birth_fail(struct vm *vm, const struct failure *why)
{
	if (!vm->failure.err)
		vm->failure = *why;
	stop_failed(vm);
}

void birth_lost(struct vm *vm, struct vm_part *p)
{
	struct failure f = {0};

	failure_set(&f, -EHOSTUNREACH, "bring the node back, or leave it out of --place", "node %s was lost while %s was being started", p->node, vm->name);
	memcpy(f.node, p->node, sizeof f.node);
	p->state = CONTROL_PART_ENDED;
	birth_fail(vm, &f);
}

static void late(struct loop_timer *t)
{
	struct vm *vm = (struct vm *)((char *)t - offsetof(struct vm, limit));
	enum control_part_state least = CONTROL_PART_ENDED;
	struct failure f = {0};

	for (unsigned k = 0; k < vm->parts; k++) {
		if (vm->part[k].state >= least)
			continue;
		least = vm->part[k].state;
		memcpy(f.node, vm->part[k].node, sizeof f.node);
	}
	failure_set(&f, -ETIMEDOUT, "look at that daemon's log; 'tessera doctor' checks the nodes", "node %s did not get its part of %s ready in %u seconds",
		f.node, vm->name, BIRTH_PHASE_MS / 1000u);
	birth_fail(vm, &f);
}

static unsigned coordinator_index(const struct vm *vm)
{
	unsigned k = 0;

	while (strcmp(vm->part[k].node, vm->coordinator) != 0)
		k++;
	return k;
}

static void send_layout(struct vm *vm, struct vm_part *to)
{
	int err = 0;

	for (unsigned k = 0; k < vm->parts && !err; k++)
		err = DAEMON_SEND(vm->daemon, to->node, part_layout, .vm_id = vm->id, .of = (uint8_t)k, .node = channel_name(vm->part[k].node),
			.vcpus = vm->part[k].vcpus, .memory = vm->part[k].memory);
	if (err)
		birth_lost(vm, to);
}

static void prepare(struct vm *vm)
{
	vm->limit.fire = late;
	loop_arm(&vm->daemon->loop, &vm->limit, BIRTH_PHASE_MS);
	for (unsigned k = 0; k < vm->parts && vm->state == CONTROL_VM_STARTING; k++) {
		struct vm_part *to = &vm->part[k];
		char gear[GEAR_TEXT_BYTES];

		if (DAEMON_SEND(vm->daemon, to->node, part_prepare, .vm_id = vm->id, .vm = channel_name(vm->name), .coordinator = channel_name(vm->coordinator),
				.coordinator_index = (uint8_t)coordinator_index(vm), .index = (uint8_t)k, .nodes = (uint8_t)vm->parts, .cpus = vm->cpus,
				.memory = vm->memory, .kernel = vm->kernel, .initrd = vm->initrd, .append = {vm->append, vm->append_bytes},
				.flags = vm->flags, .resets = vm->resets, .console_at = vm->console[CONTROL_CONSOLE_SERIAL].total,
				.hvc_at = vm->console[CONTROL_CONSOLE_HVC].total, .cid = vm->cid,
				.file = k == coordinator_index(vm) ? vm->baggage.file : (struct wire_blob){0},
				.seed = k == coordinator_index(vm) ? vm->baggage.seed : (struct wire_blob){0},
				.gear = furnish_text(vm, gear)))
			birth_lost(vm, to);
		else
			send_layout(vm, to);
	}
}

static void introduce(struct vm *vm)
{
	uint64_t hi = random_u64(), lo = random_u64();

	for (unsigned k = 0; k < vm->parts && vm->state == CONTROL_VM_STARTING; k++) {
		struct vm_part *to = &vm->part[k];
		int err = 0;

		for (unsigned of = 0; of < vm->parts && !err; of++)
			err = DAEMON_SEND(vm->daemon, to->node, part_peer, .vm_id = vm->id, .of = (uint8_t)of, .address = channel_text(vm->part[of].address),
				.cpuid = {vm->part[of].cpuid, vm->part[of].cpuid_bytes});
		if (!err)
			err = furnish_tell(vm, to->node);
		if (!err)
			err = DAEMON_SEND(vm->daemon, to->node, part_connect, .vm_id = vm->id, .cookie_hi = hi, .cookie_lo = lo);
		if (err)
			birth_lost(vm, to);
	}
}

static void begin_to_run(struct vm *vm)
{
	for (unsigned k = 0; k < vm->parts && vm->state == CONTROL_VM_STARTING; k++)
		if (DAEMON_SEND(vm->daemon, vm->part[k].node, part_start, .vm_id = vm->id))
			birth_lost(vm, &vm->part[k]);
}

void birth_done(struct vm *vm)
{
	loop_disarm(&vm->daemon->loop, &vm->limit);
	vm->state = CONTROL_VM_RUNNING;
	vm->booted_ms = loop_now_ms();
	for (unsigned k = 0; k < vm->parts; k++) {
		free(vm->part[k].cpuid);
		vm->part[k].cpuid = NULL;
	}
	if (vm->balloon)
		(void)DAEMON_SEND(vm->daemon, vm->daemon->name, part_balloon, .vm_id = vm->id, .memory = vm->balloon);
	log_info("%s runs on %u node%s", vm->name, vm->parts, vm->parts == 1 ? "" : "s");
	vms_tell(vm);
	asks_vm_born(vm);
}

/* A part is through a phase; the last one opens the next. */
static void advance(struct vm *vm, struct vm_part *p, enum control_part_state to)
{
	if (vm->state != CONTROL_VM_STARTING || p->state != to - 1)
		return;
	p->state = to;
	p->confirmed = true;
	for (unsigned k = 0; k < vm->parts; k++)
		if (vm->part[k].state < to)
			return;
	loop_arm(&vm->daemon->loop, &vm->limit, BIRTH_PHASE_MS);
	if (to == CONTROL_PART_READY)
		introduce(vm);
	else if (to == CONTROL_PART_MESHED)
		begin_to_run(vm);
	else
		birth_done(vm);
}

static int check_file(const char *what, const char *path, struct failure *f)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), err = fd < 0 ? -errno : 0;

	if (!err && fstat(fd, &st) < 0)
		err = -errno;
	if (fd >= 0)
		close(fd);
	if (err)
		return failure_set(f, err, "give the path of a file that the daemon's host has and root can read", "cannot read the %s %s: %s", what, path,
		                   strerror(-err));
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return failure_set(f, -EINVAL, "give the path of a file", "the %s %s is %s", what, path, S_ISREG(st.st_mode) ? "empty" : "no file");
	return 0;
}

static int judge(struct daemon *d, const struct control_ask_run *r, struct failure *f)
{
	struct vm *same = vms_by_name(d, r->vm.s);
	char text[QUANTITY_TEXT_BYTES];
	int err = 0;

	if (!rundir_good_name(r->vm.s))
		return failure_set(f, -EINVAL, "use up to 63 letters, digits, '.', '_' and '-'", "'%s' is no name for a VM", r->vm.s);
	if (same && same->state != CONTROL_VM_ENDED)
		return failure_set(f, -EEXIST, "choose another --name, or end that one first (tessera stop, tessera kill)",
			"there is already a VM named %s, started from node %s", same->name, same->coordinator);
	if (r->cpus < 1 || r->cpus > VCPUS_MAX)
		return failure_set(f, -EINVAL, "ask for 1 to 64", "a VM cannot have %u CPUs", r->cpus);
	if (r->memory < memory_min || r->memory > memory_max || r->memory % PAGE_BYTES)
		return failure_set(f, -EINVAL, "ask for 1M to 1T, a multiple of 4K", "a VM cannot have %s of memory", quantity_print_bytes(r->memory, text));
	if (r->cid && (r->cid < VSOCK_CID_MIN || r->cid == UINT32_MAX))
		return failure_set(f, -EINVAL, "take one from 3 to 4294967294", "a guest cannot have CID %u", r->cid);
	if (r->append.bytes >= VMS_APPEND_MAX)
		return failure_set(f, -E2BIG, "make it shorter", "the kernel command line is longer than %u bytes", VMS_APPEND_MAX - 1u);
	if (!baggage_good(&r->file, &r->seed))
		return failure_set(f, -E2BIG, "make them shorter", "the VM's options, or its seed, are too long");
	if (!*r->kernel.s && !r->gear.bytes && !(r->flags & CONTROL_RUN_FAKE))
		return failure_set(f, -EINVAL, "pass --kernel, or a --disk with one inside", "there is nothing to boot from");
	if (*r->kernel.s && !(r->flags & CONTROL_RUN_FAKE))
		err = check_file("kernel", r->kernel.s, f);
	if (!err && *r->initrd.s)
		err = check_file("initrd", r->initrd.s, f);
	return err;
}

int birth_begin(struct daemon *d, const struct control_ask_run *r, struct vm **out, struct failure *f)
{
	struct vm *vm, *ended;
	int err = judge(d, r, f);

	if (err)
		return err;
	vm = vms_add(d, random_u64(), r->vm.s, d->name);
	if (!vm)
		return failure_set(f, -ENOMEM, "free some memory on this host", "out of memory");
	vm->cid = r->cid ? r->cid : VSOCK_CID_MIN + (uint32_t)(vm->id % 0x7ffffff0);
	vm->cpus = r->cpus;
	vm->memory = r->memory;
	vm->flags = r->flags;
	vm->kernel = r->kernel;
	vm->initrd = r->initrd;
	vm->append_bytes = r->append.bytes;
	if (r->append.bytes)
		memcpy(vm->append, r->append.at, r->append.bytes);
	err = baggage_set(&vm->baggage, r->file, r->seed);
	if (err)
		failure_set(f, err, "free some memory on this host", "out of memory");
	else
		err = furnish_begin(vm, r->gear, f);
	if (!err)
		err = placing_choose(vm, r->place.s, f);
	if (!err)
		err = furnish_settle(vm, f);
	if (err) {
		vms_remove(vm);
		return err;
	}
	for (ended = d->vms; ended; ended = ended->next)
		if (ended->state == CONTROL_VM_ENDED && strcmp(ended->name, vm->name) == 0 && vms_mine(ended)) {
			vms_remove(ended);
			break;
		}
	vms_forget_old(d);
	vms_tell(vm);
	*out = vm;
	prepare(vm);
	return 0;
}

void birth_again(struct vm *vm)
{
	vm->state = CONTROL_VM_STARTING;
	vm->reason = STOP_NONE;
	*vm->about = *vm->what = *vm->trouble = 0;
	for (unsigned k = 0; k < vm->parts; k++) {
		struct vm_part *p = &vm->part[k];

		free(p->cpuid);
		p->cpuid = NULL;
		p->state = CONTROL_PART_ASKED;
		p->confirmed = false;
		*p->address = 0;
		p->pid = 0;
	}
	vms_tell(vm);
	prepare(vm);
}

static struct vm *find(struct daemon *d, const char *from, uint64_t id, unsigned index)
{
	struct vm *vm = vms_by_id(d, id);

	return vm && vms_mine(vm) && index < vm->parts && strcmp(vm->part[index].node, from) == 0 ? vm : NULL;
}

static void on_ready(struct vm *vm, const struct control_part_ready *in)
{
	struct vm_part *p = &vm->part[in->index];

	if (p->cpuid || in->cpuid.bytes > VMS_CPUID_MAX)
		return;
	p->cpuid = malloc(in->cpuid.bytes + 1);
	ensure(p->cpuid);
	if (in->cpuid.bytes)
		memcpy(p->cpuid, in->cpuid.at, in->cpuid.bytes);
	p->cpuid_bytes = in->cpuid.bytes;
	p->pid = in->pid;
	TEXT_SET(p->address, in->address.s);
	advance(vm, p, CONTROL_PART_READY);
}

static void on_failed(struct vm *vm, const char *from, const struct control_part_failed *in)
{
	struct failure f = {0};

	failure_set(&f, in->code ? -(int)in->code : -EIO, in->todo.s, "%s", in->what.s);
	TEXT_SET(f.node, *in->node.s ? in->node.s : from);
	if (vm->failure.err == -EIO && f.err != -ECANCELED)
		vm->failure = f; /* its neighbours' "the stream to it broke" came first */
	if (vm->state == CONTROL_VM_STARTING)
		birth_fail(vm, &f);
}

void birth_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct control_part_ready ready;
	struct control_part_disk disk;
	struct control_part_meshed meshed;
	struct control_part_started started;
	struct control_part_failed failed;
	struct vm *vm = NULL;

	if (id == CONTROL_part_ready && !control_get_part_ready(body, bytes, &ready) && (vm = find(d, from, ready.vm_id, ready.index)))
		on_ready(vm, &ready);
	else if (id == CONTROL_part_disk && !control_get_part_disk(body, bytes, &disk) && (vm = find(d, from, disk.vm_id, disk.index)))
		furnish_found(vm, from, &disk);
	else if (id == CONTROL_part_meshed && !control_get_part_meshed(body, bytes, &meshed) && (vm = find(d, from, meshed.vm_id, meshed.index)))
		advance(vm, &vm->part[meshed.index], CONTROL_PART_MESHED);
	else if (id == CONTROL_part_started && !control_get_part_started(body, bytes, &started) && (vm = find(d, from, started.vm_id, started.index)))
		advance(vm, &vm->part[started.index], CONTROL_PART_STARTED);
	else if (id == CONTROL_part_failed && !control_get_part_failed(body, bytes, &failed) && (vm = find(d, from, failed.vm_id, failed.index)))
		on_failed(vm, from, &failed);
}
