/* The pager, on this machine's kernel: what one access after another does, in counters that leave no room for luck. Races are in stress_pager.c. */
#include "tests/host/pager_bed.h"
#include "tests/test.h"

#include "wire/peer.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BED(b, ...) \
	struct bed b; \
	do { \
		int err_ = bed_make(&b, __VA_ARGS__); \
		if (bed_cannot_run(err_)) \
			SKIP("no right to userfaultfd for kernel-mode faults here"); \
		CHECK_EQ(err_, 0); \
	} while (0)

static void no_prefetch(struct pager_config *c, unsigned n)
{
	c->prefetch_off = true;
}

TEST(one_node_alone_goes_through_the_pager)
{
	BED(b, 1, 64, 0, no_prefetch);
	for (unsigned i = 0; i < 64; i++) {
		CHECK_EQ(*bed_word(&b, 0, i, 7), 0);
		*bed_word(&b, 0, i, 7) = i + 1;
	}
	for (unsigned i = 0; i < 64; i++)
		CHECK_EQ(*bed_word(&b, 0, i, 7), i + 1);
	BED_AWAIT(bed_stats(&b, 0).local_zero + bed_stats(&b, 0).local + bed_stats(&b, 0).duplicates == bed_stats(&b, 0).faults);
	CHECK_EQ(bed_stats(&b, 0).local_zero, 64); /* the reads got the pages writable: no second fault */
	CHECK_EQ(bed_stats(&b, 0).local, 0);
	CHECK_EQ(bed_stats(&b, 0).reads + bed_stats(&b, 0).writes + bed_stats(&b, 0).upgrades, 0);
	bed_drop(&b);
}

TEST(a_write_here_is_read_there)
{
	BED(b, 2, 16, 0, no_prefetch);
	for (unsigned page = 0; page < 32; page++) {
		*bed_word(&b, 0, page, 0) = 100 + page;
		CHECK_EQ(*bed_word(&b, 1, page, 0), 100 + page);
		*bed_word(&b, 1, page, 0) = 200 + page;
		CHECK_EQ(*bed_word(&b, 0, page, 0), 200 + page);
	}
	bed_drop(&b);
}

/* A reader then a writer of a page homed elsewhere: one get_s, one upgrade without data. */
TEST(an_upgrade_carries_no_bytes)
{
	BED(b, 2, 16, 0, no_prefetch);
	*bed_word(&b, 0, 0, 0) = 1;
	CHECK_EQ(*bed_word(&b, 1, 0, 0), 1);
	BED_AWAIT(bed_stats(&b, 0).peer[1].messages_sent == 1 && bed_stats(&b, 0).peer[1].bytes_sent > PAGE_BYTES);
	uint64_t bytes = bed_stats(&b, 0).peer[1].bytes_sent;
	*bed_word(&b, 1, 0, 0) = 2;
	BED_AWAIT(bed_stats(&b, 0).peer[1].messages_sent == 2 && bed_stats(&b, 0).peer[1].bytes_sent > bytes);
	CHECK(bed_stats(&b, 0).peer[1].bytes_sent - bytes < 64);
	CHECK_EQ(bed_stats(&b, 1).upgrades, 1);
	CHECK_EQ(bed_stats(&b, 1).upgrade_grants, 1);
	CHECK_EQ(*bed_word(&b, 0, 0, 0), 2);
	bed_drop(&b);
}

/* Both nodes add to a word in turns: once the home has seen the pattern, each turn takes one fault and not two. */
TEST(a_page_that_migrates_costs_one_fault_a_turn)
{
	BED(b, 2, 16, 0, no_prefetch);
	for (unsigned turn = 0; turn < 100; turn++)
		for (unsigned n = 0; n < 2; n++) {
			uint64_t seen = *bed_word(&b, n, 20, 0); /* homed at node 1 */

			CHECK_EQ(seen, turn * 2 + n);
			*bed_word(&b, n, 20, 0) = seen + 1;
		}
	CHECK(BED_SUM(&b, upgrades) <= 3);
	CHECK(BED_SUM(&b, reads) >= 195);
	CHECK(bed_stats(&b, 1).migratory >= 190);
	CHECK_EQ(bed_stats(&b, 1).migratory_unused, 0);
	bed_drop(&b);
}

