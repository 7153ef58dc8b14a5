/* See lists.h. */
#include "cli/lists.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/quantity.h"
#include "cli/client.h"
#include "cli/report.h"
#include "cli/snapshot.h"
#include "cli/table.h"
#include "proto/stop.h"

static const char *node_state(unsigned state)
{
	static const char *const names[] = {"here", "up", "lost", "left"};

	return state < ARRAY_LEN(names) ? names[state] : "?";
}

static const char *vm_state(unsigned state)
{
	static const char *const names[] = {"starting", "running", "stopping", "ended"};

	return state < ARRAY_LEN(names) ? names[state] : "?";
}

static const char *part_state(unsigned state)
{
	static const char *const names[] = {"asked", "ready", "meshed", "running", "ended"};

	return state < ARRAY_LEN(names) ? names[state] : "?";
}

static const char *print_age(uint64_t ms, char to[32])
{
	unsigned long long s = ms / 1000;

	if (s < 120)
		snprintf(to, 32, "%llus", s);
	else if (s < 7200)
		snprintf(to, 32, "%llum", s / 60);
	else
		snprintf(to, 32, "%lluh", s / 3600);
	return to;
}

/* "0-2,5" */
static const char *print_vcpus(uint64_t mask, char to[256])
{
	char *at = to, *end = to + 256;

	snprintf(to, 256, "-");
	for (unsigned k = 0; k < VCPUS_MAX; k++) {
		unsigned last = k;

		if (!(mask >> k & 1))
			continue;
		while (last + 1 < VCPUS_MAX && mask >> (last + 1) & 1)
			last++;
		at += snprintf(at, (size_t)(end - at), last > k ? "%s%u-%u" : "%s%u", at == to ? "" : ",", k, last);
		k = last;
	}
	return to;
}

/* "A:2:512M,B:2:388M", as --place would be given. */
static void print_place(const struct snapshot *s, uint64_t vm_id, char *to, size_t room)
{
	char memory[QUANTITY_TEXT_BYTES];
	size_t at = 0;

	*to = 0;
	for (unsigned k = 0; k < s->parts && at < room; k++)
		if (s->part[k].vm_id == vm_id)
			at += (size_t)snprintf(to + at, room - at, "%s%s:%d:%s", at ? "," : "", s->part[k].node.s, __builtin_popcountll(s->part[k].vcpus),
				quantity_print_bytes(s->part[k].memory, memory));
}

static void print_nodes(const struct snapshot *s)
{
	struct table t;

	table_init(&t, "NODE|STATE|ADDRESS|>CPUS|>USED|>MEMORY|>USED|>RTT");
	for (unsigned k = 0; k < s->nodes; k++) {
		const struct control_node_line *n = &s->node[k];
		char memory[QUANTITY_TEXT_BYTES], used[QUANTITY_TEXT_BYTES], age[32];

		table_cell(&t, "%s", n->node.s);
		if (n->state == CONTROL_NODE_LOST || n->state == CONTROL_NODE_LEFT)
			table_cell(&t, "%s %s", node_state(n->state), print_age(n->silent_ms, age));
		else
			table_cell(&t, "%s", node_state(n->state));
		table_cell(&t, "%s", n->address.s);
		table_cell(&t, "%u", n->cpus);
		table_cell(&t, "%u", n->cpus_used);
		table_cell(&t, "%s", quantity_print_bytes(n->memory, memory));
		table_cell(&t, "%s", quantity_print_bytes(n->memory_used, used));
		if (n->rtt_us)
			table_cell(&t, "%lluus", (unsigned long long)n->rtt_us);
		else
			table_cell(&t, "-");
	}
	table_print(&t, stdout);
	table_fini(&t);
}

