/* What happens to pages, event by event: see engine.h. The decision is page_step()'s, the deed is mem/deed.c's; here is who calls them when, and the
 * accounting around them (cache, holds, streams, statistics). */
#include "mem/engine.h"

#include "base/ensure.h"
#include "mem/letter.h"
#include "wire/peer.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	EVICT_TRIES = 512,      /* frames looked at for one that may go, before a fault is deferred */
	EVICT_BATCH = 16,       /* frames sent away ahead of need in one round */
	FLUSH_EARLY_BYTES = 64 * 1024, /* a long round does not make the first peer wait for its end */
};

uint64_t engine_clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The kernel's encoding of a thread's CPU clock (include/linux/posix-timers.h), as pthread_getcpuclockid() makes it from a pthread_t. */
uint64_t engine_cpu_ns(uint32_t tid)
{
	enum { PER_THREAD_SCHED = 6 };
	struct timespec t;

	if (clock_gettime((clockid_t)(~tid << 3 | PER_THREAD_SCHED), &t) < 0)
		return UINT64_MAX;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void engine_fail(struct engine *e, enum stop_reason reason, node_t node, const char *fmt, ...)
{
	va_list args;

	if (engine_failed(e))
		return;
	e->cause = (struct engine_cause){.reason = reason, .node = node};
	va_start(args, fmt);
	vsnprintf(e->cause.what, sizeof e->cause.what, fmt, args);
	va_end(args);
}

/* Birth and death. */

static void *table_new(uint64_t pages, size_t each)
{
	void *at = mmap(NULL, pages * each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void table_drop(void *at, uint64_t pages, size_t each)
{
	if (at)
		munmap(at, pages * each);
}

static int engine_tables(struct engine *e)
{
	e->page = table_new(e->pages, sizeof e->page[0]);
	e->dir = table_new(e->pages, sizeof e->dir[0]);
	e->note = table_new(e->pages, sizeof e->note[0]);
	e->hot = table_new(e->pages, sizeof e->hot[0]);
	e->migrate = table_new(e->pages, sizeof e->migrate[0]);
	if (!e->page || !e->dir || !e->note || !e->hot || !e->migrate)
		return -ENOMEM;
	return cache_init(&e->cache, e->pages, e->config.cache_bytes >> PAGE_SHIFT);
}

static int engine_links(struct engine *e)
{
	for (unsigned n = 0; n < e->config.nodes; n++) {
		int fd = e->config.fds[n], err;

		e->config.fds[n] = -1;
		if (n == e->config.self.v)
			continue;
		err = link_open(&e->link[n], fd, PAGER_OUT_BYTES, e->config.dead_ms);
		if (err)
			return err;
	}
	return 0;
}

static void engine_defaults(struct pager_config *c)
{
	if (!c->hold_us)
		c->hold_us = PAGER_HOLD_US;
	if (!c->hold_max_us)
		c->hold_max_us = PAGER_HOLD_MAX_US;
	if (!c->prefetch_pages)
		c->prefetch_pages = PAGER_PREFETCH_PAGES;
	if (c->prefetch_pages > STREAM_WINDOW_MAX)
		c->prefetch_pages = STREAM_WINDOW_MAX;
	if (c->prefetch_off)
		c->prefetch_pages = 0;
}

int engine_init(struct engine *e, const struct pager_config *config, struct failure *f)
{
	int err;

	e->config = *config;
	engine_defaults(&e->config);
	e->pages = config->ram->bytes >> PAGE_SHIFT;
	e->now_ns = engine_clock_ns();
	e->trip_ns = PAGER_HOLD_US * 1000ull;
	e->holds.random = (e->now_ns << 5 | config->self.v) + 1;
	err = engine_tables(e);
	if (!err)
		err = engine_links(e);
	if (!err)
		err = uffd_open(&e->uffd, config->ram, f);
	tally_set(&e->tally.cache_limit_pages, e->cache.max);
	return err ? failure_set(f, err, "see the error", "cannot set up the pager: %s", strerror(-err)) : 0;
}

/* Through with the first of the list. */
static void engine_freed(struct engine *e)
{
	struct pager_discard *d = e->freed;

	e->freed = d->next;
	e->freed_pages = 0;
	d->done(d);
}

void engine_fini(struct engine *e)
{
	while (e->freed)
		engine_freed(e);
	uffd_close(&e->uffd);
	for (unsigned n = 0; n < NODES_MAX; n++) {
		link_close(e->link[n]);
		e->link[n] = NULL;
		if (n < e->config.nodes && e->config.fds[n] >= 0)
			close(e->config.fds[n]);
	}
	table_drop(e->page, e->pages, sizeof e->page[0]);
	table_drop(e->dir, e->pages, sizeof e->dir[0]);
	table_drop(e->note, e->pages, sizeof e->note[0]);
	table_drop(e->hot, e->pages, sizeof e->hot[0]);
	table_drop(e->migrate, e->pages, sizeof e->migrate[0]);
	cache_fini(&e->cache);
	e->config.nodes = 0;
}

/* One event of one page. */

static void engine_local(struct engine *e, uint64_t page, enum page_event_kind kind);

static uint32_t engine_ticks(const struct engine *e)
{
	return (uint32_t)(e->now_ns >> 6) | 1;
}

static bool engine_homed_here(const struct engine *e, uint64_t page)
{
	return node_eq(ram_page_home(e->config.ram, page), e->config.self);
}

static bool page_charged(const struct page *p)
{
	return p->state != PAGE_I || p->pending != PAGE_IDLE;
}

static void engine_account_cache(struct engine *e, uint64_t page, const struct page *was, const struct page *is)
{
	struct cache *c = &e->cache;

	if (was->state == PAGE_I && is->state != PAGE_I)
		cache_add(c, page);
	if (was->state != PAGE_I && is->state == PAGE_I)
		cache_remove(c, page);
	c->charged += page_charged(is);
	c->charged -= page_charged(was);
	tally_set(&e->tally.cached_pages, c->frames);
	if (c->frames > atomic_load_explicit(&e->tally.cached_pages_max, memory_order_relaxed))
		tally_set(&e->tally.cached_pages_max, c->frames);
}

static void engine_account(struct engine *e, uint64_t page, bool here, struct page was)
{
	const struct page *is = &e->page[page];

	if (!here)
		engine_account_cache(e, page, &was, is);
	if (is->recalled && !was.recalled) {
		e->recalls++;
		tally_add(&e->tally.recalls_held, 1);
	}
	if (!is->recalled && was.recalled)
		e->recalls--;
}

/* Before a step, which may begin a hold: when nearly all are in use, end the earliest early. That costs progress at worst, and so many at once are
 * rare: a burst of first touches. The steps made here end a hold for each they begin. */
static void engine_hold_room(struct engine *e)
{
	enum { SPARE = 64 };
	struct hold h;

	while (!e->ending && !engine_failed(e) && e->holds.n > HOLDS_MAX - SPARE && hold_end(&e->holds, UINT64_MAX, &h)) {
		e->ending = true;
		engine_local(e, h.page, PAGE_EV_HOLD_END);
		e->ending = false;
	}
}

/* A page that is to go: now, if nothing is under way. Somebody else's by now: it stays, he uses it. */
static void engine_goes(struct engine *e, uint64_t page)
{
	if (e->page[page].pending != PAGE_IDLE || e->page[page].held)
		return;
	e->note[page].goes = false;
	e->going--;
	if (e->page[page].state != PAGE_M)
		return;
	engine_local(e, page, PAGE_EV_DISCARD);
	tally_add(&e->tally.discards, 1);
}

/* Decide and do. -EPROTO: the message may not be; nothing was done. */
static int engine_step(struct engine *e, uint64_t page, struct page_event *ev, const uint8_t *data)
{
	node_t home = ram_page_home(e->config.ram, page);
	bool here = node_eq(home, e->config.self);
	struct page was;
	struct page_actions todo;
	int err;

	engine_hold_room(e);
	if (engine_failed(e))
		return 0;
	was = e->page[page];
	if (here)
		learn_event(e, page, ev, data);
	err = page_step(&e->page[page], here ? &e->dir[page] : NULL, e->config.self, home, ev, &todo);
	if (err)
		return err;
	e->waking = (struct hold_for){0};
	for (unsigned i = 0; i < todo.n && !engine_failed(e); i++) {
		deed_do(e, page, &todo.at[i], data);
		if (here)
			learn_action(e, page, &todo.at[i], data);
	}
	engine_account(e, page, here, was);
	if (e->note[page].goes && !engine_failed(e))
		engine_goes(e, page);
	return 0;
}

static void engine_local(struct engine *e, uint64_t page, enum page_event_kind kind)
{
	struct page_event ev = {.kind = kind};

	ensure(kind != PAGE_EV_MSG);
	ensure(engine_step(e, page, &ev, NULL) == 0);
}

/* Room in the cache. */

/* Send one frame away if it may go now. */
static void engine_evict(struct engine *e, uint64_t page)
{
	struct page was = e->page[page];

	engine_local(e, page, PAGE_EV_EVICT);
	if (e->page[page].state == PAGE_I)
		tally_add(was.state == PAGE_M ? &e->tally.write_backs : &e->tally.drops, 1);
}

/* Evict the next in turn until at most 'charged' pages are charged; gives up after 'tries' frames that may not go. */
static bool engine_shrink(struct engine *e, uint64_t charged, unsigned tries)
{
	uint64_t page;

	while (e->cache.charged > charged && tries-- && !engine_failed(e) && cache_turn(&e->cache, &page)) {
		if (link_room(e->link[ram_page_home(e->config.ram, page).v]) < PAGER_OUT_BYTES / 2)
			continue; /* its home is slow to take what we send: do not add to that */
		if (e->note[page].chance)
			e->note[page].chance--;
		else
			engine_evict(e, page);
	}
	return e->cache.charged <= charged;
}

/* May 'page' be asked for within the budget? Makes room if need be. */
static bool engine_admit(struct engine *e, uint64_t page)
{
	if (page_charged(&e->page[page]) || engine_homed_here(e, page))
		return true;
	return e->cache.max && engine_shrink(e, e->cache.max - 1, EVICT_TRIES);
}

/* Faults. */

static struct engine_thread *engine_thread(struct engine *e, uint32_t tid)
{
	struct engine_thread *t = &e->thread[tid % ENGINE_THREADS];

	if (t->clock.tid != tid)
		*t = (struct engine_thread){.clock.tid = tid};
	if (e->waiters < ARRAY_LEN(e->waiting))
		e->waiting[e->waiters++] = (uint8_t)(tid % ENGINE_THREADS);
	return t;
}

/* Read the CPU clocks of the threads that began to wait: after their requests have left, so that the time it takes is hidden in the round trip. */
static void engine_read_clocks(struct engine *e)
{
	while (e->waiters) {
		struct hold_for *clock = &e->thread[e->waiting[--e->waiters]].clock;

		clock->cpu_ns = engine_cpu_ns(clock->tid);
	}
}

/* A request for 'page' went out. */
static void engine_wanted(struct engine *e, uint64_t page, enum engine_want want, uint32_t tid)
{
	struct engine_note *note = &e->note[page];
	uint16_t hot = atomic_load_explicit(&e->hot[page], memory_order_relaxed);

	note->since = engine_ticks(e);
	e->ahead -= note->want == WANT_AHEAD;
	e->ahead += want == WANT_AHEAD;
	note->want = (uint8_t)want;
	note->tid = tid;
	if (want == WANT_AHEAD)
		return;
	note->heat = hold_heat(&engine_thread(e, tid)->recent, page, note->heat);
	if (hot < UINT16_MAX)
		atomic_store_explicit(&e->hot[page], (uint16_t)(hot + 1), memory_order_relaxed);
	if (want == WANT_READ)
		tally_add(&e->tally.reads, 1);
	else
		tally_add(want == WANT_WRITE ? &e->tally.writes : &e->tally.upgrades, 1);
}

/* A page homed here that nobody has touched: its first reader gets it writable, which spares the fault of the write that mostly follows. */
static bool engine_fresh(const struct engine *e, uint64_t page)
{
	return engine_homed_here(e, page) && e->page[page].state == PAGE_I && !e->dir[page].touched;
}

/* What a fault on a page asks for. */
static enum page_event_kind engine_asks(struct engine *e, uint64_t page, bool write)
{
	bool first = engine_homed_here(e, page) && e->page[page].state == PAGE_I && e->page[page].pending == PAGE_IDLE;

	if (!write && first)
		write = migrate_read(&e->migrate[page], e->config.self);
	return write || engine_fresh(e, page) ? PAGE_EV_WRITE : PAGE_EV_READ;
}

/* Count a fault that page_step() has taken, and note for whom a request went out. */
static void engine_classify(struct engine *e, const struct uffd_fault *f, struct page was, bool touched)
{
	const struct page *is = &e->page[f->page];

	if (was.pending != PAGE_IDLE || (is->state == was.state && is->pending == PAGE_IDLE)) {
		tally_add(&e->tally.duplicates, 1);
		if (was.pending != PAGE_IDLE && e->note[f->page].want == WANT_AHEAD) {
			tally_add(&e->tally.prefetch_late, 1);
			engine_wanted(e, f->page, f->write ? WANT_WRITE : WANT_READ, f->tid);
		}
	} else if (is->pending != PAGE_IDLE) {
		engine_wanted(e, f->page, !f->write ? WANT_READ : was.state == PAGE_S ? WANT_UPGRADE : WANT_WRITE, f->tid);
	} else {
		tally_add(touched || was.state != PAGE_I ? &e->tally.local : &e->tally.local_zero, 1);
	}
}

/* The run of pages around 'page' that have the same home and are neighbours in the guest: from first to before end. */
static void engine_run(const struct engine *e, uint64_t page, uint64_t *first, uint64_t *end)
{
	*end = 0;
	for (unsigned i = 0; i < e->config.ram->ranges && *end <= page; i++) {
		*first = *end;
		*end += e->config.ram->range[i].bytes >> PAGE_SHIFT;
	}
}

static void engine_ahead(struct engine *e, uint64_t page, bool write)
{
	struct page was = e->page[page];

	if (was.pending != PAGE_IDLE || was.state >= (write ? PAGE_M : PAGE_S) || e->ahead >= ENGINE_AHEAD_MAX || !engine_admit(e, page))
		return;
	write |= engine_fresh(e, page);
	engine_local(e, page, write ? PAGE_EV_WRITE : PAGE_EV_PREFETCH);
	if (e->page[page].pending == PAGE_IDLE)
		return;
	tally_add(&e->tally.prefetches, 1);
	engine_wanted(e, page, WANT_AHEAD, 0);
}

static void engine_stream(struct engine *e, uint64_t page, bool write)
{
	uint64_t most = e->config.prefetch_pages, first = 0, end = 0;
	unsigned up, down;

	if (!engine_homed_here(e, page) && most > e->cache.max / 8)
		most = e->cache.max / 8;
	if (most == 0)
		return;
	engine_run(e, page, &first, &end);
	up = stream_fault(&e->streams, page, write, (unsigned)most, end);
	down = stream_fault(&e->down, e->pages - 1 - page, write, (unsigned)most, e->pages - first);
	for (unsigned i = 1; i <= up; i++)
		engine_ahead(e, page + i, write);
	for (unsigned i = 1; i <= down; i++)
		engine_ahead(e, page - i, write);
}

static void engine_fault(struct engine *e, const struct uffd_fault *f)
{
	struct page was = e->page[f->page];
	bool touched = e->dir[f->page].touched; /* false, and of no meaning, for a page homed elsewhere */

	if (!engine_admit(e, f->page)) {
		tally_add(&e->tally.deferred, 1);
		if (e->deferrals < ENGINE_DEFERRED_MAX)
			e->deferred[e->deferrals++] = *f;
		else if (uffd_wake(&e->uffd, f->page)) /* it will ask again */
			engine_fail(e, STOP_NODE_ERROR, e->config.self, "its kernel refused to wake a thread");
		return;
	}
	engine_local(e, f->page, engine_asks(e, f->page, f->write));
	engine_classify(e, f, was, touched);
	engine_stream(e, f->page, f->write);
}

unsigned engine_faults(struct engine *e)
{
	struct uffd_fault fault[UFFD_BATCH];
	int n = uffd_faults(&e->uffd, fault, UFFD_BATCH);

	if (n < 0) {
		engine_fail(e, STOP_NODE_ERROR, e->config.self, "reading page faults failed: %s", strerror(-n));
		return 0;
	}
	tally_add(&e->tally.faults, (uint64_t)n);
	for (int i = 0; i < n && !engine_failed(e); i++)
		engine_fault(e, &fault[i]);
	return (unsigned)n;
}

/* Pages the guest has freed. */

static void engine_discard(struct engine *e, uint64_t page)
{
	const struct page *p = &e->page[page];

	if (!engine_homed_here(e, page) || e->note[page].goes || (p->state == PAGE_I && p->pending == PAGE_IDLE && !e->dir[page].touched))
		return;
	e->note[page].goes = true;
	e->going++;
	if (p->state == PAGE_M || p->pending != PAGE_IDLE) {
		engine_goes(e, page);
		return;
	}
	engine_local(e, page, PAGE_EV_WRITE);
	if (p->pending != PAGE_IDLE)
		engine_wanted(e, page, WANT_AHEAD, 0);
}

/* Some of them; a round must not get long. */
static void engine_discard_some(struct engine *e)
{
	enum { SOME = 64 };

	for (unsigned i = 0; e->freed && i < SOME && !engine_failed(e); i++) {
		if (e->freed_pages == e->freed->pages) {
			if (e->going)
				return;
			engine_freed(e);
		} else if (e->going < ENGINE_GOING_MAX) {
			engine_discard(e, e->freed->first + e->freed_pages++);
		}
	}
}

/* Is there something to do at once? */
static bool engine_discards(const struct engine *e)
{
	return e->freed && (e->freed_pages < e->freed->pages ? e->going < ENGINE_GOING_MAX : e->going == 0);
}

void engine_free(struct engine *e, struct pager_discard *d)
{
	struct pager_discard **end = &e->freed;

	while (*end)
		end = &(*end)->next;
	*end = d;
}

/* Messages. */

static void engine_heard_stop(struct engine *e, node_t from, const struct link_frame *frame)
{
	struct peer_stop m;

	if (peer_get_stop(frame->body, frame->bytes, &m) || m.reason == STOP_NONE || m.reason >= STOP_REASONS || m.node >= e->config.nodes) {
		engine_fail(e, STOP_PROTOCOL, from, "it sent a garbled stop message");
		return;
	}
	engine_fail(e, m.reason, (node_t){m.node}, "%.200s", m.what.s);
}

static void engine_count_letter(struct engine *e, const struct letter *l)
{
	if (l->msg == PAGE_INV)
		tally_add(&e->tally.invalidations, 1);
	else if (l->msg == PAGE_FETCH_S || l->msg == PAGE_FETCH_M)
		tally_add(&e->tally.fetches, 1);
	else if (l->msg == PAGE_GRANT_M && l->bytes == PAGE_NONE)
		tally_add(&e->tally.upgrade_grants, 1);
	else if ((l->msg == PAGE_GRANT_M || l->msg == PAGE_GRANT_S) && l->bytes == PAGE_ZERO)
		tally_add(&e->tally.zero_grants, 1);
}

static void engine_frame(struct engine *e, node_t from, const struct link_frame *frame)
{
	struct page_event ev = {.kind = PAGE_EV_MSG, .from = from};
	struct letter l;
	int64_t page;

	if (frame->id == PEER_stop) {
		engine_heard_stop(e, from, frame);
		return;
	}
	if (letter_get(&l, frame->id, frame->body, frame->bytes)) {
		engine_fail(e, STOP_PROTOCOL, from, "it sent a garbled message (id %u, %u bytes)", frame->id, frame->bytes);
		return;
	}
	engine_count_letter(e, &l); /* first: when the thread that waits goes on, the count is right */
	ev.msg = l.msg;
	ev.bytes = l.bytes;
	page = ram_page(e->config.ram, l.gfn);
	if (page < 0 || engine_step(e, (uint64_t)page, &ev, l.data))
		engine_fail(e, STOP_PROTOCOL, from, "it sent %s for guest frame 0x%llx, which it may not send now",
			page_msg_name(l.msg), (unsigned long long)l.gfn.v);
}

static void engine_publish(struct engine *e, unsigned n)
{
	const struct link_count *c = link_count(e->link[n]);

	tally_set(&e->tally.peer[n].messages_sent, c->frames_sent);
	tally_set(&e->tally.peer[n].bytes_sent, c->bytes_sent);
	tally_set(&e->tally.peer[n].sends, c->sends);
	tally_set(&e->tally.peer[n].messages_received, c->frames_received);
	tally_set(&e->tally.peer[n].bytes_received, c->bytes_received);
	tally_set(&e->tally.peer[n].receives, c->receives);
}

static void engine_flush(struct engine *e, unsigned n)
{
	int err = link_flush(e->link[n]);

	if (err && err != -EAGAIN)
		engine_fail(e, STOP_LOST, (node_t){(uint8_t)n}, "the page stream to it broke: %s", strerror(-err));
	e->unsent &= (uint16_t)~(1u << n);
	e->stuck &= (uint16_t)~(1u << n);
	if (err == -EAGAIN)
		e->stuck |= (uint16_t)(1u << n);
	engine_publish(e, n);
}

static void engine_flush_long(struct engine *e)
{
	for (unsigned n = 0; n < e->config.nodes; n++)
		if (e->unsent & 1u << n && link_pending(e->link[n]) >= FLUSH_EARLY_BYTES && !(e->stuck & 1u << n))
			engine_flush(e, n);
}

void engine_receive(struct engine *e, unsigned n)
{
	node_t from = {(uint8_t)n};
	struct link_frame frame;
	int err = link_fill(e->link[n]), more = 0;

	if (err == -EAGAIN)
		return;
	while (!err && !engine_failed(e) && (more = link_next(e->link[n], &frame)) > 0) {
		engine_frame(e, from, &frame);
		engine_flush_long(e);
	}
	if (err)
		engine_fail(e, STOP_LOST, from, "the page stream to it ended: %s", err == -EPIPE ? "closed by the other side" : strerror(-err));
	else if (more < 0)
		engine_fail(e, STOP_PROTOCOL, from, "its page stream holds no messages of ours");
	engine_publish(e, n);
}

/* Rounds. */

/* A recall waits for this hold: has the thread it protects had a CPU since its page came? */
static bool engine_has_run(const struct hold *h)
{
	enum { RAN_NS = 3000 }; /* its last steps before it slept may be counted in; waking alone takes about as long */

	return h->who.tid == 0 || engine_cpu_ns(h->who.tid) - h->who.cpu_ns >= RAN_NS;
}

static void engine_hold_end(struct engine *e, struct hold *h)
{
	if (e->page[h->page].recalled && h->due_ns < h->last_ns && !engine_has_run(h)) {
		tally_add(&e->tally.holds_extended, 1);
		h->due_ns = e->now_ns + e->config.hold_us * 500ull;
		if (h->due_ns > h->last_ns)
			h->due_ns = h->last_ns;
		hold_begin(&e->holds, h);
		return;
	}
	engine_local(e, h->page, PAGE_EV_HOLD_END);
}

void engine_begin(struct engine *e)
{
	struct hold h;

	e->now_ns = engine_clock_ns();
	while (!engine_failed(e) && hold_end(&e->holds, e->now_ns, &h))
		engine_hold_end(e, &h);
}

static void engine_retry(struct engine *e)
{
	struct uffd_fault again[ENGINE_DEFERRED_MAX];
	unsigned n = e->deferrals;

	memcpy(again, e->deferred, n * sizeof again[0]);
	e->deferrals = 0;
	for (unsigned i = 0; i < n; i++)
		engine_fault(e, &again[i]);
}

void engine_end(struct engine *e)
{
	uint64_t spare = e->cache.max / 16 < EVICT_BATCH ? e->cache.max / 16 : EVICT_BATCH;

	if (e->deferrals)
		engine_retry(e);
	engine_discard_some(e);
	if (e->cache.charged > e->cache.max - spare)
		engine_shrink(e, e->cache.max - spare, e->cache.charged > e->cache.max ? EVICT_TRIES : EVICT_BATCH);
	for (unsigned n = 0; n < e->config.nodes; n++)
		if (e->unsent & 1u << n || e->stuck & 1u << n)
			engine_flush(e, n);
	engine_read_clocks(e);
}

uint64_t engine_due_ns(const struct engine *e)
{
	if (e->cache.charged > e->cache.max) /* the budget was cut; its frames leave over several rounds */
		return e->now_ns + 200000;
	if (engine_discards(e))
		return e->now_ns;
	return e->recalls || e->deferrals || e->going ? hold_next_ns(&e->holds) : UINT64_MAX;
}

void engine_farewell(struct engine *e)
{
	struct peer_stop m = {.reason = (uint8_t)e->cause.reason, .node = e->cause.node.v};
	uint8_t text[WIRE_HEADER_BYTES + 16 + sizeof m.what];
	size_t n;

	snprintf(m.what.s, sizeof m.what.s, "%s", e->cause.what);
	n = peer_put_stop(&m, text, sizeof text);
	for (unsigned i = 0; i < e->config.nodes; i++) {
		if (!e->link[i])
			continue;
		if (link_queue(e->link[i], text, n, NULL) == 0 && link_flush(e->link[i]) == 0)
			engine_publish(e, i);
		shutdown(link_fd(e->link[i]), SHUT_WR);
	}
}
