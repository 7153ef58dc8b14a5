/* One thread that waits for file descriptors and deadlines: the daemon's, and a fragment's control thread. Level-triggered epoll.
 *
 * Everything here belongs to the thread that calls loop_run(). Watches, timers and tasks are embedded in their owners; zeroed is closed.
 * Within one round, callbacks may remove any watch (also one whose event is still due: it is then not called) and memory that a callback's
 * caller may still touch is freed by a task, which runs at the end of the round. */
#ifndef NODE_LOOP_H
#define NODE_LOOP_H

#include <sys/epoll.h>

#include "base/types.h"

enum { LOOP_BATCH = 32 };

struct loop_watch {
	int fd;
	bool on;
	uint32_t events; /* EPOLLIN, EPOLLOUT */
	void (*ready)(struct loop_watch *w, uint32_t events);
};

struct loop_timer {
	uint64_t at_ms;
	bool armed;
	void (*fire)(struct loop_timer *t);
	struct loop_timer *next;
};

struct loop_task {
	void (*run)(struct loop_task *t);
	struct loop_task *next;
	bool queued;
};

struct loop {
	int epoll_fd;
	bool open, stopped;
	struct loop_timer *timers; /* soonest first */
	struct loop_task *tasks;
	struct epoll_event batch[LOOP_BATCH];
	int due, at; /* of the batch */
};

int loop_open(struct loop *l) MUST_CHECK;
void loop_close(struct loop *l);

/* Call callbacks until loop_stop(). -errno when epoll itself fails. */
int loop_run(struct loop *l) MUST_CHECK;
void loop_stop(struct loop *l);

/* w->fd, events and ready are set. */
int loop_add(struct loop *l, struct loop_watch *w) MUST_CHECK;
void loop_want(struct loop *l, struct loop_watch *w, uint32_t events);
void loop_remove(struct loop *l, struct loop_watch *w);

/* Fire once, in_ms from now; arming an armed timer moves it. */
void loop_arm(struct loop *l, struct loop_timer *t, uint64_t in_ms);
void loop_disarm(struct loop *l, struct loop_timer *t);

void loop_later(struct loop *l, struct loop_task *t);

/* CLOCK_MONOTONIC. Any thread. */
uint64_t loop_now_ms(void);
uint64_t loop_now_us(void);

#endif
