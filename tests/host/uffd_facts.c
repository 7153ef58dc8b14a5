/* What mem/uffd.h relies on, asked of this machine's kernel: one test a fact. A kernel that changes one of them must fail here, not corrupt a guest. */
#include "mem/uffd.h"
#include "tests/test.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGES = 16 };

struct bed {
	struct ram ram;
	struct uffd u;
};

/* 0, or why not. */
static int bed_make(struct bed *b)
{
	uint64_t bytes[NODES_MAX] = {PAGES * PAGE_BYTES};
	struct failure f = {0};
	int err = ram_layout(&b->ram, bytes, 1);

	b->u = (struct uffd){0};
	if (!err)
		err = ram_map(&b->ram, &f);
	if (!err)
		err = uffd_open(&b->u, &b->ram, &f);
	if (err)
		printf("%s: %s\n", f.what, f.todo);
	return err;
}

static void bed_drop(struct bed *b)
{
	uffd_close(&b->u);
	ram_unmap(&b->ram);
}

#define BED(b) \
	struct bed b; \
	do { \
		int err_ = bed_make(&b); \
		if (err_ == -EPERM || err_ == -EACCES || err_ == -ENOSYS || err_ == -EOPNOTSUPP) \
			SKIP("no right to userfaultfd for kernel-mode faults here"); \
		CHECK_EQ(err_, 0); \
	} while (0)

static void fill(uint8_t page[PAGE_BYTES], uint8_t with)
{
	memset(page, with, PAGE_BYTES);
}

/* Block until at least one fault is there; -1 on error. */
static int wait_faults(struct uffd *u, struct uffd_fault *at, unsigned room)
{
	struct pollfd p = {.fd = u->fd, .events = POLLIN};
	int n;

	do {
		if (poll(&p, 1, 10000) != 1)
			return -1;
		n = uffd_faults(u, at, room);
	} while (n == 0);
	return n;
}

/* A thread that does one access and reports what it read. */
struct toucher {
	pthread_t thread;
	_Atomic uint64_t *word;
	uint64_t store; /* 0: load */
	_Atomic uint64_t seen;
	_Atomic int done;
};

static void *toucher_run(void *arg)
{
	struct toucher *t = arg;

	if (t->store)
		atomic_store(t->word, t->store);
	t->seen = atomic_load(t->word);
	t->done = 1;
	return NULL;
}

static void touch(struct toucher *t, struct bed *b, unsigned page, uint64_t store)
{
	*t = (struct toucher){.word = (_Atomic uint64_t *)(b->ram.hva[0] + page * PAGE_BYTES), .store = store};
	pthread_create(&t->thread, NULL, toucher_run, t);
}

static uint64_t joined(struct toucher *t)
{
	pthread_join(t->thread, NULL);
	return t->seen;
}

TEST(a_read_and_a_write_of_an_absent_page_are_told_apart)
{
	struct uffd_fault f[UFFD_BATCH];
	struct toucher r, w;
	uint8_t bytes[PAGE_BYTES];

	BED(b);
	touch(&r, &b, 3, 0);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK(f[0].page == 3 && !f[0].write);
	touch(&w, &b, 4, 7);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK(f[0].page == 4 && f[0].write);
	fill(bytes, 0x11);
	CHECK_EQ(uffd_install(&b.u, 3, bytes, false), 0);
	CHECK_EQ(uffd_install(&b.u, 4, bytes, true), 0);
	CHECK_EQ(joined(&r), 0x1111111111111111);
	CHECK_EQ(joined(&w), 7);
	bed_drop(&b);
}

TEST(install_shared_is_write_protected_from_the_first_instant)
{
	struct uffd_fault f[UFFD_BATCH];
	struct toucher w;
	uint8_t bytes[PAGE_BYTES];

	BED(b);
	fill(bytes, 0x22);
	CHECK_EQ(uffd_install(&b.u, 0, bytes, false), 0);
	CHECK_EQ(*(volatile uint8_t *)b.ram.hva[0], 0x22); /* a read does not fault */
	touch(&w, &b, 0, 9);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK(f[0].page == 0 && f[0].write);
	CHECK(!w.done);
	CHECK_EQ(*(volatile uint8_t *)(b.ram.hva[0] + 8), 0x22); /* a reader is not held up by the waiting writer */
	CHECK_EQ(uffd_upgrade(&b.u, 0), 0); /* wakes */
	CHECK_EQ(joined(&w), 9);
	bed_drop(&b);
}

