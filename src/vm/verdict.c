/* See verdict.h. */
#include "vm/verdict.h"

#include <time.h>

#include "base/text.h"

uint64_t verdict_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void stopping(struct verdict *v)
{
	v->calls.stopping(v->calls.owner, v->stop.told.reason, v->stop.told.node, v->told);
}

/* With the lock. */
static void take(struct verdict *v, const struct stop_event *ev, const char *what)
{
	unsigned actions = stop_step(&v->stop, ev);

	if (actions & STOP_DO_KEEP)
		TEXT_SET(v->what, what);
	if (actions & STOP_DO_TELL) {
		TEXT_SET(v->told, what);
		v->told_ms = verdict_now_ms();
		stopping(v);
	}
	if (actions & STOP_DO_END)
		v->calls.ended(v->calls.owner, v->stop.verdict.reason, v->stop.verdict.node, v->what);
}

static void take_locked(struct verdict *v, const struct stop_event *ev, const char *what)
{
	pthread_mutex_lock(&v->lock);
	take(v, ev, what);
	pthread_mutex_unlock(&v->lock);
}

void verdict_init(struct verdict *v, node_t self, unsigned nodes, const struct verdict_calls *calls)
{
	*v = (struct verdict){.lock = PTHREAD_MUTEX_INITIALIZER, .calls = *calls};
	stop_init(&v->stop, self, nodes);
}

void verdict_fini(struct verdict *v)
{
	pthread_mutex_destroy(&v->lock);
}

void verdict_cause(struct verdict *v, enum stop_reason reason, node_t about, const char *what)
{
	take_locked(v, &(struct stop_event){.kind = STOP_EV_CAUSE, .cause = {(uint8_t)reason, about}}, what);
}

void verdict_heard(struct verdict *v, node_t from, unsigned reason, node_t about, const char *what)
{
	bool sense = reason > STOP_NONE && reason < STOP_REASONS && about.v < v->stop.nodes;

	take_locked(v, &(struct stop_event){.kind = STOP_EV_HEARD, .from = from, .cause = {sense ? (uint8_t)reason : (uint8_t)STOP_NONE, about}},
		sense ? what : "its word about the end of the VM makes no sense");
}

void verdict_lost(struct verdict *v, node_t peer, const char *what)
{
	take_locked(v, &(struct stop_event){.kind = STOP_EV_LOST, .from = peer}, what);
}

void verdict_tick(struct verdict *v, uint64_t now_ms)
{
	pthread_mutex_lock(&v->lock);
	if (v->stop.told.reason != STOP_NONE && now_ms >= v->told_ms + VERDICT_PATIENCE_MS)
		take(v, &(struct stop_event){.kind = STOP_EV_DEADLINE}, "");
	pthread_mutex_unlock(&v->lock);
}

void verdict_mute(struct verdict *v)
{
	pthread_mutex_lock(&v->lock);
	v->stop.ended = 1;
	pthread_mutex_unlock(&v->lock);
}

void verdict_retell(struct verdict *v)
{
	pthread_mutex_lock(&v->lock);
	if (v->stop.told.reason != STOP_NONE)
		stopping(v);
	pthread_mutex_unlock(&v->lock);
}
