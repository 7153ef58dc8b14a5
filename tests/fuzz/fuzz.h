/* A fuzz target is one file with these two functions. With clang's libFuzzer they are fuzzed; without it tests/fuzz/replay.c runs the seeds and
 * simple mutations of them, and says so. Targets check with ensure(): a broken promise aborts and the input is kept. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* The n-th valid input, 0 bytes when there are no more. */
size_t fuzz_seed(unsigned n, uint8_t *to, size_t room);

#endif