/* ... and when nobody writes any more, the readers share it again. */
TEST(a_page_that_has_settled_is_shared_again)
{
	BED(b, 2, 16, 0, no_prefetch);
	for (unsigned turn = 0; turn < 20; turn++)
		for (unsigned n = 0; n < 2; n++)
			*bed_word(&b, n, 20, 0) = *bed_word(&b, n, 20, 0) + 1;
	uint64_t reads = BED_SUM(&b, reads);
	for (unsigned turn = 0; turn < 100; turn++)
		for (unsigned n = 0; n < 2; n++)
			CHECK_EQ(*bed_word(&b, n, 20, 0), 40);
	CHECK(BED_SUM(&b, reads) - reads <= 4);
	CHECK(bed_stats(&b, 1).migratory_unused >= 1);
	bed_drop(&b);
}

static void freed(struct pager_discard *d)
{
	atomic_store((_Atomic int *)d->user, 1);
}

static void free_pages(struct bed *b, unsigned n, uint64_t first, uint64_t pages)
{
	_Atomic int done = 0;
	struct pager_discard d = {.first = first, .pages = pages, .done = freed, .user = (void *)&done};

	if (pager_free(b->pager[n], &d) == 0)
		BED_AWAIT(atomic_load(&done));
}

/* Pages of node 0, last written by either node or read by both: freed, they take memory nowhere and are zero. */
TEST(what_the_guest_frees_needs_no_frame)
{
	struct pager_discard none = {.first = 1024, .pages = 1}, beyond = {.first = 512, .pages = UINT64_MAX};

	BED(b, 2, 512, 0, no_prefetch);
	for (unsigned page = 0; page < 520; page++)
		*bed_word(&b, page % 3 == 1, page, 7) = 1 + page;
	for (unsigned page = 2; page < 520; page += 3)
		CHECK_EQ(*bed_word(&b, 1, page, 7), 1 + page);
	CHECK(bed_resident_kib(&b, 0) + bed_resident_kib(&b, 1) >= 520 * 4);
	free_pages(&b, 0, 0, 520); /* 8 of them are node 1's: not touched */
	CHECK_EQ(bed_stats(&b, 0).discards, 512);
	CHECK(bed_resident_kib(&b, 0) + bed_resident_kib(&b, 1) <= 16 * 4);
	for (unsigned page = 0; page < 520; page++)
		CHECK_EQ(*bed_word(&b, page % 2, page, 7), page < 512 ? 0 : 1 + page);
	free_pages(&b, 0, 0, 512);
	CHECK_EQ(bed_stats(&b, 0).discards, 512 + 256); /* those that node 0 has read since, and so had writable */
	free_pages(&b, 0, 0, 512);
	CHECK_EQ(bed_stats(&b, 0).discards, 512 + 256);
	CHECK(bed_resident_kib(&b, 0) <= 16 * 4);
	CHECK_EQ(pager_free(b.pager[0], &none), -EINVAL);
	CHECK_EQ(pager_free(b.pager[0], &beyond), -EINVAL);
	bed_drop(&b);
}

struct held_up {
	_Atomic int entered, go;
};

static void hold_up(struct pager_discard *d)
{
	struct held_up *h = d->user;

	atomic_store(&h->entered, 1);
	BED_AWAIT(atomic_load(&h->go));
}

