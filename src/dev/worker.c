/* One thread and one eventfd: what every device that touches guest memory needs. */
#include "dev/worker.h"

#include "base/ensure.h"
#include "base/thread.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const uint64_t OURS = UINT64_C(1) << 32;

/* Wait for a ring; false: time to end. */
static bool worker_wait(struct worker *w)
{
	uint64_t rings;

	while (read(w->bell, &rings, sizeof rings) != sizeof rings)
		ensure(errno == EINTR);
	atomic_store(&w->rung, false); /* who finds it true until here wants what begins now */
	atomic_fetch_add_explicit(&w->rung_outside, rings % OURS, memory_order_relaxed);
	return !atomic_load(&w->stop);
}

static void *worker_main(void *arg)
{
	struct worker *w = arg;

	while (worker_wait(w))
		w->work(w->dev);
	return NULL;
}

int worker_open(struct worker *w, const char *name, void (*work)(void *dev), void *dev)
{
	sigset_t before;
	int err;

	*w = (struct worker){.bell = eventfd(0, EFD_CLOEXEC), .work = work, .dev = dev};
	if (w->bell < 0)
		return -errno;
	w->open = true; /* before the thread, which may ring itself, reads it */
	thread_block(&before, 0);
	err = pthread_create(&w->thread, NULL, worker_main, w);
	thread_unblock(&before);
	if (err) {
		w->open = false;
		close(w->bell);
		return -err;
	}
	pthread_setname_np(w->thread, name);
	return 0;
}

void worker_ring(struct worker *w)
{
	if (w->open && !atomic_exchange(&w->rung, true))
		ensure(write(w->bell, &OURS, sizeof OURS) == sizeof OURS);
}

void worker_close(struct worker *w)
{
	if (!w->open)
		return;
	atomic_store(&w->stop, true);
	ensure(write(w->bell, &OURS, sizeof OURS) == sizeof OURS);
	pthread_join(w->thread, NULL);
	w->open = false;
	close(w->bell);
}
