/* Strings in fixed fields: copied, always terminated, cut when too long; and cleaned of what must not reach a terminal or a document. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <string.h>

#include "base/types.h"

static inline void text_copy(char *to, size_t room, const char *from)
{
	size_t n = strnlen(from, room - 1);

	memmove(to, from, n);
	to[n] = 0;
}

/* TEXT_SET(array, from): the same for an array whose size the compiler knows. */
#define TEXT_SET(to, from) text_copy((to), sizeof(to), (from))

/* For people and documents: control characters, and bytes that are no UTF-8, become '?'. */
void text_clean(char *s);

#endif
