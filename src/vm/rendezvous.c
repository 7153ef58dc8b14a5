/* See rendezvous.h. */
#include "vm/rendezvous.h"

#include <errno.h>
#include <time.h>
#include <x86intrin.h>

enum { WAIT_NS = 2000000, WAIT_DOUBLINGS = 6 };

int rendezvous_init(struct rendezvous *r, unsigned members)
{
	pthread_condattr_t monotonic;

	*r = (struct rendezvous){.members = members, .passed = members};
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&r->lock, NULL);
	return -pthread_cond_init(&r->changed, &monotonic);
}

void rendezvous_fini(struct rendezvous *r)
{
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->changed);
}

int rendezvous_call(struct rendezvous *r, uint64_t what)
{
	int err = -EBUSY;

	pthread_mutex_lock(&r->lock);
	if (r->passed == r->members) {
		r->came = r->passed = 0;
		r->state = RENDEZVOUS_OPEN;
		r->what = what;
		__atomic_add_fetch(&r->turn, 1, __ATOMIC_RELEASE);
		err = 0;
	}
	pthread_mutex_unlock(&r->lock);
	return err;
}

bool rendezvous_due(const struct rendezvous *r, unsigned seen)
{
	return __atomic_load_n(&r->turn, __ATOMIC_ACQUIRE) != seen;
}

static struct timespec rendezvous_deadline(const struct rendezvous *r)
{
	struct timespec t;
	uint64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &t);
	ns = (uint64_t)t.tv_nsec + ((uint64_t)WAIT_NS << (r->failed < WAIT_DOUBLINGS ? r->failed : WAIT_DOUBLINGS));
	return (struct timespec){.tv_sec = t.tv_sec + (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
}

static void rendezvous_settle(struct rendezvous *r, bool met)
{
	r->state = met ? RENDEZVOUS_MET : RENDEZVOUS_OFF;
	r->met_tsc = __rdtsc();
	r->failed = met ? 0 : r->failed + 1;
	pthread_cond_broadcast(&r->changed);
}

bool rendezvous_meet(struct rendezvous *r, unsigned *seen, uint64_t *what, uint64_t *met_tsc)
{
	struct timespec deadline;
	bool met;

	pthread_mutex_lock(&r->lock);
	deadline = rendezvous_deadline(r);
	*seen = r->turn;
	if (++r->came == r->members && r->state == RENDEZVOUS_OPEN)
		rendezvous_settle(r, true);
	while (r->state == RENDEZVOUS_OPEN)
		if (pthread_cond_timedwait(&r->changed, &r->lock, &deadline) == ETIMEDOUT && r->state == RENDEZVOUS_OPEN)
			rendezvous_settle(r, false);
	met = r->state == RENDEZVOUS_MET;
	*what = r->what;
	*met_tsc = r->met_tsc;
	r->passed++;
	pthread_mutex_unlock(&r->lock);
	return met;
}
