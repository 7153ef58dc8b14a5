/* The frame view of guest RAM: how the pager, and nobody else, gives frames to the guest and takes them away.
 *
 *   absent      not present: a touch of the guest view is a MISSING fault           UFFDIO_COPY installs, MADV_DONTNEED zaps
 *   protected   present, write-protected: reads run, a write is a WP fault          UFFDIO_COPY + MODE_WP, UFFDIO_WRITEPROTECT
 *   writable    present, writable: no fault
 *
 * Frames are named by dense page number (ram_page() in mem/ram.h), never by a pointer: no function here hands out an address, so the pager
 * thread cannot touch an absent frame by mistake and wait for itself. Touching a present frame is safe: it may be swapped in, but not faulted to us.
 * KVM follows by itself: every change here passes the MMU notifiers before the system call returns.
 *
 * Needs Linux 6.1 and userfaultfd for kernel-mode faults (root, CAP_SYS_PTRACE, or access to /dev/userfaultfd). All functions: one thread,
 * the pager's, except open and close. Facts about the kernel that this relies on are each a test in tests/host/uffd_facts.c. */
#ifndef MEM_UFFD_H
#define MEM_UFFD_H

#include "mem/ram.h"

struct uffd {
	int fd; /* pollable, nonblocking; 0 when closed (never stdin) */
	uint64_t features;
	const struct ram *ram; /* for numbers, not for bytes */
};

/* A fault of some thread that now waits. Duplicates, and faults that a change since has satisfied, are normal. */
struct uffd_fault {
	uint64_t page;
	uint32_t tid; /* who waits */
	bool write;   /* a write to an absent or protected frame */
};

/* Register all of a mapped ram, which must be untouched so far. -errno with *f filled: -EPERM/-EACCES without the right, -ENOSYS or -EOPNOTSUPP
 * without the features. r must outlive u. Closing lets waiting threads go on with ZERO pages: stop everything that runs the guest first. */
int uffd_open(struct uffd *u, const struct ram *r, struct failure *f) MUST_CHECK;
void uffd_close(struct uffd *u);

/* Up to room waiting faults; returns how many (0: none), or -errno. */
enum { UFFD_BATCH = 32 };
int uffd_faults(struct uffd *u, struct uffd_fault *at, unsigned room) MUST_CHECK;

/* absent -> protected or writable, with these bytes (PAGE_BYTES of them); wakes waiters. -EEXIST if it is not absent, -ENOMEM. */
int uffd_install(struct uffd *u, uint64_t page, const void *bytes, bool writable) MUST_CHECK;
/* writable -> protected: on return no thread, vCPU or device can write the frame. protected -> writable; wakes waiters. -EAGAIN never returns. */
int uffd_protect(struct uffd *u, uint64_t page) MUST_CHECK;
int uffd_upgrade(struct uffd *u, uint64_t page) MUST_CHECK;
/* protected -> absent; the frame is free. Bytes are gone: take them first. */
int uffd_zap(struct uffd *u, uint64_t page) MUST_CHECK;
/* Let waiting threads try again. */
int uffd_wake(struct uffd *u, uint64_t page) MUST_CHECK;

/* Copy a PROTECTED frame out. Returns whether it is all zero (then 'to' is not written). The caller's own page state is what proves that the frame is present. */
bool uffd_take(const struct uffd *u, uint64_t page, uint8_t to[PAGE_BYTES]);

#endif
