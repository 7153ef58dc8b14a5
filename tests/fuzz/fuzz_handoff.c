/* One node's hand-off machine, with peers that say anything in any order, and an honest driver. It must never assert, never change anything when it refuses,
 * and never ask its driver for something that cannot be done.
 *
 * Input: the first byte says who we are and who has the part; then an event each from two bytes: kind and message; sender and 'node'. */
#include "tests/fuzz/fuzz.h"

#include "base/ensure.h"
#include "proto/handoff.h"

#include <errno.h>
#include <string.h>

enum { NODES = 4 };
enum body { NONE, RUNS, CAPTURED, INERT };

struct rig {
	struct handoff h;
	enum body body;
	bool working;
	uint16_t lost;
};

static void rig_send(const struct rig *r, const struct handoff_action *a)
{
	ensure(a->to.v < NODES && a->node.v < NODES && !(r->lost >> a->to.v & 1) && a->msg < HANDOFF_MSGS);
	ensure(a->msg != HANDOFF_STATE || r->body == CAPTURED);
	ensure(a->msg != HANDOFF_COMMIT || r->body == NONE);
	ensure(a->msg != HANDOFF_ABORTED || (r->body == NONE && !r->working));
}

static void rig_act(struct rig *r, const struct handoff_action *a)
{
	switch (a->kind) {
	case HANDOFF_DO_SEND: rig_send(r, a); break;
	case HANDOFF_DO_DELIVER:
	case HANDOFF_DO_GIVE:
	case HANDOFF_DO_GIVE_ALL: ensure(r->body == RUNS); break;
	case HANDOFF_DO_KEEP: ensure(r->body == CAPTURED || r->body == INERT || r->body == RUNS); break;
	case HANDOFF_DO_PASS_ALL: ensure(r->body == NONE); break;
	case HANDOFF_DO_FREEZE: ensure(r->body == RUNS && !r->working); r->working = true; break;
	case HANDOFF_DO_THAW: ensure(r->working ? r->body == RUNS : r->body == CAPTURED); r->working = false; r->body = RUNS; break;
	case HANDOFF_DO_RETIRE: ensure(r->body == CAPTURED); r->body = NONE; break;
	case HANDOFF_DO_MAKE_ROOM:
	case HANDOFF_DO_INSTALL: ensure(r->body == NONE && !r->working); r->working = true; break;
	case HANDOFF_DO_RUN: ensure(r->body == INERT); r->body = RUNS; break;
	case HANDOFF_DO_DISCARD: ensure(r->body == NONE || r->body == INERT); r->body = NONE; r->working = false; break;
	case HANDOFF_DO_TELL:
	case HANDOFF_DO_DENY: ensure(r->h.self == r->h.coordinator); break;
	case HANDOFF_DO_STOP: ensure(r->h.failed); break;
	}
}

/* What only an honest driver says, when it may. False: not now. */
static bool rig_may(struct rig *r, struct handoff_event *ev)
{
	switch (ev->kind) {
	case HANDOFF_EV_LOST:
		if (ev->from.v >= NODES || ev->from.v == r->h.self || r->lost >> ev->from.v & 1)
			return false;
		r->lost |= (uint16_t)(1u << ev->from.v);
		return true;
	case HANDOFF_EV_MOVE:
	case HANDOFF_EV_CANCEL:
		return r->h.self == r->h.coordinator;
	case HANDOFF_EV_ROOM:
	case HANDOFF_EV_FROZEN:
	case HANDOFF_EV_INSTALLED:
		if (!r->working)
			return false;
		ev->kind = r->h.state == HANDOFF_MAKING_ROOM ? HANDOFF_EV_ROOM : r->h.state == HANDOFF_FREEZING ? HANDOFF_EV_FROZEN : HANDOFF_EV_INSTALLED;
		r->working = false;
		r->body = r->h.state == HANDOFF_FREEZING ? CAPTURED : r->h.state == HANDOFF_INSTALLING ? INERT : NONE;
		return true;
	case HANDOFF_EV_REFUSED:
		return r->working;
	default:
		return true;
	}
}

static void rig_step(struct rig *r, struct handoff_event *ev)
{
	struct handoff before = r->h;
	struct handoff_actions out;
	int err;

	if (r->h.failed || !rig_may(r, ev))
		return;
	before = r->h;
	err = handoff_step(&r->h, ev, &out);
	ensure(err == 0 || (err == -EPROTO && ev->kind == HANDOFF_EV_MSG && out.n == 0 && memcmp(&before, &r->h, sizeof before) == 0));
	for (unsigned i = 0; i < out.n && !r->h.failed; i++)
		rig_act(r, &out.at[i]);
	ensure(r->h.failed || r->body == NONE || r->body == INERT || handoff_holds(&r->h));
	ensure(r->h.failed || r->body != RUNS || r->h.at == r->h.self);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig r = {0};

	if (bytes == 0)
		return 0;
	handoff_init(&r.h, (node_t){data[0] & 3}, NODES, (node_t){0}, (node_t){data[0] >> 2 & 3});
	r.body = r.h.state == HANDOFF_HERE ? RUNS : NONE;
	for (size_t i = 1; i + 1 < bytes; i += 2) {
		struct handoff_event ev = {
			.kind = data[i] & 0x80 ? (enum handoff_event_kind)((data[i] & 0x7f) % (HANDOFF_EV_REFUSED + 1)) : HANDOFF_EV_MSG,
			.msg = (enum handoff_msg)(data[i] & 31), .from = {data[i + 1] & 7}, .node = {data[i + 1] >> 4 & 7}};

		rig_step(&r, &ev);
	}
	return 0;
}

#define SAYS(who, what, about) HANDOFF_##what, (who) | (about) << 4
#define LOCAL(what, node) 0x80 | HANDOFF_EV_##what, (node) << 4

static const uint8_t stories[][32] = {
	{1 | 1 << 2, SAYS(0, ORDER, 2), SAYS(2, PREPARED, 2), LOCAL(FROZEN, 0), SAYS(3, WORD, 3), SAYS(2, READIED, 2), SAYS(3, SWITCHED, 3), SAYS(2, SWITCHED, 2),
	 SAYS(0, SWITCHED, 0)},
	{2 | 1 << 2, SAYS(1, PREPARE, 1), LOCAL(ROOM, 0), SAYS(1, STATE, 1), LOCAL(INSTALLED, 0), SAYS(3, WORD, 3), SAYS(1, COMMIT, 1), SAYS(1, MARK, 3), SAYS(1, MARK, 2),
	 SAYS(1, MARK, 0), SAYS(0, ORDER, 3)},
	{0 | 1 << 2, LOCAL(MOVE, 2), SAYS(3, GONE, 2), SAYS(1, MOVED, 2), SAYS(2, DONE, 2), LOCAL(MOVE, 3)},
	{1 | 1 << 2, SAYS(0, ORDER, 3), SAYS(3, PREPARED, 3), LOCAL(FROZEN, 0), SAYS(0, CANCEL, 3), SAYS(3, READIED, 3), SAYS(3, ABORTED, 3), 0x80 | HANDOFF_EV_LOST, 3},
	{2 | 1 << 2, SAYS(1, PREPARE, 1), LOCAL(REFUSED, 0), SAYS(1, ABORT, 1), SAYS(1, PREPARE, 1), SAYS(1, ABORT, 1)},
};

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	if (n >= ARRAY_LEN(stories))
		return 0;
	ensure(room >= sizeof stories[n]);
	memcpy(to, stories[n], sizeof stories[n]);
	return sizeof stories[n];
}
