/* Hand-off of one part of a running VM (a vCPU, a device, a range of memory's homes) from the node that has it to another. A pure machine, one for each part on
 * each node: no I/O, no clock, no heap, no threads. Why it is so: doc/decisions/mobility.md.
 *
 *   source   HERE --order--> ASKING --prepared--> FREEZING --frozen--> SHIPPED --ready: COMMIT--> FORWARDING --all switched--> AWAY
 *              ^                |                     |                    |
 *              +---aborted-- UNDOING <-----cancel, refused, target lost ---+      (refused, target lost: straight to HERE)
 *   target   AWAY --prepare--> MAKING_ROOM --room--> WILLING --state--> INSTALLING --installed--> READY --COMMIT--> ARRIVED --all marks--> HERE
 *              ^                    |                   |                   |                       |
 *              +-------------------refused, abort, source lost: the copy is dropped ----------------+
 *
 *   runs:  HERE, ASKING, FREEZING, UNDOING, ARRIVED. Words for the part are delivered.
 *   SHIPPED, READY: words are kept. FORWARDING: words go on to the target. AWAY and a target that is not ready: nobody sends words here.
 *
 * The coordinator orders moves, one of a part at a time, and hears 'done' or 'undone'. The right to run is a token: the source has it until it sends COMMIT, the
 * target from when it takes it. Every node routes words to 'at', where it believes the part is; the source forwards what old beliefs send, in order,
 * and after each sender's last such word its mark, until which the target keeps what that sender sends directly.
 *
 * Contract with the driver: one ordered stream for each pair of nodes carries this part's messages and words; a message to oneself is an event of its own, later, in
 * order. What was lost on a broken link is a suffix of what was sent. A node
 * that holds no part has no words. After HANDOFF_DO_STOP a node that runs, keeps or forwards no part of the VM may leave
 * quietly (close its links); any other begins the agreed stop (proto/stop.h).
 *
 * Invariants (cited by tests as H1..):
 *  H1  at most one node runs the part, at any time, whatever is lost.
 *  H2  what runs is whole: the state captured last, by the only node that ran it; nothing is delivered to a part that is captured.
 *  H3  commit or abort, never both: the source decides, once, and the target runs only what the source has committed.
 *  H4  a word is delivered exactly once, each sender's words in the order sent, while no node that ran, kept or forwarded is lost.
 *  H5  without faults every order ends, committed and told 'done', or undone and told 'undone'; then all nodes agree where the part is and nothing is kept.
 *  H6  a target that is lost before COMMIT was sent to it, and held nothing else, costs the VM nothing: the move is undone.
 *  H7  whoever ran the part, or still had words of it, and is lost, ends the VM everywhere.
 *  H8  bounded: fixed-size state, at most HANDOFF_ACTIONS_MAX actions a step; a message no correct node sends is refused and changes nothing. */
#ifndef PROTO_HANDOFF_H
#define PROTO_HANDOFF_H

#include "base/types.h"

enum handoff_state {
	HANDOFF_AWAY, HANDOFF_HERE,
	HANDOFF_ASKING, HANDOFF_FREEZING, HANDOFF_SHIPPED, HANDOFF_UNDOING, HANDOFF_FORWARDING,      /* source */
	HANDOFF_MAKING_ROOM, HANDOFF_WILLING, HANDOFF_INSTALLING, HANDOFF_READY, HANDOFF_ARRIVED,    /* target */
	HANDOFF_STATES
};

/* Between the machines of one part. */
enum handoff_msg {
	HANDOFF_ORDER,    /* coordinator to source: move to 'node' */
	HANDOFF_CANCEL,   /* coordinator to source: undo it if that can be */
	HANDOFF_DONE,     /* target to coordinator */
	HANDOFF_UNDONE,   /* source to coordinator */
	HANDOFF_GONE,     /* anybody to coordinator: I have lost 'node', which has no part that I know of. */
	HANDOFF_PREPARE,  /* source to target */
	HANDOFF_STATE,    /* with all that was captured */
	HANDOFF_COMMIT,
	HANDOFF_ABORT,
	HANDOFF_PREPARED, /* target to source */
	HANDOFF_READIED,
	HANDOFF_REFUSED,  /* nothing is left of it here */
	HANDOFF_ABORTED,  /* the same, since you said ABORT */
	HANDOFF_MOVED,    /* source to all others after COMMIT: it is at 'node' now */
	HANDOFF_SWITCHED, /* their answer: no more words for you */
	HANDOFF_MARK,     /* source to target: 'node' has switched */
	HANDOFF_WORD,     /* of sender 'node', for the part */
	HANDOFF_MSGS
};

