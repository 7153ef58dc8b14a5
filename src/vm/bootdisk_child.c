/* The two ends of the process that looks into a stranger's disk (bootdisk.h). It is this program again, so that nothing of the VM is in its memory; it
 * gets the disk, a pipe for its answer and two empty files, lays down all it does not need, and is believed no more than the disk. */
#include "vm/bootdisk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/seccomp.h>

#include "base/text.h"

enum {
	ANSWER_MAGIC = 0x6b736964, ANSWER_FD = BOOTDISK_FD + 1, KERNEL_FD, INITRD_FD, FDS_END, CHILD_MEMORY = 1 << 30, CHILD_CPU_S = 30, CHILD_FILES = 16,
};

struct answer {
	uint32_t magic;
	int32_t err;
	struct bootdisk found;
	char what[256], todo[256];
};

/* A sanitizer needs memory and calls of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const bool confined = false;
#else
static const bool confined = true;
#endif

#define ALLOW(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (call), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* What reading files, memory and ending take. Anything else ends it. */
static int confine_calls(void)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		ALLOW(SYS_pread64), ALLOW(SYS_pwrite64), ALLOW(SYS_write), ALLOW(SYS_lseek), ALLOW(SYS_fstat), ALLOW(SYS_newfstatat), ALLOW(SYS_close),
		ALLOW(SYS_brk), ALLOW(SYS_mmap), ALLOW(SYS_munmap), ALLOW(SYS_mremap), ALLOW(SYS_madvise), ALLOW(SYS_getrandom), ALLOW(SYS_futex),
		ALLOW(SYS_exit_group),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		ALLOW((uint32_t)BLKGETSIZE64),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	};
	struct sock_fprog program = {.len = ARRAY_LEN(filter), .filter = filter};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		return -errno;
	return 0;
}

static int limit(int what, rlim_t most)
{
	struct rlimit r = {most, most};

	return setrlimit((__rlimit_resource_t)what, &r) < 0 ? -errno : 0;
}

static int confine(void)
{
	int err = limit(RLIMIT_CORE, 0);

	if (!err)
		err = limit(RLIMIT_CPU, CHILD_CPU_S);
	if (!err)
		err = limit(RLIMIT_FSIZE, BOOTDISK_INITRD_MAX);
	if (!err)
		err = limit(RLIMIT_NOFILE, CHILD_FILES);
	if (!err && confined)
		err = limit(RLIMIT_AS, CHILD_MEMORY);
	if (!err && confined)
		err = confine_calls();
	return err;
}

int bootdisk_child(bool copies)
{
	struct answer a = {.magic = ANSWER_MAGIC};
	struct failure f = {0};
	int err;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	err = confine();
	if (err)
		failure_set(&f, err, "look at the limits of this host", "cannot confine the process that looks into the disk: %s", strerror(-err));
	else
		err = bootdisk_look(BOOTDISK_FD, &a.found, copies ? KERNEL_FD : -1, copies ? INITRD_FD : -1, &f);
	a.err = err;
	TEXT_SET(a.what, f.what);
	TEXT_SET(a.todo, f.todo);
	return write(ANSWER_FD, &a, sizeof a) == sizeof a ? 0 : 1;
}

/* The parent's end. */

static void make_text(char *s, size_t room)
{
	s[room - 1] = 0;
	for (; *s; s++)
		if (*s < ' ' || *s > '~')
			*s = '?';
}

#define MAKE_TEXT(array) make_text((array), sizeof(array))

/* Nothing in it may surprise those who use it. */
static int judge(struct answer *a)
{
	struct bootdisk *b = &a->found;

	if (a->magic != ANSWER_MAGIC || a->err > 0 || b->volumes > VOLUMES_MAX || b->boot < -1 || b->boot >= (int)b->volumes || b->root < -1 ||
	    b->root >= (int)b->volumes)
		return -EPROTO;
	MAKE_TEXT(b->table);
	MAKE_TEXT(b->kernel);
	MAKE_TEXT(b->initrd);
	MAKE_TEXT(a->what);
	MAKE_TEXT(a->todo);
	for (unsigned k = 0; k < b->volumes; k++) {
		MAKE_TEXT(b->volume[k].where.fs);
		MAKE_TEXT(b->volume[k].uuid);
		MAKE_TEXT(b->volume[k].label);
	}
	return 0;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* All of the answer, or -ETIMEDOUT, or -EPIPE when it ended before. */
static int hear(int pipe, struct answer *a)
{
	int64_t until = now_ms() + BOOTDISK_SECONDS_MAX * 1000;
	size_t got = 0;

	while (got < sizeof *a) {
		struct pollfd p = {.fd = pipe, .events = POLLIN};
		int64_t left = until - now_ms();
		ssize_t n = 0;

		if (left <= 0)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)left) <= 0)
			continue;
		n = read(pipe, (char *)a + got, sizeof *a - got);
		if (n == 0 || (n < 0 && errno != EINTR))
			return -EPIPE;
		got += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