/* A page is gone when its last writer has given it up, and not when that was asked for. */
TEST(what_is_being_freed_is_not_yet_free)
{
	struct held_up h = {0};
	_Atomic int done = 0;
	struct pager_discard busy = {.first = 16, .pages = 1, .done = hold_up, .user = &h};
	struct pager_discard d = {.first = 0, .pages = 1, .done = freed, .user = (void *)&done};

	BED(b, 2, 16, 0, no_prefetch);
	*bed_word(&b, 1, 0, 0) = 1;
	CHECK_EQ(pager_free(b.pager[1], &busy), 0);
	BED_AWAIT(atomic_load(&h.entered)); /* node 1 answers nobody now */
	uint64_t sent = bed_stats(&b, 0).peer[1].messages_sent;
	CHECK_EQ(pager_free(b.pager[0], &d), 0);
	BED_AWAIT(bed_stats(&b, 0).peer[1].messages_sent > sent);
	CHECK_EQ(atomic_load(&done), 0);
	atomic_store(&h.go, 1);
	BED_AWAIT(atomic_load(&done));
	CHECK_EQ(*bed_word(&b, 0, 0, 0), 0);
	bed_drop(&b);
}

/* Who writes a page while it is being freed keeps it; nobody gets stuck. */
TEST(pages_freed_while_they_are_used)
{
	BED(b, 2, 64, 0, no_prefetch);
	for (unsigned round = 0; round < 50; round++) {
		_Atomic int done = 0;
		struct pager_discard d = {.first = 0, .pages = 64, .done = freed, .user = (void *)&done};

		for (unsigned page = 0; page < 64; page++)
			*bed_word(&b, round % 2, page, 0) = round;
		CHECK_EQ(pager_free(b.pager[0], &d), 0);
		for (unsigned page = 0; page < 64; page += 5)
			*bed_word(&b, (round + page) % 2, page, 1) = page;
		BED_AWAIT(atomic_load(&done));
		for (unsigned page = 0; page < 64; page++) {
			uint64_t one = *bed_word(&b, round % 2, page, 0), two = *bed_word(&b, round % 2, page, 1);

			CHECK(one == 0 || one == round);
			CHECK(two == 0 || two == page);
		}
	}
	bed_drop(&b);
}

TEST(zero_pages_never_travel)
{
	BED(b, 2, 256, 0, no_prefetch);
	for (unsigned page = 0; page < 256; page++)
		CHECK_EQ(*bed_word(&b, 1, page, 0), 0); /* untouched at its home */
	for (unsigned page = 0; page < 256; page++)
		*bed_word(&b, 1, page, 3) = 0; /* written, but still zero */
	for (unsigned page = 0; page < 256; page++)
		CHECK_EQ(*bed_word(&b, 0, page, 0), 0); /* fetched back from there */
	CHECK_EQ(bed_stats(&b, 1).zero_grants, 256);
	BED_AWAIT(bed_stats(&b, 1).peer[0].messages_sent == 768); /* get_s, get_m, data each */
	CHECK(bed_stats(&b, 0).peer[1].bytes_sent < 256 * 64);
	CHECK(bed_stats(&b, 1).peer[0].bytes_sent < 256 * 128);
	bed_drop(&b);
}

TEST(a_page_held_modified_elsewhere_costs_its_home_no_frame)
{
	BED(b, 2, 512, 0, no_prefetch);
	for (unsigned page = 0; page < 512; page++)
		*bed_word(&b, 0, page, 0) = 1;
	CHECK_EQ(bed_resident_kib(&b, 0), 512 * 4);
	for (unsigned page = 0; page < 512; page++)
		*bed_word(&b, 1, page, 0) = 2;
	CHECK_EQ(bed_resident_kib(&b, 0), 0);
	CHECK_EQ(bed_resident_kib(&b, 1), 512 * 4);
	bed_drop(&b);
}

