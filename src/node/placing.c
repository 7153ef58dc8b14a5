/* See placing.h. The decision is proto/place.h's. */
#include "node/placing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "dev/gear.h"
#include "node/members.h"
#include "proto/place.h"

_Static_assert(PLACE_NODES_MAX >= MEMBERS_MAX + 1, "every node of a cluster can be placed on");

static struct place_node left(const char *name, bool up, struct amount lent, struct amount used)
{
	struct place_node n = {.up = up};

	TEXT_SET(n.name, name);
	n.vcpus = lent.cpus > used.cpus ? lent.cpus - used.cpus : 0;
	n.memory = lent.memory > used.memory ? lent.memory - used.memory : 0;
	return n;
}

static void take(struct vm *vm, const struct place_node *nodes, const struct place_seat *seats, unsigned n)
{
	unsigned vcpu = 0;

	vm->parts = n;
	for (unsigned k = 0; k < n; k++) {
		TEXT_SET(vm->part[k].node, nodes[seats[k].node].name);
		vm->part[k].memory = seats[k].memory;
		for (uint64_t c = 0; c < seats[k].vcpus; c++)
			vm->part[k].vcpus |= 1ull << vcpu++;
	}
}

void placing_elsewhere(const struct daemon *d, const char *place, char node[NAME_BYTES])
{
	*node = 0;
	for (const char *at = place; *at; at += strcspn(at, ","), at += *at == ',') {
		char name[NAME_BYTES] = "";
		size_t n = strcspn(at, ":,");

		if (!n || n >= sizeof name || at[n] != ':') { /* for place_choose to explain */
			*node = 0;
			return;
		}
		memcpy(name, at, n);
		if (at == place)
			memcpy(node, name, sizeof name);
		if (strcmp(name, d->name) == 0) {
			*node = 0;
			return;
		}
	}
}

/* Nodes with disks or cards of the VM; whether there are such nodes is node/furnish.h's to say. */
static bool is_needed(const struct gear *g, const char *node)
{
	for (unsigned i = 0; g && i < g->disks; i++)
		if (strcmp(g->disk[i].node, node) == 0)
			return true;
	for (unsigned i = 0; g && i < g->nics; i++)
		if (strcmp(g->nic[i].node, node) == 0)
			return true;
	return false;
}

int placing_choose(struct vm *vm, const char *place, struct failure *f)
{
	struct daemon *d = vm->daemon;
	struct place_asked asked = {.vm = vm->name, .vcpus = vm->cpus, .memory = vm->memory, .wish = place, .self = 0};
	struct place_seat seats[NODES_MAX];
	struct place_node *nodes = calloc(PLACE_NODES_MAX, sizeof *nodes);
	bool needed[PLACE_NODES_MAX];
	unsigned count = 0, n = 0;
	int err;

	if (!nodes)
		return failure_set(f, -ENOMEM, "free some memory on this host", "out of memory");
	nodes[count++] = left(d->name, true, d->lent, d->used);
	for (struct member *m = d->members; m; m = m->next)
		nodes[count++] = left(m->name, m->state == CONTROL_NODE_UP, m->lent, m->used);
	for (unsigned k = 0; k < count; k++)
		needed[k] = is_needed(vm->gear, nodes[k].name);
	asked.needed = needed;
	err = place_choose(nodes, count, &asked, seats, &n, f);
	if (!err)
		take(vm, nodes, seats, n);
	free(nodes);
	return err;
}
