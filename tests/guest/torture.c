/* Runs inside a guest whose CPUs may lie on several nodes, and checks what its memory promises where threads share it. Static, because the guest has no
 * libraries. Each part pins one thread or process to each CPU, does a fixed amount of work, and knows the one right outcome.
 *
 * usage: torture [ROUNDS [CPU...]]   on these CPUs; without any, on all
 * Prints 'torture: PART: N right' or '...: WHAT WENT WRONG' for each part. exit: 0 all right, 1 something was wrong, 2 it could not run */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

enum { CPUS_MAX = 64, PAGE = 4096, WORDS = PAGE / 8, BLOCK_PAGES = 4, MESSAGE_WORDS = 12 };

struct part;

static unsigned cpu_at[CPUS_MAX]; /* that the threads are pinned to */

/* What one thread sees; what it finds wrong goes into 'wrong'. */
struct worker {
	struct part *part;
	unsigned index;
	uint64_t wrong;
};

struct part {
	const char *name;
	void (*work)(struct worker *w);
	uint64_t (*judge)(const struct part *p); /* afterwards: how much is wrong; may be NULL */
	unsigned cpus, rounds;
	pthread_barrier_t start;
	pthread_mutex_t mutex;
	uint64_t *memory;
	_Atomic uint64_t flag[CPUS_MAX];
};

static void must(int condition, const char *what)
{
	if (condition)
		return;
	perror(what);
	exit(2);
}

static void pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	must(sched_setaffinity(0, sizeof set, &set) == 0, "torture: sched_setaffinity");
}

