/* dev/disk over files: what a guest may rely on, and what becomes of a disk when the world breaks. fdatasync is ours here, to see and to break flushes. */
#include "dev/disk.h"
#include "tests/test.h"
#include "tests/unit/disk_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int syncs, sync_errno;
static atomic_bool held; /* each fdatasync says begun and waits for go */
static sem_t begun, go;
static uint8_t synced_byte; /* what the file began with when it was last made durable */

int fdatasync(int fd)
{
	int err = atomic_load(&sync_errno);

	atomic_fetch_add(&syncs, 1);
	if (atomic_load(&held)) {
		sem_post(&begun);
		sem_wait(&go);
		err = atomic_load(&sync_errno);
	}
	if (pread(fd, &synced_byte, 1, 0) != 1)
		synced_byte = 0;
	errno = err;
	return err ? -1 : 0;
}

static void syncs_forget(void)
{
	atomic_store(&syncs, 0);
	atomic_store(&sync_errno, 0);
}

TEST(disk_keeps_what_was_written)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	CHECK_EQ(disk_bytes(r->d), IMAGE);
	CHECK_EQ(disk_block_bytes(r->d), 512);
	CHECK(!disk_readonly(r->d) && disk_writes_back(r->d));
	memset(r->buffer, 0x5a, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 512, 4096), 0);
	memset(r->buffer, 0, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 8192), 0);
	CHECK(disk_rig_all(r->buffer, 512, 0) && disk_rig_all(r->buffer + 512, 4096, 0x5a) && disk_rig_all(r->buffer + 4608, 8192 - 4608, 0));
	CHECK_EQ(disk_rig_ask(r, DISK_READ, IMAGE, 0), 0);
	disk_rig_free(r);
}

TEST(disk_refuses_what_makes_no_sense)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
	struct disk_request q = {.op = DISK_READ, .bytes = 512, .done = r->on_done, .user = r};
	struct iovec iov = {r->buffer, 256};

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, IMAGE, 512), -ERANGE);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, IMAGE - 512, 1024), -ERANGE);
	CHECK_EQ(disk_rig_ask(r, DISK_DISCARD, UINT64_MAX & ~511ull, 1024), -ERANGE);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 100, 512), -EINVAL);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 100), -EINVAL);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 512, 0), -EINVAL);
	CHECK_EQ(disk_rig_ask(r, DISK_OPS, 0, 0), -EINVAL);
	CHECK_EQ(disk_submit(r->d, &q), -EINVAL); /* no memory */
	q.iov = &iov;
	q.iovs = 1;
	CHECK_EQ(disk_submit(r->d, &q), -EINVAL); /* too little */
	iov.iov_len = SIZE_MAX;
	CHECK_EQ(disk_submit(r->d, &q), -EINVAL);
	CHECK_EQ(r->done, 0);
	disk_rig_free(r);
}

TEST(disk_agrees_with_a_model)
{
	for (enum disk_cache c = 0; c < DISK_CACHES; c++) {
		struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
		uint8_t *model = calloc(1, IMAGE);

		CHECK_EQ(disk_rig_open(r, &(struct disk_config){.cache = c}), 0);
		if (disk_block_bytes(r->d) == 512)
			CHECK(disk_rig_walk(r, model, 400));
		free(model);
		disk_rig_free(r);
	}
}

TEST(disk_takes_any_memory_without_the_page_cache)
{
	struct disk_rig *r = disk_rig_new(".", IMAGE - 300);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.cache = DISK_NONE}), 0);
	CHECK_EQ(disk_bytes(r->d) & (disk_block_bytes(r->d) - 1), 0);
	memset(r->buffer, 0x77, BUFFER);
	CHECK_EQ(disk_rig_ask_with(r, DISK_WRITE, 4096, 65536, r->buffer + 3), 0);
	memset(r->buffer, 0, BUFFER);
	CHECK_EQ(disk_rig_ask_with(r, DISK_READ, 4096, 65536, r->buffer + 1), 0);
	CHECK(disk_rig_all(r->buffer + 1, 65536, 0x77) && !r->buffer[65537]);
	memset(r->buffer, 0xff, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, disk_bytes(r->d) - 8192, 8192), 0);
	CHECK(disk_rig_all(r->buffer, 8192, 0));
	disk_rig_free(r);
}

TEST(disk_rounds_up_to_a_sector)
{
	struct disk_rig *r = disk_rig_new("/tmp", 1000);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	CHECK_EQ(disk_bytes(r->d), 1024);
	memset(r->buffer, 0xff, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 1024), 0);
	CHECK(disk_rig_all(r->buffer, 1024, 0));
	memset(r->buffer, 0xee, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 512, 512), 0);
	memset(r->buffer, 0, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 512, 512), 0);
	CHECK(disk_rig_all(r->buffer, 512, 0xee));
	disk_rig_free(r);
}