/* from[k] becomes the child's descriptor BOOTDISK_FD + k. Raised first, so that none is overwritten before it is copied. */
static int start(const int *from, unsigned count, bool copies, pid_t *pid)
{
	char *args[] = {(char[]){"tessera"}, (char[]){"bootdisk"}, copies ? (char[]){"copy"} : (char[]){"look"}, NULL}, *environment[] = {NULL};
	int raised[FDS_END] = {0}, err = 0;
	posix_spawn_file_actions_t actions;
	unsigned n = 0;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&actions, 0, 1);
	for (; n < count && !err; n++) {
		raised[n] = fcntl(from[n], F_DUPFD_CLOEXEC, FDS_END);
		if (raised[n] < 0) {
			err = -errno;
			break;
		}
		posix_spawn_file_actions_adddup2(&actions, raised[n], BOOTDISK_FD + (int)n);
	}
	posix_spawn_file_actions_addclosefrom_np(&actions, BOOTDISK_FD + (int)count);
	if (!err)
		err = -posix_spawn(pid, "/proc/self/exe", &actions, NULL, args, environment);
	posix_spawn_file_actions_destroy(&actions);
	while (n > 0)
		close(raised[--n]);
	return err;
}

/* How it went, from what it said and how it ended. */
static int conclude(const struct answer *a, int heard, int status, const char *name, struct failure *f)
{
	const char *remedy = "check its file system with e2fsck, or pass --kernel";

	if (heard == -ETIMEDOUT || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU))
		return failure_set(f, -ENOEXEC, remedy, "looking into %.120s takes too long; it is damaged, or made to do so", name);
	if (heard)
		return failure_set(f, -ENOEXEC, remedy, "looking into %.120s failed (%s %d)", name, WIFSIGNALED(status) ? "signal" : "status",
			WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	if (a->err)
		return failure_set(f, a->err, a->todo, "%.80s: %s", name, a->what);
	return 0;
}

static int ask(const int *from, unsigned count, int answer_fd, const char *name, struct bootdisk *out, struct failure *f)
{
	struct answer *a = calloc(1, sizeof *a);
	int status = 0, heard, err;
	pid_t pid;

	if (!a)
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	err = start(from, count, count > 2, &pid);
	close(from[1]); /* else its end would not be seen */
	if (err) {
		free(a);
		return failure_set(f, err, "see that this host has processes and memory left", "cannot start the process that looks into %.120s: %s", name, strerror(-err));
	}
	heard = hear(answer_fd, a);
	if (heard)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!heard)
		heard = judge(a);
	err = conclude(a, heard, status, name, f);
	*out = heard ? (struct bootdisk){.boot = -1, .root = -1} : a->found;
	free(a);
	return err;
}

static int make_file(const char *name, int *fd, struct failure *f)
{
	*fd = memfd_create(name, MFD_CLOEXEC);
	return *fd < 0 ? failure_set(f, -errno, "free some memory", "cannot make a file in memory: %s", strerror(errno)) : 0;
}

int bootdisk_find(int fd, const char *name, struct bootdisk *out, int *kernel_fd, int *initrd_fd, struct failure *f)
{
	int pipes[2] = {-1, -1}, kernel = -1, initrd = -1, err = 0;

	*out = (struct bootdisk){.boot = -1, .root = -1};
	if (pipe2(pipes, O_CLOEXEC) < 0)
		return failure_set(f, -errno, "close some files", "cannot make a pipe: %s", strerror(errno));
	if (kernel_fd)
		err = make_file("kernel", &kernel, f);
	if (kernel_fd && !err)
		err = make_file("initrd", &initrd, f);
	if (err)
		close(pipes[1]);
	else
		err = ask((int[]){fd, pipes[1], kernel, initrd}, kernel_fd ? 4 : 2, pipes[0], name, out, f);
	close(pipes[0]);
	if (kernel_fd && !err) {
		*kernel_fd = kernel;
		*initrd_fd = *out->initrd ? initrd : -1;
	}
	if (kernel >= 0 && (err || !kernel_fd))
		close(kernel);
	if (initrd >= 0 && (err || !*out->initrd))
		close(initrd);
	return err;
}
