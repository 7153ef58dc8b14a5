/* What busybox cannot do for the demo's job inside the guest. Static, because the guest has no libraries.
 *
 *   guest-tool now                    print the monotonic clock, in seconds
 *   guest-tool job SECONDS BOX DATA   once it is that late, run 'BOX gzip -c DATA >DATA.gz', then 'BOX sha256sum DATA.gz >DATA.sums'; print when
 *                                     that began and when it ended
 *   guest-tool fill PERCENT LAST_CPU  test memory: one thread on every vCPU fills so much of what its NUMA node has free with words that tell where
 *                                     they are, verifies all of its own, and then a sample of its neighbour's, whose pages lie on another node if
 *                                     the neighbour does. Prints 'demo| fill BYTES WRONG SECONDS'
 *
 *   guest-tool pages GFN...           what the kernel uses these pages of guest memory for: 'demo| page GFN KIND' for each
 *
 * exit: 0 all words right, 1 some wrong, or a program failed, 2 usage or no memory */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 64, NODES_MAX = 64, PAGE = 4096, WORDS = PAGE / 8, HUGE_PAGES = 512, SAMPLE = 16 /* one page in so many of the neighbour's */ };

/* What a thread fills. */
struct share {
	uint64_t *base;
	size_t first, pages; /* first: the number of its first page among all shares' */
	unsigned node;
};

struct fill {
	struct share share[THREADS_MAX];
	unsigned threads;
	pthread_barrier_t filled;
};

struct worker {
	struct fill *fill;
	unsigned cpu;
	uint64_t wrong;
};

/* The word that belongs at this index: splitmix64. */
static uint64_t word(uint64_t index)
{
	uint64_t z = (index + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t wrong_in(const struct share *s, size_t page)
{
	const volatile uint64_t *at = s->base + page * WORDS;
	uint64_t wrong = 0;

	for (size_t i = 0; i < WORDS; i++)
		wrong += at[i] != word((s->first + page) * WORDS + i);
	return wrong;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	const struct share *own = &w->fill->share[w->cpu], *next = &w->fill->share[(w->cpu + 1) % w->fill->threads];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(w->cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set))
		w->wrong++;
	for (size_t i = 0; i < own->pages * WORDS; i++)
		own->base[i] = word(own->first * WORDS + i);
	for (size_t p = 0; p < own->pages; p++)
		w->wrong += wrong_in(own, p);
	pthread_barrier_wait(&w->fill->filled);
	for (size_t p = 0; p < next->pages; p += SAMPLE)
		w->wrong += wrong_in(next, p);
	return NULL;
}

static unsigned node_of(unsigned cpu)
{
	char path[64];

	for (unsigned n = 0; n < NODES_MAX; n++) {
		snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/node%u", cpu, n);
		if (access(path, F_OK) == 0)
			return n;
	}
	return 0;
}

static size_t free_pages(unsigned node)
{
	char path[64], line[128];
	size_t kib = 0;
	FILE *file;

	snprintf(path, sizeof path, "/sys/devices/system/node/node%u/meminfo", node);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, "Node %*u MemFree: %zu", &kib) == 1)
			break;
	if (file)
		fclose(file);
	return kib * 1024 / PAGE;
}

