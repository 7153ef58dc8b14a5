/* Drives proto/stop.h for one fragment: turns what went wrong into the agreed stop, so that all fragments of a VM report one cause.
 *
 * What the fragment does about it comes from its owner: 'stopping' (once, or again through verdict_retell) must freeze it and tell the peers; 'ended'
 * (once) hands out the verdict, when every peer has said its own cause, is gone, or has had VERDICT_PATIENCE_MS. Both are called with the lock held:
 * they must not block or call back. Any thread may call any of these. */
#ifndef VM_VERDICT_H
#define VM_VERDICT_H

#include <pthread.h>

#include "proto/stop.h"

enum { VERDICT_PATIENCE_MS = 1000, VERDICT_TEXT_BYTES = 256 };

struct verdict_calls {
	void (*stopping)(void *owner, enum stop_reason reason, node_t about, const char *what);
	void (*ended)(void *owner, enum stop_reason reason, node_t about, const char *what);
	void *owner;
};

struct verdict {
	pthread_mutex_t lock; /* guards all that follows but calls */
	struct stop stop;
	char told[VERDICT_TEXT_BYTES], what[VERDICT_TEXT_BYTES];
	uint64_t told_ms;
	struct verdict_calls calls;
};

void verdict_init(struct verdict *v, node_t self, unsigned nodes, const struct verdict_calls *calls);
void verdict_fini(struct verdict *v);

/* It happened here, or somebody asked for it. */
void verdict_cause(struct verdict *v, enum stop_reason reason, node_t about, const char *what);

/* That peer says that it stops, and why: any values. */
void verdict_heard(struct verdict *v, node_t from, unsigned reason, node_t about, const char *what);

/* The link to that peer is closed, broken or silent. */
void verdict_lost(struct verdict *v, node_t peer, const char *what);

/* Now and then: whoever was told and does not answer is not waited for any longer. */
void verdict_tick(struct verdict *v, uint64_t now_ms);

/* There are now ways to tell peers: if it is stopping, call 'stopping' once more. */
void verdict_retell(struct verdict *v);

/* Nothing is called any more. */
void verdict_mute(struct verdict *v);

/* CLOCK_MONOTONIC, what verdict_tick counts in. */
uint64_t verdict_now_ms(void);

#endif
