/* The set of visited states: keys in the order they were found, each with the state it was first reached from. Exact, no fingerprints. */
#ifndef EXPLORE_STATES_H
#define EXPLORE_STATES_H

#include "tests/explore/cluster.h"

struct states {
	uint8_t (*keys)[CLUSTER_KEY_BYTES];
	uint32_t *parents;
	uint32_t *table; /* index + 1, 0 empty; a power of two in size */
	uint32_t n, max, room, table_size;
};

/* Room for max states at most; memory is taken as they come. -ENOMEM. */
int states_init(struct states *s, uint32_t max) MUST_CHECK;
void states_fini(struct states *s);

/* Index of the state; *fresh tells whether it is new. UINT32_MAX when it is new and there is no room. */
uint32_t states_add(struct states *s, const uint8_t key[CLUSTER_KEY_BYTES], uint32_t parent, bool *fresh);

#endif