/* Big pages if the kernel lets us: one fault of the guest's own instead of 512. */
static uint64_t *map(size_t pages)
{
	size_t huge = (size_t)HUGE_PAGES * PAGE;
	char *at = mmap(NULL, pages * PAGE + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (at == MAP_FAILED)
		return NULL;
	at += -(uintptr_t)at % huge;
	madvise(at, pages * PAGE, MADV_HUGEPAGE);
	return (uint64_t *)(void *)at;
}

/* Deal out what is free, each thread's on its own node. Returns the pages of all, 0 for none. */
static size_t deal(struct fill *f, size_t percent)
{
	unsigned sharers[NODES_MAX] = {0};
	size_t all = 0;

	for (unsigned t = 0; t < f->threads; t++)
		sharers[f->share[t].node = node_of(t)]++;
	for (unsigned t = 0; t < f->threads; t++) {
		struct share *s = &f->share[t];

		s->first = all;
		s->pages = free_pages(s->node) * percent / 100 / sharers[s->node];
		s->base = map(s->pages);
		if (!s->base)
			return 0;
		all += s->pages;
	}
	return all;
}

static uint64_t run(struct fill *f)
{
	struct worker worker[THREADS_MAX];
	pthread_t thread[THREADS_MAX];
	uint64_t wrong = 0;

	pthread_barrier_init(&f->filled, NULL, f->threads);
	for (unsigned t = 0; t < f->threads; t++) {
		worker[t] = (struct worker){.fill = f, .cpu = t};
		if (pthread_create(&thread[t], NULL, work, &worker[t]))
			exit(2);
	}
	for (unsigned t = 0; t < f->threads; t++) {
		pthread_join(thread[t], NULL);
		wrong += worker[t].wrong;
	}
	return wrong;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fill(size_t percent, unsigned threads)
{
	static struct fill f;
	uint64_t wrong;
	size_t pages;
	double from;

	if (percent < 1 || percent > 95 || threads < 1 || threads > THREADS_MAX)
		return 2;
	f.threads = threads;
	pages = deal(&f, percent);
	if (!pages)
		return 2;
	from = now();
	wrong = run(&f);
	printf("demo| fill %zu %llu %.2f\n", pages * PAGE, (unsigned long long)wrong, now() - from);
	return wrong ? 1 : 0;
}

static void sleep_until(double seconds)
{
	struct timespec t = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL))
		;
}

/* Run a program with its output in 'file'. Returns whether it ended well. */
static bool program(const char *file, char *const argv[])
{
	int status = -1;
	pid_t pid = vfork();

	if (pid == 0) {
		int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0644);

		if (fd >= 0 && dup2(fd, STDOUT_FILENO) >= 0)
			execv(argv[0], argv);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static int job(double at, char *box, char *data)
{
	char packed[256], sums[256];
	double from;

	snprintf(packed, sizeof packed, "%s.gz", data);
	snprintf(sums, sizeof sums, "%s.sums", data);
	sleep_until(at);
	from = now();
	if (!program(packed, (char *[]){box, "gzip", "-c", data, NULL}) || !program(sums, (char *[]){box, "sha256sum", packed, NULL}))
		return 1;
	printf("%.4f %.4f\n", from, now());
	return 0;
}

static const char *kind(uint64_t flags)
{
	static const struct { unsigned bit; const char *name; } kinds[] = { /* linux/kernel-page-flags.h and, for reserved, Documentation/admin-guide/mm/pagemap */
		{26, "page-table"}, {32, "reserved"}, {7, "slab"}, {10, "free"}, {12, "anonymous"}, {5, "page-cache"}, {20, "nopage"},
	};

	for (unsigned k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
		if (flags >> kinds[k].bit & 1)
			return kinds[k].name;
	return "other";
}

static int pages(int n, char **gfn)
{
	int fd = open("/proc/kpageflags", O_RDONLY);
	uint64_t flags;

	for (int i = 0; i < n; i++) {
		off_t at = (off_t)strtoul(gfn[i], NULL, 0) * (off_t)sizeof flags;

		printf("demo| page %s %s\n", gfn[i], pread(fd, &flags, sizeof flags, at) == sizeof flags ? kind(flags) : "unknown");
	}
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "now") == 0) {
		printf("%.4f\n", now());
		return 0;
	}
	if (argc == 5 && strcmp(argv[1], "job") == 0)
		return job(strtod(argv[2], NULL), argv[3], argv[4]);
	if (argc == 4 && strcmp(argv[1], "fill") == 0)
		return fill(strtoul(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10) + 1);
	if (argc > 2 && strcmp(argv[1], "pages") == 0)
		return pages(argc - 2, argv + 2);
	return 2;
}
