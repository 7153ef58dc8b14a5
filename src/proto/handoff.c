/* The hand-off of one part, see handoff.h. */
#include "proto/handoff.h"

#include <errno.h>

#include "base/ensure.h"

/* One step: the machine, the event, what comes of it. */
struct step {
	struct handoff *h;
	const struct handoff_event *ev;
	struct handoff_actions *out;
};

static uint16_t bit(unsigned node)
{
	return (uint16_t)(1u << node);
}

static uint16_t everybody(const struct handoff *h)
{
	return (uint16_t)((1u << h->nodes) - 1);
}

static void act(struct step *s, enum handoff_action_kind kind, unsigned node)
{
	ensure(s->out->n < HANDOFF_ACTIONS_MAX);
	s->out->at[s->out->n++] = (struct handoff_action){.kind = kind, .to = {(uint8_t)node}, .node = {(uint8_t)node}};
}

/* To who is lost nothing is sent. */
static void act_send(struct step *s, unsigned to, enum handoff_msg msg, unsigned node)
{
	ensure(s->out->n < HANDOFF_ACTIONS_MAX);
	if (!(s->h->lost & bit(to)))
		s->out->at[s->out->n++] = (struct handoff_action){.kind = HANDOFF_DO_SEND, .msg = msg, .to = {(uint8_t)to}, .node = {(uint8_t)node}};
}

static void act_stop(struct step *s, unsigned about)
{
	s->h->failed = 1;
	act(s, HANDOFF_DO_STOP, about);
}

void handoff_init(struct handoff *h, node_t self, unsigned nodes, node_t coordinator, node_t at)
{
	ensure(nodes >= 1 && nodes <= NODES_MAX && self.v < nodes && coordinator.v < nodes && at.v < nodes);
	*h = (struct handoff){.self = self.v, .nodes = (uint8_t)nodes, .coordinator = coordinator.v, .at = at.v, .peer = at.v};
	h->state = node_eq(self, at) ? HANDOFF_HERE : HANDOFF_AWAY;
}

static bool handoff_runs(const struct handoff *h)
{
	return h->state == HANDOFF_HERE || h->state == HANDOFF_ASKING || h->state == HANDOFF_FREEZING || h->state == HANDOFF_UNDOING || h->state == HANDOFF_ARRIVED;
}

bool handoff_holds(const struct handoff *h)
{
	return handoff_runs(h) || h->state == HANDOFF_SHIPPED || h->state == HANDOFF_FORWARDING;
}

/* Source: the part has not left yet. */
static bool source_may_undo(const struct handoff *h)
{
	return h->state == HANDOFF_ASKING || h->state == HANDOFF_FREEZING || h->state == HANDOFF_SHIPPED;
}

static bool target_uncommitted(const struct handoff *h)
{
	return h->state >= HANDOFF_MAKING_ROOM && h->state <= HANDOFF_READY;
}

/* --- the source --- */

static void source_rest(struct step *s)
{
	s->h->state = HANDOFF_HERE;
	act_send(s, s->h->coordinator, HANDOFF_UNDONE, s->h->peer);
}

/* The part runs on here. Has the target still to be told, and to answer? */
static void source_undo(struct step *s, bool tell)
{
	if (s->h->state == HANDOFF_FREEZING || s->h->state == HANDOFF_SHIPPED) {
		act(s, HANDOFF_DO_THAW, s->h->self);
		act(s, HANDOFF_DO_GIVE_ALL, s->h->self);
	}
	s->h->state = HANDOFF_UNDOING;
	if (tell)
		act_send(s, s->h->peer, HANDOFF_ABORT, s->h->self);
	else
		source_rest(s);
}

static void source_ordered(struct step *s)
{
	struct handoff *h = s->h;

	h->peer = s->ev->node.v;
	h->state = HANDOFF_ASKING;
	if (h->lost & bit(h->peer))
		source_rest(s);
	else
		act_send(s, h->peer, HANDOFF_PREPARE, h->self);
}

static void source_switched(struct step *s, unsigned who)
{
	struct handoff *h = s->h;

	h->waiting &= (uint16_t)~bit(who);
	act_send(s, h->peer, HANDOFF_MARK, who);
	if (!h->waiting)
		h->state = HANDOFF_AWAY;
}

