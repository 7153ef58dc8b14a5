/* See place.h. */
#include "proto/place.h"

#include <errno.h>
#include <string.h>

#include "base/quantity.h"

static const char lend_more[] = "ask for less, end another VM, or lend more (tessera node --lend)";

struct wish {
	unsigned node;
	uint64_t vcpus, memory;
	bool sized; /* a size was given */
};

static uint64_t whole_pages(uint64_t bytes)
{
	return bytes & ~(uint64_t)(PAGE_BYTES - 1);
}

static int find(const struct place_node *nodes, unsigned count, const char *name, size_t n, unsigned *out, struct failure *f)
{
	for (unsigned k = 0; k < count; k++) {
		if (strlen(nodes[k].name) != n || memcmp(nodes[k].name, name, n) != 0)
			continue;
		*out = k;
		return nodes[k].up ? 0 : failure_set(f, -EHOSTUNREACH, "start its daemon, or leave the node out of --place", "node %s cannot be reached", nodes[k].name);
	}
	return failure_set(f, -ENOENT, "'tessera ls' shows the nodes there are", "there is no node named %.*s", (int)n, name);
}

static int read_one(const struct place_node *nodes, unsigned count, const char *s, const char *end, struct wish *w, struct failure *f)
{
	const char *colon = memchr(s, ':', (size_t)(end - s));
	const char *second = colon ? memchr(colon + 1, ':', (size_t)(end - colon - 1)) : NULL;
	int err = colon && colon != s ? 0 : -EINVAL;

	*w = (struct wish){.sized = second};
	if (!err)
		err = quantity_read_count(colon + 1, second ? second : end, VCPUS_MAX, &w->vcpus);
	if (!err && second)
		err = quantity_read_bytes(second + 1, end, &w->memory);
	if (err)
		return failure_set(f, -EINVAL, "write NODE:CPUS or NODE:CPUS:MEMORY, separated by commas, as A:2,B:2:512M", "cannot read '%.*s' in --place",
		                   (int)(end - s), s);
	if (w->memory % PAGE_BYTES)
		return failure_set(f, -EINVAL, "use multiples of 4K", "'%.*s' in --place gives a part of a page", (int)(end - s), s);
	return find(nodes, count, s, (size_t)(colon - s), &w->node, f);
}

static int read_all(const struct place_node *nodes, unsigned count, const char *text, struct wish wishes[NODES_MAX], unsigned *n, struct failure *f)
{
	for (*n = 0;;) {
		const char *end = text + strcspn(text, ",");
		int err;

		if (*n == NODES_MAX)
			return failure_set(f, -E2BIG, "use fewer nodes", "a VM has at most %u nodes", (unsigned)NODES_MAX);
		err = read_one(nodes, count, text, end, &wishes[*n], f);
		if (err)
			return err;
		for (unsigned k = 0; k < *n; k++)
			if (wishes[k].node == wishes[*n].node)
				return failure_set(f, -EINVAL, "name each node once", "node %s is twice in --place", nodes[wishes[k].node].name);
		(*n)++;
		if (!*end)
			return 0;
		text = end + 1;
	}
}

/* Memory nobody said where to put: in proportion to vCPUs, what division leaves over to the first of them. */
static int share_out(const struct place_asked *asked, struct wish *wishes, unsigned n, struct failure *f)
{
	static const char remedy[] = "make the sizes in --place add up to --memory";
	struct wish *first = NULL;
	uint64_t open = asked->memory, rest, weight = 0;

	for (unsigned k = 0; k < n; k++) {
		if (wishes[k].memory > open)
			return failure_set(f, -EINVAL, remedy, "--place gives more memory than --memory");
		open -= wishes[k].memory;
		if (wishes[k].sized)
			continue;
		weight += wishes[k].vcpus;
		if (!first && wishes[k].vcpus)
			first = &wishes[k];
	}
	if (open && !first)
		return failure_set(f, -EINVAL, remedy, "--place gives less memory than --memory");
	rest = open;
	for (unsigned k = 0; k < n && weight; k++) {
		if (wishes[k].sized)
			continue;
		wishes[k].memory = whole_pages(open / weight * wishes[k].vcpus);
		rest -= wishes[k].memory;
	}
	if (first)
		first->memory += rest;
	return 0;
}

