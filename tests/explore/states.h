/* The set of visited states: keys in the order they were found, each with the state it was first reached from. Exact, no fingerprints. */
#ifndef EXPLORE_STATES_H
#define EXPLORE_STATES_H

#include "base/types.h"

struct states {
	uint8_t *keys;
	unsigned key_bytes; /* a multiple of 8 */
	uint32_t *parents;
	uint32_t *table; /* index + 1, 0 empty; a power of two in size */
	uint32_t n, max, room, table_size;
};

/* Room for max states at most; memory is taken as they come. -ENOMEM. */
int states_init(struct states *s, unsigned key_bytes, uint32_t max) MUST_CHECK;
void states_fini(struct states *s);

/* Index of the state; *fresh tells whether it is new. UINT32_MAX when it is new and there is no room. */
uint32_t states_add(struct states *s, const uint8_t *key, uint32_t parent, bool *fresh);

/* Good until the next states_add. */
static inline const uint8_t *states_key(const struct states *s, uint32_t at)
{
	return s->keys + (size_t)at * s->key_bytes;
}

#endif
