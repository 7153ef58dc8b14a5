/* See thread.h. */
#include "base/thread.h"

void thread_block(sigset_t *before, int takes)
{
	sigset_t none;

	sigfillset(&none);
	sigdelset(&none, SIGSYS);
	if (takes)
		sigdelset(&none, takes);
	pthread_sigmask(SIG_SETMASK, &none, before);
}

void thread_unblock(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}