/* The moment. What was kept goes behind the commit, and before anything that comes later. */
static void source_commit(struct step *s)
{
	struct handoff *h = s->h;

	h->state = HANDOFF_FORWARDING;
	h->at = h->peer;
	h->waiting = (uint16_t)(everybody(h) & ~bit(h->self));
	act(s, HANDOFF_DO_RETIRE, h->self);
	act_send(s, h->peer, HANDOFF_COMMIT, h->self);
	act(s, HANDOFF_DO_PASS_ALL, h->peer);
	for (unsigned n = 0; n < h->nodes; n++)
		if (n != h->self && n != h->peer && !(h->lost & bit(n)))
			act_send(s, n, HANDOFF_MOVED, h->peer);
	for (unsigned n = 0; n < h->nodes; n++)
		if (h->waiting & h->lost & bit(n))
			source_switched(s, n);
}

/* --- the target --- */

static void target_drop(struct step *s)
{
	act(s, HANDOFF_DO_DISCARD, s->h->self);
	s->h->state = HANDOFF_AWAY;
}

static void target_settle(struct step *s)
{
	if (s->h->waiting)
		return;
	s->h->state = HANDOFF_HERE;
	act_send(s, s->h->coordinator, HANDOFF_DONE, s->h->self);
}

static void target_commit(struct step *s)
{
	struct handoff *h = s->h;

	h->state = HANDOFF_ARRIVED;
	h->at = h->self;
	h->waiting = (uint16_t)(everybody(h) & ~bit(h->peer));
	act(s, HANDOFF_DO_RUN, h->self);
	act_send(s, h->peer, HANDOFF_SWITCHED, h->self);
}

static void target_mark(struct step *s)
{
	s->h->waiting &= (uint16_t)~bit(s->ev->node.v);
	act(s, HANDOFF_DO_GIVE, s->ev->node.v);
	target_settle(s);
}

/* --- words --- */

/* May this word come by this road? */
static bool word_fits(const struct handoff *h, unsigned from, unsigned sender)
{
	bool direct = from == sender;

	switch (h->state) {
	case HANDOFF_FORWARDING:
		return direct && h->waiting & bit(from);
	case HANDOFF_READY:
		return direct && from != h->peer;
	case HANDOFF_ARRIVED:
		return direct || (from == h->peer && h->waiting & bit(sender));
	default:
		return direct && handoff_holds(h);
	}
}

static void word_comes(struct step *s, unsigned from, unsigned sender)
{
	struct handoff *h = s->h;
	bool early = h->state == HANDOFF_ARRIVED && from == sender && h->waiting & bit(sender);

	if (h->state == HANDOFF_FORWARDING)
		act_send(s, h->peer, HANDOFF_WORD, sender);
	else if (h->state == HANDOFF_SHIPPED || h->state == HANDOFF_READY || early)
		act(s, HANDOFF_DO_KEEP, sender);
	else
		act(s, HANDOFF_DO_DELIVER, sender);
}

static void word_sent(struct step *s)
{
	if (s->h->at != s->h->self)
		act_send(s, s->h->at, HANDOFF_WORD, s->h->self);
	else
		word_comes(s, s->h->self, s->h->self);
}

/* --- the coordinator --- */

static void coordinator_move(struct step *s)
{
	struct handoff *h = s->h;
	unsigned target = s->ev->node.v;

	if (h->order || target >= h->nodes || target == h->at || (h->gone | h->lost) & bit(target)) {
		act(s, HANDOFF_DO_DENY, target);
		return;
	}
	h->order = (uint8_t)(1 + target);
	act_send(s, h->at, HANDOFF_ORDER, target);
}

static void coordinator_cancel(struct step *s)
{
	if (s->h->order)
		act_send(s, s->h->at, HANDOFF_CANCEL, s->h->order - 1u);
}

static void coordinator_gone(struct step *s, unsigned node)
{
	s->h->gone |= bit(node);
	if (s->h->order == 1 + node)
		coordinator_cancel(s);
}

static void coordinator_ended(struct step *s)
{
	s->h->order = 0;
	act(s, HANDOFF_DO_TELL, s->h->at);
}

/* --- what comes --- */

