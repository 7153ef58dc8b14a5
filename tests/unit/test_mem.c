/* mem's pure parts: stream detector, holds, cache queue, letters. */
#include "mem/cache.h"
#include "mem/hold.h"
#include "mem/letter.h"
#include "mem/stream.h"
#include "tests/test.h"

#include "wire/peer.h"

#include <errno.h>
#include <string.h>

TEST(a_walk_opens_a_window_that_doubles)
{
	struct streams s = {0};
	unsigned asked = 0, faults = 0;

	for (uint64_t page = 100; page < 1124; faults++) {
		unsigned n = stream_fault(&s, page, false, 32, 1124);

		CHECK(page + n < 1124);
		asked += n;
		page += 1 + n;
	}
	CHECK_EQ(asked + faults, 1024);
	CHECK(faults <= 40);
}

TEST(random_faults_ask_for_nothing)
{
	struct streams s = {0};

	for (uint64_t i = 0; i < 1000; i++)
		CHECK_EQ(stream_fault(&s, i * 7919 % 100000, i % 2, 32, 100000), 0);
}

TEST(walks_are_told_apart)
{
	struct streams s = {0};

	CHECK_EQ(stream_fault(&s, 10, false, 32, 1000), 0);
	CHECK_EQ(stream_fault(&s, 500, false, 32, 1000), 0);
	CHECK_EQ(stream_fault(&s, 11, true, 32, 1000), 0); /* a write is no continuation of a read */
	CHECK_EQ(stream_fault(&s, 11, false, 32, 1000), 0); /* two in a row are no walk */
	CHECK_EQ(stream_fault(&s, 501, false, 32, 1000), 0);
	CHECK_EQ(stream_fault(&s, 12, false, 32, 1000), STREAM_WINDOW_MIN);
	CHECK_EQ(stream_fault(&s, 502, false, 32, 1000), STREAM_WINDOW_MIN);
	CHECK_EQ(stream_fault(&s, 14, false, 32, 1000), 0); /* still on its way */
	CHECK_EQ(stream_fault(&s, 17, false, 32, 1000), 2 * STREAM_WINDOW_MIN);
	CHECK_EQ(stream_fault(&s, 507, false, 5, 1000), 5); /* the caller's limit */
	CHECK_EQ(stream_fault(&s, 513, false, 32, 515), 1); /* the end */
}

TEST(holds_end_in_order)
{
	static struct holds h = {.random = 1};
	struct hold one;
	uint64_t before = 0;

	for (uint64_t i = 0; i < HOLDS_MAX; i++)
		hold_begin(&h, &(struct hold){.page = i, .due_ns = 1 + i * 7919 % 4099});
	CHECK(!hold_end(&h, 0, &one));
	for (unsigned i = 0; i < HOLDS_MAX; i++) {
		CHECK(hold_next_ns(&h) >= before);
		before = hold_next_ns(&h);
		CHECK(hold_end(&h, before, &one));
		CHECK_EQ(1 + one.page * 7919 % 4099, before);
	}
	CHECK(!hold_end(&h, UINT64_MAX, &one));
	CHECK_EQ(hold_next_ns(&h), UINT64_MAX);
}

TEST(a_page_fought_over_by_itself_stays_cool)
{
	struct hold_recent r = {0};
	uint8_t heat = 0;

	for (int i = 0; i < 100; i++)
		heat = hold_heat(&r, 7, heat);
	CHECK_EQ(heat, 0);
}

