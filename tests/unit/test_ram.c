/* mem/ram: layout around the 32-bit hole, dense page numbers, copies across ranges, and refusals. */
#include "mem/ram.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

static const uint64_t mib = 1ull << 20;

TEST(layout_puts_node_0_lowest)
{
	uint64_t bytes[NODES_MAX] = {64 * mib, 0, 32 * mib};
	struct ram r;

	CHECK_EQ(ram_layout(&r, bytes, 3), 0);
	CHECK_EQ(r.ranges, 2);
	CHECK_EQ(r.range[0].gpa.v, 0);
	CHECK_EQ(r.range[1].gpa.v, 64 * mib);
	CHECK_EQ(r.range[1].home.v, 2);
	CHECK_EQ(r.bytes, 96 * mib);
}

TEST(layout_leaves_the_hole_below_4_gib)
{
	uint64_t bytes[NODES_MAX] = {2048 * mib, 2048 * mib, 1024 * mib};
	struct ram r;

	CHECK_EQ(ram_layout(&r, bytes, 3), 0);
	CHECK_EQ(r.ranges, 4);
	CHECK_EQ(r.range[1].bytes, 1024 * mib);
	CHECK_EQ(r.range[2].gpa.v, 4096 * mib);
	CHECK_EQ(r.range[2].home.v, 1);
	CHECK_EQ(r.range[3].gpa.v, 5120 * mib);
	CHECK_EQ(r.range[3].home.v, 2);
}

TEST(layout_ending_exactly_at_the_hole)
{
	uint64_t bytes[NODES_MAX] = {3072 * mib, 1 * mib};
	struct ram r;

	CHECK_EQ(ram_layout(&r, bytes, 2), 0);
	CHECK_EQ(r.ranges, 2);
	CHECK_EQ(r.range[1].gpa.v, 4096 * mib);
}

TEST(layout_refuses_nonsense)
{
	uint64_t odd[NODES_MAX] = {4097}, none[NODES_MAX] = {0}, absurd[NODES_MAX] = {1ull << 63, 1ull << 63};
	struct ram r;

	CHECK_EQ(ram_layout(&r, odd, 1), -EINVAL);
	CHECK_EQ(ram_layout(&r, none, 2), -EINVAL);
	CHECK_EQ(ram_layout(&r, absurd, 2), -EINVAL);
	CHECK_EQ(ram_layout(&r, odd, NODES_MAX + 1), -EINVAL);
}

TEST(layout_of_16_nodes_fits_its_table)
{
	uint64_t bytes[NODES_MAX];
	struct ram r;

	for (unsigned i = 0; i < NODES_MAX; i++)
		bytes[i] = 700 * mib;
	CHECK_EQ(ram_layout(&r, bytes, NODES_MAX), 0);
	CHECK_EQ(r.ranges, NODES_MAX + 1);
	CHECK(r.ranges <= RAM_RANGES_MAX);
}

TEST(pages_number_densely_and_back)
{
	uint64_t bytes[NODES_MAX] = {3072 * mib - PAGE_BYTES, 2 * PAGE_BYTES};
	uint64_t first = 3072 * mib / PAGE_BYTES - 1;
	struct ram r;

	CHECK_EQ(ram_layout(&r, bytes, 2), 0);
	CHECK_EQ(ram_page(&r, (gfn_t){first}), (int64_t)first);
	CHECK_EQ(ram_page(&r, (gfn_t){first + 1}), -1);
	CHECK_EQ(ram_page(&r, (gfn_t){1 << 20}), (int64_t)first + 1);
	CHECK_EQ(ram_page(&r, (gfn_t){(1 << 20) + 1}), -1);
	CHECK_EQ(ram_page(&r, (gfn_t){UINT64_MAX}), -1);
	CHECK_EQ(ram_page_gfn(&r, first + 1).v, 1 << 20);
	CHECK_EQ(ram_page_home(&r, first - 1).v, 0);
	CHECK_EQ(ram_page_home(&r, first).v, 1);
}

TEST(copies_cross_ranges_and_stop_at_no_ram)
{
	uint64_t bytes[NODES_MAX] = {PAGE_BYTES, PAGE_BYTES};
	char in[100], out[100];
	struct ram r;

	memset(in, 'x', sizeof in);
	CHECK_EQ(ram_layout(&r, bytes, 2), 0);
	CHECK_EQ(ram_map(&r, NULL), 0);
	CHECK_EQ(ram_write(&r, (gpa_t){PAGE_BYTES - 50}, in, 100), 0);
	CHECK_EQ(ram_read(&r, (gpa_t){PAGE_BYTES - 50}, out, 100), 0);
	CHECK(memcmp(in, out, 100) == 0);
	CHECK_EQ(ram_write(&r, (gpa_t){2 * PAGE_BYTES - 50}, in, 100), -EFAULT);
	CHECK_EQ(ram_read(&r, (gpa_t){UINT64_MAX - 10}, out, 100), -EFAULT);
	CHECK(ram_at(&r, (gpa_t){PAGE_BYTES - 50}, 50) != NULL);
	CHECK(ram_at(&r, (gpa_t){PAGE_BYTES - 50}, 51) == NULL);
	CHECK(ram_at(&r, (gpa_t){10}, UINT64_MAX) == NULL);
	CHECK_EQ(((uintptr_t)r.hva[1] - PAGE_BYTES) % (2 * mib), 0);
	ram_unmap(&r);
	CHECK(r.hva[0] == NULL);
}
