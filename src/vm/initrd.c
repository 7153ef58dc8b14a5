/* Walks the members. See initrd.h. */
#include "vm/initrd.h"

#include <string.h>

#include "vm/inflate.h"

/* What is left of the file. */
struct rest {
	const uint8_t *at;
	uint64_t bytes;
};

/* How a member's walk ended. SKIP: a member that is not walked, so nothing after it is either. */
enum walked { WALKED, WALKED_CUT, WALKED_BAD, WALKED_SKIP };

static bool skip(struct rest *r, uint64_t bytes)
{
	if (bytes > r->bytes)
		return false;
	r->at += bytes;
	r->bytes -= bytes;
	return true;
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof v);
	return v;
}

/* Eight hexadecimal digits of a cpio header. */
static bool get_hex(const uint8_t *at, uint64_t *value)
{
	*value = 0;
	for (unsigned i = 0; i < 8; i++) {
		unsigned c = at[i], digit = c - '0' < 10 ? c - '0' : (c | 0x20) - 'a' < 6 ? (c | 0x20) - 'a' + 10 : 16;

		if (digit > 15)
			return false;
		*value = *value << 4 | digit;
	}
	return true;
}

static enum walked walk_cpio(struct rest *r)
{
	enum { HEADER = 110, SIZE_AT = 54, NAME_SIZE_AT = 94 };
	static const char trailer[] = "TRAILER!!!";

	for (;;) {
		uint64_t size, name, padded;
		bool last;

		if (r->bytes < HEADER)
			return WALKED_CUT;
		if (memcmp(r->at, "07070", 5) || !get_hex(r->at + SIZE_AT, &size) || !get_hex(r->at + NAME_SIZE_AT, &name))
			return WALKED_BAD;
		if (name > r->bytes - HEADER)
			return WALKED_CUT;
		last = name == sizeof trailer && memcmp(r->at + HEADER, trailer, sizeof trailer) == 0;
		padded = ((HEADER + name + 3) & ~3ull) + size;
		if (last)
			return skip(r, HEADER + name) ? WALKED : WALKED_CUT;
		if (!skip(r, padded))
			return WALKED_CUT;
		if (!skip(r, -padded & 3))
			return WALKED_CUT;
	}
}

/* RFC 1952 2.3: a zero-terminated field. */
static bool skip_text(struct rest *r)
{
	const uint8_t *end = memchr(r->at, 0, r->bytes);

	return end && skip(r, (uint64_t)(end - r->at) + 1);
}

static bool skip_gzip_header(struct rest *r)
{
	enum { HEADER = 10, HEADER_CRC = 2, EXTRA = 4, NAME = 8, COMMENT = 16 };
	uint8_t flags;

	if (r->bytes < HEADER)
		return false;
	flags = r->at[3];
	skip(r, HEADER);
	if (flags & EXTRA && (r->bytes < 2 || !skip(r, 2u + r->at[0] + 256u * r->at[1])))
		return false;
	if (flags & NAME && !skip_text(r))
		return false;
	if (flags & COMMENT && !skip_text(r))
		return false;
	return !(flags & HEADER_CRC) || skip(r, 2);
}

static enum walked walk_gzip(struct rest *r)
{
	enum { TRAILER = 8 };
	enum inflate_result result;
	uint64_t used, produced;

	if (!skip_gzip_header(r))
		return WALKED_CUT;
	result = inflate_walk(r->at, r->bytes, &used, &produced);
	if (result != INFLATE_OK)
		return result == INFLATE_CUT ? WALKED_CUT : WALKED_BAD;
	skip(r, used);
	if (r->bytes < TRAILER)
		return WALKED_CUT;
	if (get32(r->at + 4) != (uint32_t)produced)
		return WALKED_BAD;
	skip(r, TRAILER);
	return WALKED;
}

