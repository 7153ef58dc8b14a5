/* A whole cluster around one page, small enough to visit every state of it: the real page_step() at every node, a driver that only watches what
 * the actions may do, channels that keep order, and ghosts that know whether bytes are fresh. Node 0 is the home.
 *
 * Bytes are abstracted to what freshness needs: a frame or a payload carries the last write that retired (fresh) or an older one; and the last
 * write left zeros or not ('last_zero'). Nothing is lost by that: every frame that may be read must be fresh at all times (I2), so
 * only payloads in flight can ever be stale. Threads are not kept as state: a fault that is not satisfied at once must leave a request
 * pending, and a request that ends must wake whoever waits; both are checked in every step. */
#ifndef EXPLORE_CLUSTER_H
#define EXPLORE_CLUSTER_H

#include "proto/page.h"

enum {
	CLUSTER_NODES_MAX = 5,
	CLUSTER_UP_MAX = 3,   /* request, give-up, answer (I10) */
	CLUSTER_DOWN_MAX = 2, /* recall, grant (I10) */
	CLUSTER_MOVES_MAX = 64,
	CLUSTER_KEY_BYTES = 32,
	CLUSTER_TEXT_BYTES = 2048,
};

struct letter {
	uint8_t msg, bytes, fresh;
};

struct channel {
	uint8_t n;
	struct letter at[CLUSTER_UP_MAX + 1];
};

struct cluster {
	uint8_t nodes, last_zero;
	struct page page[CLUSTER_NODES_MAX];
	struct page_dir dir;
	struct channel up[CLUSTER_NODES_MAX], down[CLUSTER_NODES_MAX]; /* to the home, from the home; by the other node */
};

enum move_kind {
	MOVE_LOCAL,   /* an event of node 'node' that is no message */
	MOVE_UP,      /* the home takes letter 'index' from 'node'; a read may be served as a write ('exclusive') */
	MOVE_DOWN,    /* 'node' takes letter 'index' from the home */
	MOVE_RETIRE,  /* a write retires at 'node', leaving zeros or not */
};

struct move {
	uint8_t kind, node, index, event, zero, exclusive;
};

void cluster_init(struct cluster *c, unsigned nodes);

/* What can happen next. disorder: letters may overtake each other within a channel, which the protocol does not survive. */
unsigned cluster_moves(const struct cluster *c, bool disorder, struct move moves[CLUSTER_MOVES_MAX]);

/* Carry out a move; NULL, or which invariant it broke ("I4 ..."). did (may be NULL) gets the actions as text. */
const char *cluster_apply(struct cluster *c, const struct move *m, char *did);

/* NULL, or which invariant this state breaks. */
const char *cluster_check(const struct cluster *c);

/* Nothing is under way: no letter, no hold, no move but new faults and evictions. */
bool cluster_quiet(const struct cluster *c);

/* Fixed-size unique encoding. */
void cluster_encode(const struct cluster *c, uint8_t key[CLUSTER_KEY_BYTES]);
void cluster_decode(struct cluster *c, unsigned nodes, const uint8_t key[CLUSTER_KEY_BYTES]);

const char *cluster_text_of_move(const struct cluster *before, const struct move *m, char to[CLUSTER_TEXT_BYTES]);
const char *cluster_text(const struct cluster *c, char to[CLUSTER_TEXT_BYTES]);

#endif
