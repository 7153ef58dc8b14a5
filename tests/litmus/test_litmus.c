/* Litmus guests on this host's KVM. 'alone': one plain VM, which shows that the guests and the judge agree with real hardware. 'apart': two
 * fragments, each with its own KVM VM and its own mapping of guest RAM, kept coherent by two pagers. */
#include "mem/pager.h"
#include "tests/litmus/rig.h"
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Delays of the order of a store buffer for one VM, of a page's hold for two. */
enum { FRAGMENTS = 2, BATCHES = 3200, ALONE_DELAY = 16, APART_DELAY = 16384 };

static void on_stop(void *arg, enum stop_reason reason, node_t node, const char *what)
{
	if (reason == STOP_KILLED)
		return; /* the end of a test: one pager froze and told the other before it was frozen itself */
	fprintf(stderr, "litmus: a pager stopped (%s): %s\n", stop_reason_name(reason), what);
	abort(); /* its guests would wait for ever */
}

static uint64_t judge_outcomes(const struct ram *ram, enum litmus_test test, uint64_t batches)
{
	const uint8_t *results[LITMUS_VCPUS];
	uint8_t *copy = malloc(LITMUS_VCPUS * LITMUS_RESULT_BYTES);
	uint64_t bad;

	if (!copy || ram_read(ram, (gpa_t){LITMUS_RESULTS}, copy, LITMUS_VCPUS * LITMUS_RESULT_BYTES)) {
		free(copy);
		return UINT64_MAX;
	}
	for (unsigned t = 0; t < LITMUS_VCPUS; t++)
		results[t] = copy + t * LITMUS_RESULT_BYTES;
	bad = litmus_judge(test, results, batches * LITMUS_CELLS);
	free(copy);
	return bad;
}

static uint64_t run_one(const struct ram *const ram[], unsigned fragments, enum litmus_test test, uint64_t delay)
{
	unsigned threads = litmus_threads(test);
	uint64_t bad = UINT64_MAX;
	struct rig g;

	if (rig_open(&g, fragments, ram) && rig_run(&g, test, threads, BATCHES, delay))
		bad = test == LITMUS_LOCK || test == LITMUS_CROSSLOCK ? litmus_judge_counters(test, ram[0], threads * BATCHES)
		                                                      : judge_outcomes(ram[0], test, BATCHES);
	rig_close(&g);
	return bad;
}

static bool map_ram(struct ram *r)
{
	const uint64_t bytes[NODES_MAX] = {LITMUS_RAM_BYTES / 2, LITMUS_RAM_BYTES / 2};

	memset(r, 0, sizeof *r);
	return ram_layout(r, bytes, FRAGMENTS) == 0 && ram_map(r, NULL) == 0;
}

static uint64_t litmus_alone(enum litmus_test test)
{
	struct ram ram;
	const struct ram *const rams[] = {&ram};
	uint64_t bad;

	if (!map_ram(&ram))
		return UINT64_MAX;
	bad = run_one(rams, 1, test, ALONE_DELAY);
	ram_unmap(&ram);
	return bad;
}

static struct pager *start_pager(unsigned self, const struct ram *ram, int fd)
{
	struct pager_config c = {.ram = ram, .self = {(uint8_t)self}, .nodes = FRAGMENTS, .cache_bytes = LITMUS_RAM_BYTES, .on_stop = on_stop};
	struct pager *p = NULL;
	struct failure f = {0};

	for (unsigned n = 0; n < NODES_MAX; n++)
		c.fds[n] = n == 1 - self ? fd : -1;
	if (pager_start(&p, &c, &f))
		printf("litmus: %s\n", f.what);
	return p;
}

static uint64_t litmus_apart(enum litmus_test test)
{
	struct ram ram[FRAGMENTS];
	struct pager *pager[FRAGMENTS];
	const struct ram *const rams[] = {&ram[0], &ram[1]};
	uint64_t bad = UINT64_MAX;
	int fd[2];

	if (!map_ram(&ram[0]) || !map_ram(&ram[1]) || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		return UINT64_MAX;
	for (unsigned i = 0; i < FRAGMENTS; i++)
		pager[i] = start_pager(i, &ram[i], fd[i]);
	if (pager[0] && pager[1])
		bad = run_one(rams, FRAGMENTS, test, APART_DELAY);
	for (unsigned i = 0; i < FRAGMENTS; i++)
		pager_freeze(pager[i], STOP_KILLED, (node_t){0}, "the test is over");
	for (unsigned i = 0; i < FRAGMENTS; i++) {
		pager_stop(pager[i]);
		ram_unmap(&ram[i]);
	}
	return bad;
}

TEST(alone_only_tso_outcomes)
{
	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	for (enum litmus_test t = 0; t < LITMUS_COUNT; t++)
		CHECK_EQ(litmus_alone(t), 0);
}

TEST(apart_only_tso_outcomes)
{
	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	for (enum litmus_test t = 0; t < LITMUS_COUNT; t++)
		CHECK_EQ(litmus_apart(t), 0);
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
