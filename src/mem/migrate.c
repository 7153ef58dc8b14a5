/* See migrate.h. */
#include "mem/migrate.h"

#include <string.h>

enum { SCORE_MIN = -4, SCORE_MAX = 3, SCORE_UNUSED = -3 };

static uint16_t bit(node_t n)
{
	return (uint16_t)(1u << n.v);
}

static void migrate_score(struct migrate *m, int change)
{
	int score = m->score + change;

	m->score = (int8_t)(score < SCORE_MIN ? SCORE_MIN : score > SCORE_MAX ? SCORE_MAX : score);
}

bool migrate_read(struct migrate *m, node_t reader)
{
	if (m->score <= 0)
		return false;
	m->readers |= bit(reader);
	return true;
}

void migrate_upgrade(struct migrate *m, node_t who, uint16_t sharers, node_t home)
{
	uint16_t others = sharers & (uint16_t)~(bit(who) | bit(home));

	if (m->owner == 0)
		return;
	others &= (uint16_t)~bit((node_t){(uint8_t)(m->owner - 1)});
	migrate_score(m, m->owner == who.v + 1 || others ? -1 : 1);
}

bool migrate_granted(struct migrate *m, node_t to)
{
	bool read = m->readers & bit(to);

	m->readers &= (uint16_t)~bit(to);
	m->owner = (uint8_t)(to.v + 1);
	m->print = 0;
	return read;
}

void migrate_watch(struct migrate *m, uint32_t print)
{
	m->print = print;
}

bool migrate_watched(const struct migrate *m, node_t owner)
{
	return m->print && m->owner == owner.v + 1;
}

void migrate_back(struct migrate *m, uint32_t print, bool *changed)
{
	*changed = print != m->print;
	migrate_score(m, *changed ? 1 : SCORE_UNUSED);
	m->print = 0;
}

/* Four lanes, each step a bijection of its lane (an odd factor, a rotation), so that one changed word always shows in its lane. */
uint32_t migrate_print(const uint8_t *page)
{
	enum { LANES = 4 };
	uint64_t lane[LANES] = {1, 2, 3, 4}, word, sum = 0;

	for (unsigned at = 0; at < PAGE_BYTES; at += LANES * sizeof word)
		for (unsigned i = 0; i < LANES; i++) {
			word = 0;
			if (page)
				memcpy(&word, page + at + i * sizeof word, sizeof word);
			lane[i] = (lane[i] ^ word) * 0x9e3779b97f4a7c15u;
			lane[i] = lane[i] << 29 | lane[i] >> 35;
		}
	for (unsigned i = 0; i < LANES; i++)
		sum = (sum ^ lane[i]) * 0xff51afd7ed558ccdu;
	sum ^= sum >> 32;
	return (uint32_t)sum ? (uint32_t)sum : 1;
}
