/* What stands behind a virtual disk on the node that has it: a file, a block device, or an NBD server. Asynchronous; knows nothing of virtio or guests.
 *
 *     disk_open -> disk_submit ... done() ... -> disk_close
 *
 * A request is the caller's memory, and belongs to the disk from a disk_submit that returned 0 until its done() is called, once, on a thread of the disk's
 * own, with no lock held. Requests are independent: they run side by side and end in any order; who needs an order waits for done(). What holds:
 *   D1  A write whose done() came with 0 is seen by every read submitted afterwards.
 *   D2  A flush whose done() came with 0 has made durable every write whose done() came before the flush was submitted. With DISK_WRITETHROUGH each
 *       write is durable when its done() comes; with DISK_UNSAFE nothing is ever made durable and flushes succeed at once.
 *   D3  Once a flush (or a durable write) has failed, each later one fails: what the kernel lost it does not report twice.
 *   D4  A failed request may have been done in part, and nothing outside its range was touched.
 *   D5  done() is never called from within disk_submit, and has been called for every accepted request when disk_close returns.
 * What the world does (no space, bad sectors, the file cut short, the server gone) comes back as -errno in done() and the disk stays open;
 * trouble() tells it in words, once for each errno.
 *
 * Threads: disk_submit from any thread, also from done() and with the bus lock held: it queues and returns. disk_open and disk_close may wait; close not
 * from done(). The memory that iov names may be the guest's view of RAM; then a thread of the disk waits for its pages: end that wait before disk_close (mem/). */
#ifndef DEV_DISK_H
#define DEV_DISK_H

#include "base/failure.h"
#include "base/types.h"

#include <sys/uio.h>

enum {
	DISK_SECTOR = 512,       /* offsets and lengths are multiples of disk_block_bytes(), which is 512 or more */
	DISK_THREADS_MAX = 64,
	DISK_IOV_MAX = 1024,     /* segments of one request */
	DISK_BYTES_MAX = 1 << 30, /* of one read or write; the other operations have no such limit */
};

enum disk_format { DISK_RAW, DISK_NBD, DISK_QCOW2, DISK_VMDK, DISK_VDI, DISK_VHDX, DISK_VPC, DISK_QED, DISK_FORMATS };
enum disk_cache {
	DISK_WRITEBACK,    /* the host's page cache; durable after a flush */
	DISK_NONE,         /* O_DIRECT, where the file system can; durable after a flush */
	DISK_WRITETHROUGH, /* the host's page cache; each write is durable */
	DISK_UNSAFE,       /* flushes do nothing: for what may be lost */
	DISK_CACHES
};
enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_WRITE_ZEROES, DISK_OPS };

struct disk_request {
	/* Set by the caller. */
	enum disk_op op;
	bool unmap;              /* WRITE_ZEROES: the range may lose its place on the disk */
	uint64_t offset, bytes;  /* FLUSH: 0, 0 */
	const struct iovec *iov; /* READ, WRITE: exactly 'bytes' altogether; stays readable until done() */
	unsigned iovs;
	/* err: 0 or -errno. The request is the caller's again. May submit; should be short, it holds up a thread of the disk. */
	void (*done)(struct disk_request *r, int err);
	void *user;
	/* The disk's own. */
	struct disk_request *next;
	void *held;
	uint64_t began_ns;
};

struct disk_config {
	const char *path;        /* file, block device, or URI of an NBD server (nbd://, nbd+unix://) with DISK_NBD */
	int fd;                  /* > 0: opened already (path is then for messages only); the disk's from now on, also when disk_open fails. RAW only */
	enum disk_format format; /* never guessed from what is in the file */
	enum disk_cache cache;
	bool readonly;
	unsigned threads;        /* requests that run at the same time; 0: DISK_THREADS_DEFAULT */
	/* One line for a person, once for each kind of trouble. Any thread, no lock held; short. May be NULL: it is logged. */
	void (*trouble)(void *user, int err, const char *what);
	void *user;
};
enum { DISK_THREADS_DEFAULT = 16 };

struct disk;

/* -ENOENT, -EACCES, -EROFS (read-only file, not asked for as such), -EISDIR, -EBUSY (somebody else has the file open as a disk: says who, where that can be seen),
 * -EINVAL, -ENOMEM, -EAGAIN, for DISK_NBD and formats also -ECONNREFUSED, -ENOTSUP (no library or program for it), -EIO.
 * A file is locked (open file description lock, all of it: exclusively, or shared when read-only), which QEMU's locks respect, too. */
int disk_open(struct disk **out, const struct disk_config *c, struct failure *f) MUST_CHECK;

/* Waits until all that was accepted has ended. */
void disk_close(struct disk *d);

/* 0: done() will be called. Refused, and done() will not be called: -EINVAL (op, alignment, iov, longer than DISK_BYTES_MAX or DISK_IOV_MAX), -ERANGE (beyond the end),
 * -EROFS (it would change a read-only disk). Zero bytes are fine (READ, WRITE, DISCARD, WRITE_ZEROES: nothing happens). */
int disk_submit(struct disk *d, struct disk_request *r) MUST_CHECK;

/* What the disk is; fixed from open to close. Any thread. */
uint64_t disk_bytes(const struct disk *d);         /* size: a multiple of disk_block_bytes */
uint32_t disk_block_bytes(const struct disk *d);   /* smallest unit: 512, or what O_DIRECT or the server insists on; a power of two */
uint32_t disk_optimal_bytes(const struct disk *d); /* what it likes best, a multiple of the former: 4096 where nothing is known */
bool disk_readonly(const struct disk *d);
bool disk_can_discard(const struct disk *d);       /* else DISCARD does nothing and succeeds */
bool disk_waits_alone(const struct disk *d);       /* a request whose iov is memory that has to be waited for holds up no other */
bool disk_writes_back(const struct disk *d);       /* a flush means something: the guest is to be told of a write cache */

struct disk_counts {
	uint64_t requests[DISK_OPS], bytes[DISK_OPS], errors;
	uint64_t us_p50, us_p99; /* from submit to done() */
};

/* Since open. Any thread. */
void disk_count(const struct disk *d, struct disk_counts *to);

#endif
