/* See parts.h. Starting the process itself: spawn.c. */
#include "node/parts.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/log.h"
#include "base/quantity.h"
#include "base/text.h"
#include "dev/gear.h"
#include "dev/porch.h"
#include "node/asks.h"
#include "node/kept.h"
#include "node/members.h"
#include "node/sandbox.h"
#include "node/spawn.h"

struct part *parts_by_id(struct daemon *d, uint64_t vm_id)
{
	struct part *p = d->parts;

	while (p && p->config.vm_id != vm_id)
		p = p->next;
	return p;
}

struct part *parts_by_name(struct daemon *d, const char *vm)
{
	struct part *p = d->parts;

	while (p && strcmp(p->config.vm.s, vm) != 0)
		p = p->next;
	return p;
}

static const char *coordinator(const struct part *p)
{
	return p->config.coordinator.s;
}

static void reserve(struct part *p)
{
	const struct control_part_layout *mine = &p->layout[p->config.index];

	p->reserved = (struct amount){(uint64_t)__builtin_popcountll(mine->vcpus), mine->memory};
	p->daemon->used.cpus += p->reserved.cpus;
	p->daemon->used.memory += p->reserved.memory;
	members_beat(p->daemon);
}

/* A fragment's own, and those it made beside it, which it cannot remove. */
static void remove_sockets(const char *path)
{
	char stem[RUNDIR_PATH_BYTES];

	unlink(path);
	snprintf(stem, sizeof stem, "%.*s", (int)(strlen(path) - strlen(".sock")), path);
	porch_remove(stem);
}

/* Give everything back, or keep it for the guest that has reset itself; the process is gone. */
static void forget(struct part *p)
{
	struct daemon *d = p->daemon;
	struct part **at = &d->parts;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	d->used.cpus -= p->reserved.cpus;
	d->used.memory -= p->reserved.memory;
	if (p->ended && p->end.reason == STOP_RESET && !(p->config.flags & CONTROL_RUN_NO_REBOOT))
		kept_add(d, p->config.vm_id, p->reserved);
	members_beat(d);
	loop_disarm(&d->loop, &p->limit);
	loop_remove(&d->loop, &p->process);
	if (p->process.fd >= 0)
		close(p->process.fd);
	channel_close(p->channel);
	if (*p->path)
		remove_sockets(p->path);
	baggage_free(&p->baggage);
	free(p->gear);
	free(p);
}

static void tell_failed(struct daemon *d, const char *to, uint64_t vm_id, uint8_t index, const struct failure *f)
{
	(void)DAEMON_SEND(d, to, part_failed, .vm_id = vm_id, .index = index, .code = (uint32_t)-f->err, .node = channel_name(*f->node ? f->node : d->name),
		.what = channel_text(f->what), .todo = channel_text(f->todo));
}

static void tell_ended(struct daemon *d, const char *to, const struct control_part_ended *m)
{
	uint8_t frame[WIRE_FRAME_MAX];

	(void)daemon_send(d, to, frame, control_put_part_ended(m, frame, sizeof frame));
}

/* Why, and that nothing of it is left. */
static void refuse(struct part *p, const struct failure *f)
{
	struct control_part_ended end = {.vm_id = p->config.vm_id, .index = p->config.index, .resets = p->config.resets, .reason = STOP_NODE_ERROR};
	struct daemon *d = p->daemon;
	char to[NAME_BYTES];

	TEXT_SET(to, coordinator(p));
	tell_failed(d, to, p->config.vm_id, p->config.index, f);
	forget(p);
	tell_ended(d, to, &end);
}

