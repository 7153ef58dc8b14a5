/* A disk in a file or on a block device: a few threads that do one request each, with the plain system calls. Signals are blocked in them, so that a file size
 * limit is an errno (EFBIG) and not a SIGXFSZ; nothing is mapped, so that a file cut short is an errno, too. */
#include "dev/disk_backend.h"
#include "dev/imagelock.h"

#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum {
	RAW_IOV = 128,           /* segments of one system call */
	RAW_BOUNCE = 256 * 1024, /* copied at a time when O_DIRECT cannot take the caller's memory */
	RAW_ALIGN = 4096,
};

struct raw {
	int fd;
	uint64_t file_bytes;  /* at open; what lies between here and the disk's end (less than a block) reads as zeros */
	bool direct;
	pthread_mutex_t lock; /* guards the queue and what flushes share */
	pthread_cond_t bell, synced;
	bool syncing;
	uint64_t syncs, good; /* begun; the last that succeeded */
	struct disk_request *first, **last;
	bool stop;
	unsigned threads;
	pthread_t thread[DISK_THREADS_MAX];
};

/* The part of an iov that begins 'skip' bytes into it and has at most 'most' bytes. */
static int iov_part(const struct iovec *iov, unsigned iovs, uint64_t skip, uint64_t most, struct iovec to[RAW_IOV])
{
	int n = 0;

	for (unsigned i = 0; i < iovs && most && n < RAW_IOV; i++) {
		uint64_t have = iov[i].iov_len;

		if (skip >= have) {
			skip -= have;
			continue;
		}
		have = have - skip < most ? have - skip : most;
		to[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + skip, have};
		skip = 0;
		most -= have;
	}
	return n;
}