TEST(pages_wanted_in_turns_are_held_longer_and_cool_down)
{
	static struct holds h = {.random = 1};
	struct hold_recent r = {0};
	uint8_t heat[2] = {0, 0};

	CHECK_EQ(hold_ns(&h, 0, 1000, 90000, 100000), 1000);
	for (unsigned i = 0; i < 1000; i++)
		heat[i % 2] = hold_heat(&r, i % 2, heat[i % 2]);
	CHECK(heat[0] >= HOLD_HEAT_STEP * HOLD_SHIFT_MAX);
	for (int i = 0; i < 100; i++) {
		uint64_t ns = hold_ns(&h, heat[0], 1000, 100, 100000);

		CHECK(ns >= 1000 << HOLD_SHIFT_MAX && ns <= 2000 << HOLD_SHIFT_MAX);
		CHECK(hold_ns(&h, heat[0], 1000, 100, 3000) <= 3000);
		CHECK(hold_ns(&h, 1, 1000, 5000, 100000) >= 10000); /* longer than a round trip */
	}
	for (uint64_t i = 0; i < 100; i++)
		heat[0] = hold_heat(&r, 100 + i, heat[0]);
	CHECK_EQ(heat[0], 0);
}

TEST(the_cache_queue_turns)
{
	struct cache c;
	uint64_t page;

	CHECK_EQ(cache_init(&c, 100, 10), 0);
	CHECK(!cache_turn(&c, &page));
	for (uint64_t i = 0; i < 3; i++)
		cache_add(&c, i * 10);
	CHECK(cache_turn(&c, &page) && page == 0);
	cache_remove(&c, 10);
	CHECK(cache_turn(&c, &page) && page == 20);
	CHECK(cache_turn(&c, &page) && page == 0);
	cache_remove(&c, 0);
	CHECK(cache_turn(&c, &page) && page == 20);
	cache_remove(&c, 20);
	CHECK(!cache_turn(&c, &page));
	CHECK_EQ(c.frames, 0);
	cache_fini(&c);
}

/* Every message and form that the wire knows comes back as it went. */
TEST(letters_come_back)
{
	static const struct { enum page_msg msg; enum page_bytes bytes; } all[] = {
		{PAGE_GET_S, PAGE_NONE}, {PAGE_GET_M, PAGE_NONE}, {PAGE_DROP, PAGE_NONE}, {PAGE_WRITE_BACK, PAGE_DATA_IN}, {PAGE_WRITE_BACK, PAGE_ZERO},
		{PAGE_INV, PAGE_NONE}, {PAGE_FETCH_S, PAGE_NONE}, {PAGE_FETCH_M, PAGE_NONE}, {PAGE_ACK, PAGE_NONE}, {PAGE_DATA, PAGE_DATA_IN},
		{PAGE_DATA, PAGE_ZERO}, {PAGE_GRANT_S, PAGE_DATA_IN}, {PAGE_GRANT_S, PAGE_ZERO}, {PAGE_GRANT_M, PAGE_DATA_IN},
		{PAGE_GRANT_M, PAGE_ZERO}, {PAGE_GRANT_M, PAGE_NONE}};
	uint8_t wire[LETTER_HEAD_BYTES + PAGE_BYTES];

	for (size_t i = 0; i < ARRAY_LEN(all); i++) {
		struct letter out = {.gfn = {0x123456789 + i}, .msg = all[i].msg, .bytes = all[i].bytes}, in;
		size_t n = letter_put(&out, wire);
		size_t body = n - WIRE_HEADER_BYTES + (out.bytes == PAGE_DATA_IN ? PAGE_BYTES : 0);
		unsigned id = wire[4] | (unsigned)wire[5] << 8;

		CHECK_EQ(letter_get(&in, id, wire + WIRE_HEADER_BYTES, body), 0);
		CHECK(in.gfn.v == out.gfn.v && in.msg == out.msg && in.bytes == out.bytes);
		CHECK_EQ(in.data ? in.data - wire : 0, out.bytes == PAGE_DATA_IN ? LETTER_HEAD_BYTES : 0);
		CHECK_EQ(letter_get(&in, id, wire + WIRE_HEADER_BYTES, body - 1), -EBADMSG);
	}
}

TEST(letters_of_other_streams_are_refused)
{
	struct letter in;
	uint8_t body[8] = {0};

	CHECK_EQ(letter_get(&in, PEER_irq, body, sizeof body), -EBADMSG);
	CHECK_EQ(letter_get(&in, 0xffff, body, sizeof body), -EBADMSG);
	CHECK_EQ(letter_get(&in, 0, body, sizeof body), -EBADMSG);
}
