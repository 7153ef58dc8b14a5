/* Placement: what every answer promises (P1..P3 of proto/place.h), by example and over many seeds. */
#include "proto/place.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

enum { MIB = 1 << 20 };

static const struct place_node three[] = {
	{.name = "A", .up = true, .vcpus = 2, .memory = 512 * MIB},
	{.name = "B", .up = true, .vcpus = 2, .memory = 512 * MIB},
	{.name = "C", .up = true, .vcpus = 8, .memory = 2048u * MIB},
};

static int place(const char *wish, uint64_t vcpus, uint64_t mib, struct place_seat *seats, unsigned *n, struct failure *f)
{
	struct place_asked asked = {.vm = "vm", .vcpus = vcpus, .memory = mib * MIB, .wish = wish, .self = 0};

	*f = (struct failure){0};
	return place_choose(three, 3, &asked, seats, n, f);
}

TEST(a_wish_is_granted_and_memory_shared_out)
{
	struct place_seat s[NODES_MAX];
	struct failure f;
	unsigned n;

	CHECK_EQ(place("A:2,B:1", 3, 300, s, &n, &f), 0);
	CHECK_EQ(n, 2);
	CHECK(s[0].node == 0 && s[0].vcpus == 2 && s[0].memory == 200 * MIB);
	CHECK(s[1].node == 1 && s[1].vcpus == 1 && s[1].memory == 100 * MIB);
	CHECK_EQ(place("B:1:64M,A:1,C:1", 3, 300, s, &n, &f), 0);
	CHECK(s[0].memory == 64 * MIB && s[1].memory == 118 * MIB && s[2].memory == 118 * MIB);
	CHECK_EQ(place("A:0:128M,C:4", 4, 1024, s, &n, &f), 0);
	CHECK(s[0].vcpus == 0 && s[0].memory == 128 * MIB && s[1].memory == 896 * MIB);
	CHECK_EQ(place("A:1,B:1,C:1", 3, 100, s, &n, &f), 0);
	CHECK_EQ(s[0].memory + s[1].memory + s[2].memory, 100 * MIB);
	CHECK(s[0].memory % PAGE_BYTES == 0 && s[0].memory >= s[1].memory && s[1].memory == s[2].memory);
}

TEST(a_wish_that_makes_no_sense_is_refused)
{
	static const struct { const char *wish; int err; } bad[] = {
		{"A", -EINVAL}, {"A:", -EINVAL}, {":2", -EINVAL}, {"A:2,", -EINVAL}, {"A:x", -EINVAL}, {"A:2:", -EINVAL}, {"A:2:lots", -EINVAL}, {"A:65", -EINVAL},
		{"A:1,A:1", -EINVAL}, {"A:1:5000", -EINVAL}, {"A:1", -EINVAL}, {"B:2", -EINVAL}, {"A:2:1M", -EINVAL}, {"A:2:400M", -EINVAL}, {"A:2,B:0", -EINVAL},
		{"A:1,X:1", -ENOENT}, {"A:1,BB:1", -ENOENT}, {"A:2:99999999999T", -EINVAL},
	};
	struct place_seat s[NODES_MAX];
	struct failure f;
	unsigned n;

	for (unsigned k = 0; k < ARRAY_LEN(bad); k++) {
		CHECK_EQ(place(bad[k].wish, 2, 300, s, &n, &f), bad[k].err);
		CHECK(*f.what && *f.todo);
	}
	CHECK_EQ(place("A:3", 3, 300, s, &n, &f), -ENOSPC);
	CHECK_EQ(place("A:2:513M", 2, 513, s, &n, &f), -ENOSPC);
	CHECK_EQ(place("", 13, 300, s, &n, &f), -ENOSPC);
	CHECK_EQ(place("", 1, 4096, s, &n, &f), -ENOSPC);
	CHECK_EQ(place("", 0, 300, s, &n, &f), -EINVAL);
}

TEST(a_node_that_is_down_gives_nothing)
{
	struct place_node nodes[3];
	struct place_asked asked = {.vm = "vm", .vcpus = 3, .memory = 64 * MIB, .wish = ""};
	struct place_seat s[NODES_MAX];
	struct failure f = {0};
	unsigned n;

	memcpy(nodes, three, sizeof nodes);
	nodes[2].up = false;
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), 0);
	CHECK(n == 2 && s[1].node == 1);
	asked.wish = "A:1,C:2";
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), -EHOSTUNREACH);
}

