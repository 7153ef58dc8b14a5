/* See handover.h. */
#include "tests/explore/handover.h"

#include "base/ensure.h"

#include <string.h>

enum { LETTER_WORD = 0x80, LETTER_STOP = 0x40 };

static bool in(unsigned set, unsigned n)
{
	return set >> n & 1;
}

static bool alive(const struct handover *w, unsigned n)
{
	return !in(w->dead, n) && !in(w->stopped, n);
}

static bool holds(const struct handover *w, unsigned n)
{
	return in(w->others, n) || handoff_holds(&w->h[n]);
}

static void push(struct handover_list *l, uint8_t letter)
{
	ensure(l->n < HANDOVER_LETTERS_MAX);
	l->at[l->n++] = letter;
}

static uint8_t drop_first(struct handover_list *l)
{
	uint8_t first = l->at[0];

	memmove(l->at, l->at + 1, --l->n);
	l->at[l->n] = 0;
	return first;
}

static void post(struct handover *w, unsigned from, unsigned to, uint8_t letter)
{
	struct handover_channel *c = &w->channel[from][to];

	if (!c->closed && !c->ends)
		push(&c->letters, letter);
}

static void close_channel(struct handover_channel *c)
{
	*c = (struct handover_channel){.closed = 1};
}

static void end_channel(struct handover_channel *c)
{
	if (!c->closed)
		c->ends = 1;
}

static void die(struct handover *w, unsigned n)
{
	w->dead |= (uint8_t)(1u << n);
	w->body[n] = BODY_NONE;
	w->working[n] = 0;
	w->kept[n] = (struct handover_list){0};
	for (unsigned k = 0; k < w->nodes; k++) {
		if (k != n)
			end_channel(&w->channel[n][k]);
		close_channel(&w->channel[k][n]);
	}
}

/* The agreed stop: frozen, everybody told, nothing heard any more. */
static void stop(struct handover *w, unsigned n)
{
	w->stopped |= (uint8_t)(1u << n);
	w->body[n] = BODY_NONE;
	w->working[n] = 0;
	w->kept[n] = (struct handover_list){0};
	for (unsigned k = 0; k < w->nodes; k++) {
		if (k != n)
			post(w, n, k, LETTER_STOP);
		close_channel(&w->channel[k][n]);
	}
}

/* --- what the actions may do --- */

static const char *deliver(struct handover *w, unsigned n, uint8_t letter)
{
	unsigned sender = letter >> 4 & 3, number = letter & 15;

	if (w->body[n] != BODY_RUNS)
		return "H2 a word is delivered to a part that does not run";
	if (number != w->delivered[sender] + 1u)
		return number <= w->delivered[sender] ? "H4 a word is delivered twice" : "H4 a word is lost, or overtaken";
	w->delivered[sender]++;
	return NULL;
}

static const char *give(struct handover *w, unsigned n, int sender)
{
	struct handover_list kept = w->kept[n];
	const char *wrong = NULL;

	w->kept[n] = (struct handover_list){0};
	for (unsigned i = 0; i < kept.n && !wrong; i++) {
		if (sender < 0 || (kept.at[i] >> 4 & 3) == sender)
			wrong = deliver(w, n, kept.at[i]);
		else
			push(&w->kept[n], kept.at[i]);
	}
	return wrong;
}

static const char *send_letter(struct handover *w, unsigned n, const struct handoff_action *a, uint8_t word)
{
	unsigned node = a->node.v;

	if (a->msg == HANDOFF_WORD) {
		post(w, n, a->to.v, word);
		return (unsigned)(word >> 4 & 3) == node ? NULL : "H4 a word under another's name";
	}
	if (a->msg == HANDOFF_STATE) {
		if (w->body[n] != BODY_CAPTURED)
			return "H2 a state is sent that was not captured";
		node = w->image[n];
	}
	if (a->msg == HANDOFF_COMMIT) {
		if (w->body[n] != BODY_NONE)
			return "H3 committed while the source has it";
		w->committed |= (uint8_t)(1u << a->to.v);
	}
	post(w, n, a->to.v, (uint8_t)(a->msg << 2 | node));
	return NULL;
}

static const char *work(struct handover *w, unsigned n)
{
	if (w->working[n])
		return "H2 two works at a time";
	w->working[n] = 1;
	return NULL;
}

