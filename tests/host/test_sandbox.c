/* What a process can still do once it is locked up (node/sandbox.h), and that it dies of anything else, whichever of its threads tries. */
#include "node/sandbox.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct forbidden { const char *what; long call, a, b, c; };

static const struct forbidden cases[] = {
	{"a stream to elsewhere", SYS_socket, AF_INET, SOCK_STREAM, 0},
	{"connecting", SYS_connect, 0, 0, 0},
	{"descriptors from elsewhere", SYS_recvmsg, 0, 0, 0},
	{"a socket's settings", SYS_setsockopt, 0, 0, 0},
	{"a program", SYS_execve, 0, 0, 0},
	{"a process", SYS_fork, 0, 0, 0},
	{"a process, by clone", SYS_clone, SIGCHLD, 0, 0},
	{"a signal to another process", SYS_tgkill, 1, 1, 0},
	{"a signal to all", SYS_kill, -1, 0, 0},
	{"reading another process", SYS_ptrace, 0, 0, 0},
	{"reading another's memory", SYS_process_vm_readv, 1, 0, 0},
	{"memory with code in it", SYS_mmap, 0, PAGE_BYTES, PROT_READ | PROT_EXEC},
	{"memory that becomes code", SYS_mprotect, 0, PAGE_BYTES, PROT_EXEC},
	{"a terminal's input", SYS_ioctl, 0, TIOCSTI, 0},
	{"another vCPU", SYS_ioctl, 0, KVM_CREATE_VCPU, 0},
	{"another memory slot", SYS_ioctl, 0, KVM_SET_USER_MEMORY_REGION, 0},
	{"another handler", SYS_rt_sigaction, SIGSYS, 0, 0},
	{"being dumpable", SYS_prctl, PR_SET_DUMPABLE, 1, 0},
	{"removing a file", SYS_unlinkat, AT_FDCWD, 0, 0},
	{"another root", SYS_chroot, 0, 0, 0},
	{"another namespace", SYS_unshare, CLONE_NEWUSER, 0, 0},
	{"another user", SYS_setuid, 0, 0, 0},
	{"another way into the kernel", SYS_io_uring_setup, 1, 0, 0},
	{"a program in the kernel", SYS_bpf, 0, 0, 0},
	{"no such call", 4000, 0, 0, 0},
};

/* A thread that was there before the lock. */
struct older {
	const struct forbidden *will;
	int word; /* futex: 1: go */
};

static void *older_main(void *arg)
{
	struct older *o = arg;

	while (!__atomic_load_n(&o->word, __ATOMIC_ACQUIRE))
		syscall(SYS_futex, &o->word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	if (o->will)
		syscall(o->will->call, o->will->a, o->will->b, o->will->c, 0, 0, 0);
	return NULL;
}

/* In a child: locked up, does it. 7: it survived; 8: no sandbox. */
static _Noreturn void trespass(const struct forbidden *will, bool by_older)
{
	struct older o = {.will = by_older ? will : NULL};
	pthread_t t;

	if (freopen("/dev/null", "w", stderr) == NULL || sandbox_begin(NULL) || pthread_create(&t, NULL, older_main, &o) || sandbox_lock(1, NULL))
		_exit(8);
	__atomic_store_n(&o.word, 1, __ATOMIC_RELEASE);
	syscall(SYS_futex, &o.word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	pthread_join(t, NULL);
	if (!by_older)
		syscall(will->call, will->a, will->b, will->c, 0, 0, 0);
	_exit(7);
}

/* How the child ended, and which call its sandbox names. */
static int status_of(pid_t pid, int *call)
{
	siginfo_t info;
	int status = -1;

	if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) < 0)
		return -1;
	*call = sandbox_call(pid);
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static const char *no_sandbox(void)
{
	struct failure f = {0};

	if (!sandbox_locks())
		return "built with a sanitizer";
	return sandbox_try(&f) ? "this host lets nobody build a sandbox (tessera doctor)" : NULL;
}

TEST(what_is_forbidden_kills)
{
	if (no_sandbox())
		SKIP(no_sandbox());
	for (unsigned k = 0; k < 2 * ARRAY_LEN(cases); k++) {
		const struct forbidden *c = &cases[k / 2];
		int call = -1, status;
		pid_t pid;

		printf("     %s, by %s\n", c->what, k % 2 ? "a thread that was there before" : "the one that locked");
		fflush(stdout);
		pid = fork();
		if (pid == 0)
			trespass(c, k % 2);
		status = status_of(pid, &call);
		CHECK(WIFSIGNALED(status));
		CHECK_EQ(WTERMSIG(status), SIGSYS);
		CHECK_EQ(call, c->call);
	}
}

/* In a child: everything that must still work does; the number of what did not. */
static int live_on(int file)
{
	struct older o = {.word = 1};
	char byte = 'x';
	pthread_t t;
	void *at;

	/* libc sets up signals of its own with a process's first thread; a fragment has had many */
	if (sandbox_begin(NULL) || pthread_create(&t, NULL, older_main, &o) || pthread_join(t, NULL) || sandbox_lock(1, NULL))
		return 1;
	if (pthread_create(&t, NULL, older_main, &o) || pthread_join(t, NULL))
		return 2;
	at = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (at == MAP_FAILED || madvise(at, 1 << 20, MADV_DONTNEED) || munmap(at, 1 << 20))
		return 3;
	if (pwrite(file, &byte, 1, 5) != 1 || pread(file, &byte, 1, 5) != 1 || fdatasync(file) || fallocate(file, 0, 0, PAGE_BYTES))
		return 4;
	if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES)
		return 5;
	return 0;
}

TEST(what_is_needed_works)
{
	FILE *file = tmpfile();
	int call, status;
	pid_t pid;

	if (no_sandbox())
		SKIP(no_sandbox());
	CHECK(file);
	pid = fork();
	if (pid == 0)
		_exit(live_on(fileno(file)));
	status = status_of(pid, &call);
	fclose(file);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
	CHECK_EQ(call, -1);
}

/* In a child: the daemon of a user that is not root. */
static _Noreturn void as_user(void)
{
	_exit(setgid(12345) || setuid(12345) || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) || live_on(-1) != 4);
}

TEST(root_is_not_needed)
{
	int call, status;
	pid_t pid;

	if (no_sandbox())
		SKIP(no_sandbox());
	if (geteuid() != 0)
		SKIP("not root: cannot become another user");
	if (access("/proc/sys/user/max_user_namespaces", F_OK))
		SKIP("this kernel has no user namespaces");
	pid = fork();
	if (pid == 0)
		as_user();
	status = status_of(pid, &call);
	CHECK(WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
}