TEST(a_waiting_writer_of_an_absent_page_faults_again_on_a_shared_install)
{
	struct uffd_fault f[UFFD_BATCH];
	struct toucher w;
	uint8_t bytes[PAGE_BYTES];

	BED(b);
	touch(&w, &b, 1, 5);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	fill(bytes, 0);
	CHECK_EQ(uffd_install(&b.u, 1, bytes, false), 0);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK(f[0].page == 1 && f[0].write);
	CHECK_EQ(uffd_upgrade(&b.u, 1), 0);
	CHECK_EQ(joined(&w), 5);
	bed_drop(&b);
}

TEST(install_on_a_present_page_is_refused)
{
	uint8_t bytes[PAGE_BYTES] = {1};

	BED(b);
	CHECK_EQ(uffd_install(&b.u, 0, bytes, true), 0);
	CHECK_EQ(uffd_install(&b.u, 0, bytes, true), -EEXIST);
	CHECK_EQ(uffd_install(&b.u, 0, bytes, false), -EEXIST);
	bed_drop(&b);
}

struct counter {
	_Atomic uint64_t *word;
	_Atomic int stop;
};

static void *count_up(void *arg)
{
	struct counter *c = arg;

	while (!c->stop)
		atomic_fetch_add_explicit(c->word, 1, memory_order_relaxed);
	return NULL;
}

TEST(protect_stops_a_running_writer_before_it_returns)
{
	struct uffd_fault f[UFFD_BATCH];
	uint8_t bytes[PAGE_BYTES] = {0};
	pthread_t thread;

	BED(b);
	struct counter c = {.word = (_Atomic uint64_t *)b.ram.hva[0]};
	CHECK_EQ(uffd_install(&b.u, 0, bytes, true), 0);
	pthread_create(&thread, NULL, count_up, &c);
	for (int round = 0; round < 200; round++) {
		uint64_t seen = *c.word;

		while (*c.word == seen) /* it runs */
			;
		CHECK_EQ(uffd_protect(&b.u, 0), 0);
		seen = *c.word;
		CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
		CHECK_EQ(*c.word, seen);
		CHECK(f[0].write);
		CHECK_EQ(uffd_upgrade(&b.u, 0), 0);
	}
	c.stop = 1;
	pthread_join(thread, NULL);
	bed_drop(&b);
}

/* The whole life of a page that leaves Modified, under a writer that never pauses: no increment may be lost. */
TEST(protect_take_zap_install_loses_no_store)
{
	struct uffd_fault f[UFFD_BATCH];
	uint8_t bytes[PAGE_BYTES] = {0};
	pthread_t thread;
	uint64_t before = 0, taken;

	BED(b);
	struct counter c = {.word = (_Atomic uint64_t *)b.ram.hva[0]};
	CHECK_EQ(uffd_install(&b.u, 0, bytes, true), 0);
	pthread_create(&thread, NULL, count_up, &c);
	for (int round = 0; round < 500; round++) {
		CHECK_EQ(uffd_protect(&b.u, 0), 0);
		CHECK_EQ(uffd_take(&b.u, 0, bytes), round == 0 && *c.word == 0);
		CHECK_EQ(uffd_zap(&b.u, 0), 0);
		memcpy(&taken, bytes, 8);
		CHECK(taken >= before);
		before = taken;
		CHECK(wait_faults(&b.u, f, UFFD_BATCH) >= 1);
		CHECK_EQ(uffd_install(&b.u, 0, bytes, true), 0);
		CHECK(uffd_faults(&b.u, f, UFFD_BATCH) >= 0); /* duplicates are normal */
		while (*c.word == taken)
			if (uffd_faults(&b.u, f, 1) > 0)
				CHECK_EQ(uffd_wake(&b.u, 0), 0);
	}
	c.stop = 1;
	pthread_join(thread, NULL);
	bed_drop(&b);
}