static const char *body_is(struct handover *w, unsigned n, enum handover_body want, enum handover_body next, const char *wrong)
{
	if (w->body[n] != want)
		return wrong;
	w->body[n] = (uint8_t)next;
	return NULL;
}

static const char *thaw(struct handover *w, unsigned n)
{
	bool freezing = w->working[n] && w->body[n] == BODY_RUNS;

	w->working[n] = 0;
	return freezing ? NULL : body_is(w, n, BODY_CAPTURED, BODY_RUNS, "H3 thawed what has gone");
}

static const char *run(struct handover *w, unsigned n)
{
	if (w->image[n] != w->captures)
		return "H2 an old state runs";
	return body_is(w, n, BODY_INERT, BODY_RUNS, "H2 something runs that was not installed");
}

static const char *pass_all(struct handover *w, unsigned n, unsigned to)
{
	for (unsigned i = 0; i < w->kept[n].n; i++)
		post(w, n, to, w->kept[n].at[i]);
	w->kept[n] = (struct handover_list){0};
	return NULL;
}

static const char *discard(struct handover *w, unsigned n)
{
	w->working[n] = 0;
	w->body[n] = BODY_NONE;
	w->kept[n] = (struct handover_list){0};
	return NULL;
}

static const char *act(struct handover *w, unsigned n, const struct handoff_action *a, uint8_t word)
{
	switch (a->kind) {
	case HANDOFF_DO_SEND: return send_letter(w, n, a, word);
	case HANDOFF_DO_DELIVER: return deliver(w, n, word);
	case HANDOFF_DO_KEEP: push(&w->kept[n], word); return (unsigned)(word >> 4 & 3) == a->node.v ? NULL : "H4 a word under another's name";
	case HANDOFF_DO_GIVE: return give(w, n, a->node.v);
	case HANDOFF_DO_GIVE_ALL: return give(w, n, -1);
	case HANDOFF_DO_PASS_ALL: return pass_all(w, n, a->to.v);
	case HANDOFF_DO_FREEZE: return w->body[n] == BODY_RUNS ? work(w, n) : "H2 frozen what does not run";
	case HANDOFF_DO_THAW: return thaw(w, n);
	case HANDOFF_DO_RETIRE: return body_is(w, n, BODY_CAPTURED, BODY_NONE, "H3 retired what was not captured");
	case HANDOFF_DO_MAKE_ROOM: return work(w, n);
	case HANDOFF_DO_INSTALL: return work(w, n);
	case HANDOFF_DO_RUN: return run(w, n);
	case HANDOFF_DO_DISCARD: return w->body[n] == BODY_RUNS ? "H1 discarded what runs" : discard(w, n);
	case HANDOFF_DO_TELL:
	case HANDOFF_DO_DENY: return NULL;
	case HANDOFF_DO_STOP:
		if (holds(w, n))
			stop(w, n);
		else
			die(w, n);
		return NULL;
	}
	return "no such action";
}

static const char *step(struct handover *w, unsigned n, const struct handoff_event *ev, uint8_t word)
{
	struct handoff_actions out;
	const char *wrong = NULL;

	if (handoff_step(&w->h[n], ev, &out))
		return "H8 a correct node's message is refused";
	for (unsigned i = 0; i < out.n && !wrong && alive(w, n); i++)
		wrong = act(w, n, &out.at[i], word);
	return wrong;
}

/* --- moves --- */

/* The other parts of the VM, if any are there, see to it that it ends; a machine of this part may know no reason. */
static const char *lose_peer(struct handover *w, unsigned from, unsigned to)
{
	close_channel(&w->channel[from][to]);
	if (in(w->others, from)) {
		if (holds(w, to))
			stop(w, to);
		else
			die(w, to);
		return NULL;
	}
	return step(w, to, &(struct handoff_event){.kind = HANDOFF_EV_LOST, .from = {(uint8_t)from}}, 0);
}

static const char *receive(struct handover *w, unsigned from, unsigned to)
{
	struct handover_channel *c = &w->channel[from][to];
	struct handoff_event ev = {.kind = HANDOFF_EV_MSG, .from = {(uint8_t)from}};
	uint8_t letter;

	if (c->letters.n == 0)
		return lose_peer(w, from, to);
	letter = drop_first(&c->letters);
	if (letter == LETTER_STOP) {
		stop(w, to);
		return NULL;
	}
	ev.msg = letter & LETTER_WORD ? HANDOFF_WORD : (enum handoff_msg)(letter >> 2);
	ev.node.v = letter & LETTER_WORD ? letter >> 4 & 3 : letter & 3;
	if (ev.msg == HANDOFF_STATE) {
		w->image[to] = ev.node.v;
		ev.node.v = (uint8_t)from;
	}
	return step(w, to, &ev, letter);
}

