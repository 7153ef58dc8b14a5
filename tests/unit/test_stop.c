/* proto/stop: stories of one fragment stopping. Every interleaving of three is tests/explore/explore_stop.c's. */
#include "proto/stop.h"
#include "tests/test.h"

#include <string.h>

static unsigned happens(struct stop *s, enum stop_reason reason, uint8_t node)
{
	return stop_step(s, &(struct stop_event){.kind = STOP_EV_CAUSE, .cause = {(uint8_t)reason, {node}}});
}

static unsigned hears(struct stop *s, uint8_t from, unsigned reason, uint8_t node)
{
	return stop_step(s, &(struct stop_event){.kind = STOP_EV_HEARD, .from = {from}, .cause = {(uint8_t)reason, {node}}});
}

static unsigned loses(struct stop *s, uint8_t from)
{
	return stop_step(s, &(struct stop_event){.kind = STOP_EV_LOST, .from = {from}});
}

enum { BEGIN = STOP_DO_FREEZE | STOP_DO_TELL | STOP_DO_KEEP };

TEST(every_stop_reason_has_a_name)
{
	for (unsigned a = 0; a < STOP_REASONS; a++) {
		CHECK(strcmp(stop_reason_name(a), "unknown") != 0);
		for (unsigned b = 0; b < a; b++)
			CHECK(stop_outranks((struct stop_cause){(uint8_t)a, {0}}, (struct stop_cause){(uint8_t)b, {0}}) !=
			      stop_outranks((struct stop_cause){(uint8_t)b, {0}}, (struct stop_cause){(uint8_t)a, {0}}));
	}
	CHECK(strcmp(stop_reason_name(STOP_REASONS), "unknown") == 0);
}

TEST(one_node_stops_by_itself)
{
	struct stop s;

	stop_init(&s, (node_t){0}, 1);
	CHECK_EQ(happens(&s, STOP_POWEROFF, 0), BEGIN | STOP_DO_END);
	CHECK_EQ(happens(&s, STOP_KILLED, 0), 0);
	CHECK_EQ(s.verdict.reason, STOP_POWEROFF);
}

TEST(a_lost_node_stops_the_others_once)
{
	struct stop s;

	stop_init(&s, (node_t){1}, 3);
	CHECK_EQ(loses(&s, 2), BEGIN);
	CHECK_EQ(loses(&s, 2), 0);
	CHECK_EQ(hears(&s, 0, STOP_LOST, 2), STOP_DO_END);
	CHECK_EQ(s.verdict.reason, STOP_LOST);
	CHECK_EQ(s.verdict.node.v, 2);
}

TEST(the_guests_own_end_outranks_what_broke_meanwhile)
{
	struct stop s;

	stop_init(&s, (node_t){0}, 3);
	CHECK_EQ(loses(&s, 2), BEGIN);
	CHECK_EQ(hears(&s, 1, STOP_POWEROFF, 1), STOP_DO_KEEP | STOP_DO_END);
	CHECK_EQ(s.told.reason, STOP_LOST); /* a node has one word */
	CHECK_EQ(s.verdict.reason, STOP_POWEROFF);
}

TEST(nonsense_from_a_peer_is_its_fault)
{
	struct stop s;

	stop_init(&s, (node_t){0}, 2);
	CHECK_EQ(hears(&s, 7, STOP_POWEROFF, 0), 0); /* nobody */
	CHECK_EQ(hears(&s, 0, STOP_POWEROFF, 0), 0); /* itself */
	CHECK_EQ(hears(&s, 1, 200, 77), BEGIN | STOP_DO_END);
	CHECK_EQ(s.verdict.reason, STOP_PROTOCOL);
	CHECK_EQ(s.verdict.node.v, 1);
}

TEST(a_hung_peer_is_not_waited_for_past_the_deadline)
{
	struct stop s;
	struct stop_event deadline = {.kind = STOP_EV_DEADLINE};

	stop_init(&s, (node_t){0}, 3);
	CHECK_EQ(stop_step(&s, &deadline), 0); /* it runs */
	CHECK_EQ(happens(&s, STOP_KILLED, 0), BEGIN);
	CHECK_EQ(hears(&s, 1, STOP_KILLED, 0), 0);
	CHECK_EQ(stop_step(&s, &deadline), STOP_DO_END);
	CHECK_EQ(hears(&s, 2, STOP_POWEROFF, 2), 0);
	CHECK_EQ(s.verdict.reason, STOP_KILLED);
}
