/* mem's pure parts: stream detector, holds, cache queue, letters. */
#include "mem/cache.h"
#include "mem/hold.h"
#include "mem/letter.h"
#include "mem/migrate.h"
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
/* Home 0; node n reads (the page is shared by then) and asks to write. */
static void migrate_turn(struct migrate *m, uint8_t n, uint16_t others)
{
	migrate_upgrade(m, (node_t){n}, (uint16_t)(1u << n | 1u | others), (node_t){0});
	(void)migrate_granted(m, (node_t){n});
}

TEST(a_page_read_and_written_in_turns_migrates)
{
	struct migrate m = {0};

	CHECK(!migrate_read(&m, (node_t){1}));
	migrate_turn(&m, 1, 0); /* nobody wrote before: says nothing */
	CHECK(!migrate_read(&m, (node_t){2}));
	migrate_turn(&m, 2, 1u << 1);
	CHECK(migrate_read(&m, (node_t){1}));
	CHECK(migrate_granted(&m, (node_t){1}));
	CHECK(!migrate_granted(&m, (node_t){3})); /* it asked to write */
}

TEST(a_page_that_one_writes_and_others_read_does_not)
{
	struct migrate m = {0};

	for (unsigned i = 0; i < 8; i++) {
		migrate_turn(&m, 1, 1u << 2);
		CHECK(!migrate_read(&m, (node_t){2}));
	}
	m = (struct migrate){.owner = 1 + 3};
	migrate_turn(&m, 1, 1u << 2 | 1u << 3); /* another reader besides the last writer */
	CHECK(!migrate_read(&m, (node_t){2}));
}

TEST(a_reader_that_did_not_write_is_remembered)
{
	struct migrate m = {.score = 1};
	bool changed;

	CHECK(migrate_read(&m, (node_t){1}) && migrate_granted(&m, (node_t){1}));
	migrate_watch(&m, 77);
	CHECK(!migrate_watched(&m, (node_t){2}) && migrate_watched(&m, (node_t){1}));
	migrate_back(&m, 78, &changed);
	CHECK(changed && migrate_read(&m, (node_t){2}) && migrate_granted(&m, (node_t){2}));
	migrate_watch(&m, 77);
	migrate_back(&m, 77, &changed);
	CHECK(!changed && !migrate_watched(&m, (node_t){2}) && !migrate_read(&m, (node_t){1}));
}

TEST(every_changed_bit_changes_a_page_print)
{
	uint8_t page[PAGE_BYTES] = {0};
	uint32_t zero = migrate_print(page);

	CHECK_EQ(migrate_print(NULL), zero);
	for (unsigned bit = 0; bit < 8 * PAGE_BYTES; bit += 7) {
		page[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CHECK(migrate_print(page) != zero && migrate_print(page) != 0);
		page[bit / 8] = 0;
	}
}

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
