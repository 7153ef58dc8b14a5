/* proto/handoff: stories of one part that moves, told event by event. Every interleaving is tests/explore/explore_handoff.c's. Node 0 is the coordinator, the part
 * is on node 1 first. */
#include "proto/handoff.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

enum { NODES = 4, DID_BYTES = 512 };

struct told {
	struct handoff h;
	char did[DID_BYTES];
};

static const char *const actions[] = {
	[HANDOFF_DO_SEND] = "send", [HANDOFF_DO_DELIVER] = "deliver", [HANDOFF_DO_KEEP] = "keep", [HANDOFF_DO_GIVE] = "give", [HANDOFF_DO_GIVE_ALL] = "give-all",
	[HANDOFF_DO_PASS_ALL] = "pass-all", [HANDOFF_DO_FREEZE] = "freeze", [HANDOFF_DO_THAW] = "thaw", [HANDOFF_DO_RETIRE] = "retire",
	[HANDOFF_DO_MAKE_ROOM] = "make-room", [HANDOFF_DO_INSTALL] = "install", [HANDOFF_DO_RUN] = "run", [HANDOFF_DO_DISCARD] = "discard", [HANDOFF_DO_TELL] = "tell",
	[HANDOFF_DO_DENY] = "deny", [HANDOFF_DO_STOP] = "stop",
};

static int tell(struct told *t, const struct handoff_event *ev)
{
	struct handoff_actions out;
	size_t at = 0;
	int err = handoff_step(&t->h, ev, &out);

	t->did[0] = 0;
	for (unsigned i = 0; i < out.n; i++) {
		const struct handoff_action *a = &out.at[i];

		if (a->kind == HANDOFF_DO_SEND)
			at += (size_t)snprintf(t->did + at, sizeof t->did - at, "%s%s(%u)>%u", i ? ", " : "", handoff_msg_name(a->msg), a->node.v, a->to.v);
		else
			at += (size_t)snprintf(t->did + at, sizeof t->did - at, "%s%s %u", i ? ", " : "", actions[a->kind], a->node.v);
	}
	return err;
}

#define DOES(t, expected, ...) do { \
	int err_ = tell(t, &(struct handoff_event){__VA_ARGS__}); \
	if (err_ || strcmp((t)->did, expected) != 0) { \
		char text_[2 * DID_BYTES]; \
		snprintf(text_, sizeof text_, "%s: error %d, does '%s', should '%s'", #__VA_ARGS__, err_, (t)->did, expected); \
		test_fail(self, __FILE__, __LINE__, text_); \
		return; \
	} \
} while (0)

#define REFUSES(t, ...) do { \
	struct handoff before_ = (t)->h; \
	CHECK_EQ(tell(t, &(struct handoff_event){__VA_ARGS__}), -EPROTO); \
	CHECK(memcmp(&before_, &(t)->h, sizeof before_) == 0 && (t)->did[0] == 0); \
} while (0)

#define SAYS(who, what, about) .kind = HANDOFF_EV_MSG, .msg = HANDOFF_##what, .from = {who}, .node = {about}
#define EVENT(what) .kind = HANDOFF_EV_##what
#define LOSES(who) .kind = HANDOFF_EV_LOST, .from = {who}

static struct told node(uint8_t self)
{
	struct told t = {.did = ""};

	handoff_init(&t.h, (node_t){self}, NODES, (node_t){0}, (node_t){1});
	return t;
}

TEST(every_handoff_state_and_message_has_a_name)
{
	for (unsigned i = 0; i < HANDOFF_STATES; i++)
		CHECK(strcmp(handoff_state_name(i), "unknown") != 0);
	for (unsigned i = 0; i < HANDOFF_MSGS; i++)
		CHECK(strcmp(handoff_msg_name(i), "unknown") != 0);
	CHECK(strcmp(handoff_state_name(HANDOFF_STATES), "unknown") == 0 && strcmp(handoff_msg_name(HANDOFF_MSGS), "unknown") == 0);
}

