/* See asks.h. */
#include "node/asks.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/quantity.h"
#include "node/birth.h"
#include "node/checks.h"
#include "node/dial.h"
#include "node/ending.h"
#include "node/members.h"
#include "node/placing.h"
#include "node/relay.h"

enum { ASKS_BALLOON_LEAST = 1 << 20 };
enum ask_kind { ASK_NOTHING, ASK_RUN, ASK_CONSOLE, ASK_END, ASK_STATS, ASK_CHECKS };

struct ask {
	struct ask *next;
	struct daemon *daemon;
	struct channel *channel;
	enum ask_kind kind;
	bool greeted;
	bool owner;           /* the VM ends when this client just goes */
	bool attach;          /* ASK_RUN: becomes ASK_CONSOLE */
	uint64_t vm_id;
	unsigned port;        /* enum control_console */
	uint64_t shown;       /* bytes of vm->console[port] already sent */
	struct loop_timer limit; /* ASK_END: then it is killed */
	uint32_t limit_ms;
	struct checks *checks;
	unsigned look;        /* ASK_STATS: which of the part's answers is its own */
};

static void forget(struct ask *a)
{
	struct ask **at = &a->daemon->asks;

	while (*at != a)
		at = &(*at)->next;
	*at = a->next;
	loop_disarm(&a->daemon->loop, &a->limit);
	checks_close(a->checks);
	free(a);
}

static void answer_end(struct ask *a)
{
	a->kind = ASK_NOTHING;
	CHANNEL_SEND(a->channel, end, );
}

static void answer_error(struct ask *a, const struct failure *f)
{
	a->kind = ASK_NOTHING;
	CHANNEL_SEND(a->channel, error, .code = (uint32_t)-f->err, .node = channel_name(*f->node ? f->node : a->daemon->name), .what = channel_text(f->what),
		.todo = channel_text(f->todo));
}

static void answer_ended(struct ask *a, const struct vm *vm)
{
	CHANNEL_SEND(a->channel, vm_ended, .reason = (uint8_t)vm->reason, .about = channel_name(vm->about), .what = channel_text(vm->what));
	answer_end(a);
}

/* Send what the console has said since a->shown; skip what is too much for a slow reader. */
static void show_console(struct ask *a, const struct vm *vm)
{
	uint8_t bytes[16384];
	size_t n;

	while (channel_queued(a->channel) < ASKS_CONSOLE_QUEUE_MAX && (n = backlog_read(&vm->console[a->port], &a->shown, bytes, sizeof bytes))) {
		CHANNEL_SEND(a->channel, console_out, .port = (uint8_t)a->port, .at = a->shown, .bytes = {bytes, (uint32_t)n});
		a->shown += n;
	}
}

static void drained(void *owner, struct channel *c)
{
	struct ask *a = owner;
	struct vm *vm = a->kind == ASK_CONSOLE ? vms_by_id(a->daemon, a->vm_id) : NULL;

	if (vm)
		show_console(a, vm);
}

void asks_vm_trouble(const struct vm *vm)
{
	for (struct ask *a = vm->daemon->asks; a; a = a->next)
		if (a->kind == ASK_CONSOLE && a->vm_id == vm->id)
			CHANNEL_SEND(a->channel, line, .text = channel_text(vm->trouble));
}

void asks_vm_born(struct vm *vm)
{
	for (struct ask *a = vm->daemon->asks; a; a = a->next) {
		if (a->kind != ASK_RUN || a->vm_id != vm->id)
			continue;
		if (a->attach) {
			a->kind = ASK_CONSOLE;
			show_console(a, vm);
		} else {
			answer_end(a);
		}
	}
}

void asks_vm_failed(struct vm *vm)
{
	for (struct ask *a = vm->daemon->asks; a; a = a->next)
		if (a->kind != ASK_NOTHING && a->kind != ASK_CHECKS && a->vm_id == vm->id)
			answer_error(a, &vm->failure);
}

