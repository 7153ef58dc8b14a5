/* See quantity.h. Input is a person's: everything that is not exactly a number is refused rather than guessed at. */
#include "base/quantity.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static int read_digits(const char **s, const char *end, uint64_t *value)
{
	const char *at = *s;
	int64_t v = 0;

	if (at == end || *at < '0' || *at > '9')
		return -EINVAL;
	for (; at != end && *at >= '0' && *at <= '9'; at++) {
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *at - '0', &v))
			return -ERANGE;
	}
	*s = at;
	*value = (uint64_t)v;
	return 0;
}

static int suffix_shift(const char *s, size_t n, unsigned *shift)
{
	static const char letters[] = "KMGT";
	const char *letter = n ? memchr(letters, s[0] & ~0x20, 4) : NULL;

	*shift = letter ? 10 * (unsigned)(letter - letters + 1) : 0;
	if (letter)
		s++, n--;
	if (n == 0 || (n == 1 && strncasecmp(s, "b", 1) == 0) || (n == 2 && letter && strncasecmp(s, "ib", 2) == 0))
		return 0;
	return -EINVAL;
}

int quantity_read_bytes(const char *s, const char *end, uint64_t *bytes)
{
	uint64_t v;
	unsigned shift;
	int err;

	if (!end)
		end = s + strlen(s);
	err = read_digits(&s, end, &v);
	if (!err)
		err = suffix_shift(s, (size_t)(end - s), &shift);
	if (err)
		return err;
	if (v > (uint64_t)INT64_MAX >> shift)
		return -ERANGE;
	*bytes = v << shift;
	return 0;
}

int quantity_read_count(const char *s, const char *end, uint64_t max, uint64_t *count)
{
	uint64_t v;
	int err;

	if (!end)
		end = s + strlen(s);
	err = read_digits(&s, end, &v);
	if (err)
		return err;
	if (s != end)
		return -EINVAL;
	if (v > max)
		return -ERANGE;
	*count = v;
	return 0;
}

const char *quantity_print_bytes(uint64_t bytes, char to[QUANTITY_TEXT_BYTES])
{
	static const char letters[] = "TGMK";

	for (unsigned k = 0; k < 4; k++) {
		unsigned shift = 40 - 10 * k;
		uint64_t tenths = (bytes & ((1ull << shift) - 1)) * 10 >> shift;

		if (bytes >> shift == 0)
			continue;
		if (tenths)
			snprintf(to, QUANTITY_TEXT_BYTES, "%" PRIu64 ".%u%c", bytes >> shift, (unsigned)tenths, letters[k]);
		else
			snprintf(to, QUANTITY_TEXT_BYTES, "%" PRIu64 "%c", bytes >> shift, letters[k]);
		return to;
	}
	snprintf(to, QUANTITY_TEXT_BYTES, "%" PRIu64, bytes);
	return to;
}
