/* Runs of the simulated cluster, see sim.h.
 *
 * usage: sim [--seed N] [--runs M] [--trace] [--disorder]     seeds N .. N+M-1; a failing seed is printed and ends with 1
 * --disorder: letters overtake each other, which must not go unnoticed. */
#include "tests/sim/sim.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void sim_fail(const struct sim *s, const char *fmt, ...)
{
	va_list args;

	printf("sim: seed %llu fails after %llu us: ", (unsigned long long)s->seed, (unsigned long long)s->now_us);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\nsim: see it with: sim --seed %llu --runs 1 --trace\n", (unsigned long long)s->seed);
	exit(1);
}

void sim_say(const struct sim *s, const char *fmt, ...)
{
	va_list args;

	if (!s->trace)
		return;
	printf("%9llu ", (unsigned long long)s->now_us);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
}

static void begin(struct sim *s)
{
	s->random = s->seed * 0x9e3779b97f4a7c15u + 0x7e55e7a;
	s->nodes = 2 + (unsigned)sim_random(s, SIM_NODES_MAX - 1);
	s->pages = 4 + (unsigned)sim_random(s, SIM_PAGES_MAX - 3);
	s->until_us = 10000 + sim_random(s, 100000);
	s->plan = (enum sim_plan)sim_random(s, SIM_PLANS);
	s->struck = 0xff;
	for (unsigned p = 0; p < s->pages; p++)
		s->home[p] = (uint8_t)sim_random(s, s->nodes);
	for (uint8_t n = 0; n < s->nodes; n++) {
		node_init(s, n);
		for (uint8_t i = 0; i < s->node[n].threads; i++)
			sim_later(s, (struct sim_event){.what = SIM_THREAD, .node = n, .index = i}, sim_random(s, 50));
	}
	if (s->plan != SIM_PEACE)
		sim_later(s, (struct sim_event){.what = SIM_TROUBLE}, sim_random(s, s->until_us));
}

/* What goes wrong. */

static void crash(struct sim *s, uint8_t n)
{
	s->node[n].crashed = true;
	for (uint8_t to = 0; to < s->nodes; to++) {
		if (to == n)
			continue;
		if (sim_random(s, 2)) /* some of what was under way to that peer is lost */
			s->link[n][to].epoch++;
		s->link[to][n].epoch++;
		s->link[to][n].closed = true;
		sim_close(s, n, to);
	}
}

static void hang(struct sim *s, uint8_t n, uint64_t us)
{
	s->node[n].hangs_until_us = s->now_us + us;
	for (uint8_t k = 0; k < s->nodes; k++)
		if (k != n)
			sim_later(s, (struct sim_event){.what = SIM_SILENCE, .node = k, .from = n}, SIM_SILENCE_US + sim_random(s, 1000));
}

/* A message the receiver must refuse, in the ordinary stream. */
static void nonsense(struct sim *s, uint8_t from)
{
	uint8_t to = (uint8_t)((from + 1 + sim_random(s, s->nodes - 1)) % s->nodes);
	uint16_t page = (uint16_t)sim_random(s, s->pages);
	enum page_msg msg = s->home[page] == to ? PAGE_GRANT_S + (enum page_msg)sim_random(s, 2) : PAGE_GET_S + (enum page_msg)sim_random(s, 2);

	sim_send(s, (struct sim_event){.what = SIM_LETTER, .node = to, .from = from, .page = page, .msg = msg});
}

static void ends(struct sim *s, uint8_t n, enum stop_reason reason)
{
	node_stop(s, n, (struct stop_event){.kind = STOP_EV_CAUSE, .cause = {(uint8_t)reason, {n}}});
}

