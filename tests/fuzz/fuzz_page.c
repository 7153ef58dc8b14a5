/* One node's page machine, with peers that say anything in any order. It must never assert, never change anything when it refuses, and never
 * ask its driver for something that cannot be done or that breaks I4, I9 or I10; what a lying peer can reach is only its own page's bytes.
 *
 * Input: the first byte chooses who we are (bit 7: the home; else node 1 of home 0); then an event each from two bytes: kind and message,
 * sender, whether a read is served as a write (bit 5), and bytes. Seeds are stories of honest peers. */
#include "tests/fuzz/fuzz.h"

#include "base/ensure.h"
#include "proto/page.h"
#include "tests/page_text.h"

#include <errno.h>
#include <string.h>

struct rig {
	struct page page;
	struct page_dir dir;
	node_t self;
	bool home;
	enum page_state frame;
	unsigned holds_owed;
	bool taken;
};

static enum page_state may_keep(enum page_msg msg)
{
	if (msg == PAGE_DROP || msg == PAGE_WRITE_BACK || msg == PAGE_ACK || msg == PAGE_GRANT_M)
		return PAGE_I;
	return msg == PAGE_DATA || msg == PAGE_GRANT_S ? PAGE_S : PAGE_M;
}

static void rig_send(const struct rig *r, const struct page_action *a, const struct page_event *ev)
{
	ensure(a->to.v < NODES_MAX && a->to.v != r->self.v && (r->home || a->to.v == 0));
	ensure(r->frame <= may_keep(a->msg)); /* I4 */
	ensure(a->bytes != PAGE_TAKEN || r->taken);
	ensure(a->bytes != PAGE_DATA_IN || (ev->kind == PAGE_EV_MSG && ev->bytes == PAGE_DATA_IN));
}

static void rig_install(struct rig *r, const struct page_action *a, const struct page_event *ev)
{
	ensure(r->frame == PAGE_I && a->state != PAGE_I);
	ensure(a->bytes == PAGE_ZERO || (a->bytes == PAGE_DATA_IN && ev->bytes == PAGE_DATA_IN));
	r->frame = a->state;
}

/* Carry out one action on a frame that knows only whether it is absent, write-protected or writable. */
static void rig_act(struct rig *r, const struct page_action *a, const struct page_event *ev, unsigned held)
{
	switch (a->kind) {
	case PAGE_DO_SEND:
		rig_send(r, a, ev);
		break;
	case PAGE_DO_INSTALL:
		rig_install(r, a, ev);
		break;
	case PAGE_DO_UPGRADE:
		ensure(r->frame == PAGE_S);
		r->frame = PAGE_M;
		break;
	case PAGE_DO_PROTECT:
		ensure(r->frame == PAGE_M && held == 0); /* I9 */
		r->frame = PAGE_S;
		break;
	case PAGE_DO_TAKE:
		ensure(r->frame == PAGE_S);
		r->taken = true;
		break;
	case PAGE_DO_ZAP:
		ensure(r->frame == PAGE_S && held == 0);
		r->frame = PAGE_I;
		break;
	case PAGE_DO_HOLD:
		r->holds_owed++;
		break;
	case PAGE_DO_WAKE:
		break;
	}
}

static void rig_check(const struct rig *r)
{
	uint16_t self = (uint16_t)(1u << r->self.v);

	ensure(r->frame == r->page.state && r->holds_owed == r->page.held && r->page.held <= 2);
	ensure(!r->page.recalled || r->page.held);
	if (!r->home)
		return;
	ensure((r->page.state == PAGE_S) == ((r->dir.sharers & self) != 0));
	ensure((r->page.state == PAGE_M) == (r->dir.owner == r->self.v + 1));
	ensure(!r->dir.owner || !r->dir.sharers);
	ensure(!(r->dir.want_s & r->dir.want_m));
	ensure(r->dir.serving ? r->dir.awaiting : !r->dir.awaiting && !r->dir.want_s && !r->dir.want_m);
	ensure(!r->dir.touched || r->dir.owner || r->page.state == PAGE_S); /* I6 */
}

