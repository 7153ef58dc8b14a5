/* proto/page: stories of one page, told event by event. Node 0 is the home. */
#include "tests/page_text.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

/* One node's view of the page under test. */
struct holder {
	uint8_t node;
	struct page page;
	struct page_dir dir; /* used at node 0 */
	char did[PAGE_TEXT_BYTES];
};

static int step_holder(struct holder *h, const char *event)
{
	struct page_actions actions;
	struct page_event ev;

	if (page_text_event(event, &ev) < 0)
		return -EINVAL;

	int err = page_step(&h->page, h->node ? NULL : &h->dir, (node_t){h->node}, (node_t){0}, &ev, &actions);

	page_text_of_actions(&actions, h->did);
	return err;
}

/* h takes the event and does exactly these actions. */
#define DOES(h, event, actions) do { \
	int err_ = step_holder(h, event); \
	if (err_ || strcmp((h)->did, actions) != 0) { \
		char text_[3 * PAGE_TEXT_BYTES]; \
		snprintf(text_, sizeof text_, "%s at node %u: error %d, does '%s', should '%s'", event, (h)->node, err_, (h)->did, actions); \
		test_fail(self, __FILE__, __LINE__, text_); \
		return; \
	} \
} while (0)

/* h refuses the message and nothing changes. */
#define REFUSES(h, event) do { \
	struct holder before_ = *(h); \
	CHECK_EQ(step_holder(h, event), -EPROTO); \
	CHECK(strcmp((h)->did, "") == 0); \
	CHECK(memcmp(&before_.page, &(h)->page, sizeof before_.page) == 0 && memcmp(&before_.dir, &(h)->dir, sizeof before_.dir) == 0); \
} while (0)

TEST(untouched_pages_are_zero_and_cost_no_bytes)
{
	struct holder home = {0}, n1 = {.node = 1};

	DOES(&n1, "read", "get_s>0");
	DOES(&home, "1:get_s", "grant_s>1 zero");
	DOES(&n1, "0:grant_s zero", "install S zero, hold");
	CHECK_EQ(home.page.state, PAGE_I); /* no frame at the home for zeros (I6) */
	DOES(&home, "read", "install S zero, hold");
	DOES(&home, "2:get_m", "inv>1");
	DOES(&home, "1:ack", "");                      /* I9: the home's own hold runs */
	DOES(&home, "hold_end", "zap, grant_m>2 zero"); /* I4: gone before the grant */
}

TEST(duplicate_faults_send_nothing)
{
	struct holder n1 = {.node = 1};

	DOES(&n1, "read", "get_s>0"); /* I3 */
	DOES(&n1, "read", "");
	DOES(&n1, "write", "");
	DOES(&n1, "prefetch", "");
	DOES(&n1, "0:grant_s data", "install S data, hold");
	DOES(&n1, "read", "wake"); /* KVM asked twice */
	DOES(&n1, "write", "get_m>0");
	DOES(&n1, "write", "");
	DOES(&n1, "read", "wake");
	DOES(&n1, "0:grant_m", "upgrade, hold");
	DOES(&n1, "write", "wake");
}

TEST(reader_gets_the_writers_bytes_and_the_home_keeps_a_copy)
{
	struct holder home = {0}, n1 = {.node = 1};

	DOES(&n1, "write", "get_m>0");
	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&n1, "0:grant_m zero", "install M zero, hold");
	DOES(&home, "2:get_s", "fetch_s>1");
	DOES(&n1, "0:fetch_s", ""); /* I9 */
	DOES(&n1, "hold_end", "protect, take, data>0 taken");
	DOES(&home, "1:data data", "install S data, grant_s>2 data"); /* I6 */
	CHECK_EQ(home.dir.sharers, 0x7);
	CHECK_EQ(n1.page.state, PAGE_S);
}

TEST(all_zero_bytes_need_no_frame_at_the_home)
{
	struct holder home = {0};

	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&home, "2:get_s", "fetch_s>1");
	DOES(&home, "1:data zero", "grant_s>2 zero");
	CHECK_EQ(home.page.state, PAGE_I);
	CHECK_EQ(home.dir.sharers, 0x6);
	DOES(&home, "1:drop", "");
	DOES(&home, "2:drop", "");
	DOES(&home, "3:get_s", "grant_s>3 zero");
}

TEST(third_party_write_passes_through_the_home)
{
	struct holder home = {0};

	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&home, "2:get_m", "fetch_m>1");
	DOES(&home, "1:data data", "grant_m>2 data"); /* the home keeps nothing */
	CHECK_EQ(home.page.state, PAGE_I);
	CHECK_EQ(home.dir.owner, 3);
}

TEST(upgrade_invalidates_in_parallel_and_carries_no_bytes)
{
	struct holder home = {0};

	DOES(&home, "write", "install M zero, hold");
	DOES(&home, "1:get_s", "");
	DOES(&home, "hold_end", "protect, take, grant_s>1 taken");
	DOES(&home, "2:get_s", "take, grant_s>2 taken");
	DOES(&home, "3:get_s", "take, grant_s>3 taken");
	DOES(&home, "2:get_m", "inv>1, inv>3");
	DOES(&home, "3:ack", "");
	DOES(&home, "1:ack", "zap, grant_m>2");
	CHECK_EQ(home.dir.sharers, 0);
}

