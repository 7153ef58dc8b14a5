/* Every way in which a part can move between a few nodes: any delays, a crash or a cut at every step, refusals, second thoughts, words from nodes with old
 * beliefs. Checks H1 to H8 of proto/handoff.h by driving handoff_step().
 *
 * usage: explore_handoff [--nodes N] [--moves N] [--words N] [--troubles N] [--cancels N] [--refusals N] [--at N] [--others SET]
 * Without --at and --others: the part on node 0 and on node 1, every set of nodes that hold other parts of the VM (node 0 always does).
 * 0: all hold; 1: one does not, the way there is printed */
#include "tests/explore/handover.h"
#include "tests/explore/states.h"

#include "base/ensure.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct explorer {
	struct states states;
	unsigned nodes, others;
	uint64_t steps;
};

static void decode(const struct explorer *x, uint32_t at, struct handover *w)
{
	handover_decode(w, x->nodes, x->others, states_key(&x->states, at));
}

static void print_step(const struct explorer *x, uint32_t from, uint32_t to)
{
	struct handover_move moves[HANDOVER_MOVES_MAX];
	struct handover before, after;
	uint8_t key[HANDOVER_KEY_BYTES];
	char text[HANDOVER_TEXT_BYTES];

	decode(x, from, &before);
	for (unsigned i = 0, n = handover_moves(&before, moves); i < n; i++) {
		after = before;
		if (handover_apply(&after, &moves[i]))
			continue;
		handover_encode(&after, key);
		if (memcmp(key, states_key(&x->states, to), sizeof key) != 0)
			continue;
		printf("  %s\n", handover_text(&before, &moves[i], text));
		return;
	}
}

static void print_path(const struct explorer *x, uint32_t at)
{
	if (at == 0)
		return;
	print_path(x, x->states.parents[at]);
	print_step(x, x->states.parents[at], at);
}

static const char *expand(struct explorer *x, uint32_t at)
{
	struct handover_move moves[HANDOVER_MOVES_MAX];
	struct handover before, after;
	char text[HANDOVER_TEXT_BYTES];
	bool fresh, rest = true;
	const char *wrong;

	decode(x, at, &before);
	for (unsigned i = 0, n = handover_moves(&before, moves); i < n; i++) {
		uint8_t key[HANDOVER_KEY_BYTES];

		after = before;
		wrong = handover_apply(&after, &moves[i]);
		if (!wrong)
			wrong = handover_check(&after);
		if (wrong) {
			print_path(x, at);
			printf("  %s\n", handover_text(&before, &moves[i], text));
			return wrong;
		}
		rest &= !handover_must(&moves[i]);
		handover_encode(&after, key);
		ensure(states_add(&x->states, key, at, &fresh) != UINT32_MAX);
		x->steps++;
	}
	wrong = rest ? handover_check_rest(&before) : NULL;
	if (wrong)
		print_path(x, at);
	return wrong;
}

/* True: all holds. */
static bool explore(unsigned nodes, unsigned at, unsigned others, const struct handover_budget *budget)
{
	struct explorer x = {.nodes = nodes, .others = others};
	uint8_t key[HANDOVER_KEY_BYTES];
	const char *wrong = NULL;
	struct handover w;
	bool fresh;

	ensure(states_init(&x.states, HANDOVER_KEY_BYTES, 1u << 28) == 0);
	handover_init(&w, nodes, at, others, budget);
	handover_encode(&w, key);
	states_add(&x.states, key, 0, &fresh);
	for (uint32_t i = 0; i < x.states.n && !wrong; i++)
		wrong = expand(&x, i);
	if (wrong)
		printf("violation: %s\n", wrong);
	printf("explore_handoff: %u nodes, the part on %u, others on 0x%x: %u states, %llu steps%s\n", nodes, at, others, x.states.n, (unsigned long long)x.steps,
	       wrong ? "" : ": H1 to H8 hold");
	states_fini(&x.states);
	return !wrong;
}

static const struct option options[] = {
	{"nodes", required_argument, NULL, 'n'}, {"moves", required_argument, NULL, 'm'}, {"words", required_argument, NULL, 'w'},
	{"troubles", required_argument, NULL, 't'}, {"cancels", required_argument, NULL, 'c'}, {"refusals", required_argument, NULL, 'r'},
	{"at", required_argument, NULL, 'a'}, {"others", required_argument, NULL, 'o'}, {0},
};

int main(int argc, char **argv)
{
	struct handover_budget budget = {.moves = 1, .cancels = 1, .refusals = 1, .troubles = 1, .words = 1};
	unsigned nodes = 3, at_first = 0, at_last = 1, others_first = 1, others_last = 0;

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		unsigned value = optarg ? (unsigned)strtoul(optarg, NULL, 0) : 0;

		switch (c) {
		case 'n': nodes = value; break;
		case 'm': budget.moves = (uint8_t)value; break;
		case 'w': budget.words = (uint8_t)value; break;
		case 't': budget.troubles = (uint8_t)value; break;
		case 'c': budget.cancels = (uint8_t)value; break;
		case 'r': budget.refusals = (uint8_t)value; break;
		case 'a': at_first = at_last = value; break;
		case 'o': others_first = others_last = value; break;
		default: return 64;
		}
	}
	if (nodes < 2 || nodes > HANDOVER_NODES_MAX || budget.moves > 3 || budget.words > 3 || at_last >= nodes)
		return 64;
	if (!others_last)
		others_last = (1u << nodes) - 1;
	for (unsigned at = at_first; at <= at_last; at++)
		for (unsigned others = others_first; others <= others_last; others += 2)
			if (!explore(nodes, at, others, &budget))
				return 1;
	return 0;
}