TEST(zap_of_a_protected_page_makes_it_missing_again)
{
	struct uffd_fault f[UFFD_BATCH];
	uint8_t bytes[PAGE_BYTES];
	struct toucher r;

	BED(b);
	fill(bytes, 0x33);
	CHECK_EQ(uffd_install(&b.u, 2, bytes, true), 0);
	CHECK_EQ(uffd_protect(&b.u, 2), 0);
	CHECK_EQ(uffd_zap(&b.u, 2), 0);
	touch(&r, &b, 2, 0);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK(f[0].page == 2 && !f[0].write);
	fill(bytes, 0x44);
	CHECK_EQ(uffd_install(&b.u, 2, bytes, true), 0); /* no protection is left over from before */
	*(volatile uint8_t *)(b.ram.hva[0] + 2 * PAGE_BYTES + 8) = 1;
	CHECK_EQ(joined(&r), 0x4444444444444444);
	bed_drop(&b);
}

TEST(every_waiter_of_a_page_is_reported_and_one_install_wakes_all)
{
	struct uffd_fault f[UFFD_BATCH];
	uint8_t bytes[PAGE_BYTES];
	struct toucher r[4];
	int reports = 0;

	BED(b);
	for (int i = 0; i < 4; i++)
		touch(&r[i], &b, 5, 0);
	while (reports < 4) {
		int n = wait_faults(&b.u, f, UFFD_BATCH);

		CHECK(n > 0);
		reports += n;
	}
	fill(bytes, 0x55);
	CHECK_EQ(uffd_install(&b.u, 5, bytes, false), 0);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(joined(&r[i]), 0x5555555555555555);
	bed_drop(&b);
}

TEST(wake_without_a_change_makes_the_thread_report_again)
{
	struct uffd_fault f[UFFD_BATCH];
	uint8_t bytes[PAGE_BYTES] = {6};
	struct toucher r;

	BED(b);
	touch(&r, &b, 6, 0);
	for (int i = 0; i < 10; i++) {
		CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
		CHECK_EQ(f[0].page, 6);
		CHECK_EQ(uffd_wake(&b.u, 6), 0);
	}
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK_EQ(uffd_install(&b.u, 6, bytes, false), 0);
	CHECK_EQ(joined(&r), 6);
	bed_drop(&b);
}

struct reading {
	int fd;
	void *to;
};

static void *read_into(void *arg)
{
	struct reading *job = arg;

	return (void *)(intptr_t)read(job->fd, job->to, 6); /* copy_to_user into an absent page */
}

TEST(kernel_mode_touches_fault_and_wait_too)
{
	struct uffd_fault f[UFFD_BATCH];
	uint8_t bytes[PAGE_BYTES];
	pthread_t thread;
	void *got;
	int p[2];

	BED(b);
	CHECK_EQ(pipe(p), 0);
	CHECK_EQ(write(p[1], "kernel", 6), 6);
	struct reading job = {p[0], b.ram.hva[0] + 7 * PAGE_BYTES};
	pthread_create(&thread, NULL, read_into, &job);
	CHECK_EQ(wait_faults(&b.u, f, UFFD_BATCH), 1);
	CHECK(f[0].page == 7 && f[0].write);
	fill(bytes, 0);
	CHECK_EQ(uffd_install(&b.u, 7, bytes, true), 0);
	pthread_join(thread, &got);
	CHECK_EQ((intptr_t)got, 6);
	CHECK(memcmp(job.to, "kernel", 6) == 0);
	close(p[0]);
	close(p[1]);
	bed_drop(&b);
}

static long resident_kib(void)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/smaps_rollup", "r");

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "Anonymous: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

TEST(zap_gives_the_frames_back_to_the_host)
{
	enum { MANY = 4096 };
	uint64_t bytes[NODES_MAX] = {(uint64_t)MANY * PAGE_BYTES};
	uint8_t page[PAGE_BYTES];
	struct uffd u;
	struct ram r;
	long before, full, after;

	CHECK_EQ(ram_layout(&r, bytes, 1), 0);
	CHECK_EQ(ram_map(&r, NULL), 0);
	if (uffd_open(&u, &r, NULL))
		SKIP("no userfaultfd");
	fill(page, 1);
	before = resident_kib();
	for (unsigned i = 0; i < MANY; i++)
		CHECK_EQ(uffd_install(&u, i, page, i & 1), 0);
	full = resident_kib();
	for (unsigned i = 0; i < MANY; i++)
		CHECK_EQ(uffd_zap(&u, i), 0);
	after = resident_kib();
	CHECK(full - before >= MANY * 4);
	CHECK(after - before < MANY * 4 / 16);
	uffd_close(&u);
	ram_unmap(&r);
}