TEST(home_upgrades_in_process)
{
	struct holder home = {0};

	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&home, "read", "fetch_s>1");
	DOES(&home, "read", "");
	DOES(&home, "1:data data", "install S data, hold"); /* one install: waiters woken once */
	DOES(&home, "write", "inv>1");
	DOES(&home, "1:ack", "upgrade, hold");
	DOES(&home, "1:get_m", "");
	DOES(&home, "hold_end", ""); /* the read's hold; the write's still runs */
	DOES(&home, "hold_end", "protect, take, zap, grant_m>1 taken");
}

TEST(requests_take_turns)
{
	struct holder home = {0};

	DOES(&home, "2:get_m", "grant_m>2 zero");
	DOES(&home, "1:get_m", "fetch_m>2");
	DOES(&home, "write", "");
	DOES(&home, "4:get_m", "");
	DOES(&home, "3:get_s", "");
	DOES(&home, "2:data data", "grant_m>1 data, fetch_s>1"); /* 1 asked first; then 3, 4, 0 in turn (I8) */
	DOES(&home, "2:get_s", "");
	DOES(&home, "1:data data", "install S data, grant_s>3 data, inv>1, inv>3");
	DOES(&home, "1:ack", "");
	DOES(&home, "3:ack", "take, zap, grant_m>4 taken, fetch_m>4");
	DOES(&home, "4:data data", "install M data, hold");
	DOES(&home, "hold_end", "protect, take, grant_s>2 taken");
}

TEST(readers_are_granted_together_from_one_take)
{
	struct holder home = {0};

	DOES(&home, "write", "install M zero, hold");
	for (char n = '1'; n <= '4'; n++)
		DOES(&home, ((char[]){n, ':', 'g', 'e', 't', '_', 's', 0}), "");
	DOES(&home, "hold_end", "protect, take, grant_s>1 taken, grant_s>2 taken, grant_s>3 taken, grant_s>4 taken");
}

TEST(write_back_crosses_the_fetch)
{
	struct holder home = {0}, n1 = {.node = 1};

	DOES(&n1, "write", "get_m>0");
	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&n1, "0:grant_m zero", "install M zero, hold");
	DOES(&n1, "hold_end", "");
	DOES(&n1, "evict", "protect, take, zap, write_back>0 taken");
	DOES(&home, "2:get_m", "fetch_m>1");
	DOES(&n1, "0:fetch_m", "ack>0");
	DOES(&n1, "read", "get_s>0");
	DOES(&home, "1:write_back data", "install S data");
	DOES(&home, "1:ack", "take, zap, grant_m>2 taken");
	DOES(&home, "1:get_s", "fetch_s>2");
}

TEST(write_back_wakes_the_homes_own_reader_once_and_its_writer_at_the_grant)
{
	struct holder home = {0};

	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&home, "read", "fetch_s>1");
	DOES(&home, "1:write_back data", "install S data");
	DOES(&home, "write", ""); /* waits: a request is in flight */
	DOES(&home, "1:ack", "wake, hold");
	DOES(&home, "write", "upgrade, hold");
}

TEST(drop_crosses_the_invalidation)
{
	struct holder home = {0}, n1 = {.node = 1};

	DOES(&n1, "prefetch", "get_s>0");
	DOES(&home, "1:get_s", "grant_s>1 zero");
	DOES(&n1, "0:grant_s zero", "install S zero"); /* nobody waits: no hold */
	DOES(&n1, "evict", "zap, drop>0");
	DOES(&home, "2:get_m", "inv>1");
	DOES(&n1, "0:inv", "ack>0");
	DOES(&home, "1:drop", "");
	DOES(&home, "1:ack", "grant_m>2 zero");
}

TEST(prefetch_somebody_waits_for_is_held)
{
	struct holder n1 = {.node = 1};

	DOES(&n1, "prefetch", "get_s>0");
	DOES(&n1, "evict", "");
	DOES(&n1, "read", "");
	DOES(&n1, "0:grant_s data", "install S data, hold");
	DOES(&n1, "evict", ""); /* held */
	DOES(&n1, "0:inv", "");
	DOES(&n1, "hold_end", "zap, ack>0");
}

/* Migratory data: the home serves a read as a write. */
TEST(a_read_may_be_granted_writable)
{
	struct holder home = {0}, n1 = {.node = 1}, n2 = {.node = 2};

	DOES(&home, "write", "install M zero, hold");
	DOES(&home, "hold_end", "");
	DOES(&n1, "read", "get_s>0");
	DOES(&home, "1:get_s exclusive", "protect, take, zap, grant_m>1 taken");
	DOES(&n1, "0:grant_m data", "install M data, hold");
	DOES(&n1, "write", "wake");
	DOES(&home, "2:get_s exclusive", "fetch_m>1");
	DOES(&n2, "prefetch", "get_s>0");
	DOES(&n1, "0:fetch_m", "");
	DOES(&n1, "hold_end", "protect, take, zap, data>0 taken");
	DOES(&home, "1:data data", "grant_m>2 data");
	DOES(&n2, "0:grant_m data", "install M data"); /* nobody waits for a prefetched page: no hold */
}

