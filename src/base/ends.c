/* See ends.h. */
#include "base/ends.h"

#include <errno.h>
#include <sys/signalfd.h>

void ends_block(int more, sigset_t *set, sigset_t *before)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	if (more)
		sigaddset(set, more);
	sigprocmask(SIG_BLOCK, set, before);
}

int ends_watch(int more, sigset_t *before)
{
	sigset_t set;
	int fd;

	ends_block(more, &set, before);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}
