/* A disk at an NBD server: one that has a URI, or a qemu-nbd of our own that reads a format which we do not. libnbd speaks; it is loaded when the first such disk is
 * opened, so that other VMs do not carry it and what it needs.
 *
 * One thread owns the connection once it stands. A request becomes commands of at most NBD_CHUNK bytes, one after the other; libnbd tells their ends from within its own
 * calls, where it must not be called, so ended commands go through a list. When the server is gone, what is under way and what comes later fails with -EIO;
 * nobody connects again: what the server had not made durable may be gone with it, and the guest would not know.
 *
 * qemu-nbd gets a listening socket to which we are connected already and which has no name any more, and ends with this one connection. It has its own locks on
 * the image. The format's own references (a backing file) are followed by it with the daemon's rights. */
#include "dev/disk_backend.h"
#include "dev/helper.h"

#include "base/log.h"
#include "base/thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <libnbd.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	NBD_CHUNK = 1 << 20,       /* of data in one command */
	NBD_RANGE = 1 << 30,       /* of a discard or of zeroes */
	NBD_UNDER_WAY = 64,        /* commands at a time */
	CONNECT_MS = 15000,
	GOODBYE_MS = 1500,
	BUSY_TRIES = 20,
	BUSY_MS = 50,
};

/* What is used of the library. */
#define NBD_CALLS(X) \
	X(create) X(close) X(get_error) X(poll) X(get_size) X(get_block_size) X(is_read_only) X(can_flush) X(can_fua) X(can_trim) X(can_zero) X(aio_connect_uri) \
	X(aio_connect_socket) X(aio_is_ready) X(aio_is_dead) X(aio_is_closed) X(aio_get_fd) X(aio_get_direction) X(aio_notify_read) X(aio_notify_write) \
	X(aio_pread) X(aio_pwrite) X(aio_flush) X(aio_trim) X(aio_zero) X(aio_command_completed) X(aio_disconnect)

struct calls {
#define X(name) __typeof__(&nbd_##name) name;
	NBD_CALLS(X)
#undef X
};

/* A request being carried out. */
struct job {
	struct disk *disk;
	struct disk_request *r;
	struct job *next;      /* of those whose command has ended */
	uint64_t at, chunk;    /* done so far; of the command under way */
	int64_t cookie;        /* that command's */
	bool flushing;         /* the last command: a write that must be durable */
	int err;
	uint8_t *bounce;       /* NULL: the caller's memory is in one piece */
};

struct nbd {
	void *library;
	struct calls call;
	struct nbd_handle *h;
	struct helper helper;
	int wake;
	pthread_t thread;
	bool fua, flush, zero;

	pthread_mutex_t lock;  /* guards the queue */
	struct disk_request *first, **last;
	bool stop;

	/* The thread's own. */
	unsigned under_way;
	bool gone;
	struct job *ended;
};

