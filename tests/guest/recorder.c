/* Records that are on a disk when it was said that they are: what flushes promise. Writes numbered records, makes them durable in one of several ways, and only
 * then says so; whoever has read that may end everything, and must find them. Static, because guests have no libraries.
 *
 * usage: recorder write FILE REGION COUNT CPUS   until COUNT, from CPU REGION of CPUS; says 'recorder: REGION kept N' when records 0..N-1 have been made durable
 *        recorder check FILE REGION N            are these there?
 * Every record is BLOCK bytes at its own place. exit: 0 right, 1 records are missing, 2 it could not run */
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { BLOCK = 4096, RECORDS = 2048, WORDS = BLOCK / 8, TOGETHER = 5 };
enum way { CACHED_FSYNC, DIRECT_FLUSHED_ELSEWHERE, DIRECT_DSYNC, CACHED_DSYNC, WAYS };

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

static void record(uint64_t *to, unsigned region, unsigned n)
{
	for (unsigned i = 0; i < WORDS; i++)
		to[i] = word((uint64_t)region << 48 | (uint64_t)n << 16 | i);
}

static off_t place(unsigned region, unsigned n)
{
	return ((off_t)region * RECORDS + n) * BLOCK;
}

static int run_on(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof set, &set);
}

/* Records first..first+count-1, durable when it returns. */
static int keep(const int fd[2], uint64_t *buffer, unsigned region, unsigned first, unsigned count, unsigned cpus)
{
	enum way way = first / TOGETHER % WAYS;
	int direct = way == DIRECT_FLUSHED_ELSEWHERE || way == DIRECT_DSYNC;
	int dsync = way == DIRECT_DSYNC || way == CACHED_DSYNC;

	for (unsigned i = 0; i < count; i++) {
		struct iovec iov = {buffer, BLOCK};

		record(buffer, region, first + i);
		if (pwritev2(fd[direct], &iov, 1, place(region, first + i), dsync ? RWF_DSYNC : 0) != BLOCK)
			return failed("recorder: write");
	}
	if (dsync)
		return 0;
	if (way == DIRECT_FLUSHED_ELSEWHERE && run_on((region + 1) % cpus))
		return failed("recorder: no such CPU");
	if (way == CACHED_FSYNC ? fsync(fd[0]) : fdatasync(fd[1]))
		return failed("recorder: flush");
	return run_on(region % cpus) ? failed("recorder: no such CPU") : 0;
}

static int do_write(const int fd[2], uint64_t *buffer, unsigned region, unsigned count, unsigned cpus)
{
	unsigned kept = 0;

	if (run_on(region % cpus))
		return failed("recorder: no such CPU");
	while (kept < count && kept < RECORDS) {
		unsigned together = count - kept < TOGETHER ? count - kept : TOGETHER;
		int err = keep(fd, buffer, region, kept, together, cpus);

		if (err)
			return err;
		kept += together;
		printf("recorder: %u kept %u\n", region, kept);
		fflush(stdout);
	}
	return 0;
}

static int do_check(const int fd[2], const uint64_t *wanted, unsigned region, unsigned count)
{
	uint64_t found[WORDS];
	unsigned missing = 0;

	for (unsigned n = 0; n < count; n++) {
		record((uint64_t *)(uintptr_t)wanted, region, n);
		if (pread(fd[0], found, BLOCK, place(region, n)) == BLOCK && memcmp(found, wanted, BLOCK) == 0)
			continue;
		if (!missing++)
			printf("recorder: %u: record %u was said to be kept, and is not there\n", region, n);
	}
	printf("recorder: %u: %u records, %u missing\n", region, count, missing);
	return missing > 0;
}

int main(int argc, char **argv)
{
	int writes = argc > 5 && strcmp(argv[1], "write") == 0, fd[2] = {-1, -1};
	uint64_t *buffer = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned region, count;

	if (argc < 5 || buffer == MAP_FAILED)
		return 2;
	region = (unsigned)strtoul(argv[3], NULL, 10);
	count = (unsigned)strtoul(argv[4], NULL, 10);
	fd[0] = open(argv[2], writes ? O_RDWR | O_CREAT : O_RDONLY, 0600);
	fd[1] = writes ? open(argv[2], O_RDWR | O_DIRECT) : fd[0];
	if (fd[0] < 0 || fd[1] < 0)
		return failed("recorder: cannot open the disk");
	return writes ? do_write(fd, buffer, region, count, (unsigned)strtoul(argv[5], NULL, 10)) : do_check(fd, buffer, region, count);
}
