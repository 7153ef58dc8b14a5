/* Visit every state that N nodes and one page can get into, breadth first, and check every step and every state; then look for starvation.
 *
 * usage: explore [--nodes N] [--max-states N] [--no-fair] [--disorder] [--expect-violation]
 * --disorder: letters overtake each other between two nodes, which breaks the contract with the transport: a violation must be found.
 * 0: all invariants hold (--expect-violation: one does not). 1: the opposite; the shortest way there is printed. 2: not all states could be
 * visited. 64: usage. */
#include "tests/explore/fair.h"
#include "tests/page_text.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct explore {
	unsigned nodes;
	uint32_t max_states;
	bool fair, disorder;
	struct states states;
	struct fair_graph graph;
	uint64_t moves;
};

/* The move that leads from one state to another, and what it does, found again. */
static void print_step(const struct explore *x, uint32_t from, uint32_t to)
{
	struct move moves[CLUSTER_MOVES_MAX];
	char text[CLUSTER_TEXT_BYTES], did[PAGE_TEXT_BYTES];
	uint8_t key[CLUSTER_KEY_BYTES];
	struct cluster before, after;

	cluster_decode(&before, x->nodes, states_key(&x->states, from));
	for (unsigned i = 0, n = cluster_moves(&before, x->disorder, moves); i < n; i++) {
		after = before;
		if (cluster_apply(&after, &moves[i], did))
			continue;
		cluster_encode(&after, key);
		if (memcmp(key, states_key(&x->states, to), sizeof key) != 0)
			continue;
		printf("  %-44s -> %s\n", cluster_text_of_move(&before, &moves[i], text), did);
		return;
	}
}

static void print_path(const struct explore *x, uint32_t to)
{
	if (to == 0)
		return;
	print_path(x, x->states.parents[to]);
	print_step(x, x->states.parents[to], to);
}

static int violation(const struct explore *x, uint32_t at, const struct move *last, const char *wrong)
{
	char text[CLUSTER_TEXT_BYTES], did[PAGE_TEXT_BYTES];
	struct cluster c, after;

	printf("violation: %s\n", wrong);
	print_path(x, at);
	cluster_decode(&c, x->nodes, states_key(&x->states, at));
	after = c;
	if (last) {
		cluster_apply(&after, last, did);
		printf("  %-44s -> %s\n", cluster_text_of_move(&c, last, text), did);
	}
	printf("  %s\n", cluster_text(&after, text));
	return 1;
}

static int out_of_room(const struct explore *x)
{
	printf("explore: no room after %u states; not all were visited\n", x->states.n);
	return 2;
}

/* All moves out of state 'at'. */
static int expand(struct explore *x, uint32_t at)
{
	struct move moves[CLUSTER_MOVES_MAX];
	struct cluster before, after;
	unsigned n;

	cluster_decode(&before, x->nodes, states_key(&x->states, at));
	n = cluster_moves(&before, x->disorder, moves);
	if (x->fair && fair_state(&x->graph) < 0)
		return out_of_room(x);
	for (unsigned i = 0; i < n; i++) {
		uint8_t key[CLUSTER_KEY_BYTES];
		const char *wrong;
		uint32_t to;
		bool fresh;

		after = before;
		x->moves++;
		wrong = cluster_apply(&after, &moves[i], NULL);
		if (wrong)
			return violation(x, at, &moves[i], wrong);
		cluster_encode(&after, key);
		to = states_add(&x->states, key, at, &fresh);
		if (to == UINT32_MAX || (x->fair && fair_edge(&x->graph, to, fair_class(&moves[i])) < 0))
			return out_of_room(x);
		if (fresh)
			wrong = cluster_check(&after);
		if (wrong)
			return violation(x, at, &moves[i], wrong);
	}
	return 0;
}

static int starvation(const struct explore *x)
{
	char text[64];
	unsigned node;
	uint32_t at;
	int found = fair_check(&x->graph, &x->states, x->nodes, &node, &at);

	if (found < 0)
		return out_of_room(x);
	if (found == 0)
		return 0;
	snprintf(text, sizeof text, "I8 node %u can wait for ever, from here round and round", node);
	return violation(x, at, NULL, text);
}

static int explore(struct explore *x)
{
	uint8_t key[CLUSTER_KEY_BYTES];
	struct cluster c;
	bool fresh;
	int bad = 0;

	if (states_init(&x->states, CLUSTER_KEY_BYTES, x->max_states) < 0)
		return out_of_room(x);
	cluster_init(&c, x->nodes);
	cluster_encode(&c, key);
	states_add(&x->states, key, 0, &fresh);
	for (uint32_t at = 0; at < x->states.n && !bad; at++)
		bad = expand(x, at);
	if (!bad && x->fair)
		bad = starvation(x);
	printf("explore: %u nodes, %u states, %llu moves%s%s\n", x->nodes, x->states.n, (unsigned long long)x->moves,
		x->fair ? ", starvation looked for" : "", bad ? "" : ": all invariants hold");
	return bad;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"nodes", required_argument, NULL, 'n'}, {"max-states", required_argument, NULL, 'm'},
		{"no-fair", no_argument, NULL, 'f'}, {"disorder", no_argument, NULL, 'd'},
		{"expect-violation", no_argument, NULL, 'v'}, {0},
	};
	struct explore x = {.nodes = 3, .max_states = 1 << 26, .fair = true};
	int bad, expected = 0;

	for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (opt == 'n')
			x.nodes = (unsigned)strtoul(optarg, NULL, 10);
		else if (opt == 'm')
			x.max_states = (uint32_t)strtoul(optarg, NULL, 10);
		else if (opt == 'f')
			x.fair = false;
		else if (opt == 'd')
			x.disorder = true;
		else if (opt == 'v')
			expected = 1;
		else
			return 64;
	}
	if (x.nodes < 1 || x.nodes > CLUSTER_NODES_MAX || x.max_states < 1 || x.max_states > 1u << 30)
		return 64;
	bad = explore(&x);
	states_fini(&x.states);
	fair_fini(&x.graph);
	return bad == 2 ? 2 : bad != expected;
}