static void print_vms(const struct snapshot *s, bool all)
{
	struct table t;

	table_init(&t, "VM|STATE|FROM|>CPUS|>MEMORY|>AGE|PLACE");
	for (unsigned k = 0; k < s->vms; k++) {
		const struct control_vm_line *vm = &s->vm[k];
		char memory[QUANTITY_TEXT_BYTES], place[1024], age[32];

		if (vm->state == CONTROL_VM_ENDED && !all)
			continue;
		print_place(s, vm->vm_id, place, sizeof place);
		table_cell(&t, "%s", vm->vm.s);
		if (vm->state == CONTROL_VM_ENDED)
			table_cell(&t, "ended: %s", stop_reason_name(vm->reason));
		else
			table_cell(&t, "%s", vm_state(vm->state));
		table_cell(&t, "%s", vm->coordinator.s);
		table_cell(&t, "%u", vm->cpus);
		table_cell(&t, "%s", quantity_print_bytes(vm->memory, memory));
		table_cell(&t, "%s", print_age(vm->age_ms, age));
		table_cell(&t, "%s", place);
	}
	if (t.at > t.columns) {
		putchar('\n');
		table_print(&t, stdout);
	}
	table_fini(&t);
}

static json_t *node_json(const struct control_node_line *n)
{
	return json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "node", n->node.s, "state", node_state(n->state), "address", n->address.s, "cpus",
		(json_int_t)n->cpus, "cpus_used", (json_int_t)n->cpus_used, "memory_bytes", (json_int_t)n->memory, "memory_used_bytes",
		(json_int_t)n->memory_used, "silent_ms", (json_int_t)n->silent_ms, "rtt_us", (json_int_t)n->rtt_us, "garbage", (json_int_t)n->garbage);
}

static json_t *parts_json(const struct snapshot *s, uint64_t vm_id)
{
	json_t *parts = json_array();

	for (unsigned k = 0; k < s->parts; k++) {
		const struct control_part_line *p = &s->part[k];
		json_t *vcpus = json_array();

		if (p->vm_id != vm_id) {
			json_decref(vcpus);
			continue;
		}
		for (unsigned v = 0; v < VCPUS_MAX; v++)
			if (p->vcpus >> v & 1)
				json_array_append_new(vcpus, json_integer(v));
		json_array_append_new(parts, json_pack("{s:s,s:s,s:o,s:I,s:i,s:s}", "node", p->node.s, "state", part_state(p->state), "vcpus", vcpus,
			"memory_bytes", (json_int_t)p->memory, "pid", (int)p->pid, "address", p->address.s));
	}
	return parts;
}

static json_t *vm_json(const struct snapshot *s, const struct control_vm_line *vm)
{
	json_t *j = json_pack("{s:s,s:s,s:s,s:I,s:I,s:I,s:s,s:I,s:o}", "vm", vm->vm.s, "state", vm_state(vm->state), "coordinator", vm->coordinator.s, "cpus",
		(json_int_t)vm->cpus, "memory_bytes", (json_int_t)vm->memory, "age_ms", (json_int_t)vm->age_ms, "kernel", vm->kernel.s, "resets", (json_int_t)vm->resets, "parts",
		parts_json(s, vm->vm_id));

	if (*vm->sockets.s)
		json_object_update_new(j, json_pack("{s:o,s:o,s:I}", "agent_socket", json_sprintf("%s.agent", vm->sockets.s), "vsock_socket",
			json_sprintf("%s.vsock", vm->sockets.s), "vsock_cid", (json_int_t)vm->cid));
	if (*vm->trouble.s)
		json_object_set_new(j, "trouble", json_string(vm->trouble.s));
	if (vm->state == CONTROL_VM_ENDED)
		json_object_set_new(j, "end", json_pack("{s:s,s:s,s:s,s:i}", "reason", stop_reason_name(vm->reason), "node", vm->about.s, "what", vm->what.s,
			"code", (int)report_end(vm->reason)));
	return j;
}

