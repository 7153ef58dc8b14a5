/* Every way in which three fragments can stop: any of them for its own reason at any time, any link cut, any node crashed or hung, words
 * lost in what was cut. Checks V1 to V5 of proto/stop.h by driving stop_step().
 *
 * usage: explore_stop [--nodes N]      0: all hold; 1: one does not, the way there is printed */
#include "tests/explore/cluster.h"
#include "tests/explore/states.h"

#include "base/ensure.h"
#include "proto/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NODES = 3, EOF_FLAG = 0x80, CLOSED = 0x40, CAUSE_MASK = 0x3f, TROUBLES_MAX = 2 };

/* Bytes only, so that it is its own key. A channel holds at most one word (each tells once), then perhaps the end of the stream. */
struct world {
	uint8_t told[NODES], verdict[NODES], waiting[NODES], ended[NODES]; /* struct stop of each; causes as cause_code() */
	uint8_t channel[NODES][NODES]; /* from, to */
	uint8_t crashed, hung;         /* sets */
	uint8_t own, troubles;         /* nodes that had a cause of their own; number of cuts, crashes and hangs */
	uint8_t first_crash;           /* 1 + node, if that came before anything else */
};
_Static_assert(sizeof(struct world) <= CLUSTER_KEY_BYTES, "the world is its own key");

static unsigned nodes = NODES;

static uint8_t cause_code(struct stop_cause c)
{
	return (uint8_t)(c.reason | c.node.v << 4);
}

static struct stop_cause code_cause(uint8_t code)
{
	return (struct stop_cause){code & 15, {(uint8_t)(code >> 4 & 3)}};
}

static bool alive(const struct world *w, unsigned n)
{
	return !(w->crashed >> n & 1) && !w->ended[n];
}

/* The stream from -> to ends after what is in it. */
static void end_stream(struct world *w, unsigned from, unsigned to)
{
	if (!(w->channel[from][to] & CLOSED))
		w->channel[from][to] |= EOF_FLAG;
}

static void close_links(struct world *w, unsigned n)
{
	for (unsigned k = 0; k < nodes; k++) {
		if (k == n)
			continue;
		end_stream(w, n, k);
		w->channel[k][n] = CLOSED;
	}
}

static const char *act(struct world *w, unsigned n, const struct stop *s, unsigned actions, bool was_running)
{
	if (actions & STOP_DO_TELL && (!was_running || !(actions & STOP_DO_FREEZE)))
		return "V1 told twice, or before the freeze";
	for (unsigned k = 0; actions & STOP_DO_TELL && k < nodes; k++)
		if (k != n && !(w->channel[n][k] & (CLOSED | EOF_FLAG)))
			w->channel[n][k] = cause_code(s->told);
	if (actions & STOP_DO_END)
		close_links(w, n);
	return NULL;
}

static const char *event(struct world *w, unsigned n, enum stop_event_kind kind, unsigned from, struct stop_cause cause)
{
	struct stop s;
	struct stop_event ev = {kind, {(uint8_t)from}, cause};
	unsigned actions;

	stop_init(&s, (node_t){(uint8_t)n}, nodes);
	s.told = code_cause(w->told[n]);
	s.verdict = code_cause(w->verdict[n]);
	s.waiting = w->waiting[n];
	s.ended = w->ended[n];
	actions = stop_step(&s, &ev);
	w->waiting[n] = (uint8_t)s.waiting;
	w->ended[n] = s.ended;
	const char *wrong = act(w, n, &s, actions, w->told[n] == 0);
	w->told[n] = cause_code(s.told);
	w->verdict[n] = cause_code(s.verdict);
	return wrong;
}

/* Moves, numbered; false when the n-th of its kind is not possible now. Each returns what is wrong through *wrong. */

