/* See placing.h. */
#include "node/placing.h"

#include <errno.h>
#include <string.h>

#include "base/quantity.h"
#include "base/text.h"
#include "node/members.h"

struct seat {
	char node[NAME_BYTES];
	uint64_t cpus, memory; /* asked for */
	bool memory_given;
	struct amount left;
};

/* What a node has left to lend; false: no such node, or not heard. */
static bool left_on(struct daemon *d, const char *node, struct amount *left, struct failure *f)
{
	struct member *m = members_find(d, node);
	const struct amount *lent = &d->lent, *used = &d->used;

	if (strcmp(node, d->name) != 0) {
		if (!m) {
			failure_set(f, -ENOENT, "'tessera ls' shows the nodes there are", "there is no node named %s", node);
			return false;
		}
		if (m->state != CONTROL_NODE_UP) {
			failure_set(f, -EHOSTUNREACH, "start its daemon, or leave the node out of --place", "node %s cannot be reached", node);
			return false;
		}
		lent = &m->lent;
		used = &m->used;
	}
	left->cpus = lent->cpus > used->cpus ? lent->cpus - used->cpus : 0;
	left->memory = lent->memory > used->memory ? lent->memory - used->memory : 0;
	return true;
}

static int read_seat(const char *s, const char *end, struct seat *out, struct failure *f)
{
	static const char remedy[] = "write NODE:CPUS or NODE:CPUS:MEMORY, separated by commas, as A:2,B:2:512M";
	const char *colon = memchr(s, ':', (size_t)(end - s));
	const char *second = colon ? memchr(colon + 1, ':', (size_t)(end - colon - 1)) : NULL;
	int err = 0;

	*out = (struct seat){0};
	if (!colon || colon == s || (size_t)(colon - s) >= NAME_BYTES)
		err = -EINVAL;
	if (!err)
		err = quantity_read_count(colon + 1, second ? second : end, VCPUS_MAX, &out->cpus);
	if (!err && second) {
		err = quantity_read_bytes(second + 1, end, &out->memory);
		out->memory_given = true;
	}
	if (err)
		return failure_set(f, -EINVAL, remedy, "cannot read '%.*s' in --place", (int)(end - s), s);
	memcpy(out->node, s, (size_t)(colon - s));
	return 0;
}

static int read_place(struct daemon *d, const char *place, struct seat seats[NODES_MAX], unsigned *n, struct failure *f)
{
	for (*n = 0;; (*n)++) {
		const char *end = place + strcspn(place, ",");
		int err;

		if (*n == NODES_MAX)
			return failure_set(f, -E2BIG, "use fewer nodes", "a VM has at most %u nodes", (unsigned)NODES_MAX);
		err = read_seat(place, end, &seats[*n], f);
		if (err)
			return err;
		for (unsigned k = 0; k < *n; k++)
			if (strcmp(seats[k].node, seats[*n].node) == 0)
				return failure_set(f, -EINVAL, "name each node once", "node %s is twice in --place", seats[k].node);
		if (!left_on(d, seats[*n].node, &seats[*n].left, f))
			return f ? f->err : -ENOENT;
		if (!*end) {
			(*n)++;
			return 0;
		}
		place = end + 1;
	}
}

/* The local node first, then the others, as many as it takes. */
static int choose(struct vm *vm, struct seat seats[NODES_MAX], unsigned *n, struct failure *f)
{
	struct daemon *d = vm->daemon;
	struct amount want = {vm->cpus, vm->memory}, have = {0};
	struct member *m = d->members;
	const char *name = d->name;

	for (*n = 0; (want.cpus || want.memory) && name; m = *n > 1 ? m->next : m, name = m ? m->name : NULL) {
		struct seat *s = &seats[*n];
		struct amount left;

		while (*n && m && !left_on(d, m->name, &left, NULL))
			m = m->next;
		if (*n == NODES_MAX || (*n && !m))
			break;
		*s = (struct seat){.memory_given = true};
		TEXT_SET(s->node, *n ? m->name : name);
		if (!left_on(d, s->node, &s->left, f))
			return -ENOENT;
		have.cpus += s->left.cpus;
		have.memory += s->left.memory;
		s->cpus = s->left.cpus < want.cpus ? s->left.cpus : want.cpus;
		s->memory = (s->left.memory < want.memory ? s->left.memory : want.memory) & ~(uint64_t)(PAGE_BYTES - 1);
		want.cpus -= s->cpus;
		want.memory -= s->memory;
		(*n)++;
	}
	if (want.cpus || want.memory) {
		char a[QUANTITY_TEXT_BYTES], b[QUANTITY_TEXT_BYTES];

		return failure_set(f, -ENOSPC, "ask for less, end another VM, or have the nodes lend more (tessera node --lend)",
			"all nodes together have %llu CPUs and %s left; %s needs %u CPUs and %s", (unsigned long long)have.cpus,
			quantity_print_bytes(have.memory, a), vm->name, vm->cpus, quantity_print_bytes(vm->memory, b));
	}
	return 0;
}