TEST(few_nodes_are_chosen)
{
	struct place_seat s[NODES_MAX];
	struct failure f;
	unsigned n;

	CHECK_EQ(place("", 2, 400, s, &n, &f), 0);
	CHECK(n == 1 && s[0].node == 0);
	CHECK_EQ(place("", 4, 400, s, &n, &f), 0);
	CHECK(n == 2 && s[0].vcpus == 2 && s[1].node == 2 && s[1].vcpus == 2 && s[0].memory == 200 * MIB);
	CHECK_EQ(place("", 1, 600, s, &n, &f), 0);
	CHECK(n == 2 && s[0].memory == 512 * MIB && s[1].vcpus == 0 && s[1].memory == 88 * MIB);
	CHECK_EQ(place("", 12, 3072, s, &n, &f), 0);
	CHECK_EQ(n, 3);
}

TEST(needed_nodes_take_part)
{
	bool needed[3] = {false, true};
	struct place_asked asked = {.vm = "vm", .vcpus = 1, .memory = 512 * MIB, .wish = "", .needed = needed};
	struct place_node nodes[3];
	struct place_seat s[NODES_MAX];
	struct failure f = {0};
	unsigned n;

	memcpy(nodes, three, sizeof nodes);
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), 0);
	CHECK(n == 2 && s[0].node == 0 && s[0].vcpus == 1 && s[0].memory == 448 * MIB && s[1].node == 1 && s[1].vcpus == 0 && s[1].memory == 64 * MIB);
	asked.vcpus = 4; /* what A has not comes of B, though C has more */
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), 0);
	CHECK(n == 2 && s[1].node == 1 && s[1].vcpus == 2 && s[0].memory == s[1].memory);
	needed[0] = needed[2] = true;
	asked.vcpus = 1;
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), 0);
	CHECK(n == 3 && s[2].node == 2 && s[1].memory == 64 * MIB && s[2].memory == 64 * MIB);
	nodes[1].memory = 3; /* and no vCPU is left to be dealt */
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), -ENOSPC);
	CHECK(strstr(f.what, "node B, which is to have") && *f.todo);
	nodes[1].up = false;
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), -EHOSTUNREACH);
	asked.wish = "A:1,C:0:8M"; /* who has a wish has said it all */
	CHECK_EQ(place_choose(nodes, 3, &asked, s, &n, &f), 0);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 33;
}

TEST(promises_hold_for_many_clusters)
{
	uint64_t seed = 1;
	unsigned answers = 0;

	for (unsigned round = 0; round < 20000; round++) {
		struct place_node nodes[20] = {0};
		struct place_seat s[NODES_MAX];
		unsigned count = 1 + (unsigned)(next_random(&seed) % 20), n = 0;
		struct place_asked asked = {.vm = "vm", .vcpus = 1 + next_random(&seed) % 64, .memory = (1 + next_random(&seed) % 100000) * PAGE_BYTES, .wish = ""};
		uint64_t vcpus = 0, memory = 0;
		bool here = false, needed[20], found;

		for (unsigned k = 0; k < count; k++) {
			needed[k] = next_random(&seed) % 8 == 0;
			nodes[k] = (struct place_node){.up = next_random(&seed) % 4 != 0, .vcpus = next_random(&seed) % 12, .memory = next_random(&seed) % 90000 * 3000};
		}
		asked.needed = round % 2 ? needed : NULL;
		asked.self = (unsigned)(next_random(&seed) % count);
		nodes[asked.self] = (struct place_node){.up = true, .vcpus = 1, .memory = PAGE_BYTES};
		if (place_choose(nodes, count, &asked, s, &n, NULL))
			continue;
		answers++;
		for (unsigned k = 0; k < n; k++) {
			vcpus += s[k].vcpus;
			memory += s[k].memory;
			here = here || s[k].node == asked.self;
			CHECK(s[k].node < count && nodes[s[k].node].up);                                          /* P2 */
			CHECK(s[k].vcpus <= nodes[s[k].node].vcpus && s[k].memory <= nodes[s[k].node].memory);     /* P2 */
			CHECK(s[k].vcpus || s[k].memory);                                                         /* P3 */
			CHECK_EQ(s[k].memory % PAGE_BYTES, 0);                                                    /* P1 */
			for (unsigned j = 0; j < k; j++)
				CHECK(s[j].node != s[k].node);                                                    /* P3 */
		}
		CHECK(vcpus == asked.vcpus && memory == asked.memory);                                            /* P1 */
		CHECK(here);                                                                                      /* P3 */
		for (unsigned k = 0; k < count && asked.needed; k++) {
			found = !needed[k];
			for (unsigned j = 0; j < n; j++)
				found |= s[j].node == k;
			CHECK(found);                                                                             /* P3 */
		}
	}
	CHECK(answers > 2000);
}