static void ring(struct nbd *w)
{
	uint64_t one = 1;

	while (write(w->wake, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* Requests. */

static void copy(const struct job *j, bool in)
{
	uint64_t skip = j->at, left = j->chunk;
	uint8_t *ours = j->bounce;

	for (unsigned i = 0; i < j->r->iovs && left; i++) {
		uint64_t some = j->r->iov[i].iov_len;
		uint8_t *theirs = j->r->iov[i].iov_base;

		if (skip >= some) {
			skip -= some;
			continue;
		}
		theirs += skip;
		some -= skip;
		some = some < left ? some : left;
		skip = 0;
		if (in)
			memcpy(ours, theirs, some);
		else
			memcpy(theirs, ours, some);
		ours += some;
		left -= some;
	}
}

static int on_ended(void *user, int *error)
{
	struct job *j = user;
	struct nbd *w = j->disk->backend;

	j->err = -*error;
	j->next = w->ended;
	w->ended = j;
	return 0; /* retired by go_on(): the call that issues a command looks at it again when the server goes at that moment, and may be this one's caller */
}

static bool durable_at_once(const struct job *j)
{
	return j->disk->config.cache == DISK_WRITETHROUGH && j->r->op != DISK_READ && j->r->op != DISK_FLUSH;
}

/* Begin j's next command; false: there is none left, or it cannot be. */
static bool command(struct job *j)
{
	const struct disk_request *r = j->r;
	struct nbd *w = j->disk->backend;
	nbd_completion_callback end = {.callback = on_ended, .user_data = j};
	uint64_t offset = r->offset + j->at, left = r->bytes - j->at, most = r->op == DISK_DISCARD || (r->op == DISK_WRITE_ZEROES && w->zero) ? NBD_RANGE : NBD_CHUNK;
	uint32_t fua = durable_at_once(j) && w->fua ? LIBNBD_CMD_FLAG_FUA : 0;
	uint8_t *data = j->bounce ? j->bounce : r->iovs ? (uint8_t *)r->iov[0].iov_base + j->at : NULL;

	j->chunk = left < most ? left : most;
	if (j->flushing || r->op == DISK_FLUSH)
		j->cookie = w->call.aio_flush(w->h, end, 0);
	else if (r->op == DISK_READ)
		j->cookie = w->call.aio_pread(w->h, data, j->chunk, offset, end, 0);
	else if (r->op == DISK_DISCARD)
		j->cookie = w->call.aio_trim(w->h, j->chunk, offset, end, fua);
	else if (r->op == DISK_WRITE_ZEROES && w->zero)
		j->cookie = w->call.aio_zero(w->h, j->chunk, offset, end, fua | (r->unmap ? 0 : LIBNBD_CMD_FLAG_NO_HOLE));
	else {
		if (j->bounce && r->op == DISK_WRITE)
			copy(j, true);
		j->cookie = w->call.aio_pwrite(w->h, data, j->chunk, offset, end, fua);
	}
	if (j->cookie < 0)
		j->err = -EIO;
	else
		w->under_way++;
	return j->cookie >= 0;
}

static void lose(struct disk *d)
{
	struct nbd *w = d->backend;

	if (w->gone)
		return;
	w->gone = true;
	atomic_store(&d->lost, true);
	disk_backend_trouble(d, -EIO, "disk %s: its %s is gone; the guest's reads and writes fail until the VM is started again", d->path,
		d->config.format == DISK_NBD ? "NBD server" : "qemu-nbd");
}

static void finish(struct job *j)
{
	struct disk *d = j->disk;
	struct nbd *w = d->backend;
	struct disk_request *r = j->r;
	int err = j->err;

	if (err && (w->call.aio_is_dead(w->h) || w->call.aio_is_closed(w->h)))
		lose(d);
	if (err && w->gone)
		err = -EIO;
	if (err && (r->op == DISK_FLUSH || durable_at_once(j)))
		atomic_store(&d->lost, true);
	free(j->bounce);
	free(j);
	disk_backend_done(d, r, err);
}

static bool nothing_to_do(const struct disk *d, const struct disk_request *r)
{
	const struct nbd *w = d->backend;

	if (r->op == DISK_FLUSH)
		return !w->flush || d->config.cache == DISK_UNSAFE || d->config.readonly;
	return !r->bytes || (r->op == DISK_DISCARD && !d->can_discard);
}

static void begin(struct disk *d, struct disk_request *r)
{
	struct nbd *w = d->backend;
	struct job *j = calloc(1, sizeof *j);
	bool data = r->op == DISK_READ || r->op == DISK_WRITE || (r->op == DISK_WRITE_ZEROES && !w->zero);

	if (!j) {
		disk_backend_done(d, r, -ENOMEM);
		return;
	}
	*j = (struct job){.disk = d, .r = r};
	if (w->gone || (atomic_load(&d->lost) && (r->op == DISK_FLUSH || durable_at_once(j))))
		j->err = -EIO;
	else if (data && (r->iovs != 1 || r->op == DISK_WRITE_ZEROES) && r->bytes && !(j->bounce = calloc(1, r->bytes < NBD_CHUNK ? r->bytes : NBD_CHUNK)))
		j->err = -ENOMEM;
	if (j->err || nothing_to_do(d, r) || !command(j))
		finish(j);
}

/* A command has ended: take what it brought, go on with the request. */
static void go_on(struct job *j)
{
	struct nbd *w = j->disk->backend;

	w->under_way--;
	(void)w->call.aio_command_completed(w->h, (uint64_t)j->cookie); /* retires it; on_ended() knows how it went */
	if (!j->err && j->bounce && j->r->op == DISK_READ)
		copy(j, false);
	if (j->err || j->flushing || j->r->op == DISK_FLUSH) {
		finish(j);
		return;
	}
	j->at += j->chunk;
	j->flushing = j->at == j->r->bytes && durable_at_once(j) && !w->fua && w->flush;
	if ((j->at == j->r->bytes && !j->flushing) || !command(j))
		finish(j);
}

static void go_on_all(struct nbd *w)
{
	while (w->ended) {
		struct job *j = w->ended;

		w->ended = j->next;
		go_on(j);
	}
}

/* The thread. */

static struct disk_request *take(struct nbd *w, bool *stop)
{
	struct disk_request *r;

	pthread_mutex_lock(&w->lock);
	r = w->first;
	if (r)
		w->first = r->next;
	if (!w->first)
		w->last = &w->first;
	*stop = w->stop;
	pthread_mutex_unlock(&w->lock);
	return r;
}

/* Wait for the server, or for more to do, and let libnbd look at it. */
static void turn(struct disk *d)
{
	struct nbd *w = d->backend;
	unsigned direction = w->gone ? 0 : w->call.aio_get_direction(w->h);
	struct pollfd p[2] = {{.fd = w->wake, .events = POLLIN}, {.fd = w->gone ? -1 : w->call.aio_get_fd(w->h)}};
	uint64_t rings;
	int err = 0;

	p[1].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) | (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	if (poll(p, 2, -1) < 0)
		return;
	if (p[0].revents && read(w->wake, &rings, sizeof rings) < 0 && errno != EAGAIN)
		log_warn("disk %s: %s", d->path, strerror(errno));
	if (w->gone)
		return;
	if ((direction & LIBNBD_AIO_DIRECTION_READ) && (p[1].revents & (POLLIN | POLLHUP | POLLERR)))
		err = w->call.aio_notify_read(w->h);
	else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) && (p[1].revents & (POLLOUT | POLLHUP | POLLERR)))
		err = w->call.aio_notify_write(w->h);
	if (err < 0 || w->call.aio_is_dead(w->h) || w->call.aio_is_closed(w->h))
		lose(d);
}

static void *run(void *arg)
{
	struct disk *d = arg;
	struct nbd *w = d->backend;
	struct disk_request *r;
	bool stop = false;

	for (;;) {
		go_on_all(w);
		r = w->under_way < NBD_UNDER_WAY ? take(w, &stop) : NULL;
		if (r)
			begin(d, r);
		else if (stop && !w->under_way)
			return NULL;
		else if (!w->ended)
			turn(d);
	}
}

static void nbd_submit(struct disk *d, struct disk_request *r)
{
	struct nbd *w = d->backend;

	pthread_mutex_lock(&w->lock);
	*w->last = r;
	w->last = &r->next;
	pthread_mutex_unlock(&w->lock);
	ring(w);
}

/* Beginning and end. */

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void say_goodbye(struct nbd *w)
{
	uint64_t end = now_ms() + GOODBYE_MS, now;

	if (!w->call.aio_is_ready(w->h) || w->call.aio_disconnect(w->h, 0) < 0)
		return;
	while (!w->call.aio_is_closed(w->h) && !w->call.aio_is_dead(w->h) && (now = now_ms()) < end)
		if (w->call.poll(w->h, (int)(end - now)) < 0)
			return;
}

static void dismantle(struct disk *d)
{
	struct nbd *w = d->backend;

	if (w->h)
		w->call.close(w->h);
	helper_end(&w->helper, GOODBYE_MS);
	if (w->wake >= 0)
		close(w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w); /* the library stays: others may use it */
}

static void nbd_close_disk(struct disk *d)
{
	struct nbd *w = d->backend;

	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_mutex_unlock(&w->lock);
	ring(w);
	pthread_join(w->thread, NULL);
	say_goodbye(w);
	dismantle(d);
}

static int load(struct nbd *w, struct failure *f)
{
	bool whole = true;

	w->library = dlopen("libnbd.so.0", RTLD_NOW | RTLD_LOCAL);
	if (!w->library)
		return failure_set(f, -ENOTSUP, "install the package libnbd0 on that node", "the NBD library is not there: %.150s", dlerror());
#define X(name) \
	*(void **)&w->call.name = dlsym(w->library, "nbd_" #name); \
	whole &= w->call.name != NULL;
	NBD_CALLS(X)
#undef X
	if (!whole)
		return failure_set(f, -ENOTSUP, "install libnbd 1.14 or later on that node", "the NBD library is too old");
	w->h = w->call.create();
	return w->h ? 0 : failure_set(f, -ENOMEM, "free some memory on this host", "out of memory for an NBD disk");
}

/* A connected socket and the listening one it is connected to, with no name left of either. */
static int make_sockets(int *ours, int *theirs)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char folder[] = "/tmp/tessera-nbd-XXXXXX";
	int err = 0;

	*ours = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	*theirs = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*ours < 0 || *theirs < 0 || !mkdtemp(folder))
		return -errno; /* nobody else can look into the folder */
	snprintf(a.sun_path, sizeof a.sun_path, "%s/s", folder);
	if (bind(*theirs, (struct sockaddr *)&a, sizeof a) < 0 || listen(*theirs, 1) < 0 || connect(*ours, (struct sockaddr *)&a, sizeof a) < 0)
		err = -errno;
	unlink(a.sun_path);
	rmdir(folder);
	return err;
}