static bool receive(struct world *w, unsigned from, unsigned to, const char **wrong)
{
	uint8_t *ch = &w->channel[from][to], code = *ch & CAUSE_MASK;

	if (from == to || !alive(w, to) || w->hung >> to & 1)
		return false;
	if (code) {
		*ch &= (uint8_t)~CAUSE_MASK;
		*wrong = event(w, to, STOP_EV_HEARD, from, code_cause(code));
		return true;
	}
	if (!(*ch & EOF_FLAG))
		return false;
	*ch = CLOSED;
	*wrong = event(w, to, STOP_EV_LOST, from, (struct stop_cause){0});
	return true;
}

static bool own_cause(struct world *w, unsigned n, enum stop_reason reason, const char **wrong)
{
	if (!alive(w, n) || w->hung >> n & 1)
		return false;
	w->own |= (uint8_t)(1u << n);
	*wrong = event(w, n, STOP_EV_CAUSE, 0, (struct stop_cause){(uint8_t)reason, {(uint8_t)n}});
	return true;
}

static bool trouble(struct world *w)
{
	return w->troubles++ < TROUBLES_MAX;
}

static bool cut(struct world *w, unsigned a, unsigned b)
{
	if (a >= b || (w->channel[a][b] | w->channel[b][a]) & (EOF_FLAG | CLOSED) || !trouble(w))
		return false;
	w->channel[a][b] = w->channel[b][a] = EOF_FLAG; /* and the words in it are gone */
	return true;
}

static bool crash(struct world *w, unsigned n)
{
	bool first = w->troubles == 0 && w->own == 0;

	if (!alive(w, n) || !trouble(w))
		return false;
	if (first)
		w->first_crash = (uint8_t)(1 + n);
	w->crashed |= (uint8_t)(1u << n);
	close_links(w, n);
	return true;
}

static bool hang(struct world *w, unsigned n)
{
	if (!alive(w, n) || w->hung >> n & 1 || !trouble(w))
		return false;
	w->hung |= (uint8_t)(1u << n);
	return true;
}

static bool wake(struct world *w, unsigned n)
{
	if (!(w->hung >> n & 1))
		return false;
	w->hung &= (uint8_t)~(1u << n);
	return true;
}

/* n has not heard from a hung peer for too long: before the stop that loses the link, after it that is the deadline. */
static bool silence(struct world *w, unsigned n, unsigned peer, const char **wrong)
{
	if (n == peer || !alive(w, n) || !(w->hung >> peer & 1) || w->hung >> n & 1 || !(w->waiting[n] >> peer & 1))
		return false;
	if (w->told[n]) {
		*wrong = event(w, n, STOP_EV_DEADLINE, 0, (struct stop_cause){0});
		return true;
	}
	w->channel[peer][n] = CLOSED;
	end_stream(w, n, peer);
	*wrong = event(w, n, STOP_EV_LOST, peer, (struct stop_cause){0});
	return true;
}

enum kind { RECEIVE, POWEROFF, ERROR, CUT, CRASH, HANG, WAKE, SILENCE, KINDS };
static const char *const kind_names[KINDS] = {"receives from", "powers off", "has an error", "is cut off from", "crashes", "hangs", "goes on", "gives up"};

static bool move(struct world *w, enum kind kind, unsigned a, unsigned b, const char **wrong)
{
	*wrong = NULL;
	switch (kind) {
	case RECEIVE:
		return receive(w, b, a, wrong);
	case POWEROFF:
		return b == 0 && own_cause(w, a, STOP_POWEROFF, wrong);
	case ERROR:
		return b == 0 && own_cause(w, a, STOP_NODE_ERROR, wrong);
	case CUT:
		return cut(w, a, b);
	case CRASH:
		return b == 0 && crash(w, a);
	case HANG:
		return b == 0 && hang(w, a);
	case WAKE:
		return b == 0 && wake(w, a);
	case SILENCE:
		return silence(w, a, b, wrong);
	case KINDS:
		break;
	}
	return false;
}

