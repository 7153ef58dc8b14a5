/* Canonical Huffman decoding, code length by code length. See inflate.h; section numbers are RFC 1951's. */
#include "vm/inflate.h"

enum { CODE_BITS_MAX = 15, LITERALS = 288, DISTANCES = 32, LENGTH_CODES = 19, END_OF_BLOCK = 256, NO_SYMBOL = -1 };

struct bits {
	const uint8_t *at, *end;
	uint64_t have; /* low bits first */
	unsigned count;
	bool cut;
};

/* How many codes of each length there are, and the symbols in order of their codes. */
struct code {
	uint16_t count[CODE_BITS_MAX + 1];
	uint16_t symbol[LITERALS];
};

static unsigned take(struct bits *b, unsigned n)
{
	unsigned value;

	while (b->count < n) {
		if (b->at == b->end) {
			b->cut = true;
			return 0;
		}
		b->have |= (uint64_t)*b->at++ << b->count;
		b->count += 8;
	}
	value = (unsigned)(b->have & ((1u << n) - 1));
	b->have >>= n;
	b->count -= n;
	return value;
}

/* 3.2.2. False when the lengths promise more codes than there are. */
static bool code_build(struct code *c, const uint8_t *length, unsigned symbols)
{
	uint16_t next[CODE_BITS_MAX + 2] = {0};
	int left = 1;

	*c = (struct code){0};
	for (unsigned i = 0; i < symbols; i++)
		c->count[length[i]]++;
	c->count[0] = 0;
	for (unsigned bits = 1; bits <= CODE_BITS_MAX; bits++) {
		left = 2 * left - c->count[bits];
		if (left < 0)
			return false;
		next[bits + 1] = (uint16_t)(next[bits] + c->count[bits]);
	}
	for (unsigned i = 0; i < symbols; i++)
		if (length[i])
			c->symbol[next[length[i]]++] = (uint16_t)i;
	return true;
}

static int decode(struct bits *b, const struct code *c)
{
	int code = 0, first = 0, index = 0;

	for (unsigned bits = 1; bits <= CODE_BITS_MAX && !b->cut; bits++) {
		code |= (int)take(b, 1);
		if (code - first < c->count[bits])
			return c->symbol[index + code - first];
		index += c->count[bits];
		first = (first + c->count[bits]) << 1;
		code <<= 1;
	}
	return NO_SYMBOL;
}

/* 3.2.5: bytes that a length code stands for. */
static unsigned match_bytes(struct bits *b, int symbol)
{
	unsigned i = (unsigned)symbol - 257;

	if (i < 8)
		return 3 + i;
	if (i == 28)
		return 258;
	return 3 + ((4 + (i & 3)) << (i / 4 - 1)) + take(b, i / 4 - 1);
}

static enum inflate_result walk_codes(struct bits *b, const struct code *literal, const struct code *distance, uint64_t *produced)
{
	while (!b->cut) {
		int symbol = decode(b, literal), d;

		if (symbol == END_OF_BLOCK)
			return INFLATE_OK;
		if (symbol < END_OF_BLOCK) {
			*produced += 1;
			if (symbol == NO_SYMBOL)
				break;
			continue;
		}
		if (symbol > 285)
			return INFLATE_BAD;
		*produced += match_bytes(b, symbol);
		d = decode(b, distance);
		if (d == NO_SYMBOL || d > 29)
			break;
		take(b, d < 4 ? 0 : (unsigned)d / 2 - 1);
	}
	return b->cut ? INFLATE_CUT : INFLATE_BAD;
}

static enum inflate_result walk_stored(struct bits *b, uint64_t *produced)
{
	unsigned length, check;

	take(b, b->count & 7);
	length = take(b, 16);
	check = take(b, 16);
	if (b->cut)
		return INFLATE_CUT;
	if (length != (~check & 0xffff))
		return INFLATE_BAD;
	for (unsigned i = 0; i < length && !b->cut; i++)
		take(b, 8);
	*produced += length;
	return b->cut ? INFLATE_CUT : INFLATE_OK;
}

/* 3.2.6 */
static enum inflate_result walk_fixed(struct bits *b, uint64_t *produced)
{
	uint8_t length[LITERALS], five[DISTANCES];
	struct code literal, distance;

	for (unsigned i = 0; i < LITERALS; i++)
		length[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
	for (unsigned i = 0; i < DISTANCES; i++)
		five[i] = 5;
	if (!code_build(&literal, length, LITERALS) || !code_build(&distance, five, DISTANCES))
		return INFLATE_BAD;
	return walk_codes(b, &literal, &distance, produced);
}

/* 3.2.7: code lengths are themselves coded, with repeats. */
static bool read_lengths(struct bits *b, const struct code *of, uint8_t *length, unsigned count)
{
	unsigned i = 0;

	while (i < count) {
		int symbol = decode(b, of);
		unsigned repeat = 1;
		uint8_t value = (uint8_t)symbol;

		if (symbol == NO_SYMBOL || b->cut || (symbol == 16 && i == 0))
			return false;
		if (symbol >= 16) {
			value = symbol == 16 ? length[i - 1] : 0;
			repeat = symbol == 16 ? 3 + take(b, 2) : symbol == 17 ? 3 + take(b, 3) : 11 + take(b, 7);
		}
		if (repeat > count - i)
			return false;
		while (repeat--)
			length[i++] = value;
	}
	return true;
}

static enum inflate_result walk_dynamic(struct bits *b, uint64_t *produced)
{
	static const uint8_t order[LENGTH_CODES] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
	uint8_t length[LITERALS + DISTANCES] = {0}, of_lengths[LENGTH_CODES] = {0};
	struct code code, literal, distance;
	unsigned literals = 257 + take(b, 5), distances = 1 + take(b, 5), codes = 4 + take(b, 4);

	if (literals > LITERALS)
		return b->cut ? INFLATE_CUT : INFLATE_BAD;
	for (unsigned i = 0; i < codes; i++)
		of_lengths[order[i]] = (uint8_t)take(b, 3);
	if (!code_build(&code, of_lengths, LENGTH_CODES) || !read_lengths(b, &code, length, literals + distances) ||
	    !code_build(&literal, length, literals) || !code_build(&distance, length + literals, distances))
		return b->cut ? INFLATE_CUT : INFLATE_BAD;
	return walk_codes(b, &literal, &distance, produced);
}

enum inflate_result inflate_walk(const uint8_t *at, uint64_t bytes, uint64_t *used, uint64_t *produced)
{
	struct bits b = {.at = at, .end = at + bytes};
	enum inflate_result result = INFLATE_OK;
	bool last = false;

	*produced = 0;
	while (result == INFLATE_OK && !last) {
		unsigned kind;

		last = take(&b, 1);
		kind = take(&b, 2);
		if (b.cut)
			return INFLATE_CUT;
		if (kind == 0)
			result = walk_stored(&b, produced);
		else if (kind == 1)
			result = walk_fixed(&b, produced);
		else
			result = kind == 2 ? walk_dynamic(&b, produced) : INFLATE_BAD;
	}
	*used = (uint64_t)(b.at - at) - b.count / 8;
	return result;
}
