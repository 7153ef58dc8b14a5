/* Stands in for libFuzzer where the compiler has none: runs each seed, every truncation of it and many one-place mutations, then says SKIP,
 * because this explores far less. Files given as arguments are replayed instead (an input that libFuzzer kept). */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INPUT_MAX = 128 * 1024, MUTATIONS = 2000 };

static uint8_t input[INPUT_MAX], work[INPUT_MAX];

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* In its own block, so that sanitizers see a read past its end. */
static void run_one(const uint8_t *data, size_t bytes)
{
	uint8_t *exact = malloc(bytes ? bytes : 1);

	if (!exact)
		abort();
	memcpy(exact, data, bytes);
	LLVMFuzzerTestOneInput(exact, bytes);
	free(exact);
}

static unsigned run_seed(size_t bytes, uint64_t *random)
{
	unsigned runs = 0;

	for (size_t cut = 0; cut <= bytes; cut += bytes < 256 ? 1 : 97, runs++)
		run_one(input, cut);
	run_one(input, bytes);
	for (unsigned k = 0; k < MUTATIONS; k++, runs++) {
		memcpy(work, input, bytes);
		for (unsigned times = 1 + (unsigned)(next_random(random) % 3); times; times--) {
			size_t span = next_random(random) % 2 && bytes > 32 ? 32 : bytes;

			work[next_random(random) % span] = (uint8_t)next_random(random);
		}
		run_one(work, bytes);
	}
	return runs;
}

int main(int argc, char **argv)
{
	uint64_t random = 0x7e55e7a;
	unsigned runs = 0;
	size_t bytes;

	for (int i = 1; i < argc; i++) {
		FILE *f = fopen(argv[i], "r");

		if (!f)
			return 1;
		bytes = fread(input, 1, sizeof input, f);
		fclose(f);
		run_one(input, bytes);
		printf("replayed %s\n", argv[i]);
	}
	if (argc > 1)
		return 0;
	for (unsigned n = 0; (bytes = fuzz_seed(n, input, sizeof input)) > 0; n++)
		runs += run_seed(bytes, &random);
	printf("SKIP: this compiler has no libFuzzer (clang has); ran only %u seeds and mutations, all good\n", runs);
	return runs ? 77 : 1;
}