/* Could a correct node say this now? Nothing is changed before this has been answered. */
static bool message_fits(const struct handoff *h, const struct handoff_event *ev)
{
	unsigned from = ev->from.v, node = ev->node.v;
	bool peer = from == h->peer, coordinates = h->self == h->coordinator;

	if (from >= h->nodes || node >= h->nodes || h->lost & bit(from))
		return false;
	switch (ev->msg) {
	case HANDOFF_ORDER: return from == h->coordinator && h->state == HANDOFF_HERE && node != h->self;
	case HANDOFF_CANCEL: return from == h->coordinator;
	case HANDOFF_DONE: return coordinates && h->order == 1 + from && h->at == from;
	case HANDOFF_UNDONE: return coordinates && h->order && h->at == from;
	case HANDOFF_GONE: return coordinates && node != h->self;
	case HANDOFF_PREPARE: return h->state == HANDOFF_AWAY && from != h->self;
	case HANDOFF_STATE: return h->state == HANDOFF_WILLING && peer;
	case HANDOFF_COMMIT: return h->state == HANDOFF_READY && peer;
	case HANDOFF_ABORT: return (h->state == HANDOFF_AWAY && from == h->at && from != h->self) || (target_uncommitted(h) && peer);
	case HANDOFF_PREPARED: return (h->state == HANDOFF_ASKING || h->state == HANDOFF_UNDOING) && peer;
	case HANDOFF_READIED: return (h->state == HANDOFF_SHIPPED || h->state == HANDOFF_UNDOING) && peer;
	case HANDOFF_REFUSED: return (source_may_undo(h) || h->state == HANDOFF_UNDOING) && peer;
	case HANDOFF_ABORTED: return h->state == HANDOFF_UNDOING && peer;
	case HANDOFF_MOVED: return h->state == HANDOFF_AWAY && node != h->self && node != from;
	case HANDOFF_SWITCHED: return h->state == HANDOFF_FORWARDING && h->waiting & bit(from);
	case HANDOFF_MARK: return h->state == HANDOFF_ARRIVED && peer && h->waiting & bit(node);
	case HANDOFF_WORD: return word_fits(h, from, node);
	case HANDOFF_MSGS: break;
	}
	return false;
}

/* Only who has the part speaks of moving it. If that is another than we believe, our link to that one broke before it could tell us. */
static bool bystander_is_behind(struct step *s)
{
	if (s->ev->from.v == s->h->at)
		return false;
	act_stop(s, s->h->at);
	return true;
}

/* It is somewhere else: whoever cannot reach that place cannot live on. */
static void bystander_moved(struct step *s)
{
	struct handoff *h = s->h;

	if (bystander_is_behind(s))
		return;
	act_send(s, s->ev->from.v, HANDOFF_SWITCHED, h->self);
	h->at = s->ev->node.v;
	if (h->lost & bit(h->at))
		act_stop(s, h->at);
}

static void message_at_target(struct step *s)
{
	struct handoff *h = s->h;

	switch (s->ev->msg) {
	case HANDOFF_PREPARE:
		if (bystander_is_behind(s))
			break;
		h->state = HANDOFF_MAKING_ROOM;
		h->peer = s->ev->from.v;
		act(s, HANDOFF_DO_MAKE_ROOM, h->peer);
		break;
	case HANDOFF_STATE:
		h->state = HANDOFF_INSTALLING;
		act(s, HANDOFF_DO_INSTALL, h->peer);
		break;
	case HANDOFF_COMMIT:
		target_commit(s);
		break;
	case HANDOFF_ABORT:
		if (h->state == HANDOFF_AWAY) /* it crossed our refusal */
			break;
		target_drop(s);
		act_send(s, h->peer, HANDOFF_ABORTED, h->self);
		break;
	case HANDOFF_MARK:
		target_mark(s);
		break;
	default:
		break;
	}
}

static void message_at_source(struct step *s)
{
	struct handoff *h = s->h;

	switch (s->ev->msg) {
	case HANDOFF_ORDER:
		source_ordered(s);
		break;
	case HANDOFF_CANCEL: /* too late, or the move has ended meanwhile: nothing */
		if (source_may_undo(h))
			source_undo(s, true);
		break;
	case HANDOFF_PREPARED: /* while undoing: it crossed our abort */
		if (h->state != HANDOFF_ASKING)
			break;
		h->state = HANDOFF_FREEZING;
		act(s, HANDOFF_DO_FREEZE, h->self);
		break;
	case HANDOFF_READIED:
		if (h->state == HANDOFF_SHIPPED)
			source_commit(s);
		break;
	case HANDOFF_REFUSED:
	case HANDOFF_ABORTED:
		source_undo(s, false);
		break;
	case HANDOFF_SWITCHED:
		source_switched(s, s->ev->from.v);
		break;
	default:
		message_at_target(s);
	}
}