static int start_qemu(struct disk *d, int theirs, struct failure *f)
{
	static const char *const formats[DISK_FORMATS] = {[DISK_QCOW2] = "--format=qcow2", [DISK_VMDK] = "--format=vmdk", [DISK_VDI] = "--format=vdi",
		[DISK_VHDX] = "--format=vhdx", [DISK_VPC] = "--format=vpc", [DISK_QED] = "--format=qed"};
	const char *cache = d->config.cache == DISK_NONE ? "--cache=none" : d->config.cache == DISK_UNSAFE ? "--cache=unsafe" : "--cache=writeback";
	const char *args[] = {"qemu-nbd", formats[d->config.format], cache, "--discard=unmap", "--export-name=", d->config.readonly ? "--read-only" : d->path,
		d->config.readonly ? d->path : NULL, NULL};
	struct nbd *w = d->backend;

	if (d->path[0] != '/' || !formats[d->config.format])
		return failure_set(f, -EINVAL, "give the whole path of a file", "the disk %.120s is no path", d->path);
	if (access(d->path, F_OK) < 0)
		return failure_set(f, -errno, "give the path of a file on that node; --disk FILE,node=NAME says which node has it", "cannot open the disk %.120s: %s", d->path,
			strerror(errno));
	return helper_start(&w->helper, args, theirs, true, "qemu-utils", f);
}