/* Memory nobody said where to put: in proportion to CPUs, rest to the first. */
static int spread_memory(struct vm *vm, struct seat *seats, unsigned n, struct failure *f)
{
	uint64_t given = 0, weight = 0, rest;
	struct seat *first = NULL;

	for (unsigned k = 0; k < n; k++) {
		given += seats[k].memory;
		weight += seats[k].memory_given ? 0 : seats[k].cpus;
		if (!seats[k].memory_given && seats[k].cpus && !first)
			first = &seats[k];
	}
	if (given > vm->memory || (given < vm->memory && !first))
		return failure_set(f, -EINVAL, "make the sizes in --place add up to --memory", "--place gives other memory than --memory");
	rest = vm->memory - given;
	for (unsigned k = 0; k < n; k++)
		if (!seats[k].memory_given && weight)
			seats[k].memory = (vm->memory - given) / weight * seats[k].cpus & ~(uint64_t)(PAGE_BYTES - 1);
	for (unsigned k = 0; k < n; k++)
		rest -= seats[k].memory_given ? 0 : seats[k].memory;
	if (first)
		first->memory += rest;
	return 0;
}

static int check(struct vm *vm, const struct seat *seats, unsigned n, struct failure *f)
{
	uint64_t cpus = 0;
	bool here = false;

	for (unsigned k = 0; k < n; k++) {
		const struct seat *s = &seats[k];
		char a[QUANTITY_TEXT_BYTES], b[QUANTITY_TEXT_BYTES];

		cpus += s->cpus;
		here = here || strcmp(s->node, vm->daemon->name) == 0;
		if (s->memory % PAGE_BYTES)
			return failure_set(f, -EINVAL, "use multiples of 4K", "node %s would give a part of a page", s->node);
		if (s->cpus > s->left.cpus)
			return failure_set(f, -ENOSPC, "ask for less, end another VM, or lend more (tessera node --lend)",
				"node %s has %llu CPUs left to lend; %s needs %llu", s->node, (unsigned long long)s->left.cpus, vm->name,
				(unsigned long long)s->cpus);
		if (s->memory > s->left.memory)
			return failure_set(f, -ENOSPC, "ask for less, end another VM, or lend more (tessera node --lend)",
				"node %s has %s of memory left to lend; %s needs %s", s->node, quantity_print_bytes(s->left.memory, a), vm->name,
				quantity_print_bytes(s->memory, b));
	}
	if (cpus != vm->cpus)
		return failure_set(f, -EINVAL, "make the CPUs in --place add up to --cpus", "--place gives %llu CPUs, --cpus says %u", (unsigned long long)cpus,
			vm->cpus);
	if (!here)
		return failure_set(f, -EINVAL, "add it to --place (with 0 CPUs and some memory, if you like), or run this on one of those nodes",
			"the VM's devices live on the node it is started from, and %s is not in --place", vm->daemon->name);
	return 0;
}

int placing_choose(struct vm *vm, const char *place, struct failure *f)
{
	struct seat seats[NODES_MAX];
	unsigned n = 0, cpu = 0;
	int err = *place ? read_place(vm->daemon, place, seats, &n, f) : choose(vm, seats, &n, f);

	if (!err)
		err = spread_memory(vm, seats, n, f);
	if (!err)
		err = check(vm, seats, n, f);
	if (err)
		return err;
	vm->parts = n;
	for (unsigned k = 0; k < n; k++) {
		struct vm_part *p = &vm->part[k];

		memcpy(p->node, seats[k].node, NAME_BYTES);
		p->memory = seats[k].memory;
		for (uint64_t c = 0; c < seats[k].cpus; c++)
			p->vcpus |= 1ull << cpu++;
	}
	return 0;
}