static int message_taken(struct step *s)
{
	if (!message_fits(s->h, s->ev))
		return -EPROTO;
	switch (s->ev->msg) {
	case HANDOFF_DONE:
	case HANDOFF_UNDONE:
		coordinator_ended(s);
		break;
	case HANDOFF_GONE:
		coordinator_gone(s, s->ev->node.v);
		break;
	case HANDOFF_MOVED:
		bystander_moved(s);
		break;
	case HANDOFF_WORD:
		word_comes(s, s->ev->from.v, s->ev->node.v);
		break;
	default:
		message_at_source(s);
	}
	return 0;
}

/* The driver's own work has ended, one way or the other. */
static void work_done(struct step *s)
{
	struct handoff *h = s->h;
	enum handoff_state was = h->state;

	ensure(was == (s->ev->kind == HANDOFF_EV_ROOM ? HANDOFF_MAKING_ROOM : s->ev->kind == HANDOFF_EV_FROZEN ? HANDOFF_FREEZING : HANDOFF_INSTALLING));
	h->state = was == HANDOFF_MAKING_ROOM ? HANDOFF_WILLING : was == HANDOFF_FREEZING ? HANDOFF_SHIPPED : HANDOFF_READY;
	act_send(s, h->peer, was == HANDOFF_MAKING_ROOM ? HANDOFF_PREPARED : was == HANDOFF_FREEZING ? HANDOFF_STATE : HANDOFF_READIED, h->self);
}

static void work_refused(struct step *s)
{
	ensure(s->h->state == HANDOFF_MAKING_ROOM || s->h->state == HANDOFF_FREEZING || s->h->state == HANDOFF_INSTALLING);
	if (s->h->state == HANDOFF_FREEZING) {
		source_undo(s, true);
		return;
	}
	target_drop(s);
	act_send(s, s->h->peer, HANDOFF_REFUSED, s->h->self);
}

static void node_lost(struct step *s, unsigned who)
{
	struct handoff *h = s->h;
	bool peer = who == h->peer;

	h->lost |= bit(who);
	if (peer && (source_may_undo(h) || h->state == HANDOFF_UNDOING))
		source_undo(s, false);
	else if (h->state == HANDOFF_FORWARDING && !peer && h->waiting & bit(who))
		source_switched(s, who);
	else if (target_uncommitted(h) && peer)
		target_drop(s);
	if (who == h->at || (h->state == HANDOFF_ARRIVED && peer))
		act_stop(s, who);
	else if (h->self == h->coordinator)
		coordinator_gone(s, who);
	else
		act_send(s, h->coordinator, HANDOFF_GONE, who);
}

int handoff_step(struct handoff *h, const struct handoff_event *ev, struct handoff_actions *out)
{
	struct step s = {h, ev, out};

	out->n = 0;
	if (h->failed)
		return 0;
	switch (ev->kind) {
	case HANDOFF_EV_MSG:
		return message_taken(&s);
	case HANDOFF_EV_WORD:
		word_sent(&s);
		break;
	case HANDOFF_EV_LOST:
		ensure(ev->from.v < h->nodes && ev->from.v != h->self && !(h->lost & bit(ev->from.v)));
		node_lost(&s, ev->from.v);
		break;
	case HANDOFF_EV_MOVE:
		ensure(h->self == h->coordinator);
		coordinator_move(&s);
		break;
	case HANDOFF_EV_CANCEL:
		ensure(h->self == h->coordinator);
		coordinator_cancel(&s);
		break;
	case HANDOFF_EV_ROOM:
	case HANDOFF_EV_FROZEN:
	case HANDOFF_EV_INSTALLED:
		work_done(&s);
		break;
	case HANDOFF_EV_REFUSED:
		work_refused(&s);
		break;
	}
	return 0;
}

const char *handoff_state_name(unsigned state)
{
	static const char *const names[HANDOFF_STATES] = {
		"away", "here", "asking", "freezing", "shipped", "undoing", "forwarding", "making-room", "willing", "installing", "ready", "arrived",
	};

	return state < HANDOFF_STATES ? names[state] : "unknown";
}

const char *handoff_msg_name(unsigned msg)
{
	static const char *const names[HANDOFF_MSGS] = {
		"order", "cancel", "done", "undone", "gone", "prepare", "state", "commit", "abort", "prepared", "readied", "refused", "aborted", "moved", "switched", "mark",
		"word",
	};

	return msg < HANDOFF_MSGS ? names[msg] : "unknown";
}