/* Why there is no connection; what qemu-nbd said, when it was ours. */
static int complain(struct disk *d, struct failure *f)
{
	struct nbd *w = d->backend;
	char words[200] = "";

	if (w->helper.name && helper_wait(&w->helper, 2000) == -ETIMEDOUT)
		helper_kill(&w->helper);
	if (w->helper.name)
		helper_last_words(&w->helper, words, sizeof words);
	if (strstr(words, "lock") || strstr(words, "another process"))
		return failure_set(f, -EBUSY, "end the other user, give each VM a disk of its own, or let all use it readonly", "the disk %.120s is in use by another program",
			d->path);
	if (*words)
		return failure_set(f, -EIO, "see that the file is there, may be read and is of that format (qemu-img info)", "%s", words);
	return failure_set(f, -ECONNREFUSED, "see that the server runs and the URI is right (nbdinfo URI)", "cannot connect to the disk %.100s: %.100s", d->path,
		w->call.get_error() ? w->call.get_error() : "it takes too long");
}

static int connect_to(struct disk *d, struct failure *f)
{
	struct nbd *w = d->backend;
	uint64_t end = now_ms() + CONNECT_MS, now;
	int ours = -1, theirs = -1, err = 0;

	if (d->config.format == DISK_NBD) {
		err = w->call.aio_connect_uri(w->h, d->path);
	} else {
		err = make_sockets(&ours, &theirs);
		if (err)
			failure_set(f, err, "see that /tmp can be written", "no socket to be had for the disk %.100s: %s", d->path, strerror(-err));
		else
			err = start_qemu(d, theirs, f);
		if (theirs >= 0)
			close(theirs);
		if (err && ours >= 0)
			close(ours);
		if (err)
			return err;
		err = w->call.aio_connect_socket(w->h, ours);
	}
	while (!err && !w->call.aio_is_ready(w->h)) {
		now = now_ms();
		if (now >= end || w->call.aio_is_dead(w->h) || w->call.aio_is_closed(w->h) || w->call.poll(w->h, (int)(end - now)) < 0)
			err = -ECONNREFUSED;
	}
	return err ? complain(d, f) : 0;
}