static void rig_step(struct rig *r, const struct page_event *ev)
{
	static const struct page_actions none;
	struct rig before = *r;
	struct page_actions out = none;
	unsigned held = r->page.held - (unsigned)(ev->kind == PAGE_EV_HOLD_END);
	int err;

	if (ev->kind == PAGE_EV_HOLD_END) {
		if (!r->holds_owed)
			return;
		r->holds_owed--;
	}
	err = page_step(&r->page, r->home ? &r->dir : NULL, r->self, r->home ? r->self : (node_t){0}, ev, &out);
	ensure(err == 0 || (err == -EPROTO && ev->kind == PAGE_EV_MSG));
	ensure(out.n <= PAGE_ACTIONS_MAX);
	if (err) {
		ensure(out.n == 0 && memcmp(&before.page, &r->page, sizeof r->page) == 0 && memcmp(&before.dir, &r->dir, sizeof r->dir) == 0);
		return;
	}
	r->taken = false;
	for (unsigned i = 0; i < out.n; i++)
		rig_act(r, &out.at[i], ev, held);
	rig_check(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct rig r = {0};

	if (bytes == 0)
		return 0;
	r.home = data[0] & 0x80;
	r.self = (node_t){r.home ? data[0] & (NODES_MAX - 1) : 1};
	for (size_t i = 1; i + 1 < bytes; i += 2) {
		struct page_event ev = {
			.kind = (enum page_event_kind)(data[i] >> 4 < PAGE_EV_MSG ? data[i] >> 4 : PAGE_EV_MSG),
			.msg = (enum page_msg)(data[i] & 15),
			.from = {data[i + 1] & 31},
			.bytes = (enum page_bytes)(data[i + 1] >> 6),
			.exclusive = data[i + 1] & 32,
		};

		rig_step(&r, &ev);
	}
	return 0;
}

/* Stories: who we are, then events as in page_text.h. */
static const char *const stories[][16] = {
	{"home 0", "write", "1:get_s", "hold_end", "2:get_s", "2:get_m", "1:ack", "2:write_back data", "3:get_m", "read"},
	{"home 3", "1:get_m", "2:get_m", "1:write_back zero", "1:ack", "read", "2:data data", "write", "2:ack", "1:get_s", "hold_end", "hold_end", "2:get_s"},
	{"home 15", "prefetch", "1:get_m", "1:get_s", "14:get_s", "1:data zero", "14:drop", "1:drop", "write"},
	{"node 1", "read", "0:grant_s data", "write", "0:inv", "hold_end", "0:grant_m data", "0:fetch_s", "hold_end", "0:inv"},
	{"home 0", "write", "1:get_s exclusive", "2:get_s exclusive", "hold_end", "1:data data", "read", "2:write_back data", "2:ack"},
	{"node 1", "read", "0:grant_m data", "0:fetch_m", "hold_end", "prefetch", "0:grant_m zero", "0:fetch_s"},
	{"node 1", "prefetch", "0:grant_s zero", "write", "0:grant_m", "hold_end", "evict", "0:fetch_m", "write", "0:grant_m zero", "0:fetch_m", "hold_end"},
};

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	size_t bytes = 1;

	if (n >= ARRAY_LEN(stories))
		return 0;
	ensure(room > 2 * ARRAY_LEN(stories[0]));
	to[0] = 0;
	if (strncmp(stories[n][0], "home ", 5) == 0)
		to[0] = (uint8_t)(0x80 | (stories[n][0][5] - '0'));
	if (strcmp(stories[n][0], "home 15") == 0)
		to[0] = 0x8f;
	for (unsigned i = 1; i < ARRAY_LEN(stories[0]) && stories[n][i]; i++) {
		struct page_event ev;

		ensure(page_text_event(stories[n][i], &ev) == 0);
		to[bytes++] = (uint8_t)(ev.kind << 4 | ev.msg);
		to[bytes++] = (uint8_t)(ev.from.v | (unsigned)ev.exclusive << 5 | (unsigned)ev.bytes << 6);
	}
	return bytes;
}
