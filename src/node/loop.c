/* See loop.h. The timer list is short (a few a peer), so it is a sorted list. */
#include "node/loop.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

uint64_t loop_now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t loop_now_ms(void)
{
	return loop_now_us() / 1000;
}

int loop_open(struct loop *l)
{
	*l = (struct loop){.epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
	if (l->epoll_fd < 0)
		return -errno;
	l->open = true;
	return 0;
}

static void run_tasks(struct loop *l)
{
	while (l->tasks) {
		struct loop_task *t = l->tasks;

		l->tasks = t->next;
		t->queued = false;
		t->run(t);
	}
}

void loop_close(struct loop *l)
{
	if (!l->open)
		return;
	run_tasks(l);
	close(l->epoll_fd);
	l->open = false;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
}

int loop_add(struct loop *l, struct loop_watch *w)
{
	struct epoll_event e = {.events = w->events, .data.ptr = w};

	if (epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, w->fd, &e) < 0)
		return -errno;
	w->on = true;
	return 0;
}

void loop_want(struct loop *l, struct loop_watch *w, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = w};

	if (!w->on || w->events == events)
		return;
	w->events = events;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, w->fd, &e);
}

void loop_remove(struct loop *l, struct loop_watch *w)
{
	if (!w->on)
		return;
	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
	w->on = false;
	for (int k = l->at; k < l->due; k++)
		if (l->batch[k].data.ptr == w)
			l->batch[k].data.ptr = NULL;
}

void loop_disarm(struct loop *l, struct loop_timer *t)
{
	struct loop_timer **at = &l->timers;

	if (!t->armed)
		return;
	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	t->armed = false;
}

void loop_arm(struct loop *l, struct loop_timer *t, uint64_t in_ms)
{
	struct loop_timer **at = &l->timers;

	loop_disarm(l, t);
	t->at_ms = loop_now_ms() + in_ms;
	t->armed = true;
	while (*at && (*at)->at_ms <= t->at_ms)
		at = &(*at)->next;
	t->next = *at;
	*at = t;
}

void loop_later(struct loop *l, struct loop_task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	t->next = l->tasks;
	l->tasks = t;
}

static int next_wait_ms(const struct loop *l)
{
	uint64_t now = loop_now_ms();

	if (!l->timers)
		return -1;
	if (l->timers->at_ms <= now)
		return 0;
	return l->timers->at_ms - now > 60000 ? 60000 : (int)(l->timers->at_ms - now);
}

static void fire_timers(struct loop *l)
{
	uint64_t now = loop_now_ms();

	while (l->timers && l->timers->at_ms <= now && !l->stopped) {
		struct loop_timer *t = l->timers;

		loop_disarm(l, t);
		t->fire(t);
	}
}

int loop_run(struct loop *l)
{
	l->stopped = false;
	while (!l->stopped) {
		int n = epoll_wait(l->epoll_fd, l->batch, LOOP_BATCH, next_wait_ms(l));

		if (n < 0 && errno != EINTR)
			return -errno;
		l->due = n < 0 ? 0 : n;
		for (l->at = 0; l->at < l->due;) {
			struct epoll_event *e = &l->batch[l->at++];
			struct loop_watch *w = e->data.ptr;

			if (w)
				w->ready(w, e->events);
		}
		fire_timers(l);
		run_tasks(l);
	}
	return 0;
}