void asks_vm_ended(struct vm *vm)
{
	for (struct ask *a = vm->daemon->asks; a; a = a->next) {
		if (a->vm_id != vm->id)
			continue;
		if (a->kind == ASK_CONSOLE)
			show_console(a, vm);
		if (a->kind == ASK_CONSOLE || a->kind == ASK_END || a->kind == ASK_RUN) {
			loop_disarm(&a->daemon->loop, &a->limit);
			answer_ended(a, vm);
		}
	}
}

bool asks_end_awaited(const struct vm *vm)
{
	for (struct ask *a = vm->daemon->asks; a; a = a->next)
		if (a->kind == ASK_END && a->vm_id == vm->id)
			return true;
	return false;
}

void asks_vm_again(struct vm *vm)
{
	char text[NAME_BYTES + 64];

	snprintf(text, sizeof text, "%s was reset by its guest and starts again", vm->name);
	for (struct ask *a = vm->daemon->asks; a; a = a->next)
		if (a->kind == ASK_CONSOLE && a->vm_id == vm->id)
			CHANNEL_SEND(a->channel, line, .text = channel_text(text));
}

void asks_from_part(struct part *p, unsigned id, const uint8_t *body, size_t bytes)
{
	struct daemon *d = p->daemon;
	struct vm *vm = vms_by_id(d, p->config.vm_id);
	struct control_console_out out;
	struct control_stat_line stat;

	if (id == CONTROL_console_out) {
		if (control_get_console_out(body, bytes, &out) || !vm || !vms_mine(vm) || out.port >= CONTROL_CONSOLES)
			return;
		backlog_seek(&vm->console[out.port], out.at);
		backlog_add(&vm->console[out.port], out.bytes.at, out.bytes.bytes);
	}
	for (struct ask *a = d->asks; a; a = a->next) {
		if (a->vm_id != p->config.vm_id)
			continue;
		if (id == CONTROL_console_out && a->kind == ASK_CONSOLE)
			show_console(a, vm);
		else if (a->kind != ASK_STATS || a->look != p->looks_told + 1)
			continue;
		else if (id == CONTROL_stat_line && !control_get_stat_line(body, bytes, &stat))
			CHANNEL_SEND(a->channel, stat_line, .node = channel_name(d->name), .key = stat.key, .value = stat.value);
		else if (id == CONTROL_end)
			answer_end(a);
	}
	p->looks_told += id == CONTROL_end;
}

static struct failure no_vm(struct ask *a, const char *name)
{
	struct failure f = {0};

	failure_set(&f, -ESRCH, "'tessera ls' shows the VMs there are", "there is no VM named %s", name);
	return f;
}

void asks_part_gone(struct daemon *d, uint64_t vm_id)
{
	for (struct ask *a = d->asks; a; a = a->next)
		if (a->kind == ASK_STATS && a->vm_id == vm_id) {
			struct failure f = no_vm(a, "that any more");

			answer_error(a, &f);
		}
}

static void print_nodes(struct ask *a)
{
	struct daemon *d = a->daemon;

	CHANNEL_SEND(a->channel, node_line, .node = channel_name(d->name), .address = channel_text(d->address_text), .state = CONTROL_NODE_HERE,
		.cpus = (uint32_t)d->lent.cpus, .memory = d->lent.memory, .cpus_used = (uint32_t)d->used.cpus, .memory_used = d->used.memory,
		.garbage = d->garbage);
	for (struct member *m = d->members; m; m = m->next)
		CHANNEL_SEND(a->channel, node_line, .node = channel_name(m->name), .address = channel_text(m->address), .state = (uint8_t)m->state,
			.silent_ms = loop_now_ms() - m->heard_ms, .cpus = (uint32_t)m->lent.cpus, .memory = m->lent.memory,
			.cpus_used = (uint32_t)m->used.cpus, .memory_used = m->used.memory, .rtt_us = m->rtt_us);
}

static void on_list(struct ask *a)
{
	print_nodes(a);
	for (struct vm *vm = a->daemon->vms; vm; vm = vm->next)
		vms_print(vm, a->channel);
	answer_end(a);
}

