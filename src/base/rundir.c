/* See rundir.h. Names become file names, so they are judged here. */
#include "base/rundir.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *rundir_root(const char *option)
{
	const char *env = getenv("TESSERA_RUN_DIR");

	if (option && *option)
		return option;
	return env && *env ? env : "/run/tessera";
}

int rundir_path(const char *root, const char *node, const char *leaf, char to[RUNDIR_PATH_BYTES], struct failure *f)
{
	int n = snprintf(to, RUNDIR_PATH_BYTES, "%s/%s%s%s", root, node, *leaf ? "/" : "", leaf);

	if (n >= 0 && n < RUNDIR_PATH_BYTES)
		return 0;
	return failure_set(f, -ENAMETOOLONG, "use a shorter --run-dir or shorter names", "the path %s/%s/%s is too long for a socket", root, node, leaf);
}

bool rundir_good_name(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n < NAME_BYTES && name[0] != '.' && name[0] != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == n;
}
