/* What a person is told when something fails: what failed, on which node, what to do. Travels from any depth to the CLI. */
#ifndef BASE_FAILURE_H
#define BASE_FAILURE_H

#include "base/types.h"

struct failure {
	int err;               /* negative errno, 0 when nothing failed */
	char node[NAME_BYTES]; /* empty: this node */
	char what[256];
	char todo[256];
};

/* Fill *f (may be NULL) unless it already holds an earlier failure: the first cause is the one to tell. Returns err, so that
 * "return failure_set(f, -EINVAL, "raise --lend", "node lends %d", n);" reads well. err < 0. Any thread; f has one owner. */
int failure_set(struct failure *f, int err, const char *todo, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