/* Nothing more happens by itself: did it end well? */
static const char *check_rest(const struct world *w)
{
	unsigned verdicts = 0, last = 0;
	bool stop = w->own || w->crashed;

	for (unsigned n = 0; n < nodes; n++) {
		struct stop_cause v = code_cause(w->verdict[n]);

		stop |= w->told[n] != 0;
		if (w->crashed >> n & 1)
			continue;
		if (w->ended[n] && v.reason == STOP_LOST && !w->troubles)
			return "V5 a node is lost that was never in trouble";
		if (w->ended[n] && v.reason != STOP_LOST && !(w->own >> v.node.v & 1))
			return "V5 a verdict that nobody caused";
		if (w->ended[n] && !w->own && v.reason != STOP_LOST)
			return "V4 cuts and crashes end in another verdict than lost";
		if (w->first_crash && w->troubles == 1 && !w->own && w->ended[n] && v.node.v + 1 != w->first_crash)
			return "V4 one crash, and another node is blamed";
		verdicts += last != w->verdict[n];
		last = w->verdict[n];
	}
	if (w->troubles == 0 && verdicts > 1)
		return "V3 verdicts differ though nothing broke";
	for (unsigned n = 0; n < nodes; n++)
		if (stop && alive(w, n) && !(w->hung >> n & 1))
			return "V2 a fragment does not stop";
	return NULL;
}

static void print_path(const struct states *s, uint32_t at)
{
	struct world before, after;
	const char *wrong;

	if (at == 0)
		return;
	print_path(s, s->parents[at]);
	memcpy(&before, states_key(s, s->parents[at]), sizeof before);
	for (unsigned i = 0; i < KINDS * nodes * nodes; i++) {
		after = before;
		if (!move(&after, i / nodes / nodes, i / nodes % nodes, i % nodes, &wrong) || memcmp(&after, states_key(s, at), sizeof after) != 0)
			continue;
		printf("  %u %s %u\n", i / nodes % nodes, kind_names[i / nodes / nodes], i % nodes);
		return;
	}
}

static const char *expand(struct states *s, uint32_t at)
{
	struct world before, after;
	const char *wrong;
	bool fresh, rest = true;

	memcpy(&before, states_key(s, at), sizeof before);
	for (unsigned i = 0; i < KINDS * nodes * nodes; i++) {
		enum kind kind = i / nodes / nodes;
		uint8_t key[CLUSTER_KEY_BYTES] = {0};

		after = before;
		if (!move(&after, kind, i / nodes % nodes, i % nodes, &wrong))
			continue;
		if (wrong)
			return wrong;
		if (memcmp(&after, &before, sizeof after) == 0)
			continue;
		rest &= kind != RECEIVE && kind != SILENCE; /* a hung node may hang for ever */
		memcpy(key, &after, sizeof after);
		ensure(states_add(s, key, at, &fresh) != UINT32_MAX);
	}
	return rest ? check_rest(&before) : NULL;
}

int main(int argc, char **argv)
{
	uint8_t key[CLUSTER_KEY_BYTES] = {0};
	struct world w = {0};
	struct states s;
	const char *wrong = NULL;
	uint32_t at = 0;
	bool fresh;

	if (argc == 3 && strcmp(argv[1], "--nodes") == 0)
		nodes = (unsigned)strtoul(argv[2], NULL, 10);
	if (nodes < 1 || nodes > NODES || (argc != 1 && argc != 3) || states_init(&s, CLUSTER_KEY_BYTES, 1 << 28) < 0)
		return 64;
	for (unsigned n = 0; n < nodes; n++)
		w.waiting[n] = (uint8_t)(((1u << nodes) - 1) & ~(1u << n));
	memcpy(key, &w, sizeof w);
	states_add(&s, key, 0, &fresh);
	for (; at < s.n && !wrong; at++)
		wrong = expand(&s, at);
	if (wrong) {
		printf("violation: %s\n", wrong);
		print_path(&s, at - 1);
	}
	printf("explore_stop: %u nodes, %u states%s\n", nodes, s.n, wrong ? "" : ": V1 to V5 hold");
	states_fini(&s);
	return wrong != NULL;
}
