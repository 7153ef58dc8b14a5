/* The seed disk from which cloud-init (data source NoCloud) sets a guest up: a FAT file system labelled CIDATA with the files meta-data and user-data. It is
 * made in memory and travels with the request; the VM's first node keeps it in memory, too, so that it is gone with the VM. */
#ifndef CLI_SEED_H
#define CLI_SEED_H

#include "base/failure.h"
#include "base/types.h"
#include "cli/options.h"

enum { SEED_MAX = 32 << 10, SEED_FILES_MAX = 4 };

struct seed_file {
	const char *name; /* 1 to 13 letters; lower case is kept */
	const void *at;
	uint32_t bytes;
};

/* A FAT12 file system with these files, as short as it can be. -E2BIG: more than SEED_MAX bytes. */
int seed_make(const struct seed_file *file, unsigned files, uint8_t to[SEED_MAX], uint32_t *bytes) MUST_CHECK;

/* What --ssh-key, --user-data and --hostname ask for; *bytes is 0 when none of them is there. -errno with the reason. */
int seed_from_options(const struct options *o, uint8_t to[SEED_MAX], uint32_t *bytes, struct failure *f) MUST_CHECK;

#endif