enum handoff_event_kind {
	HANDOFF_EV_MSG,       /* 'msg' from 'from', with 'node' where that has a meaning */
	HANDOFF_EV_WORD,      /* somebody on this node has a word for the part */
	HANDOFF_EV_LOST,      /* the link to 'from' is closed, broken or silent for too long; once for each */
	HANDOFF_EV_MOVE,      /* coordinator: the user wants it at 'node' */
	HANDOFF_EV_CANCEL,    /* coordinator: the user, or patience, has thought better of it */
	HANDOFF_EV_ROOM,      /* HANDOFF_DO_MAKE_ROOM is done */
	HANDOFF_EV_FROZEN,    /* HANDOFF_DO_FREEZE is done: out, at rest, captured; what comes from now on belongs to what follows */
	HANDOFF_EV_INSTALLED, /* HANDOFF_DO_INSTALL is done */
	HANDOFF_EV_REFUSED,   /* the one of these three that was under way cannot be done */
};

struct handoff_event {
	enum handoff_event_kind kind;
	enum handoff_msg msg;
	node_t from;
	node_t node;
};

/* What the driver must do, in order. Freezing, making room and installing take time: each ends with one event of its own, or with the action that calls it off. */
enum handoff_action_kind {
	HANDOFF_DO_SEND,      /* msg with 'node' to 'to'; STATE with what was captured; a word: the one of this event */
	HANDOFF_DO_DELIVER,   /* give the word of this event to the part */
	HANDOFF_DO_KEEP,      /* keep the word of this event, of sender 'node', behind those kept */
	HANDOFF_DO_GIVE,      /* deliver the kept words of sender 'node', in order */
	HANDOFF_DO_GIVE_ALL,  /* deliver all kept words, in the order they came */
	HANDOFF_DO_PASS_ALL,  /* send all kept words to 'to', in the order they came, each as its sender's */
	HANDOFF_DO_FREEZE,    /* source: stop the part and capture it */
	HANDOFF_DO_THAW,      /* source: it runs on, from what was captured; calls a freeze off */
	HANDOFF_DO_RETIRE,    /* source: it has gone for good, drop it */
	HANDOFF_DO_MAKE_ROOM, /* target */
	HANDOFF_DO_INSTALL,   /* target: from the state received; it does not run */
	HANDOFF_DO_RUN,       /* target: what was installed */
	HANDOFF_DO_DISCARD,   /* target: drop room and copy; calls off what is under way */
	HANDOFF_DO_TELL,      /* coordinator: the move under way has ended; it is at 'node' */
	HANDOFF_DO_DENY,      /* coordinator: this move is not possible (now) */
	HANDOFF_DO_STOP,      /* the VM cannot go on without 'node', which is lost; see above */
};

struct handoff_action {
	enum handoff_action_kind kind;
	enum handoff_msg msg;
	node_t to, node;
};

enum { HANDOFF_ACTIONS_MAX = 2 * NODES_MAX + 8 };
struct handoff_actions {
	struct handoff_action at[HANDOFF_ACTIONS_MAX];
	unsigned n;
};

struct handoff {
	uint8_t self, nodes, coordinator;
	uint8_t state;    /* enum handoff_state */
	uint8_t at;       /* where words go */
	uint8_t peer;     /* the other one of the move under way: target at the source, source at the target */
	uint8_t order;    /* coordinator: 1 + target of the move under way; else 0 */
	uint8_t failed;   /* DO_STOP was said */
	uint16_t lost;    /* peers whose link is lost, a set */
	uint16_t gone;    /* coordinator: nodes that somebody cannot reach; nothing moves there */
	uint16_t waiting; /* FORWARDING: who has not switched. ARRIVED: whose mark has not come */
};

void handoff_init(struct handoff *h, node_t self, unsigned nodes, node_t coordinator, node_t at);

/* Does this node run the part, have words of it, or the only copy? Only those that do not, of any part, may leave quietly. */
bool handoff_holds(const struct handoff *h);

/* Take one event. On 0 the driver carries out *out, in order, before the part's next event. -EPROTO: a message that its sender may not send now; nothing has
 * changed. Local events never fail; asserts only on our own bugs (an end of what was not under way). After DO_STOP nothing is done any more. */
int handoff_step(struct handoff *h, const struct handoff_event *ev, struct handoff_actions *out) MUST_CHECK;

const char *handoff_state_name(unsigned state);
const char *handoff_msg_name(unsigned msg);

#endif
