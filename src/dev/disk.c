/* See disk.h. Requests are judged here, before any backend sees them, and counted here when they have ended. */
#include "dev/disk_backend.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static const char *const op_names[DISK_OPS] = {"read", "write", "flush", "discard", "write zeroes"};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int disk_open(struct disk **out, const struct disk_config *c, struct failure *f)
{
	struct disk *d = calloc(1, sizeof *d);
	int err;

	*out = NULL;
	if (!d || strlen(c->path) >= sizeof d->path || (unsigned)c->format >= DISK_FORMATS || (unsigned)c->cache >= DISK_CACHES || c->threads > DISK_THREADS_MAX) {
		if (c->fd > 0)
			close(c->fd);
		free(d);
		return d ? failure_set(f, -EINVAL, "see 'tessera help run'", "a disk cannot be like this: %.100s", c->path)
			 : failure_set(f, -ENOMEM, "free some memory on this host", "out of memory for a disk");
	}
	d->config = *c;
	TEXT_SET(d->path, c->path);
	d->config.path = d->path;
	if (!d->config.threads)
		d->config.threads = DISK_THREADS_DEFAULT;
	pthread_mutex_init(&d->took, NULL);
	err = c->format == DISK_RAW ? disk_raw_open(d, f) : disk_nbd_open(d, f);
	if (err) {
		pthread_mutex_destroy(&d->took);
		free(d);
		return err;
	}
	*out = d;
	return 0;
}

void disk_close(struct disk *d)
{
	if (!d)
		return;
	d->ops->close(d);
	pthread_mutex_destroy(&d->took);
	free(d);
}

static int judge_iov(const struct disk_request *r)
{
	uint64_t sum = 0;

	if (r->iovs > DISK_IOV_MAX || r->bytes > DISK_BYTES_MAX || (r->bytes && !r->iovs))
		return -EINVAL;
	for (unsigned i = 0; i < r->iovs; i++) {
		if (r->iov[i].iov_len > r->bytes - sum)
			return -EINVAL;
		sum += r->iov[i].iov_len;
	}
	return sum == r->bytes ? 0 : -EINVAL;
}

static int judge(const struct disk *d, const struct disk_request *r)
{
	if ((unsigned)r->op >= DISK_OPS || !r->done)
		return -EINVAL;
	if (r->op == DISK_FLUSH)
		return r->offset || r->bytes ? -EINVAL : 0;
	if ((r->offset | r->bytes) & (d->block - 1))
		return -EINVAL;
	if (r->op != DISK_READ && d->config.readonly)
		return -EROFS;
	if (r->offset > d->bytes || r->bytes > d->bytes - r->offset)
		return -ERANGE;
	return r->op == DISK_READ || r->op == DISK_WRITE ? judge_iov(r) : 0;
}

int disk_submit(struct disk *d, struct disk_request *r)
{
	int err = judge(d, r);

	if (err)
		return err;
	r->next = NULL;
	r->held = NULL;
	r->began_ns = now_ns();
	d->ops->submit(d, r);
	return 0;
}

static const char *remedy(int err)
{
	switch (-err) {
	case ENOSPC:
	case EDQUOT:
		return "make room where the file is: until then the guest's writes fail";
	case EFBIG:
		return "raise the limit of file sizes";
	default:
		return "the guest is told of an I/O error";
	}
}

void disk_backend_done(struct disk *d, struct disk_request *r, int err)
{
	uint64_t us = (now_ns() - r->began_ns) / 1000;

	atomic_fetch_add_explicit(&d->requests[r->op], 1, memory_order_relaxed);
	if (!err)
		atomic_fetch_add_explicit(&d->moved[r->op], r->bytes, memory_order_relaxed);
	else {
		atomic_fetch_add_explicit(&d->errors, 1, memory_order_relaxed);
		disk_backend_trouble(d, err, "disk %s: cannot %s %llu bytes at byte %llu: %s; %s", d->path, op_names[r->op], (unsigned long long)r->bytes,
			(unsigned long long)r->offset, strerror(-err), remedy(err));
	}
	pthread_mutex_lock(&d->took);
	histogram_add(&d->took_us, us);
	pthread_mutex_unlock(&d->took);
	r->done(r, err);
}

void disk_backend_trouble(struct disk *d, int err, const char *fmt, ...)
{
	uint64_t bit = 1ull << (-err > 0 && -err < 63 ? -err : 63);
	char text[512];
	va_list args;

	if (atomic_fetch_or(&d->told, bit) & bit)
		return;
	va_start(args, fmt);
	vsnprintf(text, sizeof text, fmt, args);
	va_end(args);
	if (d->config.trouble)
		d->config.trouble(d->config.user, err, text);
	else
		log_warn("%s", text);
}

uint64_t disk_bytes(const struct disk *d)
{
	return d->bytes;
}

uint32_t disk_block_bytes(const struct disk *d)
{
	return d->block;
}

uint32_t disk_optimal_bytes(const struct disk *d)
{
	return d->optimal;
}

bool disk_readonly(const struct disk *d)
{
	return d->config.readonly;
}

bool disk_can_discard(const struct disk *d)
{
	return d->can_discard && !d->config.readonly;
}

bool disk_waits_alone(const struct disk *d)
{
	return d->config.format == DISK_RAW; /* a thread for each; at NBD servers there is one for all */
}

bool disk_writes_back(const struct disk *d)
{
	return d->config.cache != DISK_WRITETHROUGH && !d->config.readonly;
}

void disk_count(const struct disk *d, struct disk_counts *to)
{
	for (unsigned i = 0; i < DISK_OPS; i++) {
		to->requests[i] = atomic_load_explicit(&d->requests[i], memory_order_relaxed);
		to->bytes[i] = atomic_load_explicit(&d->moved[i], memory_order_relaxed);
	}
	to->errors = atomic_load_explicit(&d->errors, memory_order_relaxed);
	to->us_p50 = histogram_permille(&d->took_us, 500);
	to->us_p99 = histogram_permille(&d->took_us, 990);
}