/* Node 1 walks over four times its budget, reading and writing; frames stay within it at every step and no byte is lost. */
TEST(the_cache_budget_is_kept)
{
	BED(b, 2, 2048, 512, NULL);
	for (unsigned page = 0; page < 2048; page++)
		*bed_word(&b, 1, page, 5) = page * 3 + 1;
	for (unsigned page = 0; page < 2048; page++) {
		CHECK_EQ(*bed_word(&b, 1, page, 5), page * 3 + 1);
		if (page % 64 == 0)
			CHECK(bed_resident_kib(&b, 1) <= 512 * 4);
	}
	for (unsigned page = 0; page < 2048; page++)
		CHECK_EQ(*bed_word(&b, 0, page, 5), page * 3 + 1);
	struct pager_stats s = bed_stats(&b, 1);
	CHECK(s.cached_pages_max <= 512);
	CHECK(s.write_backs >= 1500);
	CHECK(s.drops >= 1000);
	bed_drop(&b);
}

static void long_holds(struct pager_config *c, unsigned n)
{
	c->prefetch_off = true;
	c->hold_us = c->hold_max_us = 200000;
}

/* When every frame of the cache is held, the next fault waits for a hold to end, and the budget stands. */
TEST(a_cache_full_of_held_pages_makes_faults_wait)
{
	BED(b, 2, 512, PAGER_CACHE_PAGES_MIN, long_holds);
	for (unsigned i = 0; i < 300; i++)
		*bed_word(&b, 1, i, 0) = i + 1;
	CHECK(bed_stats(&b, 1).deferred > 0);
	CHECK(bed_stats(&b, 1).cached_pages_max <= PAGER_CACHE_PAGES_MIN);
	for (unsigned i = 0; i < 300; i++)
		CHECK_EQ(*bed_word(&b, 1, i, 0), i + 1);
	bed_drop(&b);
}

TEST(a_smaller_budget_sends_frames_home)
{
	BED(b, 2, 1024, 1024, NULL);
	for (unsigned page = 0; page < 1000; page++)
		*bed_word(&b, 1, page, 0) = page + 1;
	pager_set_cache(b.pager[1], 300 * PAGE_BYTES);
	while (bed_stats(&b, 1).cached_pages > 300)
		usleep(1000);
	CHECK(bed_resident_kib(&b, 1) <= 300 * 4);
	for (unsigned page = 0; page < 1000; page++)
		CHECK_EQ(*bed_word(&b, 1, page, 0), page + 1);
	bed_drop(&b);
}

TEST(sequential_reads_take_a_third_of_the_round_trips_at_most)
{
	BED(b, 2, 1024, 0, NULL);
	for (unsigned page = 0; page < 1024; page++)
		*bed_word(&b, 0, page, 0) = page + 1;
	for (unsigned page = 0; page < 1024; page++)
		CHECK_EQ(*bed_word(&b, 1, page, 0), page + 1);
	struct pager_stats s = bed_stats(&b, 1);
	printf("     1024 pages: %llu reads waited, %llu prefetched, %llu late\n", (unsigned long long)s.reads, (unsigned long long)s.prefetches,
		(unsigned long long)s.prefetch_late);
	CHECK((s.reads + s.prefetch_late) * 3 <= 1024);
	bed_drop(&b);
}

TEST(a_walk_downward_is_helped_as_well_at_home_and_from_afar)
{
	BED(b, 2, 1024, 0, NULL);
	for (unsigned page = 1024; page-- > 0;)
		*bed_word(&b, 0, page, 0) = page + 1;
	for (unsigned page = 1024; page-- > 0;)
		CHECK_EQ(*bed_word(&b, 1, page, 0), page + 1);
	struct pager_stats home = bed_stats(&b, 0), far = bed_stats(&b, 1);
	CHECK(home.local_zero * 3 <= 1024);
	CHECK((far.reads + far.prefetch_late) * 3 <= 1024);
	bed_drop(&b);
}

TEST(a_sequential_writer_is_helped_too)
{
	BED(b, 2, 1024, 0, NULL);
	for (unsigned page = 0; page < 1024; page++)
		*bed_word(&b, 1, page, 0) = page + 1;
	struct pager_stats s = bed_stats(&b, 1);
	CHECK((s.reads + s.writes + s.upgrades + s.prefetch_late) * 3 <= 1024);
	for (unsigned page = 0; page < 1024; page++)
		CHECK_EQ(*bed_word(&b, 0, page, 0), page + 1);
	bed_drop(&b);
}