/* How the process ended, if it was our child. */
static void describe_death(const struct part *p, char *to, size_t room)
{
	siginfo_t info = {0};
	int call = sandbox_call(p->pid); /* gone once it is waited for */

	if (p->process.fd < 0 || waitid(P_PIDFD, (id_t)p->process.fd, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
		snprintf(to, room, "its fragment (process %d) died", p->pid);
	else if (info.si_code == CLD_EXITED)
		snprintf(to, room, "its fragment (process %d) exited with status %d without a word", p->pid, info.si_status);
	else if (info.si_status == SIGSYS && call >= 0)
		snprintf(to, room, "its fragment (process %d) was killed by its sandbox (system call %d)", p->pid, call);
	else if (info.si_status == SIGSYS)
		snprintf(to, room, "its fragment (process %d) was killed by its sandbox", p->pid);
	else
		snprintf(to, room, "its fragment (process %d) was killed by signal %d (%s)", p->pid, info.si_status, strsignal(info.si_status));
}

static void process_gone(struct loop_watch *w, uint32_t events)
{
	struct part *p = (struct part *)((char *)w - offsetof(struct part, process));
	struct daemon *d = p->daemon;
	char to[NAME_BYTES], text[256];
	uint8_t frame[WIRE_FRAME_MAX];
	size_t bytes;

	channel_drain(p->channel); /* its last words */
	memcpy(to, coordinator(p), sizeof to);
	describe_death(p, text, sizeof text);
	if (!p->ended) {
		log_warn("%s: %s", p->config.vm.s, text);
		p->end = (struct control_part_ended){.vm_id = p->config.vm_id, .index = p->config.index, .resets = p->config.resets, .died = 1, .reason = STOP_LOST,
			.about = channel_name(d->name), .what = channel_text(text)};
	}
	bytes = control_put_part_ended(&p->end, frame, sizeof frame);
	if (p->adopted && !p->settled)
		daemon_adopted(d);
	asks_part_gone(d, p->config.vm_id);
	forget(p);
	(void)daemon_send(d, to, frame, bytes);
}

static void kill_part(struct part *p)
{
	if (p->process.fd >= 0)
		spawn_kill(p->process.fd);
}

static void limit_over(struct loop_timer *t)
{
	struct part *p = (struct part *)((char *)t - offsetof(struct part, limit));

	log_warn("%s: its fragment (process %d) does not answer; killing it", p->config.vm.s, p->pid);
	kill_part(p);
}

/* To the coordinator's daemon, in the fragment's own words. */
static void pass_up(struct part *p, unsigned id, const uint8_t *body, size_t bytes)
{
	uint8_t frame[WIRE_FRAME_MAX];
	struct wire_out o = wire_begin(frame, sizeof frame);

	if (bytes)
		memcpy(o.at, body, bytes);
	o.at += bytes;
	(void)daemon_send(p->daemon, coordinator(p), frame, wire_end(&o, frame, (uint16_t)id));
}

static void on_status(struct part *p, const uint8_t *body, size_t bytes)
{
	struct control_part_status in;

	if (control_get_part_status(body, bytes, &in) || p->settled || in.state >= CONTROL_PART_STATES || p->layouts != p->config.nodes)
		return;
	loop_disarm(&p->daemon->loop, &p->limit);
	p->settled = true;
	p->state = in.state;
	p->born_ms = loop_now_ms() - in.age_ms;
	TEXT_SET(p->address, in.address.s);
	reserve(p);
	if (p->state != CONTROL_PART_STARTED) {
		log_warn("%s was being started when the daemon ended; killing what there is of it", p->config.vm.s);
		kill_part(p);
	} else {
		log_info("found %s running (process %d)", p->config.vm.s, p->pid);
		if (strcmp(coordinator(p), p->daemon->name) == 0)
			vms_adopt(p->daemon, p);
	}
	daemon_adopted(p->daemon);
}

/* The fragment is the least trusted speaker: it may only speak of its own VM, and only to whom it belongs. */
static bool about_us(const struct part *p, uint64_t vm_id, uint8_t index)
{
	return vm_id == p->config.vm_id && index == p->config.index;
}

static void on_progress(struct part *p, unsigned id, const uint8_t *body, size_t bytes)
{
	struct control_part_started started;
	struct control_part_meshed meshed;
	struct control_part_ready ready;
	bool ours = false;

	switch (id) {
	case CONTROL_part_ready: ours = !control_get_part_ready(body, bytes, &ready) && about_us(p, ready.vm_id, ready.index); break;
	case CONTROL_part_meshed: ours = !control_get_part_meshed(body, bytes, &meshed) && about_us(p, meshed.vm_id, meshed.index); break;
	case CONTROL_part_started: ours = !control_get_part_started(body, bytes, &started) && about_us(p, started.vm_id, started.index); break;
	}
	if (!ours)
		return;
	p->state = id == CONTROL_part_ready ? CONTROL_PART_READY : id == CONTROL_part_meshed ? CONTROL_PART_MESHED : CONTROL_PART_STARTED;
	if (id == CONTROL_part_ready)
		TEXT_SET(p->address, ready.address.s);
	pass_up(p, id, body, bytes);
}

/* Its reason goes ahead; that nothing of it is left follows when its process is gone. */
static void on_failed(struct part *p, const uint8_t *body, size_t bytes)
{
	struct control_part_failed in;

	if (control_get_part_failed(body, bytes, &in) || !about_us(p, in.vm_id, in.index))
		return;
	p->ended = true;
	p->end = (struct control_part_ended){.vm_id = in.vm_id, .index = in.index, .resets = p->config.resets, .reason = STOP_NODE_ERROR, .about = in.node,
		.what = in.what};
	pass_up(p, CONTROL_part_failed, body, bytes);
}

static void take_config(struct part *p, const struct control_part_prepare *in)
{
	p->config = *in;
	p->config.append.at = p->append;
	if (in->append.bytes)
		memcpy(p->append, in->append.at, in->append.bytes);
	if (baggage_set(&p->baggage, in->file, in->seed))
		log_warn("%s: out of memory; its seed is lost", in->vm.s);
	p->config.file = p->baggage.file;
	p->config.seed = p->baggage.seed;
	free(p->gear);
	p->gear = malloc(in->gear.bytes + 1);
	ensure(p->gear);
	if (in->gear.bytes)
		memcpy(p->gear, in->gear.at, in->gear.bytes);
	p->config.gear.at = p->gear;
}

static bool good_config(const struct control_part_prepare *in)
{
	return in->nodes >= 1 && in->nodes <= NODES_MAX && in->index < in->nodes && in->coordinator_index < in->nodes && in->append.bytes < VMS_APPEND_MAX &&
	       baggage_good(&in->file, &in->seed) && in->gear.bytes < GEAR_TEXT_BYTES && rundir_good_name(in->vm.s) && rundir_good_name(in->coordinator.s) &&
	       in->cpus >= 1 && in->cpus <= VCPUS_MAX;
}

static void from_fragment(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct part *p = owner;
	struct control_part_prepare config;
	struct control_part_layout layout;
	struct control_part_disk disk;
	struct control_part_trouble trouble;

	switch (id) {
	case CONTROL_part_prepare:
		if (p->adopted && !p->settled && !control_get_part_prepare(body, bytes, &config) && good_config(&config))
			take_config(p, &config);
		break;
	case CONTROL_part_layout:
		if (p->adopted && !p->settled && p->layouts < NODES_MAX && !control_get_part_layout(body, bytes, &layout))
			p->layout[p->layouts++] = layout;
		break;
	case CONTROL_part_status:
		on_status(p, body, bytes);
		break;
	case CONTROL_part_ready:
	case CONTROL_part_meshed:
	case CONTROL_part_started:
		on_progress(p, id, body, bytes);
		break;
	case CONTROL_part_disk:
		if (!control_get_part_disk(body, bytes, &disk) && about_us(p, disk.vm_id, disk.index))
			pass_up(p, id, body, bytes);
		break;
	case CONTROL_part_trouble:
		if (!control_get_part_trouble(body, bytes, &trouble) && about_us(p, trouble.vm_id, trouble.index))
			pass_up(p, id, body, bytes);
		break;
	case CONTROL_part_failed:
		on_failed(p, body, bytes);
		break;
	case CONTROL_part_ended:
		p->ended = !control_get_part_ended(body, bytes, &p->end) && about_us(p, p->end.vm_id, p->end.index);
		break;
	case CONTROL_console_out:
	case CONTROL_stat_line:
	case CONTROL_end:
		asks_from_part(p, id, body, bytes);
		break;
	default:
		log_warn("%s: its fragment says what no fragment says (%s)", p->config.vm.s, control_name(id));
	}
}

/* A fragment closes its control socket when it ends, and has some time to do so. */
static void fragment_closed(void *owner, struct channel *c, int err)
{
	struct part *p = owner;

	p->channel = NULL;
	if (!p->limit.armed)
		loop_arm(&p->daemon->loop, &p->limit, PARTS_TERM_MS);
}

static const struct channel_ops fragment_ops = {.frame = from_fragment, .closed = fragment_closed};

static struct part *part_new(struct daemon *d)
{
	struct part *p = calloc(1, sizeof *p);

	if (!p)
		return NULL;
	p->next = d->parts;
	p->daemon = d;
	p->process = (struct loop_watch){.fd = -1, .events = EPOLLIN, .ready = process_gone};
	p->limit.fire = limit_over;
	p->born_ms = loop_now_ms();
	d->parts = p;
	return p;
}

/* The socket is connected: speak and watch. Takes sock. */
static int attach(struct part *p, int sock)
{
	int err = channel_open(&p->channel, &p->daemon->loop, sock, &fragment_ops, p);

	return err ? err : loop_add(&p->daemon->loop, &p->process);
}

static int check_room(struct part *p, struct failure *f)
{
	struct daemon *d = p->daemon;
	const struct control_part_layout *mine = &p->layout[p->config.index];
	uint64_t cpus = (uint64_t)__builtin_popcountll(mine->vcpus);
	char a[QUANTITY_TEXT_BYTES], b[QUANTITY_TEXT_BYTES];

	for (struct part *other = d->parts; other; other = other->next)
		if (other != p && strcmp(other->config.vm.s, p->config.vm.s) == 0)
			return failure_set(f, -EEXIST, "choose another --name, or end that one first", "node %s already has a part of a VM named %s", d->name,
			                   p->config.vm.s);
	if (d->used.cpus + cpus > d->lent.cpus || d->used.memory + mine->memory > d->lent.memory || mine->memory > d->lent.memory)
		return failure_set(f, -ENOSPC, "ask for less, end another VM, or lend more (tessera node --lend)",
			"node %s has %llu CPUs and %s of memory left to lend; %s needs %llu and %s", d->name,
			(unsigned long long)(d->lent.cpus - d->used.cpus), quantity_print_bytes(d->lent.memory - d->used.memory, a), p->config.vm.s,
			(unsigned long long)cpus, quantity_print_bytes(mine->memory, b));
	return 0;
}

static void hand_config(struct part *p)
{
	uint8_t frame[WIRE_FRAME_MAX];

	channel_send(p->channel, frame, control_put_part_prepare(&p->config, frame, sizeof frame));
	for (unsigned k = 0; k < p->layouts; k++)
		channel_send(p->channel, frame, control_put_part_layout(&p->layout[k], frame, sizeof frame));
}

/* All is known about the part: start its process. */
static void begin(struct part *p)
{
	struct daemon *d = p->daemon;
	struct failure f = {0};
	char leaf[NAME_BYTES + 16];
	int sock = -1, err;

	kept_return(d, p->config.vm_id);
	err = check_room(p, &f);
	snprintf(leaf, sizeof leaf, "vms/%s.sock", p->config.vm.s);
	if (!err)
		err = rundir_path(d->root, d->name, leaf, p->path, &f);
	if (err)
		*p->path = 0;
	else
		err = spawn_fragment(d, p->config.vm.s, p->path, &p->pid, &p->process.fd, &sock, &f);
	if (!err) {
		reserve(p);
		err = attach(p, sock);
	}
	if (err) {
		failure_set(&f, err, "look at the daemon's log", "cannot watch the fragment of %s: %s", p->config.vm.s, strerror(-err));
		kill_part(p);
		refuse(p, &f);
		return;
	}
	log_info("%s: started its fragment (process %d)", p->config.vm.s, p->pid);
	hand_config(p);
}

static void on_prepare(struct daemon *d, const char *from, const uint8_t *body, size_t bytes)
{
	struct control_part_prepare in;
	struct part *p;

	if (control_get_part_prepare(body, bytes, &in) || !good_config(&in) || strcmp(in.coordinator.s, from) != 0 || parts_by_id(d, in.vm_id))
		return;
	p = part_new(d);
	if (!p)
		return; /* the coordinator's patience ends it */
	take_config(p, &in);
}

static void on_layout(struct daemon *d, const char *from, const uint8_t *body, size_t bytes)
{
	struct control_part_layout in;
	struct part *p;

	if (control_get_part_layout(body, bytes, &in) || !(p = parts_by_id(d, in.vm_id)) || strcmp(coordinator(p), from) != 0 || p->adopted ||
	    p->layouts == p->config.nodes || in.of != p->layouts)
		return;
	p->layout[p->layouts++] = in;
	if (p->layouts == p->config.nodes)
		begin(p);
}

static void on_stop(struct daemon *d, const char *from, const uint8_t *body, size_t bytes)
{
	struct control_part_stop in;
	struct part *p;
	struct vm *vm;

	if (control_get_part_stop(body, bytes, &in))
		return;
	p = parts_by_id(d, in.vm_id);
	if (p && strcmp(coordinator(p), from) != 0)
		return;
	if (!p) { /* never begun here, or over: either way the coordinator need not wait */
		kept_return(d, in.vm_id);
		vm = vms_by_id(d, in.vm_id);
		for (unsigned k = 0; vm && k < vm->parts; k++)
			if (strcmp(vm->part[k].node, d->name) == 0)
				tell_ended(d, from, &(struct control_part_ended){.vm_id = in.vm_id, .index = (uint8_t)k, .resets = in.resets, .reason = in.reason,
					.about = in.about, .what = in.what});
		return;
	}
	if (!p->channel) {
		kill_part(p);
		return;
	}
	channel_pass(p->channel, CONTROL_part_stop, body, bytes);
	loop_arm(&d->loop, &p->limit, PARTS_TERM_MS);
}

void parts_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes)
{
	struct wire_in in = {.at = body, .end = body + bytes};
	struct part *p;

	if (id == CONTROL_part_prepare) {
		on_prepare(d, from, body, bytes);
	} else if (id == CONTROL_part_layout) {
		on_layout(d, from, body, bytes);
	} else if (id == CONTROL_part_stop) {
		on_stop(d, from, body, bytes);
	} else { /* the fragment's business; all of them begin with the VM's id */
		p = parts_by_id(d, wire_get_u64(&in));
		if (p && p->channel && strcmp(coordinator(p), from) == 0)
			channel_pass(p->channel, id, body, bytes);
	}
}

void parts_tell_all(struct daemon *d, const char *node)
{
	for (struct part *p = d->parts; p; p = p->next)
		if (strcmp(coordinator(p), node) == 0)
			(void)DAEMON_SEND(d, node, part_status, .vm_id = p->config.vm_id, .index = p->config.index, .state = (uint8_t)p->state,
				.pid = (uint32_t)p->pid, .age_ms = loop_now_ms() - p->born_ms, .address = channel_text(p->address));
	(void)DAEMON_SEND(d, node, node_ready, );
}

void parts_node_lost(struct daemon *d, const char *node)
{
	for (struct part *p = d->parts; p; p = p->next)
		if (strcmp(coordinator(p), node) == 0 && p->state != CONTROL_PART_STARTED) {
			log_warn("%s: node %s was lost while starting it; killing what there is of it", p->config.vm.s, node);
			kill_part(p);
		}
}

static int adopt(struct daemon *d, const char *vm, const char *path)
{
	struct part *p;
	int pid, pidfd, sock, err = spawn_find(path, &pid, &pidfd, &sock);

	if (err) {
		remove_sockets(path);
		return 0;
	}
	p = part_new(d);
	if (!p) {
		close(sock);
		close(pidfd);
		return -ENOMEM;
	}
	p->adopted = true;
	p->pid = pid;
	p->process.fd = pidfd;
	p->config.vm = channel_name(vm);
	memcpy(p->path, path, sizeof p->path);
	d->adopting++;
	err = attach(p, sock);
	if (!err) {
		loop_arm(&d->loop, &p->limit, PARTS_ADOPT_MS);
		CHANNEL_SEND(p->channel, part_ask_status, );
	}
	return err;
}

int parts_adopt(struct daemon *d, struct failure *f)
{
	char folder[RUNDIR_PATH_BYTES], path[RUNDIR_PATH_BYTES], leaf[RUNDIR_PATH_BYTES], vm[NAME_BYTES];
	int err = rundir_path(d->root, d->name, "vms", folder, f);
	DIR *dir = err ? NULL : opendir(folder);
	struct dirent *e;

	if (err)
		return err;
	if (!dir)
		return failure_set(f, -errno, "run the daemon as root", "cannot read %s: %s", folder, strerror(errno));
	while (!err && (e = readdir(dir))) {
		size_t n = strlen(e->d_name);

		if (n <= 5 || n - 5 >= sizeof vm || strcmp(e->d_name + n - 5, ".sock") != 0)
			continue;
		memcpy(vm, e->d_name, n - 5);
		vm[n - 5] = 0;
		snprintf(leaf, sizeof leaf, "vms/%.63s.sock", vm);
		err = rundir_path(d->root, d->name, leaf, path, f);
		if (!err)
			err = adopt(d, vm, path);
	}
	closedir(dir);
	return err ? failure_set(f, err, "look at the daemon's log", "cannot take over running VMs: %s", strerror(-err)) : 0;
}

void parts_close(struct daemon *d)
{
	while (d->parts) {
		*d->parts->path = 0; /* stays for the next daemon */
		forget(d->parts);
	}
}
