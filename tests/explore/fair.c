/* Tarjan's strongly connected components over the states in which one node waits, see fair.h. */
#include "tests/explore/fair.h"

#include <errno.h>
#include <stdlib.h>

unsigned fair_class(const struct move *m)
{
	if (m->kind == MOVE_UP)
		return m->node;
	if (m->kind == MOVE_DOWN)
		return CLUSTER_NODES_MAX + m->node;
	if (m->kind == MOVE_LOCAL && m->event == PAGE_EV_HOLD_END)
		return 2 * CLUSTER_NODES_MAX + m->node;
	return FAIR_NONE;
}

static int grow(void **array, size_t n, size_t *max, size_t size)
{
	if (n < *max)
		return 0;
	size_t more = *max ? 2 * *max : 1 << 16;
	void *bigger = realloc(*array, more * size);

	if (!bigger)
		return -ENOMEM;
	*array = bigger;
	*max = more;
	return 0;
}

int fair_edge(struct fair_graph *g, uint32_t to, unsigned class)
{
	size_t max_to = g->max, max_class = g->max;

	if (grow((void **)&g->to, g->n, &max_to, sizeof *g->to) || grow((void **)&g->class, g->n, &max_class, sizeof *g->class))
		return -ENOMEM;
	g->max = max_to;
	g->to[g->n] = to;
	g->class[g->n++] = (uint8_t)class;
	return 0;
}

int fair_state(struct fair_graph *g)
{
	/* A power of two of states has just been filled: make room for twice as many. */
	if ((g->states & (g->states + 1)) == 0) {
		uint32_t *bigger = realloc(g->first, (2 * (size_t)g->states + 4) * sizeof *bigger);

		if (!bigger)
			return -ENOMEM;
		g->first = bigger;
	}
	g->first[g->states++] = (uint32_t)g->n;
	g->first[g->states] = (uint32_t)g->n;
	return 0;
}

void fair_fini(struct fair_graph *g)
{
	free(g->first);
	free(g->to);
	free(g->class);
	*g = (struct fair_graph){0};
}

/* One search. index 0: not visited; component 0: not finished. */
struct search {
	const struct fair_graph *g;
	const struct states *s;
	unsigned nodes, node;
	uint32_t *index, *low, *next_edge, *stack, *path;
	uint8_t *done, *waits;
	uint32_t indices, stacked, depth;
};

static bool search_member(const struct search *t, uint32_t v, uint32_t low)
{
	return t->waits[v] && t->low[v] == low;
}

static unsigned disabled_classes(const struct cluster *c)
{
	unsigned set = 0;

	for (unsigned n = 0; n < CLUSTER_NODES_MAX; n++) {
		set |= (unsigned)(n >= c->nodes || c->up[n].n == 0) << n;
		set |= (unsigned)(n >= c->nodes || c->down[n].n == 0) << (CLUSTER_NODES_MAX + n);
		set |= (unsigned)(n >= c->nodes || c->page[n].held == 0) << (2 * CLUSTER_NODES_MAX + n);
	}
	return set;
}

/* The members of a component lie on the stack from 'bottom' up, marked by a common low. Is going round in it fair? */
static bool component_fair(const struct search *t, uint32_t bottom, uint32_t mark)
{
	unsigned satisfied = 0;
	bool cycle = false;
	struct cluster c;

	for (uint32_t i = bottom; i < t->stacked; i++) {
		uint32_t v = t->stack[i];

		cluster_decode(&c, t->nodes, states_key(t->s, v));
		satisfied |= disabled_classes(&c);
		for (uint32_t e = t->g->first[v]; e < t->g->first[v + 1]; e++)
			if (search_member(t, t->g->to[e], mark) && !t->done[t->g->to[e]]) {
				cycle = true;
				satisfied |= 1u << t->g->class[e];
			}
	}
	return cycle && (satisfied & ((1u << FAIR_CLASSES) - 1)) == (1u << FAIR_CLASSES) - 1;
}

/* v is the root of a component: true if the component starves the node; then, or else, it is taken off the stack. */
static bool search_pop(struct search *t, uint32_t v)
{
	uint32_t bottom = t->stacked;
	bool found;

	while (t->stack[bottom - 1] != v)
		bottom--;
	bottom--;
	for (uint32_t i = bottom; i < t->stacked; i++)
		t->low[t->stack[i]] = t->index[v];
	found = component_fair(t, bottom, t->index[v]);
	for (uint32_t i = bottom; i < t->stacked; i++)
		t->done[t->stack[i]] = 1;
	t->stacked = bottom;
	return found;
}

static void search_enter(struct search *t, uint32_t v)
{
	t->index[v] = t->low[v] = ++t->indices;
	t->next_edge[v] = t->g->first[v];
	t->stack[t->stacked++] = v;
	t->path[t->depth++] = v;
}

/* Depth first from root, without recursion. */
static bool search_from(struct search *t, uint32_t root, uint32_t *bad)
{
	search_enter(t, root);
	while (t->depth) {
		uint32_t v = t->path[t->depth - 1];

		if (t->next_edge[v] < t->g->first[v + 1]) {
			uint32_t to = t->g->to[t->next_edge[v]++];

			if (!t->waits[to])
				continue;
			if (!t->index[to])
				search_enter(t, to);
			else if (!t->done[to] && t->index[to] < t->low[v])
				t->low[v] = t->index[to];
			continue;
		}
		t->depth--;
		if (t->depth && t->low[v] < t->low[t->path[t->depth - 1]])
			t->low[t->path[t->depth - 1]] = t->low[v];
		if (t->low[v] == t->index[v] && search_pop(t, v)) {
			*bad = v;
			return true;
		}
	}
	return false;
}

static bool search_node(struct search *t, uint32_t *bad)
{
	struct cluster c;

	t->indices = t->stacked = t->depth = 0;
	for (uint32_t v = 0; v < t->g->states; v++) {
		cluster_decode(&c, t->nodes, states_key(t->s, v));
		t->waits[v] = c.page[t->node].pending != PAGE_IDLE;
		t->index[v] = 0;
		t->done[v] = 0;
	}
	for (uint32_t v = 0; v < t->g->states; v++)
		if (t->waits[v] && !t->index[v] && search_from(t, v, bad))
			return true;
	return false;
}

int fair_check(const struct fair_graph *g, const struct states *s, unsigned nodes, unsigned *node, uint32_t *state)
{
	size_t n = g->states;
	uint32_t *words = calloc(5 * n, sizeof *words);
	uint8_t *flags = calloc(2 * n, 1);
	struct search t = {.g = g, .s = s, .nodes = nodes};
	int found = 0;

	if (!words || !flags) {
		found = -ENOMEM;
		goto out;
	}
	t.index = words;
	t.low = words + n;
	t.next_edge = words + 2 * n;
	t.stack = words + 3 * n;
	t.path = words + 4 * n;
	t.done = flags;
	t.waits = flags + n;
	for (t.node = 0; t.node < nodes && !found; t.node++) {
		found = search_node(&t, state);
		*node = t.node;
	}
out:
	free(words);
	free(flags);
	return found;
}
