/* A few nodes around one part of a VM that moves, small enough to visit every state: the real handoff_step() on every node, a driver that only watches what the
 * actions may do, ordered channels, crashes, cuts, and a count of every sender's words. Node 0 is the coordinator. */
#ifndef EXPLORE_HANDOVER_H
#define EXPLORE_HANDOVER_H

#include "proto/handoff.h"

enum {
	HANDOVER_NODES_MAX = 4,
	HANDOVER_LETTERS_MAX = 9, /* in a channel; kept by a node */
	HANDOVER_KEY_BYTES = 72,
	HANDOVER_MOVES_MAX = 128,
	HANDOVER_TEXT_BYTES = 128,
};

/* What is on a node of the part itself, apart from what the machine believes. */
enum handover_body { BODY_NONE, BODY_RUNS, BODY_CAPTURED, BODY_INERT };

/* Letters are a byte: a word (its sender, its number), a message (its 'node'), or the stop. */
struct handover_list {
	uint8_t n;
	uint8_t at[HANDOVER_LETTERS_MAX];
};

struct handover_channel {
	struct handover_list letters;
	uint8_t ends;   /* the stream ends behind the letters; as long as it does, the last of them may still be lost */
	uint8_t closed; /* nobody reads it any more */
};

/* How much may happen in one exploration. */
struct handover_budget {
	uint8_t moves, cancels, refusals, troubles, words; /* words: of each node */
};

struct handover {
	struct handoff h[HANDOVER_NODES_MAX];
	struct handover_list kept[HANDOVER_NODES_MAX];
	struct handover_channel channel[HANDOVER_NODES_MAX][HANDOVER_NODES_MAX]; /* from, to; also to oneself */
	uint8_t body[HANDOVER_NODES_MAX], image[HANDOVER_NODES_MAX]; /* image: which capture a copy is of */
	uint8_t working[HANDOVER_NODES_MAX];                         /* the driver makes room, freezes or installs */
	uint8_t sent[HANDOVER_NODES_MAX], delivered[HANDOVER_NODES_MAX];
	uint8_t dead, stopped; /* sets; dead: crashed, or left quietly */
	uint8_t captures;      /* so far */
	uint8_t harmless;      /* spare nodes that were in trouble */
	uint8_t harm;          /* somebody else was */
	uint8_t committed;     /* to whom a COMMIT was sent */
	struct handover_budget left;
	uint8_t nodes, others; /* constant; others: nodes that hold other parts of the VM, a set */
};

enum handover_kind { HO_RECEIVE, HO_WORKED, HO_REFUSE, HO_WORD, HO_MOVE, HO_CANCEL, HO_CRASH, HO_CUT, HO_LOSE, HO_KINDS };

struct handover_move {
	uint8_t kind, a, b;
};

void handover_init(struct handover *w, unsigned nodes, unsigned at, unsigned others, const struct handover_budget *budget);

/* What can happen next. */
unsigned handover_moves(const struct handover *w, struct handover_move moves[HANDOVER_MOVES_MAX]);

/* Does this move happen by itself, sooner or later? */
bool handover_must(const struct handover_move *m);

/* NULL, or which invariant is broken. */
const char *handover_apply(struct handover *w, const struct handover_move *m);
const char *handover_check(const struct handover *w);
const char *handover_check_rest(const struct handover *w); /* where nothing happens by itself any more */

void handover_encode(const struct handover *w, uint8_t key[HANDOVER_KEY_BYTES]);
void handover_decode(struct handover *w, unsigned nodes, unsigned others, const uint8_t key[HANDOVER_KEY_BYTES]);
const char *handover_text(const struct handover *before, const struct handover_move *m, char to[HANDOVER_TEXT_BYTES]);

#endif
