/* One thread, one flag, one condition: what every device that touches guest memory needs. */
#include "dev/worker.h"

#include "base/thread.h"


/* Wait for a ring; false: time to end. */
static bool worker_wait(struct worker *w)
{
	bool go;

	pthread_mutex_lock(&w->lock);
	while (!w->rung && !w->stop)
		pthread_cond_wait(&w->bell, &w->lock);
	w->rung = false;
	go = !w->stop;
	pthread_mutex_unlock(&w->lock);
	return go;
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

	*w = (struct worker){.work = work, .dev = dev, .open = true}; /* open before the thread, which may ring itself, reads it */
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->bell, NULL);
	thread_block(&before, 0);
	err = pthread_create(&w->thread, NULL, worker_main, w);
	thread_unblock(&before);
	if (err) {
		pthread_cond_destroy(&w->bell);
		pthread_mutex_destroy(&w->lock);
		w->open = false;
		return -err;
	}
	pthread_setname_np(w->thread, name);
	return 0;
}

void worker_ring(struct worker *w)
{
	bool first;

	if (!w->open)
		return;
	pthread_mutex_lock(&w->lock);
	first = !w->rung;
	w->rung = true;
	pthread_mutex_unlock(&w->lock);
	if (first)
		pthread_cond_signal(&w->bell);
}

void worker_close(struct worker *w)
{
	if (!w->open)
		return;
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_mutex_unlock(&w->lock);
	pthread_cond_signal(&w->bell);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->bell);
	pthread_mutex_destroy(&w->lock);
	w->open = false;
}
