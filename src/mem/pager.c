/* The pager's thread: waits (briefly by polling, then by blocking) and gives the engine what came. See pager.h. */
#include "mem/pager.h"

#include "base/ensure.h"
#include "base/log.h"
#include "base/thread.h"
#include "mem/engine.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <unistd.h>

/* What epoll tells apart; links are their node's number. */
enum { TAG_FAULTS = NODES_MAX, TAG_KICK, TAGS };

enum { SPIN_LEAST_NS = 4000 }; /* the first step of a growing spin; below it a spin is not worth its system calls */

/* How far a call to pager_freeze() has come. */
enum freeze { FREEZE_NONE, FREEZE_CLAIMED, FREEZE_ASKED };

struct pager {
	struct engine engine;
	int epoll, kick;
	bool threaded;
	pthread_t thread;
	uint16_t armed; /* links whose epoll entry asks for POLLOUT */
	uint64_t spin_ns, spin_max_ns;

	/* From other threads. */
	_Atomic int freeze; /* enum freeze; guards 'ask' */
	struct engine_cause ask;
	_Atomic bool quit;
	_Atomic uint64_t cache_pages;
	struct pager_discard *_Atomic freed; /* last come first */
};

static void pager_kick(const struct pager *p)
{
	uint64_t one = 1;

	if (write(p->kick, &one, sizeof one) < 0)
		return; /* full: it will wake anyway */
}

static int pager_watch(struct pager *p, int op, int fd, unsigned tag, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.u32 = tag};

	return epoll_ctl(p->epoll, op, fd, &ev) < 0 ? -errno : 0;
}

static int pager_watch_all(struct pager *p)
{
	struct engine *e = &p->engine;
	int err = pager_watch(p, EPOLL_CTL_ADD, p->kick, TAG_KICK, EPOLLIN);

	if (!err)
		err = pager_watch(p, EPOLL_CTL_ADD, e->uffd.fd, TAG_FAULTS, EPOLLIN);
	for (unsigned n = 0; !err && n < e->config.nodes; n++)
		if (e->link[n])
			err = pager_watch(p, EPOLL_CTL_ADD, link_fd(e->link[n]), n, EPOLLIN);
	return err;
}

/* Ask epoll for POLLOUT where, and only where, a link is stuck. */
static void pager_arm(struct pager *p)
{
	struct engine *e = &p->engine;
	uint16_t change = p->armed ^ e->stuck;

	for (unsigned n = 0; change && n < e->config.nodes; n++) {
		uint32_t events = EPOLLIN | (e->stuck & 1u << n ? EPOLLOUT : 0);

		if (change & 1u << n && pager_watch(p, EPOLL_CTL_MOD, link_fd(e->link[n]), n, events))
			engine_fail(e, STOP_NODE_ERROR, e->config.self, "epoll: %s", strerror(errno));
	}
	p->armed = e->stuck;
}

/* Waiting. */

static bool pager_poll(struct pager *p, struct epoll_event *ev, int *n)
{
	*n = epoll_wait(p->epoll, ev, TAGS, 0);
	return *n != 0;
}

/* Poll for at most the current spin time. The yields let those who share our CPU run meanwhile: on a busy host they are the ones we wait for. */
static bool pager_spin(struct pager *p, struct epoll_event *ev, int *n, uint64_t due_ns)
{
	uint64_t now = engine_clock_ns(), end = now + p->spin_ns;

	for (; now < end && now < due_ns; now = engine_clock_ns()) {
		sched_yield();
		if (pager_poll(p, ev, n)) {
			tally_add(&p->engine.tally.spins, 1);
			return true;
		}
	}
	return false;
}

/* Spin longer after a wait that a longest spin would have covered, shorter after one that it would not. */
static void pager_tune_spin(struct pager *p, uint64_t waited_ns)
{
	if (p->spin_max_ns == 0)
		return;
	if (waited_ns > p->spin_max_ns)
		p->spin_ns = p->spin_ns / 2 < SPIN_LEAST_NS ? 0 : p->spin_ns / 2;
	else
		p->spin_ns = p->spin_ns < SPIN_LEAST_NS ? SPIN_LEAST_NS : p->spin_ns * 2;
	if (p->spin_ns > p->spin_max_ns)
		p->spin_ns = p->spin_max_ns;
}

static int pager_block(struct pager *p, struct epoll_event *ev, uint64_t due_ns)
{
	uint64_t from = engine_clock_ns(), left = due_ns > from ? due_ns - from : 0;
	struct timespec t = {.tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000)};
	int n = epoll_pwait2(p->epoll, ev, TAGS, due_ns == UINT64_MAX ? NULL : &t, NULL);

	tally_add(&p->engine.tally.blocks, 1);
	pager_tune_spin(p, engine_clock_ns() - from);
	return n;
}

