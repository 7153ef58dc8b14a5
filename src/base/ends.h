/* The signals by which people and systems end a program: SIGTERM, SIGINT and SIGHUP. For programs that read them instead of being interrupted. One thread, before
 * there are others. */
#ifndef BASE_ENDS_H
#define BASE_ENDS_H

#include <signal.h>

#include "base/types.h"

/* Block them, and 'more' where it is not 0. *set: which these are; *before, unless NULL: the mask until now. */
void ends_block(int more, sigset_t *set, sigset_t *before);

/* The same, and a descriptor to read them from (signalfd), nonblocking; or -errno. */
int ends_watch(int more, sigset_t *before) MUST_CHECK;

#endif
