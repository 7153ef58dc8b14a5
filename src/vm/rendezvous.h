/* All of a node's vCPU threads out of the guest at one moment, or none does anything: so that what they then change for themselves (their clocks' offsets), the
 * guest cannot see changed on one CPU and unchanged on another. A vCPU that waits for a page inside KVM may be long in coming; then the others do not wait for it.
 *
 *   anyone: rendezvous_call, and make the threads look; each of them: rendezvous_due? -> rendezvous_meet */
#ifndef VM_RENDEZVOUS_H
#define VM_RENDEZVOUS_H

#include <pthread.h>

#include "base/types.h"

struct rendezvous {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned members;
	unsigned turn;         /* atomic; number of the latest call */
	unsigned came, passed; /* guarded by lock, as what follows */
	enum { RENDEZVOUS_OPEN, RENDEZVOUS_MET, RENDEZVOUS_OFF } state;
	uint64_t what, met_tsc;
	unsigned failed; /* calls in a row that came to nothing; the next ones wait longer */
};

int rendezvous_init(struct rendezvous *r, unsigned members) MUST_CHECK;
void rendezvous_fini(struct rendezvous *r);

/* what: the caller's word to the members. -EBUSY: a member has not come by since the last call. Any thread. */
int rendezvous_call(struct rendezvous *r, uint64_t what) MUST_CHECK;

/* Is there a call that a member who has seen those up to 'seen' has not answered? Cheap. */
bool rendezvous_due(const struct rendezvous *r, unsigned seen);

/* A member's own thread, once for each call. True, for all members, when all have come, with the caller's word in *what and this host's TSC of just that moment
 * in *met_tsc; false, for all, when some did not come in time (2 ms at first). */
bool rendezvous_meet(struct rendezvous *r, unsigned *seen, uint64_t *what, uint64_t *met_tsc) MUST_CHECK;

#endif
