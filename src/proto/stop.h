/* The agreed stop of a VM, and why it ended: the one list that fragments, daemons, the client's exit codes and doc/failure.md share. Sent in wire/peer.h 'stop' and in
 * wire/control.h 'part_ended'; values are part of the wire.
 *
 * The agreed stop is a pure machine, one for each fragment: whatever happens first to a fragment is its cause; it freezes, tells every peer
 * and ends when every peer has told its own cause or is gone.
 *
 *      running --cause, a peer's stop, or a link lost--> stopping (frozen, all told) --every peer heard or gone, or deadline--> ended
 *
 *   running   anything goes.
 *   stopping  frozen: no page is installed or answered for, no vCPU enters the guest, no device completes. Nothing a guest
 *             could take for a correct byte leaves a fragment that has lost touch with the others.
 *   ended     links closed, the process ends with its verdict.
 *
 * The verdict is the highest-ranking cause among those heard, not the fastest message:
 *  V1  freeze comes before the first word to anybody; a fragment tells each peer exactly once, as its last word on that link.
 *  V2  once anybody stops, everybody stops, with any links cut and any nodes dead (or hung: the deadline).
 *  V3  with no cut, crash or hang, all verdicts are the same, whatever stopped at the same time.
 *  V4  with cuts and crashes only, every verdict is STOP_LOST; after one crash and nothing else, of the node that crashed.
 *  V5  a verdict names something that did happen.
 * What is not promised: that verdicts agree when a cut or a crash hits a VM that is already stopping for another reason. The
 * coordinator's word counts then (doc/failure.md). */
#ifndef PROTO_STOP_H
#define PROTO_STOP_H

#include "base/types.h"

enum stop_reason {
	STOP_NONE,         /* it runs */
	STOP_POWEROFF,     /* the guest switched itself off */
	STOP_RESET,        /* the guest asked for a reset; node/reset.h starts it again */
	STOP_PANIC,        /* the guest's kernel said that it panicked */
	STOP_TRIPLE_FAULT, /* a vCPU shut down */
	STOP_KILLED,       /* a person asked for it */
	STOP_LOST,         /* a fragment died, or its node or the link to it is gone or silent */
	STOP_NODE_ERROR,   /* a node's kernel refused something a running VM needs (memory, KVM) */
	STOP_PROTOCOL,     /* a peer said something no correct peer says */
	STOP_REASONS
};

/* A short word for tables and JSON: "power-off", "lost-node" ...; "unknown" for what is no reason. */
const char *stop_reason_name(unsigned reason);

/* Rank: what the guest or a person did outranks what broke, and what broke outranks its consequence (a link that closes). Total on distinct
 * causes, so that the order of arrival does not matter. */
struct stop_cause {
	uint8_t reason; /* enum stop_reason */
	node_t node;    /* whom it is about */
};
bool stop_outranks(struct stop_cause a, struct stop_cause b);

enum stop_event_kind {
	STOP_EV_CAUSE,    /* 'cause' happened here */
	STOP_EV_HEARD,    /* 'from' says it stops, with 'cause' (any bytes: nonsense counts as its protocol violation) */
	STOP_EV_LOST,     /* the link to 'from' is closed, broken or silent for too long */
	STOP_EV_DEADLINE, /* whom we still wait for has had its time */
};

struct stop_event {
	enum stop_event_kind kind;
	node_t from;
	struct stop_cause cause;
};

/* What to do, a set, in this order. */
enum stop_action {
	STOP_DO_FREEZE = 1u << 0, /* at once and for good */
	STOP_DO_TELL = 1u << 1,   /* send stop with 'told' to every peer whose link is open; start the deadline */
	STOP_DO_KEEP = 1u << 2,   /* the text that came with this event is the verdict's */
	STOP_DO_END = 1u << 3,    /* close every link; the verdict stands */
};

struct stop {
	struct stop_cause told, verdict; /* reason STOP_NONE: running */
	uint16_t waiting;                /* peers not heard and not lost */
	uint8_t nodes, ended;
};

void stop_init(struct stop *s, node_t self, unsigned nodes);

/* Take one event; returns a set of enum stop_action. Pure; never fails; events after the end do nothing. */
unsigned stop_step(struct stop *s, const struct stop_event *ev);

#endif
