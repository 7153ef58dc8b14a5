/* See sandbox.h. The list of system calls is what fragments were seen to make (strace over the tests of host and guest), and what disks will. */
#include "node/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

enum { NOBODY = 65534 };

static const char remedy[] = "'tessera doctor' tries it; for debugging only there is run --no-sandbox";
static const char name_prefix[] = "forbidden:";

bool sandbox_locks(void)
{
	return !SANITIZED;
}

static int refused(struct failure *f, const char *what)
{
	int err = errno ? -errno : -EPERM;

	return failure_set(f, err, remedy, "the sandbox cannot be built: %s: %s", what, strerror(-err));
}

/* Beginning. */

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, text, strlen(text)) >= 0;

	if (fd >= 0)
		close(fd);
	return done ? 0 : -errno;
}

/* Without root the other namespaces come with one of users only, in which we are who we were. */
static int unshare_as_user(int spaces)
{
	unsigned uid = geteuid(), gid = getegid();
	char text[64];

	if (unshare(spaces | CLONE_NEWUSER) < 0 || write_file("/proc/self/setgroups", "deny"))
		return -1;
	snprintf(text, sizeof text, "%u %u 1", uid, uid);
	if (write_file("/proc/self/uid_map", text))
		return -1;
	snprintf(text, sizeof text, "%u %u 1", gid, gid);
	return write_file("/proc/self/gid_map", text) ? -1 : 0;
}

static int limit(__rlimit_resource_t resource, rlim_t most)
{
	struct rlimit r;

	if (getrlimit(resource, &r) < 0)
		return -1;
	r.rlim_cur = r.rlim_max = r.rlim_max < most ? r.rlim_max : most;
	return setrlimit(resource, &r);
}

int sandbox_begin(struct failure *f)
{
	const int spaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;

	if (SANITIZED)
		return 0;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return refused(f, "no new privileges");
	if (limit(RLIMIT_CORE, 0) < 0 || limit(RLIMIT_NOFILE, SANDBOX_FILES) < 0)
		return refused(f, "limits");
	if (unshare(spaces) < 0 && (errno != EPERM || unshare_as_user(spaces) < 0))
		return refused(f, "namespaces");
	return mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ? refused(f, "private mounts") : 0;
}

/* Locking. */

/* An empty file system over a folder that is always there becomes the root, and the old one goes. A root that is the kernel's first file system
 * cannot be exchanged; there the new one is laid over it. */
static int empty_root(struct failure *f)
{
	static const char at[] = "/dev";

	if (mount("none", at, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, "size=4k,nr_inodes=2,mode=555") < 0 || chdir(at) < 0)
		return refused(f, "an empty file system");
	if (syscall(SYS_pivot_root, ".", ".") == 0) {
		if (umount2(".", MNT_DETACH) < 0)
			return refused(f, "letting go of the old root");
	} else if (errno != EINVAL || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
		return refused(f, "an empty root");
	}
	return chdir("/") < 0 ? refused(f, "the new root") : 0;
}

/* libc makes all threads change, and whoever stops being root loses its capabilities; a thread of no root has some in its own namespace only. */
static int become_nobody(uint64_t vm_id, struct failure *f)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
	unsigned user = SANDBOX_USERS + (unsigned)(vm_id & SANDBOX_USERS_MASK);

	/* EPERM: in a namespace of one user there is nobody else to become; EINVAL: in one of few users there is not this one */
	if (geteuid() == 0 && setgroups(0, NULL) == 0) {
		if (setresgid(user, user, user) < 0 && errno == EINVAL)
			user = NOBODY;
		if (setresgid(user, user, user) < 0 || setresuid(user, user, user) < 0)
			return refused(f, "a user of its own");
		if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
			return refused(f, "no dumps");
	}
	return syscall(SYS_capset, &head, none) < 0 ? refused(f, "no capabilities") : 0;
}

static const int allowed[] = {
	/* streams, files that are open, events */
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(sendmsg),
	SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(close), SCMP_SYS(poll),
	SCMP_SYS(ppoll), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2),
	SCMP_SYS(eventfd2), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(pread64), SCMP_SYS(pwrite64), SCMP_SYS(preadv),
	SCMP_SYS(pwritev), SCMP_SYS(preadv2), SCMP_SYS(pwritev2), SCMP_SYS(lseek), SCMP_SYS(fdatasync), SCMP_SYS(fsync), SCMP_SYS(fallocate),
	SCMP_SYS(fstat), SCMP_SYS(newfstatat),
	/* memory */
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
	/* threads; sysinfo: qsort asks how much memory there is */
	SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(gettid), SCMP_SYS(getpid),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getrandom),
	SCMP_SYS(sysinfo), SCMP_SYS(getrusage),
	/* time */
	SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(alarm),
};

/* With a condition on one argument. */
static const struct { int call; struct scmp_arg_cmp when; } allowed_when[] = {
	{SCMP_SYS(mmap), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
	{SCMP_SYS(mprotect), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
	{SCMP_SYS(clone), {0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD}},
	{SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_NAME, 0}},
	{SCMP_SYS(prctl), {0, SCMP_CMP_EQ, PR_SET_TIMERSLACK, 0}},
	{SCMP_SYS(recvmsg), {0, SCMP_CMP_EQ, SANDBOX_DIAL_FD, 0}}, /* a descriptor may come with it: the connections made for a guest */
	{SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_GETFL, 0}},
	{SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_SETFL, 0}},
	{SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_SETFD, 0}},
	{SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_DUPFD_CLOEXEC, 0}},
};