static int check_one(const struct place_node *node, const struct wish *w, const char *vm, struct failure *f)
{
	char a[QUANTITY_TEXT_BYTES], b[QUANTITY_TEXT_BYTES];

	if (!w->vcpus && !w->memory)
		return failure_set(f, -EINVAL, "give it CPUs or memory, or leave it out", "node %s gives nothing in --place", node->name);
	if (w->vcpus > node->vcpus)
		return failure_set(f, -ENOSPC, lend_more, "node %s has %llu CPUs left to lend; %s needs %llu", node->name, (unsigned long long)node->vcpus, vm,
		                   (unsigned long long)w->vcpus);
	if (w->memory > node->memory)
		return failure_set(f, -ENOSPC, lend_more, "node %s has %s of memory left to lend; %s needs %s", node->name, quantity_print_bytes(node->memory, a), vm,
		                   quantity_print_bytes(w->memory, b));
	return 0;
}

static int check_all(const struct place_node *nodes, const struct place_asked *asked, const struct wish *wishes, unsigned n, struct failure *f)
{
	uint64_t vcpus = 0;
	bool here = false;

	for (unsigned k = 0; k < n; k++) {
		vcpus += wishes[k].vcpus;
		here = here || wishes[k].node == asked->self;
	}
	if (vcpus != asked->vcpus)
		return failure_set(f, -EINVAL, "make the CPUs in --place add up to --cpus", "--place gives %llu CPUs, --cpus says %llu", (unsigned long long)vcpus,
		                   (unsigned long long)asked->vcpus);
	if (!here)
		return failure_set(f, -EINVAL, "add it to --place (with 0 CPUs and some memory, if you like), or run this on one of those nodes",
		                   "the VM's devices live on the node it is started from, and %s is not in --place", nodes[asked->self].name);
	for (unsigned k = 0; k < n; k++) {
		int err = check_one(&nodes[wishes[k].node], &wishes[k], asked->vm, f);

		if (err)
			return err;
	}
	return 0;
}

static bool is_taken(const struct wish *taken, unsigned n, unsigned node)
{
	for (unsigned t = 0; t < n; t++)
		if (taken[t].node == node)
			return true;
	return false;
}

/* A node that must be there and is not yet; -1: none. */
static int next_needed(unsigned count, const struct place_asked *asked, const struct wish *taken, unsigned n)
{
	for (unsigned k = 0; k < count && asked->needed; k++)
		if (asked->needed[k] && !is_taken(taken, n, k))
			return (int)k;
	return -1;
}

/* The next best node that is not taken yet: the coordinator's own, then the needed ones, then the one with the most vCPUs, then memory. */
static int next_best(const struct place_node *nodes, unsigned count, const struct place_asked *asked, const struct wish *taken, unsigned n)
{
	int best = -1;

	if (n == 0)
		return (int)asked->self;
	if (next_needed(count, asked, taken, n) >= 0)
		return next_needed(count, asked, taken, n);
	for (unsigned k = 0; k < count; k++) {
		bool free = nodes[k].up && (nodes[k].vcpus || whole_pages(nodes[k].memory)) && !is_taken(taken, n, k);

		if (free && (best < 0 || nodes[k].vcpus > nodes[best].vcpus || (nodes[k].vcpus == nodes[best].vcpus && nodes[k].memory > nodes[best].memory)))
			best = (int)k;
	}
	return best;
}

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* vCPUs are dealt out; now memory: some of whoever has no vCPU, of the others its proportion as far as it has it, then whoever has some. */
static void deal_memory(const struct place_node *nodes, const struct place_asked *asked, struct wish *wishes, unsigned n)
{
	uint64_t rest = asked->memory, share = whole_pages(asked->memory / (n > 4 ? 2 * n : 8)), open;

	if (!share)
		share = PAGE_BYTES;
	for (unsigned k = 0; k < n; k++) {
		bool bare = !wishes[k].vcpus && asked->needed && asked->needed[wishes[k].node];

		wishes[k].memory = bare ? least(least(share, rest), whole_pages(nodes[wishes[k].node].memory)) : 0;
		rest -= wishes[k].memory;
	}
	open = rest;
	for (unsigned k = 0; k < n; k++) {
		if (!wishes[k].vcpus)
			continue;
		wishes[k].memory = least(whole_pages(open / asked->vcpus * wishes[k].vcpus), whole_pages(nodes[wishes[k].node].memory));
		rest -= wishes[k].memory;
	}
	for (unsigned k = 0; k < n; k++) {
		uint64_t more = least(rest, whole_pages(nodes[wishes[k].node].memory) - wishes[k].memory);

		wishes[k].memory += more;
		rest -= more;
	}
}

