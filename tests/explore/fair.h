/* Starvation: can a node's request wait for ever although every letter arrives and every hold ends some day?
 *
 * Among the states in which the node waits, a strongly connected component that can be walked round and round without being unfair (each
 * channel is emptied from or empty somewhere in it, each hold ends or is not running somewhere in it) is such a wait. */
#ifndef EXPLORE_FAIR_H
#define EXPLORE_FAIR_H

#include "tests/explore/cluster.h"
#include "tests/explore/states.h"

enum {
	FAIR_CLASSES = 3 * CLUSTER_NODES_MAX, /* moves that must come some day: up, down, hold end; by node */
	FAIR_NONE = FAIR_CLASSES,             /* any other move */
};

/* All moves between states: edges of state i are first[i] .. first[i + 1]. */
struct fair_graph {
	uint32_t *first, *to;
	uint8_t *class;
	uint64_t n, max;
	uint32_t states;
};

unsigned fair_class(const struct move *m);

/* Append an edge of the state appended last by fair_state(). -ENOMEM. */
int fair_edge(struct fair_graph *g, uint32_t to, unsigned class) MUST_CHECK;
int fair_state(struct fair_graph *g) MUST_CHECK;
void fair_fini(struct fair_graph *g);

/* 0: no node can starve. 1: *node can, going round from *state. -ENOMEM. */
int fair_check(const struct fair_graph *g, const struct states *s, unsigned nodes, unsigned *node, uint32_t *state) MUST_CHECK;

#endif
