/* Signals of a fragment's threads: they are for the threads that run vCPUs and for main; the others take none. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H

#include <signal.h>

/* Threads made until thread_unblock() take no signal but SIGSYS (node/sandbox.c: one that is blocked kills without a word) and 'takes'; 0: that is all. */
void thread_block(sigset_t *before, int takes);
void thread_unblock(const sigset_t *before);

#endif