static void trouble(struct sim *s)
{
	uint8_t a = (uint8_t)sim_random(s, s->nodes), b = (uint8_t)((a + 1 + sim_random(s, s->nodes - 1)) % s->nodes);

	sim_say(s, "trouble %d strikes node %u (and %u)", (int)s->plan, a, b);
	s->struck = a;
	if (s->plan == SIM_END || s->plan == SIM_TWO_ENDS)
		ends(s, a, STOP_POWEROFF);
	if (s->plan == SIM_TWO_ENDS)
		ends(s, b, STOP_PANIC);
	if (s->plan == SIM_CUT)
		sim_cut(s, a, b);
	if (s->plan == SIM_CRASH)
		crash(s, a);
	if (s->plan == SIM_HANG)
		hang(s, a, 3 * SIM_SILENCE_US);
	if (s->plan == SIM_SHORT_HANG) {
		hang(s, a, SIM_SILENCE_US / 4);
		s->until_us += SIM_SILENCE_US / 4;
	}
	if (s->plan == SIM_NONSENSE)
		nonsense(s, a);
}

/* What happens. */

static void silence(struct sim *s, uint8_t n, uint8_t peer)
{
	if (s->node[peer].hangs_until_us <= s->now_us || !node_runs(s, n))
		return;
	sim_cut(s, n, peer);
	node_stop(s, n, (struct stop_event){.kind = STOP_EV_LOST, .from = {peer}});
}

static void happen(struct sim *s, const struct sim_event *e)
{
	switch (e->what) {
	case SIM_LETTER:
		node_take(s, e);
		break;
	case SIM_STREAM_END:
		if (!s->node[e->node].crashed)
			node_stop(s, e->node, (struct stop_event){.kind = STOP_EV_LOST, .from = {e->from}});
		break;
	case SIM_HOLD_END:
		node_local(s, e->node, e->page, PAGE_EV_HOLD_END);
		break;
	case SIM_FAULT:
		/* Room was made when the thread faulted; it may have been used since. */
		if (node_make_room(s, e->node, e->page))
			node_local(s, e->node, e->page, e->write ? PAGE_EV_WRITE : PAGE_EV_READ);
		else if (node_runs(s, e->node))
			sim_later(s, *e, 20);
		break;
	case SIM_THREAD:
		load_thread(s, e->node, e->index);
		break;
	case SIM_SILENCE:
		silence(s, e->node, e->from);
		break;
	case SIM_DEADLINE:
		if (!s->node[e->node].crashed)
			node_stop(s, e->node, (struct stop_event){.kind = STOP_EV_DEADLINE});
		break;
	case SIM_TROUBLE:
		trouble(s);
		break;
	}
}

/* How it must end. */

static void check_peace(const struct sim *s)
{
	for (uint8_t n = 0; n < s->nodes; n++) {
		const struct sim_node *node = &s->node[n];

		if (node->stop.told.reason != STOP_NONE)
			sim_fail(s, "node %u stopped for no reason", n);
		for (unsigned i = 0; i < node->threads; i++)
			if (node->thread[i].waiting || node->thread[i].done == 0)
				sim_fail(s, "thread %u of node %u waits for ever", i, n);
		for (unsigned p = 0; p < s->pages; p++) {
			if (node->page[p].pending != PAGE_IDLE || node->page[p].held || node->page[p].recalled)
				sim_fail(s, "node %u page %u does not come to rest", n, p);
			if (node->present[p] && memcmp(node->frame[p], s->oracle[p], SIM_BYTES) != 0)
				sim_fail(s, "node %u ends with wrong bytes in page %u", n, p);
		}
	}
	for (unsigned p = 0; p < s->pages; p++) { /* I5, exactly; I6 */
		const struct page_dir *d = &s->node[s->home[p]].dir[p];
		static const uint8_t zeros[SIM_BYTES];

		for (uint8_t n = 0; n < s->nodes; n++)
			if ((s->node[n].page[p].state == PAGE_S) != (d->sharers >> n & 1) || (s->node[n].page[p].state == PAGE_M) != (d->owner == n + 1))
				sim_fail(s, "the directory of page %u is wrong about node %u", p, n);
		if (d->serving || d->awaiting || d->want_s || d->want_m)
			sim_fail(s, "the directory of page %u does not come to rest", p);
		if (!d->touched && memcmp(s->oracle[p], zeros, SIM_BYTES) != 0)
			sim_fail(s, "page %u is taken for zero", p);
	}
}