TEST(the_hottest_pages_are_named)
{
	struct pager_hot hot[4];

	BED(b, 2, 64, 0, no_prefetch);
	for (unsigned i = 0; i < 20; i++) {
		*bed_word(&b, 0, 9, 0) = i;
		*bed_word(&b, 1, 9, 0) = i;
		if (i % 2)
			*bed_word(&b, 1, 33 - i, 0) = i;
		if (i % 4 == 0) {
			*bed_word(&b, 0, 5, 0) = i;
			*bed_word(&b, 1, 5, 0) = i;
		}
	}
	CHECK_EQ(pager_hottest(b.pager[1], hot, 4), 4);
	CHECK(hot[0].gfn.v == 9 && hot[0].faults == 20);
	CHECK(hot[1].gfn.v == 5 && hot[1].faults == 5);
	CHECK(bed_stats(&b, 1).wait[PAGER_WAIT_WRITE].p50_ns > 0);
	bed_drop(&b);
}

/* Failure. */

TEST(a_cut_link_stops_every_pager_and_says_whose)
{
	uint64_t value;

	BED(b, 3, 16, 0, NULL);
	*bed_word(&b, 0, 20, 0) = 1;
	CHECK_EQ(*bed_word(&b, 2, 20, 0), 1);
	shutdown(b.spare[0][1], SHUT_RDWR);
	for (unsigned n = 0; n < 3; n++)
		bed_wait_stop(&b, n);
	for (unsigned n = 0; n < 3; n++) {
		CHECK_EQ(b.stop[n].calls, 1);
		CHECK_EQ(b.stop[n].reason, STOP_LOST);
		CHECK(b.stop[n].node.v < 2);
	}
	CHECK(!bed_try_load(&b, 2, 21, &value)); /* no byte is invented */
	bed_drop(&b);
}

TEST(freezing_one_tells_the_others_the_reason)
{
	BED(b, 3, 16, 0, NULL);
	*bed_word(&b, 1, 2, 0) = 1;
	pager_freeze(b.pager[1], STOP_POWEROFF, (node_t){1}, "the guest switched itself off");
	bed_wait_stop(&b, 0);
	bed_wait_stop(&b, 2);
	CHECK_EQ(b.stop[0].reason, STOP_POWEROFF);
	CHECK_EQ(b.stop[2].reason, STOP_POWEROFF);
	CHECK_EQ(b.stop[2].node.v, 1);
	CHECK(strcmp(b.stop[2].what, "the guest switched itself off") == 0);
	CHECK_EQ(b.stop[1].calls, 0);
	bed_drop(&b);
}

static void check_malice(struct test *self, const uint8_t *bytes, size_t n)
{
	BED(b, 2, 16, 0, NULL);
	CHECK_EQ(write(b.spare[1][0], bytes, n), (ssize_t)n); /* what node 1 might say to node 0 */
	bed_wait_stop(&b, 0);
	bed_wait_stop(&b, 1);
	CHECK_EQ(b.stop[0].reason, STOP_PROTOCOL);
	CHECK_EQ(b.stop[0].node.v, 1);
	CHECK_EQ(b.stop[1].reason, STOP_PROTOCOL);
	bed_drop(&b);
}

TEST(garbage_from_a_peer_stops_the_vm)
{
	static const uint8_t garbage[64] = {0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4};

	check_malice(self, garbage, sizeof garbage);
}

TEST(a_message_out_of_turn_stops_the_vm)
{
	struct peer_page_grant_m_zero m = {.gfn = 3}; /* node 0 is its home and asked nobody */
	uint8_t bytes[64];

	check_malice(self, bytes, peer_put_page_grant_m_zero(&m, bytes, sizeof bytes));
}

TEST(a_page_that_does_not_exist_stops_the_vm)
{
	struct peer_page_get_s m = {.gfn = 1ull << 60};
	uint8_t bytes[64];

	check_malice(self, bytes, peer_put_page_get_s(&m, bytes, sizeof bytes));
}