static int pager_wait(struct pager *p, struct epoll_event *ev)
{
	uint64_t due_ns = engine_due_ns(&p->engine);
	int n;

	if (p->spin_ns && (pager_poll(p, ev, &n) || pager_spin(p, ev, &n, due_ns)))
		return n;
	return pager_block(p, ev, due_ns);
}

/* Commands. */

/* Hand over what other threads have left, oldest first. */
static void pager_take_freed(struct pager *p)
{
	struct pager_discard *d = atomic_exchange(&p->freed, NULL), *first = NULL, *next;

	for (; d; d = next) {
		next = d->next;
		d->next = first;
		first = d;
	}
	engine_free(&p->engine, first);
}

static void pager_commands(struct pager *p)
{
	struct engine *e = &p->engine;
	uint64_t count;

	if (read(p->kick, &count, sizeof count) < 0)
		return;
	e->cache.max = atomic_load(&p->cache_pages);
	tally_set(&e->tally.cache_limit_pages, e->cache.max);
	pager_take_freed(p);
	if (atomic_load(&p->freeze) == FREEZE_ASKED)
		engine_fail(e, p->ask.reason, p->ask.node, "%s", p->ask.what);
}

static void pager_round(struct pager *p, const struct epoll_event *ev, int n)
{
	struct engine *e = &p->engine;

	engine_begin(e);
	for (int i = 0; i < n; i++)
		if (ev[i].data.u32 == TAG_KICK)
			pager_commands(p);
		else if (ev[i].data.u32 == TAG_FAULTS)
			engine_faults(e);
		else if (ev[i].events & ~(uint32_t)EPOLLOUT)
			engine_receive(e, ev[i].data.u32);
	if (engine_failed(e))
		return;
	engine_end(e);
	pager_arm(p);
	tally_add(&e->tally.rounds, 1);
}

/* Nothing is answered any more; only pager_stop() ends this. */
static void pager_dead(struct pager *p)
{
	struct engine *e = &p->engine;
	uint64_t count;
	struct epoll_event ev;
	int none = FREEZE_NONE;

	engine_farewell(e);
	for (unsigned tag = 0; tag < e->config.nodes; tag++)
		if (e->link[tag] && pager_watch(p, EPOLL_CTL_DEL, link_fd(e->link[tag]), tag, 0))
			log_debug("pager: epoll: %s", strerror(errno));
	if (pager_watch(p, EPOLL_CTL_DEL, e->uffd.fd, TAG_FAULTS, 0))
		log_debug("pager: epoll: %s", strerror(errno));
	if (atomic_compare_exchange_strong(&p->freeze, &none, FREEZE_CLAIMED) && e->config.on_stop)
		e->config.on_stop(e->config.arg, e->cause.reason, e->cause.node, e->cause.what);
	while (!atomic_load(&p->quit))
		if (epoll_wait(p->epoll, &ev, 1, -1) == 1 && read(p->kick, &count, sizeof count) < 0)
			break;
}

static void *pager_run(void *arg)
{
	struct pager *p = arg;
	struct epoll_event ev[TAGS];

	prctl(PR_SET_NAME, "pager");
	prctl(PR_SET_TIMERSLACK, 1ul); /* a hold's end is waited for by another node */
	while (!atomic_load_explicit(&p->quit, memory_order_relaxed) && !engine_failed(&p->engine)) {
		int n = pager_wait(p, ev);

		if (n < 0 && errno != EINTR)
			engine_fail(&p->engine, STOP_NODE_ERROR, p->engine.config.self, "epoll: %s", strerror(errno));
		pager_round(p, ev, n < 0 ? 0 : n);
	}
	if (engine_failed(&p->engine))
		pager_dead(p);
	return NULL;
}

/* Birth and death. */

static int pager_check(const struct pager_config *c, struct failure *f)
{
	bool good = c->nodes >= 1 && c->nodes <= NODES_MAX && c->self.v < c->nodes && c->ram->bytes && c->ram->bytes >> PAGE_SHIFT < UINT32_MAX;

	for (unsigned i = 0; good && i < c->ram->ranges; i++)
		good = c->ram->range[i].home.v < c->nodes;
	for (unsigned n = 0; good && n < c->nodes; n++)
		good = n == c->self.v || c->fds[n] >= 0;
	if (!good)
		return failure_set(f, -EINVAL, "report this as a bug", "the pager was given a plan that makes no sense");
	if (c->nodes > 1 && c->cache_bytes >> PAGE_SHIFT < PAGER_CACHE_PAGES_MIN)
		return failure_set(f, -EINVAL, "give the VM a larger cache on this node", "a page cache of %llu KiB is too small: %u KiB at least",
			(unsigned long long)(c->cache_bytes >> 10), PAGER_CACHE_PAGES_MIN * (PAGE_BYTES >> 10));
	return 0;
}

/* Polling on a process's only CPU keeps those away who would give us work. */
static uint64_t pager_spin_max(int32_t spin_us)
{
	cpu_set_t cpus;

	if (spin_us < 0)
		return 0;
	if (spin_us > 0)
		return (uint64_t)spin_us * 1000;
	return sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) < 2 ? 0 : PAGER_SPIN_US * 1000;
}