static bool verdict_right(const struct sim *s, struct stop_cause v)
{
	switch (s->plan) {
	case SIM_END:
	case SIM_TWO_ENDS:
		return v.reason == STOP_POWEROFF && v.node.v == s->struck;
	case SIM_CRASH:
		return v.reason == STOP_LOST && v.node.v == s->struck;
	case SIM_NONSENSE:
		return v.reason == STOP_PROTOCOL && v.node.v == s->struck;
	default:
		return v.reason == STOP_LOST;
	}
}

static void check_end(const struct sim *s)
{
	if (s->plan == SIM_PEACE || s->plan == SIM_SHORT_HANG) {
		check_peace(s);
		return;
	}
	for (uint8_t n = 0; n < s->nodes; n++) {
		struct stop_cause v = s->node[n].stop.verdict;

		if (s->node[n].crashed)
			continue;
		if (!s->node[n].stop.ended)
			sim_fail(s, "node %u does not stop", n);
		if (!verdict_right(s, v))
			sim_fail(s, "node %u ends with the verdict %s about %u", n, stop_reason_name(v.reason), v.node.v);
	}
}

static void run(struct sim *s)
{
	struct sim_event e;

	begin(s);
	while (sim_next(s, &e)) {
		struct sim_node *node = &s->node[e.node];

		if (s->now_us > s->until_us)
			s->draining = true;
		if (s->now_us > s->until_us + 20 * SIM_SILENCE_US)
			sim_fail(s, "it does not come to rest");
		if (e.what == SIM_TROUBLE || (e.what != SIM_SILENCE && node->hangs_until_us <= s->now_us)) {
			if (sim_arrives(s, &e))
				happen(s, &e);
		} else if (e.what == SIM_SILENCE) {
			happen(s, &e);
		} else if (sim_arrives(s, &e)) {
			sim_later(s, e, node->hangs_until_us - s->now_us); /* it hangs; in order, when it goes on */
		}
	}
	check_end(s);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", required_argument, NULL, 's'}, {"runs", required_argument, NULL, 'r'}, {"trace", no_argument, NULL, 't'},
		{"disorder", no_argument, NULL, 'd'}, {0}};
	static struct sim s;
	uint64_t seed = 1, runs = 3000, reads = 0, writes = 0, letters = 0, evictions = 0, discards = 0, plans[SIM_PLANS] = {0};
	bool trace = false, disorder = false;

	if (getenv("TESSERA_LONG"))
		runs *= 50;
	for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (opt == 's')
			seed = strtoull(optarg, NULL, 10);
		else if (opt == 'r')
			runs = strtoull(optarg, NULL, 10);
		else if (opt == 't')
			trace = true;
		else if (opt == 'd')
			disorder = true;
		else
			return 64;
	}
	for (uint64_t i = 0; i < runs; i++) {
		s = (struct sim){.seed = seed + i, .trace = trace, .disorder = disorder, .heap = s.heap, .room = s.room};
		run(&s);
		plans[s.plan]++;
		reads += s.count.reads;
		writes += s.count.writes;
		letters += s.count.letters;
		evictions += s.count.evictions;
		discards += s.count.discards;
	}
	free(s.heap);
	printf("sim: seeds %llu to %llu: %llu reads, %llu writes, %llu letters, %llu evictions, %llu discards; runs in peace %llu, ended %llu, cut %llu, crashed %llu, "
		"hung %llu, hung briefly %llu, nonsense %llu: no wrong byte, every stop agreed\n", (unsigned long long)seed, (unsigned long long)(seed + runs - 1),
		(unsigned long long)reads, (unsigned long long)writes, (unsigned long long)letters, (unsigned long long)evictions, (unsigned long long)discards,
		(unsigned long long)plans[SIM_PEACE], (unsigned long long)(plans[SIM_END] + plans[SIM_TWO_ENDS]), (unsigned long long)plans[SIM_CUT],
		(unsigned long long)plans[SIM_CRASH], (unsigned long long)plans[SIM_HANG], (unsigned long long)plans[SIM_SHORT_HANG],
		(unsigned long long)plans[SIM_NONSENSE]);
	return 0;
}
