/* vm/verdict: what fragments do about the agreed stop, with the streams between them played by the test. */
#include "tests/test.h"
#include "vm/verdict.h"

#include <string.h>

enum { PARTS = 3 };

/* One fragment: what it was asked to tell, and what it ended with. */
struct part {
	struct verdict v;
	unsigned told, ended;
	struct stop_cause says, verdict;
	char says_what[64], what[64];
};

static void on_stopping(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct part *p = owner;

	p->told++;
	p->says = (struct stop_cause){(uint8_t)reason, about};
	snprintf(p->says_what, sizeof p->says_what, "%s", what);
}

static void on_ended(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct part *p = owner;

	p->ended++;
	p->verdict = (struct stop_cause){(uint8_t)reason, about};
	snprintf(p->what, sizeof p->what, "%s", what);
}

static void open_all(struct part part[PARTS])
{
	memset(part, 0, PARTS * sizeof *part);
	for (unsigned n = 0; n < PARTS; n++)
		verdict_init(&part[n].v, (node_t){(uint8_t)n}, PARTS, &(struct verdict_calls){on_stopping, on_ended, &part[n]});
}

static void hear(struct part part[PARTS], unsigned to, unsigned from)
{
	verdict_heard(&part[to].v, (node_t){(uint8_t)from}, part[from].says.reason, part[from].says.node, part[from].says_what);
}

static bool ended_with(const struct part *p, enum stop_reason reason, unsigned node, const char *what)
{
	return p->ended == 1 && p->verdict.reason == reason && p->verdict.node.v == node && strcmp(p->what, what) == 0;
}

TEST(two_causes_at_once_become_one_verdict)
{
	struct part part[PARTS];

	open_all(part);
	verdict_cause(&part[0].v, STOP_NODE_ERROR, (node_t){0}, "no memory");
	verdict_cause(&part[2].v, STOP_PANIC, (node_t){2}, "panicked");
	verdict_cause(&part[2].v, STOP_KILLED, (node_t){1}, "too late");
	hear(part, 1, 2);
	CHECK_EQ(part[1].told, 1u);
	for (unsigned to = 0; to < PARTS; to++)
		for (unsigned from = 0; from < PARTS; from++)
			if (to != from)
				hear(part, to, from);
	for (unsigned n = 0; n < PARTS; n++) {
		CHECK_EQ(part[n].told, 1u);
		CHECK(ended_with(&part[n], STOP_PANIC, 2, "panicked"));
	}
}

TEST(whoever_died_is_what_all_report)
{
	struct part part[PARTS];

	open_all(part);
	verdict_lost(&part[0].v, (node_t){1}, "closed");
	CHECK_EQ(part[0].ended, 0u);
	hear(part, 2, 0);
	CHECK_EQ(part[2].ended, 0u);
	verdict_lost(&part[2].v, (node_t){1}, "broke");
	hear(part, 0, 2);
	CHECK(ended_with(&part[0], STOP_LOST, 1, "closed"));
	CHECK(ended_with(&part[2], STOP_LOST, 1, "closed"));
}

TEST(who_says_nothing_is_not_waited_for)
{
	struct part part[PARTS];
	uint64_t now;

	open_all(part);
	verdict_tick(&part[0].v, verdict_now_ms() + 10 * VERDICT_PATIENCE_MS);
	CHECK_EQ(part[0].ended, 0u);
	verdict_cause(&part[0].v, STOP_POWEROFF, (node_t){0}, "off");
	now = part[0].v.told_ms;
	verdict_tick(&part[0].v, now - 1); /* a clock read before the cause */
	verdict_tick(&part[0].v, now + VERDICT_PATIENCE_MS - 1);
	CHECK_EQ(part[0].ended, 0u);
	verdict_tick(&part[0].v, now + VERDICT_PATIENCE_MS);
	CHECK(ended_with(&part[0], STOP_POWEROFF, 0, "off"));
	hear(part, 0, 1);
	verdict_lost(&part[0].v, (node_t){2}, "");
	CHECK_EQ(part[0].ended, 1u);
}

TEST(nonsense_is_its_sender_s_violation)
{
	struct part part[PARTS];

	open_all(part);
	verdict_heard(&part[0].v, (node_t){1}, STOP_REASONS + 4, (node_t){0}, "lies");
	CHECK(part[0].says.reason == STOP_PROTOCOL && part[0].says.node.v == 1 && !strstr(part[0].says_what, "lies"));
	verdict_heard(&part[2].v, (node_t){1}, STOP_PANIC, (node_t){PARTS}, "lies");
	CHECK(part[2].says.reason == STOP_PROTOCOL && part[2].says.node.v == 1);
}

TEST(what_came_before_peers_could_be_told_is_told_then)
{
	struct part part[PARTS];

	open_all(part);
	verdict_retell(&part[0].v);
	CHECK_EQ(part[0].told, 0u);
	verdict_cause(&part[0].v, STOP_NODE_ERROR, (node_t){0}, "early");
	verdict_retell(&part[0].v);
	CHECK_EQ(part[0].told, 2u);
	CHECK(part[0].says.reason == STOP_NODE_ERROR && strcmp(part[0].says_what, "early") == 0);
	verdict_mute(&part[0].v);
	hear(part, 0, 0);
	verdict_lost(&part[0].v, (node_t){1}, "");
	verdict_lost(&part[0].v, (node_t){2}, "");
	CHECK_EQ(part[0].ended, 0u);
}