static const char *worked(struct handover *w, unsigned n)
{
	struct handoff_event ev = {.kind = HANDOFF_EV_ROOM};

	w->working[n] = 0;
	if (w->h[n].state == HANDOFF_FREEZING) {
		ev.kind = HANDOFF_EV_FROZEN;
		w->body[n] = BODY_CAPTURED;
		w->image[n] = ++w->captures;
	} else if (w->h[n].state == HANDOFF_INSTALLING) {
		ev.kind = HANDOFF_EV_INSTALLED;
		w->body[n] = BODY_INERT;
	}
	return step(w, n, &ev, 0);
}

static const char *refuse(struct handover *w, unsigned n)
{
	w->left.refusals--; /* what is left of it goes with DO_THAW or DO_DISCARD */
	return step(w, n, &(struct handoff_event){.kind = HANDOFF_EV_REFUSED}, 0);
}

static const char *send_word(struct handover *w, unsigned n)
{
	w->sent[n]++;
	return step(w, n, &(struct handoff_event){.kind = HANDOFF_EV_WORD}, (uint8_t)(LETTER_WORD | n << 4 | w->sent[n]));
}

/* Nothing of the VM goes with this node: not even a mark that it has sent and that has not arrived. */
static bool is_spare(const struct handover *w, unsigned n)
{
	for (unsigned k = 0; k < w->nodes; k++)
		for (unsigned i = 0; i < w->channel[n][k].letters.n; i++)
			if (w->channel[n][k].letters.at[i] >> 2 == HANDOFF_MARK)
				return false;
	return !holds(w, n);
}

/* Is it one that the VM must survive, unless the spare node in it gets the part later? */
static void trouble(struct handover *w, unsigned a, unsigned b)
{
	w->left.troubles--;
	if (is_spare(w, a))
		w->harmless |= (uint8_t)(1u << a);
	else if (is_spare(w, b))
		w->harmless |= (uint8_t)(1u << b);
	else
		w->harm = 1;
}

static const char *cut(struct handover *w, unsigned a, unsigned b)
{
	trouble(w, a, b);
	end_channel(&w->channel[a][b]);
	end_channel(&w->channel[b][a]);
	return NULL;
}

static const char *crash(struct handover *w, unsigned n)
{
	trouble(w, n, n);
	die(w, n);
	return NULL;
}

static const char *user(struct handover *w, enum handoff_event_kind kind, unsigned node)
{
	if (kind == HANDOFF_EV_MOVE)
		w->left.moves--;
	else
		w->left.cancels--;
	return step(w, 0, &(struct handoff_event){.kind = kind, .node = {(uint8_t)node}}, 0);
}

const char *handover_apply(struct handover *w, const struct handover_move *m)
{
	switch ((enum handover_kind)m->kind) {
	case HO_RECEIVE: return receive(w, m->a, m->b);
	case HO_WORKED: return worked(w, m->a);
	case HO_REFUSE: return refuse(w, m->a);
	case HO_WORD: return send_word(w, m->a);
	case HO_MOVE: return user(w, HANDOFF_EV_MOVE, m->b);
	case HO_CANCEL: return user(w, HANDOFF_EV_CANCEL, 0);
	case HO_CRASH: return crash(w, m->a);
	case HO_CUT: return cut(w, m->a, m->b);
	case HO_LOSE: w->channel[m->a][m->b].letters.n--; w->channel[m->a][m->b].letters.at[w->channel[m->a][m->b].letters.n] = 0; return NULL;
	case HO_KINDS: break;
	}
	return "no such move";
}

static void add(struct handover_move *moves, unsigned *n, enum handover_kind kind, unsigned a, unsigned b)
{
	ensure(*n < HANDOVER_MOVES_MAX);
	moves[(*n)++] = (struct handover_move){(uint8_t)kind, (uint8_t)a, (uint8_t)b};
}