TEST(disk_readonly_cannot_be_changed)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.readonly = true}), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), -EROFS);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE_ZEROES, 0, 512), -EROFS);
	CHECK_EQ(disk_rig_ask(r, DISK_DISCARD, 0, 512), -EROFS);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 512), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), 0);
	CHECK(disk_readonly(r->d) && !disk_can_discard(r->d) && !disk_writes_back(r->d));
	disk_rig_free(r);
}

TEST(disk_flush_makes_durable_what_had_ended)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	syncs_forget();
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	memset(r->buffer, 0x42, 512);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), 0);
	CHECK_EQ(atomic_load(&syncs), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), 0);
	CHECK_EQ(atomic_load(&syncs), 1);
	CHECK_EQ(synced_byte, 0x42);
	disk_rig_free(r);
}

TEST(disk_writethrough_is_durable_at_once)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	syncs_forget();
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.cache = DISK_WRITETHROUGH}), 0);
	CHECK(!disk_writes_back(r->d));
	memset(r->buffer, 0x43, 512);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), 0);
	CHECK_EQ(atomic_load(&syncs), 1);
	CHECK_EQ(synced_byte, 0x43);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE_ZEROES, 0, 512), 0);
	CHECK_EQ(atomic_load(&syncs), 2);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 512), 0);
	CHECK_EQ(atomic_load(&syncs), 2);
	disk_rig_free(r);
}

TEST(disk_unsafe_never_flushes)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	syncs_forget();
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.cache = DISK_UNSAFE}), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), 0);
	CHECK_EQ(atomic_load(&syncs), 0);
	disk_rig_free(r);
}

TEST(disk_does_not_forget_a_failed_flush)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	syncs_forget();
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	atomic_store(&sync_errno, ENOSPC);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), -ENOSPC);
	atomic_store(&sync_errno, 0);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), -EIO);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), -EIO);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 512), 0);
	CHECK_EQ(r->troubles, 2); /* once an errno */
	disk_rig_free(r);
}

/* The first flush is under way, two more wait for it. */
static void hold_three(struct disk_rig *r, struct disk_request q[3])
{
	syncs_forget();
	sem_init(&begun, 0, 0);
	sem_init(&go, 0, 0);
	atomic_store(&held, true);
	for (unsigned i = 0; i < 3; i++) {
		q[i] = (struct disk_request){.op = DISK_FLUSH, .done = r->on_done, .user = r};
		if (disk_submit(r->d, &q[i]))
			abort();
		if (i == 0)
			sem_wait(&begun);
	}
	/* requests are taken in turn: when this one has ended, both others have been taken by threads that wait, or are about to */
	if (disk_rig_ask(r, DISK_READ, 0, 512))
		abort();
}

TEST(disk_flushes_together_what_waits)
{
	int least = 3;

	/* the first, which had begun before the others came, and one for both; or one each, when the last was late */
	for (unsigned i = 0; i < 200 && least > 2; i++) {
		struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
		struct disk_request q[3];

		CHECK_EQ(disk_rig_open(r, &(struct disk_config){.threads = 4}), 0);
		hold_three(r, q);
		atomic_store(&held, false);
		sem_post(&go);
		disk_rig_wait(r, 4);
		CHECK_EQ(r->failed, 0);
		CHECK(atomic_load(&syncs) >= 2 && atomic_load(&syncs) <= 3);
		least = atomic_load(&syncs) < least ? atomic_load(&syncs) : least;
		disk_rig_free(r);
	}
	CHECK_EQ(least, 2);
}

TEST(disk_fails_every_flush_that_waited_for_a_failed_one)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
	struct disk_request q[3];

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.threads = 4}), 0);
	hold_three(r, q);
	atomic_store(&sync_errno, EIO);
	atomic_store(&held, false);
	sem_post(&go);
	disk_rig_wait(r, 4);
	CHECK_EQ(r->failed, 3);
	CHECK_EQ(atomic_load(&syncs), 1);
	disk_rig_free(r);
}

