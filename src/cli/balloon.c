/* See balloon.h. The daemon is asked; what has become of it is in the counters of the coordinator's node (dev/outfit.c). */
#include "cli/balloon.h"

#include <errno.h>
#include <stdio.h>

#include "base/quantity.h"
#include "cli/client.h"
#include "cli/report.h"
#include "cli/stats.h"

static int ask(const struct options *o, struct failure *f)
{
	uint64_t memory;
	struct client c;
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err;

	if (quantity_read_bytes(o->second, NULL, &memory))
		return failure_set(f, -EINVAL, "write it as 900M or 4G", "cannot read '%.80s'", o->second);
	err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], f);
	if (!err)
		err = CLIENT_SEND(&c, f, ask_balloon, .vm = client_name(o->operand), .memory = memory);
	while (!err && id != CONTROL_end)
		err = client_next(&c, &id, &body, &bytes, f);
	client_close(&c);
	return err;
}

static uint64_t counter(const struct stats *k, const struct control_vm_line *vm, const char *key)
{
	const uint64_t *v = stats_find(k, vm->coordinator.s, key);

	return v ? *v : 0;
}

/* What is held is the guest's word. */
static uint64_t left(const struct control_vm_line *vm, uint64_t held)
{
	return held < vm->memory ? vm->memory - held : 0;
}

static void show(const struct options *o, const struct control_vm_line *vm, const struct stats *k)
{
	uint64_t target = left(vm, counter(k, vm, "balloon.target_bytes")), now = left(vm, counter(k, vm, "balloon.held_bytes"));
	char memory_text[QUANTITY_TEXT_BYTES], target_text[QUANTITY_TEXT_BYTES], now_text[QUANTITY_TEXT_BYTES];
	bool driver = counter(k, vm, "balloon.driver");

	if (o->value[OPTION_JSON])
		report_json(json_pack("{s:s,s:I,s:I,s:I,s:b}", "vm", o->operand, "memory_bytes", (json_int_t)vm->memory, "target_bytes", (json_int_t)target, "now_bytes",
			(json_int_t)now, "driver", driver));
	else
		printf("%s  started with %s, asked to do with %s, has %s%s\n", o->operand, quantity_print_bytes(vm->memory, memory_text),
			quantity_print_bytes(target, target_text), quantity_print_bytes(now, now_text), driver ? "" : "; its guest has no balloon driver");
}

int balloon_verb(const struct options *o)
{
	struct failure f = {0};
	struct snapshot s = {0};
	struct stats k = {0};
	int err = o->second ? ask(o, &f) : 0;

	if (!err)
		err = stats_gather(o, &s, &k, &f);
	if (!err && s.vms != 1)
		err = failure_set(&f, -ESRCH, "'tessera ls' shows the VMs there are", "there is no VM named %s", o->operand);
	if (!err)
		show(o, &s.vm[0], &k);
	snapshot_fini(&s);
	stats_fini(&k);
	return err ? (int)report_failure(&f, o->value[OPTION_JSON]) : REPORT_OK;
}