/* Another daemon's business: hand the client over. True: done, one way or the other. */
static bool relayed(struct ask *a, const char *node, unsigned id, const uint8_t *body, size_t bytes)
{
	struct daemon *d = a->daemon;
	struct failure f = {0};
	struct member *m;
	struct channel *c = a->channel;

	if (!*node || strcmp(node, d->name) == 0)
		return false;
	m = members_find(d, node);
	if (!m) {
		failure_set(&f, -ENOENT, "'tessera ls' shows the nodes there are", "there is no node named %s", node);
	} else if (m->state != CONTROL_NODE_UP) {
		failure_set(&f, -EHOSTUNREACH, "start its daemon again ('tessera ls' shows where)", "node %s cannot be reached", node);
		memcpy(f.node, m->name, sizeof f.node);
	} else {
		a->channel = NULL;
		forget(a);
		relay_start(d, c, m->name, m->address, id, body, bytes);
		return true;
	}
	answer_error(a, &f);
	return true;
}

/* The VM of that name if this daemon is the one to deal with it; otherwise the request has been answered or relayed. */
static struct vm *own_vm(struct ask *a, const char *name, unsigned id, const uint8_t *body, size_t bytes)
{
	struct vm *vm = vms_by_name(a->daemon, name);
	struct failure f;

	if (!vm) {
		f = no_vm(a, name);
		answer_error(a, &f);
		return NULL;
	}
	return relayed(a, vm->coordinator, id, body, bytes) ? NULL : vm;
}

static void on_info(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_info in;
	struct failure f;
	struct vm *vm;

	if (control_get_ask_info(body, bytes, &in))
		return;
	vm = vms_by_name(a->daemon, in.vm.s);
	if (!vm) {
		f = no_vm(a, in.vm.s);
		answer_error(a, &f);
		return;
	}
	vms_print(vm, a->channel);
	answer_end(a);
}

static void on_run(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_run in;
	char node[NAME_BYTES];
	struct failure f = {0};
	struct vm *vm;

	if (control_get_ask_run(body, bytes, &in))
		return;
	placing_elsewhere(a->daemon, in.place.s, node);
	if (relayed(a, node, CONTROL_ask_run, body, bytes))
		return;
	if (birth_begin(a->daemon, &in, &vm, &f)) {
		answer_error(a, &f);
		return;
	}
	a->kind = ASK_RUN;
	a->vm_id = vm->id;
	a->attach = a->owner = !(in.flags & CONTROL_RUN_DETACH);
	a->shown = 0;
}

static void on_console(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_console in;
	struct vm *vm;

	if (control_get_ask_console(body, bytes, &in) || !(vm = own_vm(a, in.vm.s, CONTROL_ask_console, body, bytes)))
		return;
	a->vm_id = vm->id;
	a->port = in.port < CONTROL_CONSOLES ? in.port : CONTROL_CONSOLE_SERIAL;
	a->shown = in.from;
	if (vm->state == CONTROL_VM_ENDED) {
		answer_ended(a, vm);
		return;
	}
	a->kind = vm->state == CONTROL_VM_STARTING ? ASK_RUN : ASK_CONSOLE;
	a->attach = true;
	a->owner = in.owner;
	show_console(a, vm);
}

static void kill_vm(struct ask *a, struct vm *vm, const char *what)
{
	struct failure f = {0};

	vm->unwanted = true;
	failure_set(&f, -ECANCELED, "start it again", "%s was killed while it was being started", vm->name);
	if (vm->state == CONTROL_VM_STARTING)
		birth_fail(vm, &f);
	else
		ending_begin(vm, STOP_KILLED, a->daemon->name, what);
}

static void on_kill(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_kill in;
	struct vm *vm;

	if (control_get_ask_kill(body, bytes, &in) || !(vm = own_vm(a, in.vm.s, CONTROL_ask_kill, body, bytes)))
		return;
	a->vm_id = vm->id;
	a->kind = ASK_END;
	if (vm->state == CONTROL_VM_ENDED)
		answer_ended(a, vm);
	else
		kill_vm(a, vm, "tessera kill");
}

