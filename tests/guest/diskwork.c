/* Work on a disk whose outcome is known. Each CPU has a region of its own, to which it writes blocks of different sizes at places that look random, each
 * read back and compared at once; afterwards the region is what the same work makes of a file elsewhere, so that the two can be compared.
 * Static, because guests have no libraries.
 *
 * usage: diskwork DISK CPU ROUNDS [file | marked]   'file': no pinning, and through the page cache: what should come of it. 'marked': says when it has begun
 *                                                   (its first WARM rounds are over) and when it ends, in lines that manyvm takes notice of
 * Prints 'diskwork: CPU: N requests, ok'. exit: 0 right, 1 something was wrong, 2 it could not run */
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { REGION = 4 << 20, BLOCK = 4096, BLOCKS_MAX = 16, WARM = 16, BYTES_MAX = BLOCK * BLOCKS_MAX };

static uint64_t word(uint64_t seed)
{
	uint64_t z = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
}

static int failed(const char *what)
{
	perror(what);
	return 2;
}

static uint64_t *memory(void)
{
	void *at = mmap(NULL, BYTES_MAX, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static void mark(const char *text)
{
	puts(text);
	fflush(stdout);
}

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int work(int fd, unsigned cpu, unsigned rounds, int marked)
{
	uint64_t *out = memory(), *in = memory(), began = 0;

	if (!out || !in)
		return failed("diskwork: memory");
	for (unsigned i = 0; i < rounds; i++) {
		uint64_t dice = word((uint64_t)cpu << 32 | i);
		size_t bytes = BLOCK * (1 + (dice & 1 ? dice >> 8 & 1 : dice >> 8 & (BLOCKS_MAX - 1))); /* mostly small ones */
		off_t at = (off_t)cpu * REGION + (off_t)(dice >> 16 & (REGION / BYTES_MAX - 1)) * BYTES_MAX + (off_t)(BYTES_MAX - bytes);

		if (marked && i == WARM) {
			mark("stats: before");
			began = now_us();
		}
		for (size_t k = 0; k < bytes / sizeof *out; k++)
			out[k] = word(dice ^ k << 3);
		memset(in, 0x5a, bytes);
		if (pwrite(fd, out, bytes, at) != (ssize_t)bytes)
			return failed("diskwork: write");
		if (pread(fd, in, bytes, at) != (ssize_t)bytes)
			return failed("diskwork: read");
		if (memcmp(out, in, bytes) != 0) {
			printf("diskwork: %u: WRONG in round %u\n", cpu, i);
			return 1;
		}
		if (i % 64 == 63 && fdatasync(fd))
			return failed("diskwork: flush");
	}
	if (fdatasync(fd))
		return failed("diskwork: flush");
	if (marked) {
		printf("diskwork: %u: %llu us a request\n", cpu, (unsigned long long)((now_us() - began) / 2 / (rounds - WARM)));
		mark("stats: after");
	}
	return 0;
}

int main(int argc, char **argv)
{
	unsigned cpu, rounds;
	cpu_set_t set;
	int fd, err, file;

	if (argc < 4)
		return 2;
	cpu = (unsigned)strtoul(argv[2], NULL, 10);
	rounds = (unsigned)strtoul(argv[3], NULL, 10);
	file = argc > 4 && strcmp(argv[4], "file") == 0;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (!file && sched_setaffinity(0, sizeof set, &set))
		return failed("diskwork: no such CPU");
	fd = open(argv[1], O_RDWR | (file ? 0 : O_DIRECT));
	if (fd < 0)
		return failed("diskwork: cannot open the disk");
	err = work(fd, cpu, rounds, argc > 4 && !file);
	if (!err)
		printf("diskwork: %u: %u requests, ok\n", cpu, rounds * 2);
	return err;
}