/* splitmix64: what belongs at a place. */
static uint64_t word(uint64_t seed)
{
	uint64_t z = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* One counter for all, added to with locked instructions. */
static void locked_work(struct worker *w)
{
	for (unsigned i = 0; i < w->part->rounds; i++)
		atomic_fetch_add((_Atomic uint64_t *)&w->part->memory[5], 1);
}

static uint64_t locked_judge(const struct part *p)
{
	return (uint64_t)p->cpus * p->rounds - p->memory[5];
}

/* Two words that only agree if the mutex keeps others out, on two pages. */
static void mutex_work(struct worker *w)
{
	volatile uint64_t *a = &w->part->memory[0], *b = &w->part->memory[WORDS + 1];

	for (unsigned i = 0; i < w->part->rounds; i++) {
		pthread_mutex_lock(&w->part->mutex);
		w->wrong += *a != *b;
		*a += 1;
		*b += 1;
		pthread_mutex_unlock(&w->part->mutex);
	}
}

static uint64_t mutex_judge(const struct part *p)
{
	return ((uint64_t)p->cpus * p->rounds - p->memory[0]) | ((uint64_t)p->cpus * p->rounds - p->memory[WORDS + 1]);
}

/* Every thread has every cpus-th word of the same pages to itself: false sharing must lose nothing. */
static void slots_work(struct worker *w)
{
	for (unsigned i = 0; i < w->part->rounds; i++)
		for (unsigned at = w->index; at < 2 * WORDS; at += w->part->cpus * 37) {
			volatile uint64_t *slot = &w->part->memory[at];

			w->wrong += *slot != (i ? word(i - 1 + (uint64_t)w->index * 1000000) : 0);
			*slot = word(i + (uint64_t)w->index * 1000000);
		}
}

/* A ring of blocks: check what the neighbour on one side wrote, write the next for the one on the other side, tell it. */
static void relay_work(struct worker *w)
{
	struct part *p = w->part;
	uint64_t *mine = p->memory + (size_t)w->index * BLOCK_PAGES * WORDS;
	unsigned next = (w->index + 1) % p->cpus;
	uint64_t *its = p->memory + (size_t)next * BLOCK_PAGES * WORDS;

	for (unsigned i = 1; i <= p->rounds / 4; i++) {
		for (unsigned k = 0; k < BLOCK_PAGES * WORDS; k += 61)
			its[k] = word(k ^ (uint64_t)i << 32 ^ (uint64_t)next << 20);
		atomic_store_explicit(&p->flag[next], i, memory_order_release);
		while (atomic_load_explicit(&p->flag[w->index], memory_order_acquire) < i)
			sched_yield();
		for (unsigned k = 0; k < BLOCK_PAGES * WORDS; k += 61)
			w->wrong += mine[k] != word(k ^ (uint64_t)i << 32 ^ (uint64_t)w->index << 20);
		pthread_barrier_wait(&p->start); /* nobody writes the next before all have read this one */
	}
}

/* Nobody reads a clock that is behind one that another has read. */
static void clock_work(struct worker *w)
{
	_Atomic uint64_t *latest = (_Atomic uint64_t *)&w->part->memory[9];

	for (unsigned i = 0; i < w->part->rounds; i++) {
		uint64_t last = atomic_load(latest), now;

		_mm_lfence();
		now = __rdtsc();
		w->wrong += now < last;
		while (last < now && !atomic_compare_exchange_weak(latest, &last, now))
			;
	}
}

static void *run(void *arg)
{
	struct worker *w = arg;

	pin(cpu_at[w->index]);
	pthread_barrier_wait(&w->part->start);
	w->part->work(w);
	return NULL;
}

static int report(const char *name, uint64_t wrong, uint64_t right)
{
	if (wrong)
		printf("torture: %s: %llu WRONG\n", name, (unsigned long long)wrong);
	else
		printf("torture: %s: %llu right\n", name, (unsigned long long)right);
	fflush(stdout);
	return wrong != 0;
}

static int run_part(struct part *p)
{
	struct worker worker[CPUS_MAX];
	pthread_t thread[CPUS_MAX];
	uint64_t wrong = 0;
	size_t bytes = (size_t)CPUS_MAX * BLOCK_PAGES * PAGE;

	p->memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(p->memory != MAP_FAILED, "torture: mmap");
	must(!pthread_barrier_init(&p->start, NULL, p->cpus) && !pthread_mutex_init(&p->mutex, NULL), "torture: pthread");
	for (unsigned i = 0; i < p->cpus; i++) {
		worker[i] = (struct worker){.part = p, .index = i};
		must(!pthread_create(&thread[i], NULL, run, &worker[i]), "torture: pthread_create");
	}
	for (unsigned i = 0; i < p->cpus; i++) {
		pthread_join(thread[i], NULL);
		wrong += worker[i].wrong;
	}
	if (p->judge)
		wrong += p->judge(p);
	munmap(p->memory, bytes);
	return report(p->name, wrong, (uint64_t)p->cpus * p->rounds);
}

/* As hackbench: processes that send to one another through sockets, each pair on two CPUs; every message tells where it belongs. */
static void send_all(int fd, unsigned pair, unsigned messages)
{
	uint64_t m[MESSAGE_WORDS];

	for (unsigned i = 0; i < messages; i++) {
		for (unsigned k = 0; k < MESSAGE_WORDS; k++)
			m[k] = word((uint64_t)pair << 40 ^ (uint64_t)i << 8 ^ k);
		must(write(fd, m, sizeof m) == sizeof m, "torture: write");
	}
	exit(0);
}

static uint64_t receive_all(int fd, unsigned pair, unsigned messages)
{
	uint64_t m[MESSAGE_WORDS], wrong = 0;

	for (unsigned i = 0; i < messages; i++) {
		must(recv(fd, m, sizeof m, MSG_WAITALL) == sizeof m, "torture: recv");
		for (unsigned k = 0; k < MESSAGE_WORDS; k++)
			wrong += m[k] != word((uint64_t)pair << 40 ^ (uint64_t)i << 8 ^ k);
	}
	return wrong;
}

static int messages(unsigned cpus, unsigned rounds)
{
	uint64_t wrong = 0;
	int status;

	for (unsigned pair = 0; pair < cpus; pair++) {
		int fd[2];

		must(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0, "torture: socketpair");
		for (unsigned end = 0; end < 2; end++) {
			pid_t child = fork();

			must(child >= 0, "torture: fork");
			if (child)
				continue;
			pin(cpu_at[(pair + end) % cpus]);
			if (end == 0)
				send_all(fd[0], pair, rounds);
			exit(receive_all(fd[1], pair, rounds) != 0);
		}
		close(fd[0]);
		close(fd[1]);
	}
	while (wait(&status) > 0)
		wrong += status != 0;
	return report("messages", wrong, (uint64_t)cpus * rounds);
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 200;
	long cpus = argc > 2 ? argc - 2 : sysconf(_SC_NPROCESSORS_ONLN);
	struct part parts[] = {
		{.name = "locked counter", .work = locked_work, .judge = locked_judge},
		{.name = "mutex", .work = mutex_work, .judge = mutex_judge},
		{.name = "false sharing", .work = slots_work},
		{.name = "relay", .work = relay_work},
		{.name = "clock", .work = clock_work},
	};
	int wrong = 0;

	if (rounds == 0 || cpus < 1 || cpus > CPUS_MAX)
		return 2;
	for (unsigned i = 0; i < (unsigned)cpus; i++)
		cpu_at[i] = argc > 2 ? (unsigned)strtoul(argv[2 + i], NULL, 10) : i;
	for (unsigned i = 0; i < sizeof parts / sizeof parts[0]; i++) {
		parts[i].cpus = (unsigned)cpus;
		parts[i].rounds = rounds;
		wrong |= run_part(&parts[i]);
	}
	wrong |= messages((unsigned)cpus, rounds);
	printf("torture: %s\n", wrong ? "FAILED" : "ok");
	return wrong;
}
