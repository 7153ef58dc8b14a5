/* See text.h. */
#include "base/text.h"

/* Bytes of the character at s (RFC 3629); 0: that is none, or a control character. */
static unsigned printable(const unsigned char *s)
{
	unsigned n = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
	static const uint32_t least[] = {0, 0x20, 0xa0, 0x800, 0x10000};
	uint32_t c = n == 1 ? s[0] : s[0] & 0xffu >> (n + 1);

	for (unsigned i = 1; i < n; i++) {
		if (s[i] >> 6 != 2)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	return c < least[n] || c == 0x7f || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff ? 0 : n;
}

void text_clean(char *s)
{
	while (*s) {
		unsigned n = printable((const unsigned char *)s);

		if (!n)
			*s = '?';
		s += n ? n : 1;
	}
}
