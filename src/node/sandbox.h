/* The sandbox of a fragment, the process that a hostile guest would take over first. What it is to need is opened while the VM is being started; before
 * the first vCPU runs it locks itself up, and from then on it has nothing but what it holds.
 *
 *     sandbox_begin (one thread, nothing opened yet) -> prepare, connect -> sandbox_lock (all threads) -> the guest runs
 *
 *   begin   no new privileges by exec; mount, IPC, UTS and cgroup namespaces of its own; no core dumps, SANDBOX_FILES descriptors at most. Where the
 *           daemon is not root: a user namespace as well, without which the others cannot be had.
 *   lock    the root is an empty read-only directory; all threads are a user of the VM's own without any capability, not dumpable (without root:
 *           the daemon's user, whose capabilities end at its namespace); and only the system calls listed in sandbox.c are left.
 *
 * A call that is not on the list ends the process: it is not carried out (SECCOMP_RET_TRAP), and a handler that nobody can replace any more writes which
 * one it was where the daemon finds it (the process's name, which outlives it until it is waited for) and dies of SIGSYS. With SIGSYS blocked
 * the kernel kills it at once. Calls by which libc looks for files that need not be there (openat and the like) fail with EACCES instead.
 *
 * A program that it starts before the lock stays outside, but is left without a root, too, unless it has taken a mount namespace of its own by then (passt has).
 *
 * What stays: the host's network namespace, for the streams to other nodes that are open (no new ones can be made; the control socket accepts),
 * and its process ids (signals can be sent to the process itself only). Built with a sanitizer, which needs calls of its own, there is no lock. */
#ifndef NODE_SANDBOX_H
#define NODE_SANDBOX_H

#include "base/failure.h"
#include "base/types.h"

enum {
	SANDBOX_FILES = 1024,
	SANDBOX_NAME_FD = SANDBOX_FILES - 1,  /* /proc/self/comm, for the handler */
	SANDBOX_DIAL_FD = SANDBOX_FILES - 2,  /* where descriptors may come from: the process that connects for the guest (dev/dialer.h) */
	SANDBOX_USERS = 0x70000000,           /* users of VMs begin here; none of /etc/passwd's */
	SANDBOX_USERS_MASK = 0x0fffffff,
};

/* The process's only thread. -errno with the reason. */
int sandbox_begin(struct failure *f) MUST_CHECK;

/* For good, and for all threads, those there are and those to come (libc must have started one before). vm_id: its low bits choose the user. After -errno the
 * process must end: it may be half locked up. */
int sandbox_lock(uint64_t vm_id, struct failure *f) MUST_CHECK;

/* Does sandbox_lock lock? False in a build with a sanitizer. */
bool sandbox_locks(void);

/* Of a dead process that has not been waited for, and died of SIGSYS: the number of the system call, -1 if it cannot be told. */
int sandbox_call(int pid);

/* Can a sandbox be built on this host? Tried in a child process. -errno with what failed. */
int sandbox_try(struct failure *f) MUST_CHECK;

#endif
