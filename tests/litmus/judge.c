/* Which outcomes x86-TSO forbids (Owens, Sarkar, Sewell: A better x86 memory model, 2009). */
#include "tests/litmus/rig.h"

#include <stdio.h>

const char *litmus_name(enum litmus_test test)
{
	static const char *const names[] = {
#define T(name, threads) #name,
		LITMUS_TESTS(T)
#undef T
	};

	return names[test];
}

unsigned litmus_threads(enum litmus_test test)
{
	static const unsigned threads[] = {
#define T(name, threads) threads,
		LITMUS_TESTS(T)
#undef T
	};

	return threads[test];
}

/* Bits of a result: 1 the first load was new, 2 the second was, 4 a torn aligned load. */
static bool judge_forbidden(enum litmus_test test, const uint8_t r[LITMUS_VCPUS])
{
	switch (test) {
	case LITMUS_SBF: return r[0] == 0 && r[1] == 0;
	case LITMUS_LB: return r[0] == 1 && r[1] == 1;
	case LITMUS_MP:
	case LITMUS_CORR: return r[1] == 1;
	case LITMUS_IRIW: return r[2] == 1 && r[3] == 1;
	case LITMUS_MIXED: return (r[1] & 3) == 1 || (r[1] & 4);
	case LITMUS_W22: return r[0] != 0;
	case LITMUS_CROSS: return r[1] != 0;
	default: return false;
	}
}

uint64_t litmus_judge(enum litmus_test test, const uint8_t *const results[LITMUS_VCPUS], uint64_t iterations)
{
	uint64_t forbidden = 0, seen[8][8] = {{0}};
	unsigned a = test == LITMUS_IRIW ? 2 : 0, b = test == LITMUS_IRIW ? 3 : 1;

	for (uint64_t i = 0; i < iterations; i++) {
		uint8_t r[LITMUS_VCPUS];

		for (unsigned t = 0; t < LITMUS_VCPUS; t++)
			r[t] = results[t][i];
		forbidden += judge_forbidden(test, r);
		seen[r[a] & 7][r[b] & 7]++;
	}
	printf("%-9s %8llu iterations, %llu forbidden; outcomes", litmus_name(test), (unsigned long long)iterations, (unsigned long long)forbidden);
	for (unsigned i = 0; i < 8; i++)
		for (unsigned j = 0; j < 8; j++)
			if (seen[i][j])
				printf(" %u:%u=%llu", i, j, (unsigned long long)seen[i][j]);
	printf("\n");
	return forbidden;
}

static uint64_t counter_at(const struct ram *ram, uint64_t at)
{
	uint64_t v = UINT64_MAX;

	return ram_read(ram, (gpa_t){at}, &v, sizeof v) ? UINT64_MAX : v;
}

uint64_t litmus_judge_counters(enum litmus_test test, const struct ram *ram, uint64_t want)
{
	uint64_t wrong = 0;

	if (test == LITMUS_CROSSLOCK)
		wrong += counter_at(ram, LITMUS_X + 4096 - 4) != want * LITMUS_CELLS;
	for (unsigned c = 0; c < LITMUS_CELLS && test == LITMUS_LOCK; c++) {
		wrong += counter_at(ram, LITMUS_X + c * LITMUS_CELL_BYTES) != want;
		wrong += counter_at(ram, LITMUS_Y + c * LITMUS_CELL_BYTES) != want;
	}
	printf("%-9s %8llu increments a counter, %llu counters wrong\n", litmus_name(test), (unsigned long long)want, (unsigned long long)wrong);
	return wrong;
}
