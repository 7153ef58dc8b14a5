/* See pager_bed.h. */
#include "tests/host/pager_bed.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void bed_on_stop(void *arg, enum stop_reason reason, node_t node, const char *what)
{
	struct bed_stop *s = arg;

	s->reason = reason;
	s->node = node;
	snprintf(s->what, sizeof s->what, "%s", what);
	atomic_fetch_add(&s->calls, 1);
}

static int bed_sockets(struct bed *b, int fds[BED_NODES_MAX][NODES_MAX])
{
	for (unsigned i = 0; i < b->nodes; i++)
		for (unsigned j = 0; j < i; j++) {
			int pair[2];

			if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
				return -errno;
			fds[i][j] = pair[0];
			fds[j][i] = pair[1];
			b->spare[i][j] = dup(pair[0]);
			b->spare[j][i] = dup(pair[1]);
		}
	return 0;
}

static int bed_ram(struct bed *b, unsigned n)
{
	uint64_t bytes[NODES_MAX] = {0};
	int err;

	for (unsigned i = 0; i < b->nodes; i++)
		bytes[i] = b->pages * PAGE_BYTES;
	err = ram_layout(&b->ram[n], bytes, b->nodes);
	return err ? err : ram_map(&b->ram[n], NULL);
}

int bed_make(struct bed *b, unsigned nodes, uint64_t pages, uint64_t cache_pages, void (*tweak)(struct pager_config *c, unsigned n))
{
	int fds[BED_NODES_MAX][NODES_MAX], err;
	struct failure f = {0};

	memset(b, 0, sizeof *b);
	memset(fds, -1, sizeof fds);
	memset(b->spare, -1, sizeof b->spare);
	b->nodes = nodes;
	b->pages = pages;
	if (cache_pages == 0)
		cache_pages = pages * nodes < PAGER_CACHE_PAGES_MIN ? PAGER_CACHE_PAGES_MIN : pages * nodes;
	err = bed_sockets(b, fds);
	for (unsigned n = 0; !err && n < nodes; n++) {
		struct pager_config c = {.ram = &b->ram[n], .self = {(uint8_t)n}, .nodes = nodes, .cache_bytes = cache_pages * PAGE_BYTES,
			.spin_us = -1, .on_stop = bed_on_stop, .arg = &b->stop[n]};

		memcpy(c.fds, fds[n], sizeof c.fds);
		if (tweak)
			tweak(&c, n);
		err = bed_ram(b, n);
		if (!err)
			err = pager_start(&b->pager[n], &c, &f);
	}
	if (err)
		printf("%s: %s\n", f.what, f.todo);
	return err;
}

void bed_drop(struct bed *b)
{
	for (unsigned n = 0; n < b->nodes; n++)
		if (b->pager[n])
			pager_freeze(b->pager[n], STOP_KILLED, (node_t){(uint8_t)n}, "the test is over");
	for (unsigned n = 0; n < b->nodes; n++) {
		pager_stop(b->pager[n]);
		ram_unmap(&b->ram[n]);
		for (unsigned i = 0; i < b->nodes; i++)
			if (b->spare[n][i] >= 0)
				close(b->spare[n][i]);
	}
}

bool bed_cannot_run(int err)
{
	return err == -EPERM || err == -EACCES || err == -ENOSYS || err == -EOPNOTSUPP;
}

_Atomic uint64_t *bed_word(struct bed *b, unsigned n, uint64_t page, unsigned word)
{
	gpa_t gpa = gfn_gpa(ram_page_gfn(&b->ram[n], page));

	gpa.v += word * 8;
	return ram_at(&b->ram[n], gpa, 8);
}

struct pager_stats bed_stats(const struct bed *b, unsigned n)
{
	struct pager_stats s;

	pager_stats(b->pager[n], &s);
	return s;
}

/* Neighbouring mappings with equal flags may appear as one, so count what lies within our range by pagemap. */
long bed_resident_kib(const struct bed *b, unsigned n)
{
	long kib = 0;
	FILE *f = fopen("/proc/self/pagemap", "re");

	for (unsigned r = 0; f && r < b->ram[n].ranges; r++) {
		fseek(f, (long)((uintptr_t)b->ram[n].hva[r] >> PAGE_SHIFT << 3), SEEK_SET);
		for (uint64_t i = 0; i < b->ram[n].range[r].bytes >> PAGE_SHIFT; i++) {
			uint64_t entry;

			if (fread(&entry, sizeof entry, 1, f) != 1)
				return -1;
			kib += entry >> 63 ? PAGE_BYTES >> 10 : 0;
		}
	}
	if (!f)
		return -1;
	fclose(f);
	return kib;
}

void bed_wait_stop(struct bed *b, unsigned n)
{
	struct timespec t = {.tv_nsec = 1000000};

	while (b->stop[n].calls == 0)
		nanosleep(&t, NULL); /* the harness's timeout is the limit */
}

/* A thread that waits for a page of a dead pager can only be got out by a signal that does not return to the access. */
struct try {
	struct bed *bed;
	unsigned node;
	uint64_t page, value;
	bool done;
	_Atomic bool over;
};

static __thread sigjmp_buf try_out;
static __thread volatile sig_atomic_t try_armed;

static void try_signal(int sig)
{
	if (try_armed)
		siglongjmp(try_out, sig);
}

static void *try_run(void *arg)
{
	struct try *t = arg;

	if (sigsetjmp(try_out, 1) == 0) {
		try_armed = 1;
		t->value = *bed_word(t->bed, t->node, t->page, 0);
		t->done = true;
	}
	try_armed = 0;
	t->over = true;
	return NULL;
}

#ifdef __SANITIZE_THREAD__
enum { TRY_SIGNALS = false }; /* it delivers signals only at calls, and a waiting access makes none */
#else
enum { TRY_SIGNALS = true };
#endif

bool bed_try_load(struct bed *b, unsigned n, uint64_t page, uint64_t *value)
{
	struct try t = {.bed = b, .node = n, .page = page};
	struct sigaction action = {.sa_handler = try_signal};
	struct timespec pause = {.tv_nsec = 1000000};
	pthread_t thread;

	if (!TRY_SIGNALS)
		return false;
	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&thread, NULL, try_run, &t);
	while (!t.over) {
		if (b->stop[n].calls)
			pthread_kill(thread, SIGUSR1);
		nanosleep(&pause, NULL);
	}
	pthread_join(thread, NULL);
	*value = t.value;
	return t.done;
}
