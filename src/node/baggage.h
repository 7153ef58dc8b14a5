/* Bytes of a request that outlive its frame: the VM as asked for, and its seed disk. Opaque here. A zeroed struct is empty. */
#ifndef NODE_BAGGAGE_H
#define NODE_BAGGAGE_H

#include "wire/codec.h"

enum { BAGGAGE_FILE_MAX = 8 << 10, BAGGAGE_SEED_MAX = 32 << 10 };

struct baggage {
	struct wire_blob file, seed; /* on the heap */
};

/* Are they of a size to be kept? */
bool baggage_good(const struct wire_blob *file, const struct wire_blob *seed);

/* Copy both; what was kept before is freed. -ENOMEM: nothing is kept then. */
int baggage_set(struct baggage *k, struct wire_blob file, struct wire_blob seed) MUST_CHECK;
void baggage_free(struct baggage *k);

#endif