static void fill_zero(const struct iovec *iov, int n)
{
	for (int i = 0; i < n; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
}

/* One system call's worth; the bytes moved, or -errno. A read at the end of the file gives zeros where the disk goes on, and -EIO where it should have. */
static ssize_t move_some(struct disk *d, bool write, uint64_t offset, struct iovec *iov, int n)
{
	struct raw *w = d->backend;
	ssize_t got;

	do
		got = write ? pwritev(w->fd, iov, n, (off_t)offset) : preadv(w->fd, iov, n, (off_t)offset);
	while (got < 0 && errno == EINTR);
	if (got < 0)
		return -errno;
	if (got)
		return got;
	if (write)
		return -EIO;
	if (offset < w->file_bytes) {
		disk_backend_trouble(d, -EIO, "disk %s: its file was cut short and ends before byte %llu: what lay behind is lost, reads of it fail", d->path,
			(unsigned long long)offset);
		return -EIO;
	}
	fill_zero(iov, n);
	for (int i = 0; i < n; i++)
		got += (ssize_t)iov[i].iov_len;
	return got;
}

static int move(struct disk *d, const struct disk_request *r, bool write)
{
	struct iovec part[RAW_IOV];
	uint64_t done = 0;

	while (done < r->bytes) {
		ssize_t got = move_some(d, write, r->offset + done, part, iov_part(r->iov, r->iovs, done, r->bytes - done, part));

		if (got < 0)
			return (int)got;
		done += (uint64_t)got;
	}
	return 0;
}

static bool aligned(const struct disk *d, const struct disk_request *r)
{
	for (unsigned i = 0; i < r->iovs; i++)
		if (((uintptr_t)r->iov[i].iov_base | r->iov[i].iov_len) & (d->block - 1))
			return false;
	return r->iovs <= RAW_IOV;
}

/* Between the caller's memory and ours. */
static void copy(const struct iovec *iov, int n, uint8_t *ours, bool in)
{
	for (int i = 0; i < n; ours += iov[i++].iov_len)
		if (in)
			memcpy(ours, iov[i].iov_base, iov[i].iov_len);
		else
			memcpy(iov[i].iov_base, ours, iov[i].iov_len);
}

static void copy_all(const struct disk_request *r, uint64_t from, uint64_t bytes, uint8_t *ours, bool in)
{
	struct iovec part[RAW_IOV];

	while (bytes) {
		int n = iov_part(r->iov, r->iovs, from, bytes, part);
		uint64_t some = 0;

		for (int i = 0; i < n; i++)
			some += part[i].iov_len;
		copy(part, n, ours, in);
		ours += some;
		from += some;
		bytes -= some;
	}
}

/* O_DIRECT wants aligned memory, and aligned offsets also after a short transfer (only the end of the file is one). */
static int move_direct(struct disk *d, const struct disk_request *r, bool write)
{
	uint64_t room = r->bytes < RAW_BOUNCE ? r->bytes : RAW_BOUNCE, done = 0;
	uint8_t *bounce = aligned_alloc(RAW_ALIGN, (room + RAW_ALIGN - 1) & ~(uint64_t)(RAW_ALIGN - 1));
	ssize_t got = 0;

	if (!bounce)
		return -ENOMEM;
	while (done < r->bytes && got >= 0) {
		struct iovec ours = {bounce, r->bytes - done < room ? r->bytes - done : room};

		if (write)
			copy_all(r, done, ours.iov_len, bounce, true);
		got = move_some(d, write, r->offset + done, &ours, 1);
		if (got > 0 && (uint64_t)got < ours.iov_len && !write && r->offset + done + (uint64_t)got >= ((struct raw *)d->backend)->file_bytes) {
			memset(bounce + got, 0, ours.iov_len - (size_t)got);
			got = (ssize_t)ours.iov_len;
		}
		if (got > 0 && !write)
			copy_all(r, done, (uint64_t)got, bounce, false);
		if (got > 0)
			done += (uint64_t)got;
	}
	free(bounce);
	return got < 0 ? (int)got : 0;
}

static int transfer(struct disk *d, const struct disk_request *r, bool write)
{
	struct raw *w = d->backend;

	if (w->direct && r->bytes && (!aligned(d, r) || r->offset + r->bytes > w->file_bytes))
		return move_direct(d, r, write);
	return move(d, r, write);
}

static int sync_file(struct disk *d)
{
	struct raw *w = d->backend;

	while (fdatasync(w->fd) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* D3: the kernel tells a lost write once, to one of those who ask, and then calls the pages clean. So one asks at a time, on behalf of all who came before it began, and
 * the first failure is remembered. */
static int flush(struct disk *d)
{
	struct raw *w = d->backend;
	uint64_t need;
	int err = 0;

	if (d->config.cache == DISK_UNSAFE || d->config.readonly)
		return 0;
	pthread_mutex_lock(&w->lock);
	need = w->syncs + 1; /* one that has not begun yet */
	while (w->syncing)
		pthread_cond_wait(&w->synced, &w->lock);
	if (!atomic_load(&d->lost) && w->good < need) {
		w->syncing = true;
		need = ++w->syncs;
		pthread_mutex_unlock(&w->lock);
		err = sync_file(d);
		if (err)
			disk_backend_trouble(d, err, "disk %s: what the guest wrote could not be made durable (%s): some of it may be lost, and flushes fail from now on",
				d->path, strerror(-err));
		pthread_mutex_lock(&w->lock);
		w->syncing = false;
		if (err)
			atomic_store(&d->lost, true);
		else
			w->good = need;
		pthread_cond_broadcast(&w->synced);
	}
	if (!err && atomic_load(&d->lost))
		err = -EIO;
	pthread_mutex_unlock(&w->lock);
	return err;
}

static int allocate(struct disk *d, int mode, const struct disk_request *r)
{
	struct raw *w = d->backend;

	while (fallocate(w->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)r->offset, (off_t)r->bytes) < 0)
		if (errno != EINTR)
			return errno == ENOSYS || errno == ENODEV || errno == EINVAL ? -EOPNOTSUPP : -errno;
	return 0;
}

static int write_zeroes(struct disk *d, const struct disk_request *r)
{
	uint64_t done = 0;
	uint8_t *zeroes;
	int err = r->unmap ? allocate(d, FALLOC_FL_PUNCH_HOLE, r) : -EOPNOTSUPP;

	if (err == -EOPNOTSUPP)
		err = allocate(d, FALLOC_FL_ZERO_RANGE, r);
	if (err != -EOPNOTSUPP)
		return err;
	zeroes = aligned_alloc(RAW_ALIGN, RAW_BOUNCE);
	if (!zeroes)
		return -ENOMEM;
	memset(zeroes, 0, RAW_BOUNCE);
	for (err = 0; !err && done < r->bytes;) {
		struct iovec iov = {zeroes, r->bytes - done < RAW_BOUNCE ? r->bytes - done : RAW_BOUNCE};
		ssize_t got = move_some(d, true, r->offset + done, &iov, 1);

		if (got < 0)
			err = (int)got;
		else
			done += (uint64_t)got;
	}
	free(zeroes);
	return err;
}

static int carry_out(struct disk *d, const struct disk_request *r)
{
	int err = 0;

	if (r->op == DISK_FLUSH)
		return flush(d);
	if (!r->bytes)
		return 0;
	if (r->op == DISK_READ)
		return transfer(d, r, false);
	if (r->op == DISK_WRITE)
		err = transfer(d, r, true);
	else if (r->op == DISK_WRITE_ZEROES)
		err = write_zeroes(d, r);
	else if (d->can_discard)
		err = allocate(d, FALLOC_FL_PUNCH_HOLE, r);
	if (r->op == DISK_DISCARD && err == -EOPNOTSUPP)
		err = 0; /* a hint */
	return !err && d->config.cache == DISK_WRITETHROUGH ? flush(d) : err;
}

static void *serve(void *arg)
{
	struct disk *d = arg;
	struct raw *w = d->backend;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		struct disk_request *r = w->first;

		if (!r && w->stop)
			break;
		if (!r) {
			pthread_cond_wait(&w->bell, &w->lock);
			continue;
		}
		w->first = r->next;
		if (!w->first)
			w->last = &w->first;
		pthread_mutex_unlock(&w->lock);
		disk_backend_done(d, r, carry_out(d, r));
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static void raw_submit(struct disk *d, struct disk_request *r)
{
	struct raw *w = d->backend;

	pthread_mutex_lock(&w->lock);
	*w->last = r;
	w->last = &r->next;
	pthread_mutex_unlock(&w->lock);
	pthread_cond_signal(&w->bell);
}

static void raw_close(struct disk *d)
{
	struct raw *w = d->backend;

	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_mutex_unlock(&w->lock);
	pthread_cond_broadcast(&w->bell);
	for (unsigned i = 0; i < w->threads; i++)
		pthread_join(w->thread[i], NULL);
	pthread_cond_destroy(&w->bell);
	pthread_cond_destroy(&w->synced);
	pthread_mutex_destroy(&w->lock);
	close(w->fd);
	free(w);
}

static int start_threads(struct disk *d, struct failure *f)
{
	struct raw *w = d->backend;
	sigset_t before;
	int err = 0;

	thread_block(&before, 0);
	for (; !err && w->threads < d->config.threads; w->threads += !err) {
		err = pthread_create(&w->thread[w->threads], NULL, serve, d);
		if (!err)
			pthread_setname_np(w->thread[w->threads], "disk");
	}
	thread_unblock(&before);
	return err ? failure_set(f, -err, "raise the limit of processes on this host", "no thread to be had for the disk %.100s", d->path) : 0;
}

static int open_file(struct disk *d, struct failure *f)
{
	int access = d->config.readonly ? O_RDONLY : O_RDWR | O_EXCL; /* O_EXCL: of a block device only, that nobody has mounted */
	int fd = open(d->path, access | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), err = errno;

	if (fd >= 0)
		return fd;
	if (err == EBUSY)
		return failure_set(f, -EBUSY, "unmount it, or say readonly", "the disk %.120s is mounted or in use on this host", d->path);
	if (!d->config.readonly && (err == EACCES || err == EROFS || err == EPERM || err == ETXTBSY))
		return failure_set(f, err == EROFS ? -EROFS : -EACCES, "make it writable for the daemon, or say --disk FILE,readonly",
			"cannot write the disk %.120s: %s", d->path, strerror(err));
	return failure_set(f, -err, "give the path of a file on that node; --disk FILE,node=NAME says which node has it",
		"cannot open the disk %.120s: %s", d->path, strerror(err));
}

/* Whatever the format said: a file that says it is something else is worth a word; it is still served byte by byte. */
static void look_inside(struct disk *d, int fd)
{
	static const struct { const char *name, *magic; } known[] = {{"qcow2", "QFI\xfb"}, {"vmdk", "KDMV"}, {"vhdx", "vhdxfile"}, {"vpc", "conectix"}, {"qed", "QED"}};
	char head[8] = "";

	if (pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head)
		return;
	for (unsigned i = 0; i < ARRAY_LEN(known); i++)
		if (memcmp(head, known[i].magic, strlen(known[i].magic)) == 0)
			log_warn("disk %s: looks like %s, but is given to the guest byte by byte; say format=%s if that is not meant", d->path, known[i].name, known[i].name);
}

static bool device_discards(const struct stat *s)
{
	char path[80], text[24] = "";
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/discard_max_bytes", major(s->st_rdev), minor(s->st_rdev));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	return n > 0 && strtoull(text, NULL, 10) > 0;
}

/* Size, and what can be done with it. A partial block at the end of a file counts as one whose rest is zeros. */
static int measure(struct disk *d, struct failure *f)
{
	struct raw *w = d->backend;
	struct stat s;
	int sector = 0;

	if (fstat(w->fd, &s) < 0)
		return failure_set(f, -errno, "look at it", "cannot examine the disk %.120s: %s", d->path, strerror(errno));
	if (S_ISBLK(s.st_mode)) {
		if (ioctl(w->fd, BLKGETSIZE64, &w->file_bytes) < 0)
			return failure_set(f, -errno, "look at it", "cannot learn the size of %.120s: %s", d->path, strerror(errno));
		d->can_discard = device_discards(&s);
		if (w->direct && ioctl(w->fd, BLKSSZGET, &sector) == 0 && sector > DISK_SECTOR && sector <= RAW_ALIGN)
			d->block = (uint32_t)sector;
	} else if (S_ISREG(s.st_mode)) {
		w->file_bytes = (uint64_t)s.st_size;
		d->can_discard = !d->config.readonly && fallocate(w->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (s.st_size + RAW_ALIGN) & -RAW_ALIGN, RAW_ALIGN) == 0;
	} else {
		return failure_set(f, S_ISDIR(s.st_mode) ? -EISDIR : -EINVAL, "give a file or a block device", "the disk %.120s is neither a file nor a block device", d->path);
	}
	d->bytes = S_ISBLK(s.st_mode) ? w->file_bytes & ~(uint64_t)(d->block - 1) : (w->file_bytes + d->block - 1) & ~(uint64_t)(d->block - 1);
	d->optimal = s.st_blksize > (blksize_t)d->block && s.st_blksize <= 1 << 20 && !(s.st_blksize & (s.st_blksize - 1)) ? (uint32_t)s.st_blksize : RAW_ALIGN;
	return 0;
}

/* cache=none: O_DIRECT if this file system knows it, in blocks as small as it takes. */
static void try_direct(struct disk *d)
{
	struct raw *w = d->backend;
	int flags = fcntl(w->fd, F_GETFL);
	uint8_t *trial;

	if (d->config.cache != DISK_NONE)
		return;
	w->direct = flags >= 0 && fcntl(w->fd, F_SETFL, flags | O_DIRECT) == 0;
	trial = w->direct ? aligned_alloc(RAW_ALIGN, RAW_ALIGN) : NULL;
	if (!w->direct)
		log_warn("disk %s: its file system has no O_DIRECT (%s): the host's page cache is used", d->path, strerror(errno));
	if (trial && pread(w->fd, trial, DISK_SECTOR, DISK_SECTOR) < 0 && errno == EINVAL)
		d->block = RAW_ALIGN;
	free(trial);
}

static int prepare(struct disk *d, struct failure *f)
{
	struct raw *w = d->backend;
	int flags = fcntl(w->fd, F_GETFL), err;

	if (flags < 0 || (!d->config.readonly && (flags & O_ACCMODE) != O_RDWR))
		return failure_set(f, -EROFS, "open it for writing, or say readonly", "the disk %.120s was handed over read-only", d->path);
	if (fcntl(w->fd, F_SETFL, flags & ~(O_NONBLOCK | O_APPEND)) < 0)
		return failure_set(f, -errno, "look at it", "cannot use the disk %.120s: %s", d->path, strerror(errno));
	err = imagelock_take(w->fd, d->config.readonly, d->path, f);
	if (err)
		return err;
	look_inside(d, w->fd);
	try_direct(d);
	err = measure(d, f);
	return err ? err : start_threads(d, f);
}

int disk_raw_open(struct disk *d, struct failure *f)
{
	static const struct disk_backend_ops ops = {.submit = raw_submit, .close = raw_close};
	struct raw *w = calloc(1, sizeof *w);
	int err = 0, fd = d->config.fd > 0 ? d->config.fd : w ? open_file(d, f) : -ENOMEM;

	if (!w || fd < 0) {
		if (fd >= 0)
			close(fd);
		free(w);
		return w ? fd : failure_set(f, -ENOMEM, "free some memory on this host", "out of memory for a disk");
	}
	w->fd = fd;
	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->bell, NULL);
	pthread_cond_init(&w->synced, NULL);
	d->ops = &ops;
	d->backend = w;
	d->block = DISK_SECTOR;
	err = prepare(d, f);
	if (err)
		raw_close(d);
	return err;
}