TEST(a_part_moves_and_its_words_follow)
{
	struct told c = node(0), s = node(1), t = node(2), b = node(3);

	DOES(&c, "order(2)>1", EVENT(MOVE), .node = {2});
	DOES(&c, "deny 3", EVENT(MOVE), .node = {3}); /* one at a time */
	DOES(&s, "prepare(1)>2", SAYS(0, ORDER, 2));
	DOES(&t, "make-room 1", SAYS(1, PREPARE, 1));
	DOES(&t, "prepared(2)>1", EVENT(ROOM));
	DOES(&s, "freeze 1", SAYS(2, PREPARED, 2));
	DOES(&s, "deliver 3", SAYS(3, WORD, 3)); /* not captured yet */
	DOES(&s, "state(1)>2", EVENT(FROZEN));
	DOES(&s, "keep 3", SAYS(3, WORD, 3));
	DOES(&s, "keep 1", EVENT(WORD));
	DOES(&t, "install 1", SAYS(1, STATE, 1));
	DOES(&t, "readied(2)>1", EVENT(INSTALLED));
	CHECK(handoff_holds(&s.h) && !handoff_holds(&t.h));
	DOES(&s, "retire 1, commit(1)>2, pass-all 2, moved(2)>0, moved(2)>3", SAYS(2, READIED, 2));
	DOES(&s, "word(1)>2", EVENT(WORD));
	DOES(&b, "switched(3)>1", SAYS(1, MOVED, 2));
	DOES(&b, "word(3)>2", EVENT(WORD));
	DOES(&t, "keep 3", SAYS(3, WORD, 3)); /* it overtook the commit */
	DOES(&t, "word(2)>1", EVENT(WORD));
	DOES(&t, "run 2, switched(2)>1", SAYS(1, COMMIT, 1));
	DOES(&t, "deliver 3", SAYS(1, WORD, 3)); /* what the source had kept */
	DOES(&t, "deliver 1", SAYS(1, WORD, 1));
	DOES(&s, "word(2)>2", SAYS(2, WORD, 2)); /* the target's own, of before */
	DOES(&s, "mark(2)>2", SAYS(2, SWITCHED, 2));
	DOES(&s, "mark(3)>2", SAYS(3, SWITCHED, 3));
	DOES(&c, "switched(0)>1", SAYS(1, MOVED, 2));
	DOES(&s, "mark(0)>2", SAYS(0, SWITCHED, 0));
	CHECK(!handoff_holds(&s.h));
	DOES(&t, "keep 2", EVENT(WORD)); /* behind its older word, which is still on its way round */
	DOES(&t, "deliver 2", SAYS(1, WORD, 2));
	DOES(&t, "give 2", SAYS(1, MARK, 2));
	DOES(&t, "deliver 2", EVENT(WORD));
	DOES(&t, "give 3", SAYS(1, MARK, 3));
	DOES(&t, "give 0, done(2)>0", SAYS(1, MARK, 0));
	DOES(&c, "tell 2", SAYS(2, DONE, 2));
	DOES(&c, "order(1)>2", EVENT(MOVE), .node = {1});
}