static void stop_late(struct loop_timer *t)
{
	struct ask *a = (struct ask *)((char *)t - offsetof(struct ask, limit));
	struct vm *vm = vms_by_id(a->daemon, a->vm_id);
	char what[128];

	snprintf(what, sizeof what, "tessera stop: the guest did not switch itself off within %.6g s of its power button", a->limit_ms / 1000.0);
	if (vm)
		kill_vm(a, vm, what);
}

static void on_stop(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_stop in;
	struct vm *vm;

	if (control_get_ask_stop(body, bytes, &in) || !(vm = own_vm(a, in.vm.s, CONTROL_ask_stop, body, bytes)))
		return;
	a->vm_id = vm->id;
	a->kind = ASK_END;
	if (vm->state == CONTROL_VM_ENDED) {
		answer_ended(a, vm);
		return;
	}
	if (vm->state == CONTROL_VM_STARTING) {
		kill_vm(a, vm, "tessera stop");
		return;
	}
	(void)DAEMON_SEND(a->daemon, a->daemon->name, part_button, .vm_id = vm->id);
	if (in.timeout_ms)
		loop_arm(&a->daemon->loop, &a->limit, a->limit_ms = in.timeout_ms);
	else
		answer_end(a);
}

static void on_file(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_file in;
	struct vm *vm;

	if (control_get_ask_file(body, bytes, &in) || !(vm = own_vm(a, in.vm.s, CONTROL_ask_file, body, bytes)))
		return;
	CHANNEL_SEND(a->channel, vm_file, .file = vm->baggage.file);
	answer_end(a);
}

static void on_balloon(struct ask *a, const uint8_t *body, size_t bytes)
{
	char text[QUANTITY_TEXT_BYTES];
	struct control_ask_balloon in;
	struct failure f = {0};
	struct vm *vm;
	int err = 0;

	if (control_get_ask_balloon(body, bytes, &in) || !(vm = own_vm(a, in.vm.s, CONTROL_ask_balloon, body, bytes)))
		return;
	if (vm->state != CONTROL_VM_RUNNING)
		err = failure_set(&f, -ESRCH, "'tessera info' shows its state", "%s does not run now", vm->name);
	else if (in.memory > vm->memory)
		err = failure_set(&f, -EINVAL, "ask for no more than it was started with", "%s has %s", vm->name, quantity_print_bytes(vm->memory, text));
	else if (in.memory < ASKS_BALLOON_LEAST || in.memory % PAGE_BYTES)
		err = failure_set(&f, -EINVAL, "give a multiple of 4K, 1M or more", "no guest can do with %llu bytes", (unsigned long long)in.memory);
	if (err) {
		answer_error(a, &f);
		return;
	}
	vm->balloon = in.memory;
	(void)DAEMON_SEND(a->daemon, a->daemon->name, part_balloon, .vm_id = vm->id, .memory = in.memory);
	answer_end(a);
}

static void on_stats(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_stats in;
	struct failure f;
	struct part *p;

	if (control_get_ask_stats(body, bytes, &in) || relayed(a, in.node.s, CONTROL_ask_stats, body, bytes))
		return;
	p = parts_by_name(a->daemon, in.vm.s);
	if (!p || !p->channel) {
		f = no_vm(a, in.vm.s);
		answer_error(a, &f);
		return;
	}
	a->kind = ASK_STATS;
	a->look = ++p->looks_asked;
	a->vm_id = p->config.vm_id;
	CHANNEL_SEND(p->channel, part_ask_stats, .vm_id = a->vm_id);
}

static void checks_done(void *owner)
{
	struct ask *a = owner;

	a->checks = NULL;
	answer_end(a);
}

static void on_doctor(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_ask_doctor in;
	struct failure f = {0};

	if (control_get_ask_doctor(body, bytes, &in) || relayed(a, in.node.s, CONTROL_ask_doctor, body, bytes))
		return;
	a->kind = ASK_CHECKS;
	if (checks_start(&a->checks, a->daemon, a->channel, checks_done, a, &f))
		answer_error(a, &f);
}