TEST(disk_discards_and_zeroes)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
	struct stat before, after;

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	if (!disk_can_discard(r->d)) {
		disk_rig_free(r);
		SKIP("the file system of /tmp has no holes");
	}
	memset(r->buffer, 0x11, BUFFER);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, BUFFER), 0);
	stat(r->path, &before);
	CHECK_EQ(disk_rig_ask(r, DISK_DISCARD, 65536, 65536), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, BUFFER), 0);
	CHECK(disk_rig_all(r->buffer, 65536, 0x11) && disk_rig_all(r->buffer + 65536, 65536, 0) && disk_rig_all(r->buffer + 131072, BUFFER - 131072, 0x11));
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE_ZEROES, 0, BUFFER), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, BUFFER), 0);
	CHECK(disk_rig_all(r->buffer, BUFFER, 0));
	stat(r->path, &after);
	CHECK(after.st_blocks < before.st_blocks);
	CHECK_EQ(after.st_size, IMAGE);
	disk_rig_free(r);
}

TEST(disk_lives_on_when_its_file_is_cut_short)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	CHECK_EQ(truncate(r->path, 8192), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 65536, 4096), -EIO);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 4096, 8192), -EIO);
	CHECK_EQ(r->troubles, 1);
	CHECK(strstr(r->trouble, "cut short"));
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 4096, 4096), 0);
	memset(r->buffer, 0x21, 4096);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 65536, 4096), 0);
	memset(r->buffer, 0, 4096);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 65536, 4096), 0);
	CHECK(disk_rig_all(r->buffer, 4096, 0x21));
	disk_rig_free(r);
}

TEST(disk_gives_a_file_size_limit_back_as_an_error)
{
	struct disk_rig *r = disk_rig_new("/tmp", 1000);
	struct rlimit old, small;

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 600;
	setrlimit(RLIMIT_FSIZE, &small);
	int whole = disk_rig_ask(r, DISK_WRITE, 512, 512), again = disk_rig_ask(r, DISK_WRITE, 0, 512);
	setrlimit(RLIMIT_FSIZE, &old);
	CHECK_EQ(whole, -EFBIG);
	CHECK_EQ(again, 0);
	CHECK(strstr(r->trouble, "limit of file sizes"));
	disk_rig_free(r);
}

/* In a process and a mount namespace of its own; 0: as it should be, 1: not, 77: no such namespace here. */
static int full_tmpfs(void)
{
	struct disk_rig *r;
	int err;

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("none", "/tmp", "tmpfs", 0, "size=128k") < 0)
		return 77;
	r = disk_rig_new("/tmp", IMAGE);
	if (disk_rig_open(r, &(struct disk_config){0}))
		return 1;
	memset(r->buffer, 0x31, BUFFER);
	err = disk_rig_ask(r, DISK_WRITE, 0, BUFFER);
	if (err != -ENOSPC || r->troubles != 1 || !strstr(r->trouble, "make room"))
		return 1;
	if (disk_rig_ask(r, DISK_READ, 0, BUFFER) || disk_rig_ask(r, DISK_DISCARD, 0, BUFFER) || disk_rig_ask(r, DISK_WRITE, 0, 65536))
		return 1;
	disk_rig_free(r);
	return 0;
}

static int in_child(int (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(what());
	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

TEST(disk_survives_a_full_file_system)
{
	int code = in_child(full_tmpfs);

	if (code == 77)
		SKIP("no mount namespace for a tiny tmpfs here (not root)");
	CHECK_EQ(code, 0);
}

TEST(disk_belongs_to_one_writer)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
	struct disk *other = NULL;
	struct failure f = {0};
	char name[32], byte;
	int ready[2];
	pid_t pid;

	CHECK_EQ(pipe(ready), 0);
	pid = fork();
	if (pid == 0) {
		_exit(disk_rig_open(r, &(struct disk_config){0}) || write(ready[1], "x", 1) != 1 ? 1 : pause());
	}
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), -EBUSY);
	snprintf(name, sizeof name, "process %d ", (int)pid);
	CHECK(strstr(r->f.what, name) && strstr(r->f.what, "unit_dev"));
	r->f.err = 0;
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.readonly = true}), -EBUSY);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(ready[0]);
	close(ready[1]);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.readonly = true}), 0);
	CHECK_EQ(disk_open(&other, &(struct disk_config){.path = r->path, .readonly = true}, &f), 0);
	disk_close(other);
	CHECK_EQ(disk_open(&other, &(struct disk_config){.path = r->path}, &f), -EBUSY);
	CHECK(strstr(f.what, "another disk of this VM"));
	disk_rig_free(r);
}