TEST(discarded_bytes_leave_no_frame_and_are_zeros)
{
	struct holder home = {0}, n1 = {.node = 1};

	DOES(&home, "write", "install M zero, hold");
	DOES(&home, "discard", ""); /* held */
	DOES(&home, "hold_end", "");
	DOES(&home, "discard", "protect, zap");
	CHECK_EQ(home.dir.touched, 0);
	DOES(&n1, "write", "get_m>0");
	DOES(&home, "1:get_m", "grant_m>1 zero");
	DOES(&n1, "0:grant_m zero", "install M zero, hold");
	DOES(&n1, "hold_end", "");
	DOES(&n1, "discard", "protect, zap, write_back>0 zero");
	DOES(&home, "1:write_back zero", "");
	DOES(&home, "2:get_s", "grant_s>2 zero");
	DOES(&home, "discard", ""); /* not the owner */
}

TEST(upgrade_lost_to_another_writer_comes_with_bytes)
{
	struct holder n1 = {.node = 1};

	DOES(&n1, "prefetch", "get_s>0");
	DOES(&n1, "0:grant_s data", "install S data");
	DOES(&n1, "write", "get_m>0");
	DOES(&n1, "0:inv", "zap, ack>0");
	REFUSES(&n1, "0:grant_m"); /* there is nothing to upgrade */
	DOES(&n1, "0:grant_m data", "install M data, hold");
}

TEST(home_never_evicts_its_own)
{
	struct holder home = {0};

	DOES(&home, "prefetch", "install S zero");
	DOES(&home, "evict", "");
	DOES(&home, "write", "upgrade, hold");
	DOES(&home, "hold_end", "");
	DOES(&home, "evict", "");
}

TEST(home_refuses_what_a_peer_may_not_send)
{
	struct holder home = {0};

	REFUSES(&home, "1:ack");
	REFUSES(&home, "1:data data");
	REFUSES(&home, "1:drop");
	REFUSES(&home, "1:write_back data");
	REFUSES(&home, "1:inv");
	REFUSES(&home, "1:grant_m data");
	REFUSES(&home, "0:get_s");  /* from itself */
	REFUSES(&home, "16:get_s"); /* from nobody */
	REFUSES(&home, "1:get_s data");
	DOES(&home, "1:get_m", "grant_m>1 zero");
	REFUSES(&home, "1:get_s"); /* it is the owner */
	REFUSES(&home, "1:data data");
	REFUSES(&home, "1:write_back");
	DOES(&home, "2:get_s", "fetch_s>1");
	REFUSES(&home, "2:get_s"); /* I3 */
	REFUSES(&home, "1:ack");   /* it holds M and has written nothing back */
	REFUSES(&home, "2:data data");
	DOES(&home, "1:data data", "install S data, grant_s>2 data");
	REFUSES(&home, "2:get_s");
	DOES(&home, "2:get_m", "inv>1");
	REFUSES(&home, "2:drop"); /* nobody evicts while it waits */
	REFUSES(&home, "1:data data");
	DOES(&home, "1:ack", "zap, grant_m>2");
	REFUSES(&home, "1:ack"); /* I7 */
}

TEST(holder_refuses_what_the_home_may_not_send)
{
	struct holder n1 = {.node = 1};

	REFUSES(&n1, "0:grant_s data");
	REFUSES(&n1, "0:get_s");
	REFUSES(&n1, "2:inv"); /* 2 is not the home */
	DOES(&n1, "read", "get_s>0");
	REFUSES(&n1, "0:grant_m");
	REFUSES(&n1, "0:grant_s");
	DOES(&n1, "0:grant_s data", "install S data, hold");
	REFUSES(&n1, "0:fetch_s");
	DOES(&n1, "write", "get_m>0");
	REFUSES(&n1, "0:grant_m data");
	DOES(&n1, "0:inv", "");
	REFUSES(&n1, "0:inv"); /* the first is not answered yet */
	REFUSES(&n1, "0:grant_m");
}

TEST(step_is_bounded_with_all_nodes)
{
	struct holder home = {0};
	char event[32], text[32];

	DOES(&home, "write", "install M zero, hold");
	for (unsigned n = 1; n < NODES_MAX; n++) {
		snprintf(event, sizeof event, n < NODES_MAX - 1 ? "%u:get_s" : "%u:get_m", n);
		DOES(&home, event, "");
	}
	CHECK_EQ(step_holder(&home, "hold_end"), 0); /* I10: all grants and the invalidations after them fit one step */
	snprintf(text, sizeof text, "inv>%u", NODES_MAX - 2);
	CHECK(strstr(home.did, text));
}
