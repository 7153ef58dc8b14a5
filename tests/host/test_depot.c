/* Disks and network cards in the sandbox (node/sandbox.h): opened before, they do all they are for afterwards, and are closed; with every backend that this host has. */
#include "dev/depot.h"
#include "node/sandbox.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IMAGE = 1 << 20, PIECE = 8192 };

struct wait {
	pthread_mutex_t lock; /* guards done */
	pthread_cond_t bell;
	bool done;
	int err;
};

static void on_done(struct disk_request *r, int err)
{
	struct wait *w = r->user;

	pthread_mutex_lock(&w->lock);
	w->done = true;
	w->err = err;
	pthread_cond_signal(&w->bell);
	pthread_mutex_unlock(&w->lock);
}

static int ask(struct disk *d, enum disk_op op, struct iovec *iov, unsigned iovs)
{
	struct wait w = {.lock = PTHREAD_MUTEX_INITIALIZER, .bell = PTHREAD_COND_INITIALIZER};
	struct disk_request r = {.op = op, .offset = op == DISK_FLUSH ? 0 : PIECE, .bytes = op == DISK_FLUSH ? 0 : PIECE, .iov = iov, .iovs = iovs, .unmap = true,
		.done = on_done, .user = &w};
	int err = disk_submit(d, &r);

	if (err)
		return err;
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.bell, &w.lock);
	pthread_mutex_unlock(&w.lock);
	return w.err;
}

static int use_disk(struct disk *d)
{
	static const enum disk_op ops[] = {DISK_WRITE, DISK_FLUSH, DISK_READ, DISK_DISCARD, DISK_WRITE_ZEROES, DISK_READ, DISK_FLUSH};
	uint8_t memory[PIECE + 1];
	struct iovec iov[2] = {{memory + 1, 1000}, {memory + 1001, PIECE - 1000}};
	int err = 0;

	for (unsigned i = 0; i < ARRAY_LEN(ops) && !err; i++) {
		bool data = ops[i] == DISK_READ || ops[i] == DISK_WRITE;

		memset(memory, 0x5a, sizeof memory);
		err = ask(d, ops[i], data ? iov : NULL, data ? 2 : 0);
		if (!err && ops[i] == DISK_READ && memory[PIECE] != (i == 2 ? 0x5a : 0))
			err = -EIO;
	}
	return err;
}

static bool on_receive(void *user, const uint8_t *frame, size_t bytes)
{
	return true;
}

static void on_link(void *user, bool up)
{
}

static int use_nic(struct nic *n)
{
	uint8_t frame[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6};
	struct iovec iov = {frame, sizeof frame};

	return nic_send(n, &iov, 1);
}

/* In a child: 0, or what failed. */
static int live_on(struct gear *g)
{
	struct nic_calls calls = {.receive = on_receive, .link = on_link};
	struct depot *d;
	struct failure f = {0};

	if (sandbox_begin(&f) || depot_open(&d, &(struct depot_config){.gear = g, .node = "A"}, &f)) {
		printf("     %s\n", f.what);
		return f.err == -EPERM || f.err == -ENETDOWN || f.err == -ENOENT ? 77 : 1;
	}
	for (unsigned i = 0; i < g->nics; i++)
		if (nic_start(depot_nic(d, i), &calls))
			return 2;
	if (sandbox_lock(1, &f))
		return 3;
	for (unsigned i = 0; i < g->disks; i++)
		if (use_disk(depot_disk(d, i)))
			return 4;
	for (unsigned i = 0; i < g->nics; i++)
		if (use_nic(depot_nic(d, i)))
			return 5;
	depot_close(d);
	return 0;
}

static void try(struct test *self, const char *line)
{
	struct gear g;
	siginfo_t info;
	int status, call;
	pid_t pid;

	if (sandbox_try(NULL))
		SKIP("this host lets nobody build a sandbox (tessera doctor)");
	CHECK_EQ(gear_read(&g, line, strlen(line), NULL), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		status = live_on(&g);
		fflush(stdout);
		_exit(status);
	}
	CHECK_EQ(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	call = sandbox_call(pid);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(call, -1);
	CHECK(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		SKIP("this host cannot have one");
	CHECK_EQ(WEXITSTATUS(status), 0);
}

/* A file of that format, 1 MiB; its line of gear. */
static bool make(const char *format, const char *options, char path[64], char line[256])
{
	char command[200];
	int fd;

	snprintf(path, 64, "/var/tmp/tessera-depot-XXXXXX");
	fd = mkstemp(path);
	if (fd < 0)
		return false;
	close(fd);
	snprintf(line, 256, "disk %s,node=A,%sformat=%s\n", path, options, format);
	if (strcmp(format, "raw") == 0)
		return truncate(path, IMAGE) == 0;
	snprintf(command, sizeof command, "qemu-img create -q -f %s %s %d", format, path, IMAGE);
	return system(command) == 0;
}

static void try_disk(struct test *self, const char *format, const char *options)
{
	char path[64], line[256];

	CHECK(make(format, options, path, line));
	try(self, line);
	unlink(path);
}

TEST(disks_of_raw_files)
{
	static const char *const caches[] = {"cache=writeback,", "cache=none,", "cache=writethrough,", "cache=unsafe,"};

	for (unsigned i = 0; i < ARRAY_LEN(caches) && !self->failed && !self->skipped; i++)
		try_disk(self, "raw", caches[i]);
}

TEST(disks_of_other_formats)
{
	if (access("/usr/bin/qemu-nbd", X_OK) < 0 || access("/usr/bin/qemu-img", X_OK) < 0)
		SKIP("qemu-utils is not installed");
	try_disk(self, "qcow2", "");
	if (!self->failed && !self->skipped)
		try_disk(self, "qcow2", "cache=writethrough,");
}

TEST(cards_of_passt)
{
	if (access("/usr/bin/passt", X_OK) < 0)
		SKIP("passt is not installed");
	try(self, "net user,node=A\n");
}

TEST(cards_of_tap)
{
	try(self, "net tap,node=A\n");
}