TEST(disk_says_why_it_cannot_be_opened)
{
	struct disk_rig *r = disk_rig_new("/tmp", 0);
	int fd = open(r->path, O_RDONLY | O_CLOEXEC);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "/nowhere/disk"}), -ENOENT);
	CHECK(strstr(r->f.what, "/nowhere/disk"));
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "/tmp"}), -EISDIR);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "/tmp", .readonly = true}), -EISDIR);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "/dev/null"}), -EINVAL);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.fd = fd}), -EROFS);
	CHECK_EQ(fcntl(fd, F_GETFD), -1); /* it was taken all the same */
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	CHECK_EQ(disk_bytes(r->d), 0);
	disk_rig_free(r);
}

TEST(disk_serves_raw_whatever_it_looks_like)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	memset(r->buffer, 0, 512);
	memcpy(r->buffer, "QFI\xfb", 4);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), 0);
	disk_close(r->d);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){0}), 0);
	CHECK_EQ(disk_bytes(r->d), IMAGE);
	memset(r->buffer, 0, 512);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 512), 0);
	CHECK(memcmp(r->buffer, "QFI\xfb", 4) == 0);
	disk_rig_free(r);
}

/* A block device over the rig's file; "" where there is none to be had. */
static void make_loop(const struct disk_rig *r, char name[64])
{
	char command[200];
	FILE *out;

	*name = 0;
	snprintf(command, sizeof command, "losetup --find --show %s 2>/dev/null", r->path);
	out = popen(command, "r");
	if (out && fgets(name, 64, out))
		name[strcspn(name, "\n")] = 0;
	if (out)
		pclose(out);
}

static void end_loop(const char *name)
{
	char command[200];

	snprintf(command, sizeof command, "losetup --detach %s", name);
	if (system(command))
		printf("     %s stays\n", name);
}

TEST(disk_on_a_block_device_agrees_with_a_model)
{
	for (enum disk_cache c = 0; c < DISK_CACHES; c++) {
		struct disk_rig *r = disk_rig_new("/var/tmp", IMAGE);
		uint8_t *model = calloc(1, IMAGE);
		struct disk *other;
		char device[64];

		make_loop(r, device);
		if (!*device) {
			disk_rig_free(r);
			free(model);
			SKIP("no loop device to be had (not root, or no losetup)");
		}
		CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = device, .cache = c}), 0);
		CHECK_EQ(disk_bytes(r->d), IMAGE);
		if (disk_block_bytes(r->d) == 512)
			CHECK(disk_rig_walk(r, model, 200));
		CHECK_EQ(disk_rig_ask(r, DISK_DISCARD, 0, IMAGE), 0);
		CHECK_EQ(disk_open(&other, &(struct disk_config){.path = device}, NULL), -EBUSY); /* one writer here, too */
		CHECK_EQ(r->troubles, 0);
		end_loop(device);
		free(model);
		disk_rig_free(r);
	}
}

enum { CROWD = 500 };

struct crowd {
	struct disk *d;
	atomic_uint done;
	struct disk_request q[CROWD];
	struct iovec iov[CROWD];
	uint8_t sector[CROWD][512];
};

/* Each write asks for the one after the next from its done(). */
static void crowd_done(struct disk_request *q, int err)
{
	struct crowd *c = q->user;
	unsigned next = (unsigned)(q - c->q) + 2;

	if (!err)
		atomic_fetch_add(&c->done, 1);
	if (next < CROWD && disk_submit(c->d, &c->q[next]))
		abort();
}

TEST(disk_close_waits_for_all_and_for_what_they_ask_for)
{
	struct disk_rig *r = disk_rig_new("/tmp", IMAGE);
	struct crowd *c = calloc(1, sizeof *c);
	struct disk_counts n;

	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.threads = 8}), 0);
	c->d = r->d;
	for (unsigned i = 0; i < CROWD; i++) {
		memset(c->sector[i], (int)(i % 251) + 1, 512);
		c->iov[i] = (struct iovec){c->sector[i], 512};
		c->q[i] = (struct disk_request){.op = DISK_WRITE, .offset = i * 512, .bytes = 512, .iov = &c->iov[i], .iovs = 1, .done = crowd_done, .user = c};
	}
	CHECK_EQ(disk_submit(r->d, &c->q[0]), 0);
	CHECK_EQ(disk_submit(r->d, &c->q[1]), 0);
	disk_close(r->d);
	CHECK_EQ(atomic_load(&c->done), CROWD);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.readonly = true}), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, CROWD * 512), 0);
	for (unsigned i = 0; i < CROWD; i++)
		CHECK(disk_rig_all(r->buffer + i * 512, 512, (uint8_t)(i % 251 + 1)));
	disk_count(r->d, &n);
	CHECK_EQ(n.requests[DISK_READ], 1);
	CHECK_EQ(n.bytes[DISK_READ], CROWD * 512);
	free(c);
	disk_rig_free(r);
}
