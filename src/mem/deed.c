/* The deeds behind the decisions: each action of proto/page.h, done to a frame or a link. Nothing here decides anything. */
#include "mem/engine.h"
#include "mem/letter.h"

#include <errno.h>
#include <string.h>

static const uint8_t zero_page[PAGE_BYTES] __attribute__((aligned(PAGE_BYTES)));

const uint8_t *deed_bytes(const struct engine *e, enum page_bytes bytes, const uint8_t *data, enum page_bytes *form)
{
	*form = bytes;
	if (bytes == PAGE_TAKEN)
		*form = e->taken_zero ? PAGE_ZERO : PAGE_DATA_IN;
	if (*form != PAGE_DATA_IN)
		return NULL;
	return bytes == PAGE_TAKEN ? e->taken : data;
}

/* Queue; when the queue is full, give the kernel what it takes and try once more. */
static int deed_queue(struct link *l, const uint8_t *head, size_t n, const uint8_t *bytes)
{
	int err = link_queue(l, head, n, bytes);

	if (err != -ENOBUFS)
		return err;
	err = link_flush(l);
	if (err && err != -EAGAIN)
		return err;
	return link_queue(l, head, n, bytes);
}

static void deed_send(struct engine *e, uint64_t page, const struct page_action *a, const uint8_t *data)
{
	struct letter l = {.gfn = ram_page_gfn(e->config.ram, page), .msg = a->msg};
	const uint8_t *bytes = deed_bytes(e, a->bytes, data, &l.bytes);
	uint8_t head[LETTER_HEAD_BYTES];
	size_t n = letter_put(&l, head);
	int err = deed_queue(e->link[a->to.v], head, n, bytes);

	if (err == -ENOBUFS)
		engine_fail(e, STOP_LOST, a->to, "it does not take the pages it asked for (%d MiB are waiting)", PAGER_OUT_BYTES >> 20);
	else if (err)
		engine_fail(e, STOP_LOST, a->to, "the page stream to it broke: %s", strerror(-err));
	e->unsent |= (uint16_t)(1u << a->to.v);
}

static bool deed_wanted(const struct engine_note *note)
{
	return note->want >= WANT_READ && note->want <= WANT_UPGRADE;
}

/* Whom a hold of this page protects. Its CPU clock was read when it began to wait; it has not run since. */
static struct hold_for deed_waiter(const struct engine *e, uint32_t tid)
{
	const struct engine_thread *t = &e->thread[tid % ENGINE_THREADS];

	return t->clock.tid == tid ? t->clock : (struct hold_for){0};
}

/* A thread that waited goes on. */
static void deed_arrived(struct engine *e, uint64_t page)
{
	struct engine_note *note = &e->note[page];
	uint64_t ns = (uint64_t)((uint32_t)(engine_clock_ns() >> 6) - note->since) << 6;

	if (deed_wanted(note)) {
		e->waking = deed_waiter(e, note->tid);
		tally_waited(&e->tally, note->tid, note->want - WANT_READ, ns);
		e->trip_ns = ns < e->trip_ns ? ns : e->trip_ns + e->trip_ns / 1024 + 1;
	}
	note->chance = note->want != WANT_AHEAD;
	e->ahead -= note->want == WANT_AHEAD;
	note->want = WANT_NONE;
}

static int deed_install(struct engine *e, uint64_t page, const struct page_action *a, const uint8_t *data)
{
	enum page_bytes form;
	const uint8_t *bytes = deed_bytes(e, a->bytes, data, &form);
	int err = uffd_install(&e->uffd, page, bytes ? bytes : zero_page, a->state == PAGE_M);

	tally_add(&e->tally.installs, 1);
	if (!bytes)
		tally_add(&e->tally.installs_zero, 1);
	if (!err)
		deed_arrived(e, page);
	return err;
}

static int deed_upgrade(struct engine *e, uint64_t page)
{
	int err = uffd_upgrade(&e->uffd, page);

	if (!err)
		deed_arrived(e, page);
	return err;
}

static void deed_hold(struct engine *e, uint64_t page)
{
	uint64_t now = engine_clock_ns(), base = e->config.hold_us * 1000ull, most = e->config.hold_max_us * 1000ull;
	struct hold one = {.page = page, .last_ns = now + most, .who = e->waking};

	one.due_ns = now + hold_ns(&e->holds, e->note[page].heat, base, e->trip_ns, most);
	hold_begin(&e->holds, &one);
}

void deed_do(struct engine *e, uint64_t page, const struct page_action *a, const uint8_t *data)
{
	int err = 0;

	switch (a->kind) {
	case PAGE_DO_SEND:
		deed_send(e, page, a, data);
		return;
	case PAGE_DO_INSTALL:
		err = deed_install(e, page, a, data);
		break;
	case PAGE_DO_UPGRADE:
		err = deed_upgrade(e, page);
		break;
	case PAGE_DO_PROTECT:
		err = uffd_protect(&e->uffd, page);
		break;
	case PAGE_DO_TAKE:
		e->taken_zero = uffd_take(&e->uffd, page, e->taken);
		break;
	case PAGE_DO_ZAP:
		err = uffd_zap(&e->uffd, page);
		break;
	case PAGE_DO_WAKE:
		err = uffd_wake(&e->uffd, page);
		break;
	case PAGE_DO_HOLD:
		deed_hold(e, page);
		break;
	}
	if (err)
		engine_fail(e, STOP_NODE_ERROR, e->config.self, "its kernel refused to %s guest frame 0x%llx: %s",
			a->kind == PAGE_DO_INSTALL ? "fill" : "protect or free",
			(unsigned long long)ram_page_gfn(e->config.ram, page).v, strerror(-err));
}