static int pager_open(struct pager *p, const struct pager_config *config, struct failure *f)
{
	int err = pager_check(config, f);

	p->engine.config = *config; /* for engine_fini() to close the fds if the check failed */
	if (p->engine.config.nodes > NODES_MAX)
		p->engine.config.nodes = NODES_MAX;
	if (err)
		return err;
	err = engine_init(&p->engine, config, f);
	if (err)
		return err;
	p->cache_pages = p->engine.cache.max;
	p->spin_ns = p->spin_max_ns = pager_spin_max(config->spin_us);
	p->epoll = epoll_create1(EPOLL_CLOEXEC);
	p->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	err = p->epoll < 0 || p->kick < 0 ? -errno : pager_watch_all(p);
	return err ? failure_set(f, err, "raise the limit on open files", "cannot watch the pager's descriptors: %s", strerror(-err)) : 0;
}

/* The pager takes no signal: those are for the threads that run vCPUs. */
static int pager_begin(struct pager *p)
{
	sigset_t was;
	int err;

	thread_block(&was, 0);
	err = -pthread_create(&p->thread, NULL, pager_run, p);
	thread_unblock(&was);
	p->threaded = err == 0;
	return err;
}

int pager_start(struct pager **out, const struct pager_config *config, struct failure *f)
{
	struct pager *p = calloc(1, sizeof *p);
	int err;

	*out = NULL;
	if (!p) {
		for (unsigned n = 0; n < config->nodes && n < NODES_MAX; n++)
			if (config->fds[n] >= 0)
				close(config->fds[n]);
		return failure_set(f, -ENOMEM, "free some memory", "no memory for the pager");
	}
	p->epoll = p->kick = -1;
	err = pager_open(p, config, f);
	if (!err && (err = pager_begin(p)) != 0)
		failure_set(f, err, "raise the limit on threads", "cannot start the pager's thread: %s", strerror(-err));
	if (err) {
		pager_stop(p);
		return err;
	}
	*out = p;
	return 0;
}

void pager_freeze(struct pager *p, enum stop_reason reason, node_t node, const char *what)
{
	int none = FREEZE_NONE;

	if (!atomic_compare_exchange_strong(&p->freeze, &none, FREEZE_CLAIMED))
		return;
	p->ask = (struct engine_cause){.reason = reason, .node = node};
	snprintf(p->ask.what, sizeof p->ask.what, "%s", what);
	atomic_store(&p->freeze, FREEZE_ASKED);
	pager_kick(p);
}

void pager_stop(struct pager *p)
{
	if (!p)
		return;
	atomic_store(&p->quit, true);
	if (p->threaded) {
		pager_kick(p);
		pthread_join(p->thread, NULL);
	}
	pager_take_freed(p);
	engine_fini(&p->engine);
	if (p->epoll >= 0)
		close(p->epoll);
	if (p->kick >= 0)
		close(p->kick);
	free(p);
}

int pager_free(struct pager *p, struct pager_discard *d)
{
	if (d->pages == 0 || d->pages > p->engine.pages || d->first > p->engine.pages - d->pages)
		return -EINVAL;
	d->next = atomic_load(&p->freed);
	while (!atomic_compare_exchange_weak(&p->freed, &d->next, d))
		;
	pager_kick(p);
	return 0;
}

void pager_set_cache(struct pager *p, uint64_t cache_bytes)
{
	uint64_t pages = cache_bytes >> PAGE_SHIFT;

	atomic_store(&p->cache_pages, pages < PAGER_CACHE_PAGES_MIN ? PAGER_CACHE_PAGES_MIN : pages);
	pager_kick(p);
}

/* Reports. */

void pager_stats(const struct pager *p, struct pager_stats *out)
{
	tally_read(&p->engine.tally, out);
}

void pager_thread_wait(const struct pager *p, uint32_t tid, struct pager_latency *out)
{
	tally_read_thread(&p->engine.tally, tid, out);
}

/* Put one in its place among the n found so far. */
static unsigned pager_rank(struct pager_hot *out, unsigned n, unsigned max, struct pager_hot one)
{
	unsigned i = n < max ? n++ : max - 1;

	for (; i && out[i - 1].faults < one.faults; i--)
		out[i] = out[i - 1];
	out[i] = one;
	return n;
}

unsigned pager_hottest(const struct pager *p, struct pager_hot *out, unsigned max)
{
	unsigned n = 0;

	for (uint64_t page = 0; page < p->engine.pages && max; page++) {
		unsigned faults = atomic_load_explicit(&p->engine.hot[page], memory_order_relaxed);

		if (faults && (n < max || faults > out[n - 1].faults))
			n = pager_rank(out, n, max, (struct pager_hot){ram_page_gfn(p->engine.config.ram, page), faults});
	}
	return n;
}
