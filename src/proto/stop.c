/* The agreed stop and the names of its reasons, see stop.h. */
#include "proto/stop.h"

const char *stop_reason_name(unsigned reason)
{
	static const char *const names[STOP_REASONS] = {
		[STOP_NONE] = "none",
		[STOP_POWEROFF] = "power-off",
		[STOP_RESET] = "reset",
		[STOP_PANIC] = "panic",
		[STOP_TRIPLE_FAULT] = "triple-fault",
		[STOP_KILLED] = "killed",
		[STOP_LOST] = "lost-node",
		[STOP_NODE_ERROR] = "node-error",
		[STOP_PROTOCOL] = "protocol",
	};

	return reason < STOP_REASONS ? names[reason] : "unknown";
}

bool stop_outranks(struct stop_cause a, struct stop_cause b)
{
	static const uint8_t rank[STOP_REASONS] = {
		[STOP_NONE] = 99, [STOP_POWEROFF] = 0, [STOP_RESET] = 1, [STOP_PANIC] = 2, [STOP_TRIPLE_FAULT] = 3,
		[STOP_KILLED] = 4, [STOP_NODE_ERROR] = 5, [STOP_PROTOCOL] = 6, [STOP_LOST] = 7,
	};

	return rank[a.reason] != rank[b.reason] ? rank[a.reason] < rank[b.reason] : a.node.v < b.node.v;
}

void stop_init(struct stop *s, node_t self, unsigned nodes)
{
	*s = (struct stop){.nodes = (uint8_t)nodes};
	s->waiting = (uint16_t)(((1u << nodes) - 1) & ~(1u << self.v));
}

/* What the event says went wrong. */
static struct stop_cause stop_cause_of(const struct stop *s, const struct stop_event *ev)
{
	bool sense = ev->cause.reason > STOP_NONE && ev->cause.reason < STOP_REASONS && ev->cause.node.v < s->nodes;

	switch (ev->kind) {
	case STOP_EV_CAUSE:
		return ev->cause;
	case STOP_EV_HEARD:
		return sense ? ev->cause : (struct stop_cause){STOP_PROTOCOL, ev->from};
	case STOP_EV_LOST:
		return (struct stop_cause){STOP_LOST, ev->from};
	case STOP_EV_DEADLINE:
		break;
	}
	return (struct stop_cause){STOP_NONE, {0}};
}

/* A peer's second word, or one after its link was lost, counts for nothing. */
static bool stop_expects(const struct stop *s, const struct stop_event *ev)
{
	if (s->ended)
		return false;
	if (ev->kind == STOP_EV_HEARD || ev->kind == STOP_EV_LOST)
		return ev->from.v < s->nodes && s->waiting >> ev->from.v & 1;
	return ev->kind != STOP_EV_DEADLINE || s->told.reason != STOP_NONE;
}

unsigned stop_step(struct stop *s, const struct stop_event *ev)
{
	struct stop_cause cause;
	unsigned actions = 0;

	if (!stop_expects(s, ev))
		return 0;
	cause = stop_cause_of(s, ev);
	if (ev->kind == STOP_EV_HEARD || ev->kind == STOP_EV_LOST)
		s->waiting &= (uint16_t)~(1u << ev->from.v);
	else if (ev->kind == STOP_EV_DEADLINE)
		s->waiting = 0;
	if (cause.reason != STOP_NONE && s->told.reason == STOP_NONE) {
		s->told = s->verdict = cause;
		actions |= STOP_DO_FREEZE | STOP_DO_TELL | STOP_DO_KEEP;
	} else if (ev->kind == STOP_EV_HEARD && stop_outranks(cause, s->verdict)) { /* whoever stops closes its links: no news */
		s->verdict = cause;
		actions |= STOP_DO_KEEP;
	}
	if (s->told.reason != STOP_NONE && s->waiting == 0) {
		s->ended = 1;
		actions |= STOP_DO_END;
	}
	return actions;
}
