/* A device's own thread, for what a bus handler must not do: touch guest memory, call out to something that may block.
 *
 * ring() asks for one run of 'work' that begins after the ring; rings that come while one is due are merged. work() runs with no lock held.
 * Whoever adds 1 to the eventfd 'bell' rings, too, and is counted: KVM does that for a doorbell (dev/plane.h), so that the vCPU goes on at once.
 * Threads: ring from anywhere, also with the bus lock held; it takes no lock. close waits for a running work() to return, so whatever that
 * may block on must have been ended first; never close with the bus lock held. A zeroed worker is closed: ring and close do nothing. */
#ifndef DEV_WORKER_H
#define DEV_WORKER_H

#include "base/types.h"

#include <pthread.h>
#include <stdatomic.h>

struct worker {
	int bell; /* eventfd: low half, rings of others; high half, ours */
	pthread_t thread;
	void (*work)(void *dev);
	void *dev;
	bool open;
	atomic_bool rung, stop;        /* rung: the bell knows */
	_Atomic uint64_t rung_outside; /* so often by others */
};

/* name: of the thread, at most 15 bytes. -errno when there is no thread or no descriptor to be had. */
int worker_open(struct worker *w, const char *name, void (*work)(void *dev), void *dev) MUST_CHECK;
void worker_ring(struct worker *w);
void worker_close(struct worker *w);

#endif
