/* See dev_steps.h. */
#include "tests/fuzz/dev_steps.h"

#include "base/ensure.h"
#include "dev/worker.h"

#include <unistd.h>

enum { WORKERS_MAX = 8 };

static struct worker *workers[WORKERS_MAX];

bool steps_left(const struct steps *s)
{
	return s->at < s->end;
}

uint64_t steps_take(struct steps *s, unsigned bytes)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < bytes && s->at < s->end; i++)
		value |= (uint64_t)*s->at++ << 8 * i;
	return value;
}

static void run_if_rung(struct worker *w)
{
	if (!w || !w->rung)
		return;
	w->rung = false;
	w->work(w->dev);
}

void steps_run_worker(unsigned n)
{
	run_if_rung(workers[n % WORKERS_MAX]);
}

static bool any_rung(void)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		if (workers[i] && workers[i]->rung)
			return true;
	return false;
}

void steps_settle(void)
{
	for (unsigned rounds = 0; any_rung(); rounds++) {
		ensure(rounds < 1000); /* workers that ring one another for ever */
		for (unsigned i = 0; i < WORKERS_MAX; i++)
			run_if_rung(workers[i]);
	}
}

int worker_open(struct worker *w, const char *name, void (*work)(void *dev), void *dev)
{
	unsigned i = 0;

	while (i < WORKERS_MAX && workers[i])
		i++;
	ensure(i < WORKERS_MAX);
	*w = (struct worker){.work = work, .dev = dev, .open = true};
	workers[i] = w;
	return 0;
}

void worker_ring(struct worker *w)
{
	w->rung = w->open;
}

void worker_close(struct worker *w)
{
	for (unsigned i = 0; i < WORKERS_MAX; i++)
		if (workers[i] == w)
			workers[i] = NULL;
	w->open = false;
}

/* The console gathers for a moment: not here. */
int usleep(useconds_t us)
{
	return 0;
}