TEST(a_message_of_the_other_stream_stops_the_vm)
{
	struct peer_tsc_base m = {.guest_tsc_offset = 3};
	uint8_t bytes[64];

	check_malice(self, bytes, peer_put_tsc_base(&m, bytes, sizeof bytes));
}

/* A page stream to a node 1 that the test plays itself. */
static int fake_peer;

static void with_fake_peer(struct pager_config *c, unsigned n)
{
	int pair[2] = {-1, -1};

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && n == 0) {
		c->nodes = 2;
		c->fds[1] = pair[0];
		fake_peer = pair[1];
	}
}

TEST(a_peer_that_does_not_take_its_pages_is_taken_for_lost)
{
	enum { PAGES = 8192 };
	uint8_t bytes[64];

	BED(b, 1, PAGES, 0, with_fake_peer);
	for (unsigned page = 0; page < PAGES; page++)
		*bed_word(&b, 0, page, 0) = page + 1;
	for (unsigned page = 0; page < PAGES && !b.stop[0].calls;) { /* a dead pager does not read */
		struct peer_page_get_s m = {.gfn = page};
		size_t n = peer_put_page_get_s(&m, bytes, sizeof bytes);

		page += send(fake_peer, bytes, n, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)n;
	}
	bed_wait_stop(&b, 0);
	CHECK_EQ(b.stop[0].reason, STOP_LOST);
	CHECK_EQ(b.stop[0].node.v, 1);
	CHECK_EQ(b.stop[0].calls, 1);
	close(fake_peer);
	bed_drop(&b);
}

/* It asks for more than its socket holds, says nothing more, and reads only when the pager has tried to send all of it. */
TEST(a_peer_that_is_slow_gets_all_its_pages)
{
	enum { PAGES = 512, GRANT_BYTES = 8 + 8 + PAGE_BYTES };
	const struct timeval patience = {.tv_sec = 20};
	static uint8_t bytes[PAGES * GRANT_BYTES];

	BED(b, 1, PAGES, 0, with_fake_peer);
	for (unsigned page = 0; page < PAGES; page++)
		*bed_word(&b, 0, page, 0) = page + 1;
	for (unsigned page = 0; page < PAGES; page++) {
		struct peer_page_get_s m = {.gfn = page};
		size_t n = peer_put_page_get_s(&m, bytes, sizeof bytes);

		CHECK_EQ(send(fake_peer, bytes, n, MSG_NOSIGNAL), n);
	}
	BED_AWAIT(bed_stats(&b, 0).peer[1].messages_received == PAGES);
	setsockopt(fake_peer, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	for (size_t at = 0; at < sizeof bytes;) {
		ssize_t n = recv(fake_peer, bytes + at, sizeof bytes - at, 0);

		CHECK(n > 0);
		at += (size_t)n;
	}
	CHECK_EQ(b.stop[0].calls, 0);
	close(fake_peer);
	bed_drop(&b);
}

TEST(a_burst_of_first_touches_does_not_run_out_of_holds)
{
	enum { PAGES = 16384 };

	BED(b, 1, PAGES, 0, NULL);
	for (unsigned page = 0; page < PAGES; page++)
		*bed_word(&b, 0, page, 0) = page + 1;
	for (unsigned page = 0; page < PAGES; page++)
		CHECK_EQ(*bed_word(&b, 0, page, 0), page + 1);
	CHECK(bed_stats(&b, 0).faults < PAGES / 8);
	bed_drop(&b);
}

static void tiny_cache(struct pager_config *c, unsigned n)
{
	c->cache_bytes = 10 * PAGE_BYTES;
}

TEST(a_cache_too_small_is_refused_with_advice)
{
	struct bed b;
	int err = bed_make(&b, 2, 16, 0, tiny_cache);

	CHECK(err < 0);
	bed_drop(&b);
}