/* RFC 8878 3.1.1: header, blocks with their lengths, maybe a checksum. */
static enum walked walk_zstd(struct rest *r)
{
	static const uint8_t dictionary_bytes[] = {0, 1, 2, 4}, size_bytes[] = {0, 2, 4, 8};
	uint32_t block = 0;
	uint8_t descriptor;
	bool single;

	if (r->bytes < 5)
		return WALKED_CUT;
	descriptor = r->at[4];
	single = descriptor & 0x20;
	if (!skip(r, 5u + !single + dictionary_bytes[descriptor & 3] + (descriptor >> 6 ? size_bytes[descriptor >> 6] : single)))
		return WALKED_CUT;
	while (!(block & 1)) {
		if (r->bytes < 3)
			return WALKED_CUT;
		block = (uint32_t)r->at[0] | (uint32_t)r->at[1] << 8 | (uint32_t)r->at[2] << 16;
		if ((block >> 1 & 3) == 3)
			return WALKED_BAD;
		if (!skip(r, 3u + ((block >> 1 & 3) == 1 ? 1 : block >> 3)))
			return WALKED_CUT;
	}
	return descriptor & 4 && !skip(r, 4) ? WALKED_CUT : WALKED;
}

/* Linux's lz4 (lz4 -l): a magic, then blocks that each begin with their length; it ends with the file or at the next magic. */
static enum walked walk_lz4(struct rest *r)
{
	enum { MAGIC = 0x184c2102, BLOCK_MAX = 16 << 20 };

	skip(r, 4);
	while (r->bytes) {
		uint32_t bytes;

		if (r->bytes < 4)
			return WALKED_CUT;
		bytes = get32(r->at);
		if (bytes == 0 || bytes == MAGIC || bytes > BLOCK_MAX)
			return WALKED; /* padding, or the next member */
		if (!skip(r, 4ull + bytes))
			return WALKED_CUT;
	}
	return WALKED;
}

/* The xz file format 1.1.0, 2.1.2: the footer ends in "YZ". Its stream can only be walked by unpacking it, so it must be the last member. */
static enum walked walk_xz(struct rest *r)
{
	while (r->bytes > 2 && r->at[r->bytes - 1] == 0)
		r->bytes--;
	return memcmp(r->at + r->bytes - 2, "YZ", 2) == 0 ? WALKED_SKIP : WALKED_CUT;
}

static enum walked walk_unseen(struct rest *r)
{
	return WALKED_SKIP;
}

static const struct {
	const char *magic;
	unsigned bytes;
	enum walked (*walk)(struct rest *r);
} members[] = {
	{"070701", 6, walk_cpio}, {"070702", 6, walk_cpio}, {"\x1f\x8b\x08", 3, walk_gzip}, {"\xfd" "7zXZ", 6, walk_xz}, {"\x28\xb5\x2f\xfd", 4, walk_zstd},
	{"\x02\x21\x4c\x18", 4, walk_lz4}, {"BZh", 3, walk_unseen}, {"\x5d\x00\x00", 3, walk_unseen}, {"\x89LZO", 4, walk_unseen},
};

static enum walked walk_member(struct rest *r)
{
	for (size_t i = 0; i < ARRAY_LEN(members); i++)
		if (r->bytes >= members[i].bytes && memcmp(r->at, members[i].magic, members[i].bytes) == 0)
			return members[i].walk(r);
	return WALKED_BAD;
}

/* What follows the first member and is no archive is left to Linux, which says so and goes on. */
enum initrd_kind initrd_judge(const uint8_t *at, uint64_t bytes)
{
	struct rest r = {at, bytes};
	enum walked walked = walk_member(&r);

	if (walked == WALKED_BAD)
		return INITRD_NO_ARCHIVE;
	while (walked == WALKED) {
		while (r.bytes && *r.at == 0)
			skip(&r, 1);
		if (!r.bytes)
			return INITRD_WHOLE;
		walked = walk_member(&r);
	}
	return walked == WALKED_CUT ? INITRD_CUT : INITRD_WHOLE;
}