static int not_enough(const struct place_node *nodes, unsigned count, const struct place_asked *asked, struct failure *f)
{
	char a[QUANTITY_TEXT_BYTES], b[QUANTITY_TEXT_BYTES];
	uint64_t vcpus = 0, memory = 0;

	for (unsigned k = 0; k < count; k++) {
		vcpus += nodes[k].up ? nodes[k].vcpus : 0;
		memory += nodes[k].up ? nodes[k].memory : 0;
	}
	return failure_set(f, -ENOSPC, lend_more, "all nodes together have %llu CPUs and %s left; %s needs %llu CPUs and %s", (unsigned long long)vcpus,
		quantity_print_bytes(memory, a), asked->vm, (unsigned long long)asked->vcpus, quantity_print_bytes(asked->memory, b));
}

/* A node that has something of the VM's must give something. vcpus: that are still to be dealt. */
static int check_needed(const struct place_node *node, uint64_t vcpus, const char *vm, struct failure *f)
{
	if (!node->up)
		return failure_set(f, -EHOSTUNREACH, "start its daemon, or take the disk or network card of another node", "node %s, which is to have a disk or network card of "
			"%s, cannot be reached", node->name, vm);
	if (whole_pages(node->memory) || (vcpus && node->vcpus))
		return 0;
	return failure_set(f, -ENOSPC, lend_more, "node %s, which is to have a disk or network card of %s, has nothing left to lend", node->name, vm);
}

static int choose(const struct place_node *nodes, unsigned count, const struct place_asked *asked, struct wish wishes[NODES_MAX], unsigned *n, struct failure *f)
{
	uint64_t vcpus = asked->vcpus, memory = asked->memory;

	if (!nodes[asked->self].vcpus && !whole_pages(nodes[asked->self].memory))
		return failure_set(f, -ENOSPC, "run this on another node, end another VM, or lend more (tessera node --lend)",
		                   "the VM's devices live on the node it is started from, and %s has nothing left to lend", nodes[asked->self].name);
	for (*n = 0; vcpus || memory || next_needed(count, asked, wishes, *n) >= 0; (*n)++) {
		int k = *n < NODES_MAX ? next_best(nodes, count, asked, wishes, *n) : -1, err = 0;

		if (k < 0)
			return not_enough(nodes, count, asked, f);
		if (asked->needed && asked->needed[k])
			err = check_needed(&nodes[k], vcpus, asked->vm, f);
		if (err)
			return err;
		wishes[*n] = (struct wish){.node = (unsigned)k, .vcpus = least(vcpus, nodes[k].vcpus)};
		vcpus -= wishes[*n].vcpus;
		memory -= least(memory, whole_pages(nodes[k].memory));
	}
	deal_memory(nodes, asked, wishes, *n);
	return 0;
}

int place_choose(const struct place_node *nodes, unsigned count, const struct place_asked *asked, struct place_seat seats[NODES_MAX], unsigned *n,
                 struct failure *f)
{
	struct wish wishes[NODES_MAX];
	int err = 0;

	if (!asked->vcpus || asked->vcpus > VCPUS_MAX || !asked->memory || asked->memory % PAGE_BYTES)
		return failure_set(f, -EINVAL, "ask for 1 to 64 CPUs and a multiple of 4K", "%s cannot be made of nothing or of parts of pages", asked->vm);
	if (*asked->wish) {
		err = read_all(nodes, count, asked->wish, wishes, n, f);
		if (!err)
			err = share_out(asked, wishes, *n, f);
	} else {
		err = choose(nodes, count, asked, wishes, n, f);
	}
	if (!err)
		err = check_all(nodes, asked, wishes, *n, f);
	for (unsigned k = 0; k < *n && !err; k++)
		seats[k] = (struct place_seat){.node = wishes[k].node, .vcpus = wishes[k].vcpus, .memory = wishes[k].memory};
	return err;
}