static int measure(struct disk *d, struct failure *f)
{
	struct nbd *w = d->backend;
	int64_t bytes = w->call.get_size(w->h), least = w->call.get_block_size(w->h, LIBNBD_SIZE_MINIMUM), best = w->call.get_block_size(w->h, LIBNBD_SIZE_PREFERRED);

	if (bytes < 0)
		return failure_set(f, -EIO, "look at the server", "cannot learn the size of the disk %.120s: %.100s", d->path, w->call.get_error());
	if (!d->config.readonly && w->call.is_read_only(w->h) != 0)
		return failure_set(f, -EROFS, "say readonly, or make the server's export writable", "the disk %.120s can only be read", d->path);
	if (least > 1 << 16)
		return failure_set(f, -ENOTSUP, "serve it in smaller blocks", "the disk %.120s has blocks of %lld bytes", d->path, (long long)least);
	d->block = least > DISK_SECTOR ? (uint32_t)least : DISK_SECTOR;
	d->optimal = best > (int64_t)d->block && best <= 1 << 20 ? (uint32_t)best : d->block > 4096 ? d->block : 4096;
	d->bytes = (uint64_t)bytes & ~(uint64_t)(d->block - 1);
	d->can_discard = !d->config.readonly && w->call.can_trim(w->h) == 1;
	w->fua = w->call.can_fua(w->h) == 1;
	w->zero = w->call.can_zero(w->h) == 1;
	w->flush = w->call.can_flush(w->h) == 1;
	if (!w->flush && !d->config.readonly && d->config.cache != DISK_UNSAFE)
		log_warn("disk %s: its server knows no flush: what is written may be lost with the server", d->path);
	return 0;
}

static int start(struct disk *d, struct failure *f)
{
	struct nbd *w = d->backend;
	sigset_t before;
	int err;

	w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	thread_block(&before, 0);
	err = w->wake < 0 ? errno : pthread_create(&w->thread, NULL, run, d);
	thread_unblock(&before);
	if (err)
		return failure_set(f, -err, "raise the limits of processes and files on this host", "no thread to be had for the disk %.100s", d->path);
	pthread_setname_np(w->thread, "disk");
	return 0;
}

static int open_once(struct disk *d, struct failure *f)
{
	static const struct disk_backend_ops ops = {.submit = nbd_submit, .close = nbd_close_disk};
	struct nbd *w = calloc(1, sizeof *w);
	int err;

	if (!w)
		return failure_set(f, -ENOMEM, "free some memory on this host", "out of memory for a disk");
	w->wake = -1;
	w->last = &w->first;
	pthread_mutex_init(&w->lock, NULL);
	d->ops = &ops;
	d->backend = w;
	err = load(w, f);
	if (!err)
		err = connect_to(d, f);
	if (!err)
		err = measure(d, f);
	if (!err)
		err = start(d, f);
	if (err)
		dismantle(d);
	return err;
}

int disk_nbd_open(struct disk *d, struct failure *f)
{
	struct failure now;
	unsigned tries = 0;
	int err;

	if (d->config.fd > 0)
		close(d->config.fd);
	do { /* the qemu-nbd of a VM that has just ended, this one before its reset for one, ends a moment after it */
		now = (struct failure){0};
		err = open_once(d, &now);
	} while (err == -EBUSY && tries++ < BUSY_TRIES && poll(NULL, 0, BUSY_MS) == 0);
	return err ? failure_set(f, err, now.todo, "%s", now.what) : 0;
}
