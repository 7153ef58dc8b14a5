/* Writes a target's seeds as files into the folder given: libFuzzer's corpus. Linked with the target when libFuzzer brings its main. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);

/* libFuzzer calls this first: TESSERA_SEEDS names the folder. */
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static uint8_t seed[128 * 1024];
	const char *folder = getenv("TESSERA_SEEDS");
	char path[512];
	size_t bytes;

	for (unsigned n = 0; folder && (bytes = fuzz_seed(n, seed, sizeof seed)) > 0; n++) {
		FILE *f;

		snprintf(path, sizeof path, "%s/seed-%u", folder, n);
		f = fopen(path, "w");
		if (!f || fwrite(seed, 1, bytes, f) != bytes || fclose(f))
			abort();
	}
	return 0;
}