static void moves_of_pair(const struct handover *w, unsigned a, unsigned b, struct handover_move *moves, unsigned *n)
{
	const struct handover_channel *to = &w->channel[a][b], *back = &w->channel[b][a];

	if (alive(w, b) && (to->letters.n || to->ends))
		add(moves, n, HO_RECEIVE, a, b);
	if (to->ends && to->letters.n && alive(w, b))
		add(moves, n, HO_LOSE, a, b);
	if (a < b && w->left.troubles && alive(w, a) && alive(w, b) && !to->ends && !to->closed && !back->ends && !back->closed)
		add(moves, n, HO_CUT, a, b);
}

static void moves_of_node(const struct handover *w, unsigned a, struct handover_move *moves, unsigned *n)
{
	if (w->working[a])
		add(moves, n, HO_WORKED, a, 0);
	if (w->working[a] && w->left.refusals)
		add(moves, n, HO_REFUSE, a, 0);
	if (w->sent[a] < w->left.words && holds(w, a))
		add(moves, n, HO_WORD, a, 0);
	if (w->left.troubles)
		add(moves, n, HO_CRASH, a, 0);
}

unsigned handover_moves(const struct handover *w, struct handover_move moves[HANDOVER_MOVES_MAX])
{
	unsigned n = 0;

	for (unsigned a = 0; a < w->nodes; a++) {
		for (unsigned b = 0; b < w->nodes; b++)
			moves_of_pair(w, a, b, moves, &n);
		if (alive(w, a))
			moves_of_node(w, a, moves, &n);
		if (alive(w, 0) && w->left.moves && !w->h[0].order && w->h[0].at != a)
			add(moves, &n, HO_MOVE, 0, a);
	}
	if (alive(w, 0) && w->left.cancels && w->h[0].order)
		add(moves, &n, HO_CANCEL, 0, 0);
	return n;
}

bool handover_must(const struct handover_move *m)
{
	return m->kind == HO_RECEIVE || m->kind == HO_WORKED;
}

/* --- what holds --- */

const char *handover_check(const struct handover *w)
{
	unsigned running = 0;

	for (unsigned n = 0; n < w->nodes; n++)
		running += w->body[n] == BODY_RUNS;
	return running > 1 ? "H1 two nodes run it" : NULL;
}

static const char *check_rest_alive(const struct handover *w, unsigned n, unsigned runner)
{
	const struct handoff *h = &w->h[n];

	if (h->at != runner || h->state != (n == runner ? HANDOFF_HERE : HANDOFF_AWAY))
		return "H5 a node does not know where it is";
	if (h->order)
		return "H5 the coordinator was not told how a move ended";
	if (h->waiting || w->kept[n].n || w->working[n] || (n != runner && w->body[n] != BODY_NONE))
		return "H5 something is left of a move";
	if (w->delivered[n] != w->sent[n])
		return "H4 a word is lost";
	return NULL;
}

const char *handover_check_rest(const struct handover *w)
{
	unsigned holders = 0, runner = HANDOVER_NODES_MAX;
	const char *wrong = NULL;

	for (unsigned n = 0; n < w->nodes; n++) {
		holders += alive(w, n) && holds(w, n);
		if (w->body[n] == BODY_RUNS)
			runner = n;
	}
	if (w->stopped && holders)
		return "H7 somebody does not stop";
	if (w->stopped && !w->harm && !(w->harmless & w->committed))
		return w->harmless ? "H6 the VM ends with a node that it did not need" : "H5 the VM ends for nothing";
	if (!w->harm && !(w->harmless & w->committed) && !holders)
		return "H5 nothing is left of the VM";
	if (w->stopped || !holders)
		return NULL;
	if (runner == HANDOVER_NODES_MAX)
		return "H7 nobody runs it, and the VM goes on";
	for (unsigned n = 0; n < w->nodes && !wrong; n++)
		if (alive(w, n))
			wrong = check_rest_alive(w, n, runner);
	return wrong;
}

void handover_init(struct handover *w, unsigned nodes, unsigned at, unsigned others, const struct handover_budget *budget)
{
	*w = (struct handover){.nodes = (uint8_t)nodes, .others = (uint8_t)others, .left = *budget};
	for (unsigned n = 0; n < nodes; n++)
		handoff_init(&w->h[n], (node_t){(uint8_t)n}, nodes, (node_t){0}, (node_t){(uint8_t)at});
	w->body[at] = BODY_RUNS;
}
