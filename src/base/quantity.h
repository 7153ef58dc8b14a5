/* Amounts as people write them: "512M", "2g", "4096". One reader and one printer for options, --place, --lend and tables. Pure. */
#ifndef BASE_QUANTITY_H
#define BASE_QUANTITY_H

#include "base/types.h"

enum { QUANTITY_TEXT_BYTES = 32 };

/* Bytes from a decimal number with an optional K, M, G or T (binary; "iB", "B" may follow). Reads [s, end); end NULL: to the terminator.
 * -EINVAL: not such a number; -ERANGE: more than 2^63-1. */
int quantity_read_bytes(const char *s, const char *end, uint64_t *bytes) MUST_CHECK;

/* A plain decimal number, nothing around it. -EINVAL; -ERANGE when over max. */
int quantity_read_count(const char *s, const char *end, uint64_t max, uint64_t *count) MUST_CHECK;

/* "512M", "1.5G", "700K", "12": at most one decimal, rounded down. Returns to. */
const char *quantity_print_bytes(uint64_t bytes, char to[QUANTITY_TEXT_BYTES]);

#endif