int lists_ls(const struct options *o)
{
	bool json = o->value[OPTION_JSON], all = o->value[OPTION_ALL];
	struct failure f = {0};
	struct snapshot s = {0};
	struct client c;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], &f);

	if (!err)
		err = CLIENT_SEND(&c, &f, ask_list, );
	if (!err)
		err = snapshot_read(&s, &c, &f);
	client_close(&c);
	if (!err && json) {
		json_t *nodes = json_array(), *vms = json_array();

		for (unsigned k = 0; k < s.nodes; k++)
			json_array_append_new(nodes, node_json(&s.node[k]));
		for (unsigned k = 0; k < s.vms; k++)
			if (all || s.vm[k].state != CONTROL_VM_ENDED)
				json_array_append_new(vms, vm_json(&s, &s.vm[k]));
		report_json(json_pack("{s:s,s:o,s:o}", "here", c.node, "nodes", nodes, "vms", vms));
	} else if (!err) {
		print_nodes(&s);
		print_vms(&s, all);
	}
	snapshot_fini(&s);
	return err ? (int)report_failure(&f, json) : REPORT_OK;
}

static void print_info(const struct snapshot *s, const struct control_vm_line *vm)
{
	char memory[QUANTITY_TEXT_BYTES], age[32], vcpus[256];
	struct table t;

	printf("name         %s\nstate        %s\nstarted from %s, %s ago\ncpus         %u\nmemory       %s\nkernel       %s\n", vm->vm.s, vm_state(vm->state),
		vm->coordinator.s, print_age(vm->age_ms, age), vm->cpus, quantity_print_bytes(vm->memory, memory),
		*vm->kernel.s ? vm->kernel.s : "of the first disk");
	if (vm->resets)
		printf("resets       %u\n", vm->resets);
	if (*vm->sockets.s)
		printf("agent        %s.agent\nvsock        %s.vsock, CID %u\n", vm->sockets.s, vm->sockets.s, vm->cid);
	if (*vm->trouble.s)
		printf("trouble      %s\n", vm->trouble.s);
	if (vm->state == CONTROL_VM_ENDED)
		printf("ended        %s%s%s%s%s\n", stop_reason_name(vm->reason), *vm->about.s ? ", node " : "", vm->about.s, *vm->what.s ? ": " : "", vm->what.s);
	putchar('\n');
	table_init(&t, "NODE|STATE|VCPUS|>MEMORY|>PID|ADDRESS");
	for (unsigned k = 0; k < s->parts; k++) {
		const struct control_part_line *p = &s->part[k];

		table_cell(&t, "%s", p->node.s);
		table_cell(&t, "%s", part_state(p->state));
		table_cell(&t, "%s", print_vcpus(p->vcpus, vcpus));
		table_cell(&t, "%s", quantity_print_bytes(p->memory, memory));
		table_cell(&t, "%u", p->pid);
		table_cell(&t, "%s", p->address.s);
	}
	table_print(&t, stdout);
	table_fini(&t);
}

static int info_yaml(const struct options *o)
{
	struct failure f = {0};

	return snapshot_ask_file(o, stdout, &f) ? (int)report_failure(&f, o->value[OPTION_JSON]) : REPORT_OK;
}

static int info_all(const struct options *o)
{
	bool json = o->value[OPTION_JSON];
	struct failure f = {0};
	char here[NAME_BYTES];
	struct snapshot s;
	int err = snapshot_ask(&s, o, here, &f);

	if (!err && s.vms != 1)
		err = failure_set(&f, -EPROTO, "run the same version of tessera as client and daemon", "the daemon told of %u VMs", s.vms);
	if (!err && json)
		report_json(vm_json(&s, &s.vm[0]));
	else if (!err)
		print_info(&s, &s.vm[0]);
	snapshot_fini(&s);
	return err ? (int)report_failure(&f, json) : REPORT_OK;
}

int lists_info(const struct options *o)
{
	if (o->value[OPTION_YAML])
		return info_yaml(o);
	return info_all(o);
}