/* Of a running machine: nothing that makes vCPUs, memory slots or devices, or switches abilities on. KVM_IOEVENTFD: doorbells move with their BARs. */
static const unsigned long allowed_ioctls[] = {
	KVM_RUN, KVM_SIGNAL_MSI, KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_MP_STATE, KVM_SET_MP_STATE, KVM_SET_GUEST_DEBUG,
	KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_GET_MSRS, KVM_SET_MSRS, KVM_GET_TSC_KHZ, KVM_GET_DEVICE_ATTR,
	KVM_SET_DEVICE_ATTR, KVM_SET_GSI_ROUTING, KVM_IOEVENTFD, UFFDIO_COPY, UFFDIO_ZEROPAGE, UFFDIO_WRITEPROTECT, UFFDIO_WAKE,
	TUNSETOFFLOAD, /* what a network card's link may leave to the guest */
};

/* Looked for by libc where it can do without. clone3 keeps its flags in memory, where no filter sees them; libc then takes clone. */
static const struct { int call, err; } denied[] = {
	{SCMP_SYS(open), EACCES}, {SCMP_SYS(openat), EACCES}, {SCMP_SYS(access), EACCES}, {SCMP_SYS(faccessat2), EACCES}, {SCMP_SYS(readlink), EACCES},
	{SCMP_SYS(clone3), ENOSYS},
};

static int list_calls(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp self = {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0};
	int err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);

	for (unsigned k = 0; k < ARRAY_LEN(allowed) && !err; k++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, allowed[k], 0);
	for (unsigned k = 0; k < ARRAY_LEN(allowed_when) && !err; k++)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, allowed_when[k].call, 1, &allowed_when[k].when);
	for (unsigned k = 0; k < ARRAY_LEN(allowed_ioctls) && !err; k++) {
		const struct scmp_arg_cmp request = {1, SCMP_CMP_EQ, allowed_ioctls[k], 0};

		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1, &request);
	}
	for (unsigned k = 0; k < ARRAY_LEN(denied) && !err; k++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO((unsigned)denied[k].err), denied[k].call, 0);
	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &self);
	return err;
}

static int filter_calls(struct failure *f)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int err = ctx ? list_calls(ctx) : -ENOMEM;

	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	errno = -err;
	return err ? refused(f, "the filter of system calls") : 0;
}

/* The end. */

static size_t put_number(char *to, unsigned long n, unsigned base)
{
	size_t digits = n >= base ? put_number(to, n / base, base) : 0;

	to[digits] = "0123456789abcdef"[n % base];
	return digits + 1;
}

/* Any thread, in the middle of anything: only writes, then dies of the same signal, which has its default again (SA_RESETHAND). The second argument is an ioctl's
 * request. */
static void trapped(int sig, siginfo_t *info, void *context)
{
	static const char said[] = "killed by its sandbox, system call ", with[] = " (second argument 0x";
	char text[128] = "", *at = stpcpy(text, name_prefix);

	at += put_number(at, (unsigned)info->si_syscall, 10);
	if (write(SANDBOX_NAME_FD, text, (size_t)(at - text)) < 0)
		goto out; /* it dies without having told */
	at = stpcpy(text, said);
	at += put_number(at, (unsigned)info->si_syscall, 10);
	at = stpcpy(at, with);
	at += put_number(at, (unsigned long)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RSI], 16);
	at = stpcpy(at, ")\n");
	if (write(STDERR_FILENO, text, (size_t)(at - text)) < 0)
		goto out;
out:
	syscall(SYS_tgkill, getpid(), gettid(), sig);
	_exit(128 + SIGSYS);
}

static int set_trap(struct failure *f)
{
	struct sigaction act = {.sa_sigaction = trapped, .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND | SA_NODEFER)};
	int fd = open("/proc/self/comm", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || dup3(fd, SANDBOX_NAME_FD, O_CLOEXEC) < 0 || sigaction(SIGSYS, &act, NULL) < 0)
		return refused(f, "the trap for what is forbidden");
	close(fd);
	return 0;
}

int sandbox_lock(uint64_t vm_id, struct failure *f)
{
	int err;

	if (SANITIZED) {
		log_warn("built with a sanitizer: no sandbox");
		return 0;
	}
	err = set_trap(f);
	if (!err)
		err = empty_root(f);
	if (!err)
		err = become_nobody(vm_id, f);
	return err ? err : filter_calls(f);
}

int sandbox_call(int pid)
{
	char path[32], name[32] = "", *end;
	FILE *in;
	long call;

	snprintf(path, sizeof path, "/proc/%d/comm", pid);
	in = fopen(path, "re");
	if (in && !fgets(name, sizeof name, in))
		*name = 0;
	if (in)
		fclose(in);
	if (strncmp(name, name_prefix, sizeof name_prefix - 1) != 0)
		return -1;
	call = strtol(name + sizeof name_prefix - 1, &end, 10);
	return end > name + sizeof name_prefix - 1 && *end == '\n' && call >= 0 && call < 0x10000 ? (int)call : -1;
}

/* Trying. */

static _Noreturn void try_here(int out)
{
	struct failure f = {0};
	int err = sandbox_begin(&f);

	if (!err)
		err = sandbox_lock(0, &f);
	_exit(err && write(out, &f, sizeof f) == sizeof f);
}

int sandbox_try(struct failure *f)
{
	struct failure said = {0};
	int ends[2], status = 0;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return refused(f, "a pipe");
	pid = fork();
	if (pid == 0)
		try_here(ends[1]);
	close(ends[1]);
	if (pid > 0 && read(ends[0], &said, sizeof said) < 0)
		said.err = -errno;
	close(ends[0]);
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return refused(f, "a child process");
	if (WIFSIGNALED(status))
		return failure_set(f, -EPERM, remedy, "the sandbox cannot be built: its trial was killed by signal %d", WTERMSIG(status));
	return said.err ? failure_set(f, said.err, said.todo, "%s", said.what) : 0;
}