static void on_quit(struct ask *a, const uint8_t *body, size_t bytes)
{
	answer_end(a);
	daemon_stop(a->daemon, NULL);
}

/* Keys, or the size of its terminal. */
static void on_keys(struct ask *a, unsigned id, const uint8_t *body, size_t bytes)
{
	struct part *p = parts_by_id(a->daemon, a->vm_id);

	if (a->kind == ASK_CONSOLE && p && p->channel)
		channel_pass(p->channel, id, body, bytes);
}

static void on_detach(struct ask *a)
{
	a->owner = false;
	if (a->kind == ASK_CONSOLE || a->kind == ASK_RUN)
		answer_end(a);
}

static void on_hello(struct ask *a, const uint8_t *body, size_t bytes)
{
	struct control_hello in;
	struct failure f = {0};

	if (control_get_hello(body, bytes, &in) || in.role != CONTROL_CLIENT)
		return;
	CHANNEL_SEND(a->channel, hello, .version = WIRE_VERSION, .role = CONTROL_DAEMON, .node = channel_name(a->daemon->name));
	a->greeted = in.version == WIRE_VERSION;
	if (!a->greeted) {
		failure_set(&f, -EPROTONOSUPPORT, "run the same version of tessera on all nodes", "the client speaks version %u of the protocol, the daemon %u",
		            in.version, (unsigned)WIRE_VERSION);
		answer_error(a, &f);
	}
}

static void frame(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	static void (*const on[])(struct ask *, const uint8_t *, size_t) = {
		[CONTROL_ask_info] = on_info, [CONTROL_ask_run] = on_run, [CONTROL_ask_console] = on_console, [CONTROL_ask_stop] = on_stop,
		[CONTROL_ask_kill] = on_kill, [CONTROL_ask_stats] = on_stats, [CONTROL_ask_doctor] = on_doctor, [CONTROL_ask_quit] = on_quit,
		[CONTROL_ask_file] = on_file, [CONTROL_ask_balloon] = on_balloon,
	};
	struct ask *a = owner;

	if (id == CONTROL_hello && !a->greeted)
		on_hello(a, body, bytes);
	else if (!a->greeted)
		channel_finish(c), forget(a);
	else if (id == CONTROL_console_in || id == CONTROL_console_size)
		on_keys(a, id, body, bytes);
	else if (id == CONTROL_console_detach)
		on_detach(a);
	else if (a->kind != ASK_NOTHING)
		log_debug("a client asks before it is answered");
	else if (id == CONTROL_ask_list)
		on_list(a);
	else if (id < ARRAY_LEN(on) && on[id])
		on[id](a, body, bytes);
}

static void closed(void *owner, struct channel *c, int err)
{
	struct ask *a = owner;
	struct vm *vm = vms_by_id(a->daemon, a->vm_id);

	if (err == -EBADMSG)
		a->daemon->garbage++;
	if (a->owner && (a->kind == ASK_CONSOLE || a->kind == ASK_RUN) && vm)
		kill_vm(a, vm, "the client that ran it went away");
	forget(a);
}

static const struct channel_ops ops = {.frame = frame, .closed = closed, .drained = drained};

static struct ask *ask_new(struct daemon *d)
{
	struct ask *a = calloc(1, sizeof *a);

	if (!a)
		return NULL;
	*a = (struct ask){.next = d->asks, .daemon = d, .limit.fire = stop_late};
	d->asks = a;
	return a;
}

void asks_accept(struct daemon *d, int fd)
{
	struct ask *a = ask_new(d);

	if (!a)
		close(fd);
	else if (channel_open(&a->channel, &d->loop, fd, &ops, a))
		forget(a);
}

void asks_take(struct daemon *d, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct ask *a = ask_new(d);

	if (!a) {
		channel_close(c);
		return;
	}
	a->channel = c;
	channel_give(c, &ops, a);
	frame(a, c, id, body, bytes);
}

void asks_close(struct daemon *d)
{
	while (d->asks) {
		channel_close(d->asks->channel);
		forget(d->asks);
	}
}