TEST(a_move_is_undone_until_it_is_committed)
{
	struct told s = node(1), t = node(2);

	DOES(&s, "prepare(1)>2", SAYS(0, ORDER, 2));
	DOES(&t, "make-room 1", SAYS(1, PREPARE, 1));
	DOES(&t, "discard 2, refused(2)>1", EVENT(REFUSED));
	DOES(&s, "undone(2)>0", SAYS(2, REFUSED, 2));

	DOES(&s, "prepare(1)>2", SAYS(0, ORDER, 2));
	DOES(&s, "freeze 1", SAYS(2, PREPARED, 2));
	DOES(&s, "state(1)>2", EVENT(FROZEN));
	DOES(&s, "keep 3", SAYS(3, WORD, 3));
	DOES(&s, "thaw 1, give-all 1, abort(1)>2", SAYS(0, CANCEL, 2));
	DOES(&s, "deliver 3", SAYS(3, WORD, 3));
	DOES(&s, "", SAYS(2, READIED, 2)); /* it crossed the abort */
	DOES(&s, "undone(2)>0", SAYS(2, ABORTED, 2));
	DOES(&s, "", SAYS(0, CANCEL, 2)); /* too late */

	DOES(&t, "make-room 1", SAYS(1, PREPARE, 1));
	DOES(&t, "discard 2, aborted(2)>1", SAYS(1, ABORT, 1));
	CHECK_EQ(t.h.state, HANDOFF_AWAY);
}

TEST(a_lost_target_costs_nothing_before_the_commit_and_the_vm_after_it)
{
	struct told s = node(1), b = node(3), c = node(0);

	DOES(&c, "order(2)>1", EVENT(MOVE), .node = {2});
	DOES(&c, "cancel(2)>1", SAYS(3, GONE, 2)); /* a bystander cannot reach it */
	DOES(&b, "gone(2)>0", LOSES(2));
	DOES(&s, "prepare(1)>2", SAYS(0, ORDER, 2));
	DOES(&s, "freeze 1", SAYS(2, PREPARED, 2));
	DOES(&s, "state(1)>2", EVENT(FROZEN));
	DOES(&s, "thaw 1, give-all 1, undone(2)>0, gone(2)>0", LOSES(2));
	DOES(&s, "undone(2)>0", SAYS(0, ORDER, 2));
	DOES(&s, "prepare(1)>3", SAYS(0, ORDER, 3));
	DOES(&s, "freeze 1", SAYS(3, PREPARED, 3));
	DOES(&s, "state(1)>3", EVENT(FROZEN));
	DOES(&s, "retire 1, commit(1)>3, pass-all 3, moved(3)>0, mark(2)>3", SAYS(3, READIED, 3));
	DOES(&s, "stop 3", LOSES(3));
	DOES(&s, "", SAYS(0, SWITCHED, 0)); /* nothing any more */
	DOES(&c, "tell 1", SAYS(1, UNDONE, 2));
	DOES(&c, "deny 2", EVENT(MOVE), .node = {2});
}

TEST(a_lost_source_ends_a_target_and_a_bystander)
{
	struct told t = node(2), b = node(3);

	DOES(&t, "make-room 1", SAYS(1, PREPARE, 1));
	DOES(&t, "discard 2, stop 1", LOSES(1));
	CHECK(!handoff_holds(&t.h)); /* so it may leave quietly */
	DOES(&b, "stop 1", LOSES(1));
}

TEST(nonsense_is_refused)
{
	struct told s = node(1), t = node(2), b = node(3);

	REFUSES(&s, SAYS(2, ORDER, 3));    /* not the coordinator */
	REFUSES(&s, SAYS(0, ORDER, 1));    /* it is here */
	REFUSES(&s, SAYS(2, READIED, 2));
	REFUSES(&s, SAYS(3, WORD, 2));     /* another's word */
	REFUSES(&t, SAYS(1, COMMIT, 1));
	REFUSES(&t, SAYS(1, STATE, 1));
	REFUSES(&t, SAYS(1, WORD, 1));
	REFUSES(&b, SAYS(1, MOVED, 3));
	REFUSES(&b, SAYS(9, MOVED, 2));
	REFUSES(&b, SAYS(1, MOVED, 9));
	REFUSES(&b, SAYS(1, DONE, 1));
	REFUSES(&b, .kind = HANDOFF_EV_MSG, .msg = HANDOFF_MSGS, .from = {1});
	DOES(&b, "stop 1", SAYS(2, PREPARE, 2)); /* so it has moved, and nobody could tell us */
}
