/* Open addressing over an array of keys, see states.h. */
#include "tests/explore/states.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int states_init(struct states *s, unsigned key_bytes, uint32_t max)
{
	*s = (struct states){.key_bytes = key_bytes, .max = max, .room = 1 << 12, .table_size = 1 << 13};
	s->keys = malloc((size_t)s->room * key_bytes);
	s->parents = malloc(s->room * sizeof *s->parents);
	s->table = calloc(s->table_size, sizeof *s->table);
	if (s->keys && s->parents && s->table)
		return 0;
	states_fini(s);
	return -ENOMEM;
}

void states_fini(struct states *s)
{
	free(s->keys);
	free(s->parents);
	free(s->table);
	*s = (struct states){0};
}

static uint32_t key_hash(const uint8_t *key, unsigned bytes)
{
	uint64_t word, h = 0;

	for (unsigned i = 0; i < bytes; i += sizeof word) {
		memcpy(&word, key + i, sizeof word);
		h = (h ^ word) * 0x9e3779b97f4a7c15u;
		h ^= h >> 32;
	}
	return (uint32_t)h;
}

/* Where the key is in the table, or where it would go. */
static uint32_t table_find(const struct states *s, const uint8_t *key)
{
	uint32_t at = key_hash(key, s->key_bytes) & (s->table_size - 1);

	while (s->table[at] && memcmp(states_key(s, s->table[at] - 1), key, s->key_bytes) != 0)
		at = (at + 1) & (s->table_size - 1);
	return at;
}

/* Twice the room; the table stays at most half full. */
static bool states_grow(struct states *s)
{
	void *keys = realloc(s->keys, 2 * (size_t)s->room * s->key_bytes);
	void *parents, *table;

	if (keys)
		s->keys = keys;
	parents = keys ? realloc(s->parents, 2 * (size_t)s->room * sizeof *s->parents) : NULL;
	if (parents)
		s->parents = parents;
	table = parents ? calloc(2 * (size_t)s->table_size, sizeof *s->table) : NULL;
	if (!table)
		return false;
	free(s->table);
	s->table = table;
	s->room *= 2;
	s->table_size *= 2;
	for (uint32_t i = 0; i < s->n; i++)
		s->table[table_find(s, states_key(s, i))] = i + 1;
	return true;
}

uint32_t states_add(struct states *s, const uint8_t *key, uint32_t parent, bool *fresh)
{
	uint32_t at = table_find(s, key);

	*fresh = s->table[at] == 0;
	if (!*fresh)
		return s->table[at] - 1;
	if (s->n == s->max || (s->n == s->room && !states_grow(s)))
		return UINT32_MAX;
	at = table_find(s, key);
	memcpy(s->keys + (size_t)s->n * s->key_bytes, key, s->key_bytes);
	s->parents[s->n] = parent;
	s->table[at] = ++s->n;
	return s->n - 1;
}
