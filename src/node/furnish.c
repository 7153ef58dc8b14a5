/* See furnish.h. */
#include "node/furnish.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "node/asks.h"
#include "node/members.h"

static bool has_part(const struct vm *vm, const char *node)
{
	for (unsigned k = 0; k < vm->parts; k++)
		if (strcmp(vm->part[k].node, node) == 0)
			return true;
	return false;
}

static int settle(const struct vm *vm, const char *what, char node[NAME_BYTES], struct failure *f)
{
	if (!*node)
		text_copy(node, NAME_BYTES, vm->coordinator);
	if (has_part(vm, node))
		return 0;
	if (strcmp(node, vm->daemon->name) != 0 && !members_find(vm->daemon, node))
		return failure_set(f, -ENOENT, "'tessera ls' lists the nodes", "there is no node %s for %.100s", node, what);
	return failure_set(f, -EINVAL, "give it a share of the VM (--place), or take another node", "node %s has no part of %s, but is to have %.100s", node, vm->name, what);
}

int furnish_begin(struct vm *vm, struct wire_blob asked, struct failure *f)
{
	struct gear *g;
	int err;

	if (!asked.bytes && !vm->baggage.seed.bytes)
		return 0;
	g = calloc(1, sizeof *g);
	if (!g)
		return failure_set(f, -ENOMEM, "free some memory on this host", "out of memory");
	vm->gear = g;
	err = gear_read(g, (const char *)asked.at, asked.bytes, f);
	for (unsigned i = 0; i < g->disks && !err; i++)
		if (strcmp(g->disk[i].path, GEAR_SEED) == 0)
			err = failure_set(f, -EINVAL, "give the path of a file", "'%s' is no disk", GEAR_SEED);
	if (!err && vm->baggage.seed.bytes)
		err = gear_add_disk(g, GEAR_SEED ",readonly", f);
	return err;
}

int furnish_settle(struct vm *vm, struct failure *f)
{
	char text[GEAR_TEXT_BYTES];
	struct gear *g = vm->gear;
	int err = 0;

	if (!g)
		return 0;
	for (unsigned i = 0; i < g->disks && !err; i++)
		err = settle(vm, g->disk[i].path, g->disk[i].node, f);
	for (unsigned i = 0; i < g->nics && !err; i++)
		err = settle(vm, "a network card", g->nic[i].node, f);
	gear_set_macs(g, vm->name);
	if (!err && gear_print(g, text) < 0)
		err = failure_set(f, -E2BIG, "use shorter paths", "the names of the disks are too long together");
	return err;
}

void furnish_adopt(struct vm *vm, struct wire_blob gear)
{
	struct gear *g = gear.bytes ? calloc(1, sizeof *g) : NULL;

	if (g && gear_read(g, (const char *)gear.at, gear.bytes, NULL)) {
		free(g);
		g = NULL;
	}
	vm->gear = g;
}

struct wire_blob furnish_text(const struct vm *vm, char to[GEAR_TEXT_BYTES])
{
	int n = vm->gear ? gear_print(vm->gear, to) : 0;

	return (struct wire_blob){(const uint8_t *)to, n > 0 ? (uint32_t)n : 0};
}

void furnish_found(struct vm *vm, const char *from, const struct control_part_disk *in)
{
	struct gear_disk *d = vm->gear && in->disk < vm->gear->disks ? &vm->gear->disk[in->disk] : NULL;

	if (!d || strcmp(d->node, from) != 0)
		return;
	d->found = true;
	d->bytes = in->bytes;
	d->block_bytes = in->block_bytes;
	d->optimal_bytes = in->optimal_bytes;
	d->discards = in->flags & CONTROL_DISK_DISCARDS;
	d->writes_back = in->flags & CONTROL_DISK_WRITES_BACK;
}

int furnish_tell(struct vm *vm, const char *node)
{
	int err = 0;

	for (unsigned i = 0; vm->gear && i < vm->gear->disks && !err; i++) {
		const struct gear_disk *d = &vm->gear->disk[i];

		if (d->found)
			err = DAEMON_SEND(vm->daemon, node, part_peer_disk, .vm_id = vm->id, .disk = (uint8_t)i, .bytes = d->bytes, .block_bytes = d->block_bytes,
				.optimal_bytes = d->optimal_bytes,
				.flags = (uint8_t)((d->discards ? CONTROL_DISK_DISCARDS : 0) | (d->writes_back ? CONTROL_DISK_WRITES_BACK : 0)));
	}
	return err;
}

void furnish_trouble(struct daemon *d, const char *from, const uint8_t *body, size_t bytes)
{
	struct control_part_trouble in;
	struct vm *vm;

	if (control_get_part_trouble(body, bytes, &in) || !(vm = vms_by_id(d, in.vm_id)) || !vms_mine(vm) || in.index >= vm->parts ||
	    strcmp(vm->part[in.index].node, from) != 0)
		return;
	snprintf(vm->trouble, sizeof vm->trouble, "node %s: %.500s", from, in.what.s);
	log_warn("%s: %s", vm->name, vm->trouble);
	vms_tell(vm);
	asks_vm_trouble(vm);
}

void furnish_end(struct vm *vm)
{
	free(vm->gear);
	vm->gear = NULL;
}
