/* See baggage.h. */
#include "node/baggage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int copy(struct wire_blob *to, struct wire_blob from)
{
	uint8_t *at = malloc(from.bytes + 1);

	if (!at)
		return -ENOMEM;
	if (from.bytes)
		memcpy(at, from.at, from.bytes);
	*to = (struct wire_blob){at, from.bytes};
	return 0;
}

bool baggage_good(const struct wire_blob *file, const struct wire_blob *seed)
{
	return file->bytes <= BAGGAGE_FILE_MAX && seed->bytes <= BAGGAGE_SEED_MAX;
}

int baggage_set(struct baggage *k, struct wire_blob file, struct wire_blob seed)
{
	struct baggage fresh = {0};
	int err = copy(&fresh.file, file);

	if (!err)
		err = copy(&fresh.seed, seed);
	baggage_free(k);
	if (err)
		baggage_free(&fresh);
	else
		*k = fresh;
	return err;
}

void baggage_free(struct baggage *k)
{
	free((void *)k->file.at);
	free((void *)k->seed.at);
	*k = (struct baggage){0};
}
