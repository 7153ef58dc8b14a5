/* The frequency of this host's TSC in kHz, on standard output: a simulated machine that measures it itself is far off when this host is busy. */
#include <stdio.h>
#include <time.h>

#include <x86intrin.h>

enum { MEASURE_NS = 200000000, TRIES = 20 };

struct moment {
	unsigned long long tsc, ns;
};

static unsigned long long clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_RAW, &t);
	return (unsigned long long)t.tv_sec * 1000000000 + (unsigned long long)t.tv_nsec;
}

/* Both at once, as nearly as one of some tries was. */
static struct moment look(void)
{
	unsigned long long closest = ~0ull;
	struct moment m = {0};

	for (int i = 0; i < TRIES; i++) {
		unsigned long long before = __rdtsc(), ns = clock_ns(), after = __rdtsc();

		if (after - before < closest) {
			closest = after - before;
			m = (struct moment){before + closest / 2, ns};
		}
	}
	return m;
}

int main(void)
{
	struct moment from = look(), to;

	nanosleep(&(struct timespec){.tv_nsec = MEASURE_NS}, NULL);
	to = look();
	printf("%.0f\n", (double)(to.tsc - from.tsc) * 1e6 / (double)(to.ns - from.ns));
	return 0;
}
