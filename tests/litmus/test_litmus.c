/* Litmus guests on this host's KVM. 'alone': one plain VM, which shows that the guests and the judge agree with real hardware. */
#include "tests/litmus/rig.h"
#include "tests/test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static uint64_t run_one(struct rig *g, uint8_t *const ram[], unsigned fragments, enum litmus_test test, uint64_t batches)
{
	const uint8_t *results[LITMUS_VCPUS];
	unsigned threads = litmus_threads(test);
	uint64_t bad = 1;

	if (rig_open(g, fragments, ram) && rig_run(g, test, threads, batches)) {
		for (unsigned t = 0; t < LITMUS_VCPUS; t++)
			results[t] = ram[0] + LITMUS_RESULTS + t * LITMUS_RESULT_BYTES;
		if (test == LITMUS_LOCK || test == LITMUS_CROSSLOCK)
			bad = litmus_judge_counters(test, ram[0], threads * batches);
		else
			bad = litmus_judge(test, results, batches * LITMUS_CELLS);
	}
	rig_close(g);
	return bad;
}

static uint64_t litmus_alone(enum litmus_test test)
{
	uint8_t *ram = mmap(NULL, LITMUS_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rig g;
	uint64_t bad;

	if (ram == MAP_FAILED)
		return 1;
	bad = run_one(&g, &ram, 1, test, 3200);
	munmap(ram, LITMUS_RAM_BYTES);
	return bad;
}

TEST(alone_only_tso_outcomes)
{
	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	for (enum litmus_test t = 0; t < LITMUS_COUNT; t++)
		CHECK_EQ(litmus_alone(t), 0);
}

/* A judge nobody has seen condemn is not a judge. */
TEST(the_judge_condemns_planted_outcomes)
{
	static const struct { enum litmus_test test; uint8_t r[LITMUS_VCPUS]; } planted[] = {
		{LITMUS_SBF, {0, 0}}, {LITMUS_LB, {1, 1}}, {LITMUS_MP, {0, 1}}, {LITMUS_CORR, {0, 1}}, {LITMUS_IRIW, {0, 0, 1, 1}},
		{LITMUS_MIXED, {0, 1}}, {LITMUS_MIXED, {0, 7}}, {LITMUS_W22, {1, 0}}, {LITMUS_CROSS, {0, 1}},
	};

	for (unsigned i = 0; i < sizeof planted / sizeof planted[0]; i++) {
		const uint8_t *results[LITMUS_VCPUS] = {&planted[i].r[0], &planted[i].r[1], &planted[i].r[2], &planted[i].r[3]};

		CHECK_EQ(litmus_judge(planted[i].test, results, 1), 1);
	}
}
