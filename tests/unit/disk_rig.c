/* See disk_rig.h. */
#include "tests/unit/disk_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


static void on_trouble(void *user, int err, const char *what)
{
	struct disk_rig *r = user;

	pthread_mutex_lock(&r->lock);
	r->troubles++;
	snprintf(r->trouble, sizeof r->trouble, "%s", what);
	pthread_mutex_unlock(&r->lock);
}

static void on_done(struct disk_request *q, int err)
{
	struct disk_rig *r = q->user;

	pthread_mutex_lock(&r->lock);
	r->done++;
	r->err = err;
	r->failed += err != 0;
	pthread_cond_signal(&r->bell);
	pthread_mutex_unlock(&r->lock);
}

int disk_rig_open(struct disk_rig *r, const struct disk_config *c)
{
	struct disk_config with = *c;

	with.path = c->path ? c->path : r->path;
	with.trouble = on_trouble;
	with.user = r;
	r->f = (struct failure){0};
	return disk_open(&r->d, &with, &r->f);
}

struct disk_rig *disk_rig_new(const char *folder, uint64_t bytes)
{
	struct disk_rig *r = calloc(1, sizeof *r);
	int fd;

	r->buffer = aligned_alloc(4096, BUFFER);
	snprintf(r->path, sizeof r->path, "%s/tessera-disk-XXXXXX", folder);
	fd = mkstemp(r->path);
	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		abort();
	close(fd);
	r->on_done = on_done;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->bell, NULL);
	return r;
}

void disk_rig_free(struct disk_rig *r)
{
	disk_close(r->d);
	unlink(r->path);
	free(r->buffer);
	free(r);
}

void disk_rig_wait(struct disk_rig *r, unsigned n)
{
	pthread_mutex_lock(&r->lock);
	while (r->done < n)
		pthread_cond_wait(&r->bell, &r->lock);
	pthread_mutex_unlock(&r->lock);
}

/* One request, waited for. What the disk refuses is returned, too. */
int disk_rig_ask_with(struct disk_rig *r, enum disk_op op, uint64_t offset, uint64_t bytes, void *memory)
{
	struct iovec iov = {memory, bytes};
	struct disk_request q = {.op = op, .offset = offset, .bytes = bytes, .iov = &iov, .iovs = 1, .unmap = true, .done = on_done, .user = r};
	unsigned before = r->done;
	int err = disk_submit(r->d, &q);

	if (err)
		return err;
	disk_rig_wait(r, before + 1);
	return r->err;
}

int disk_rig_ask(struct disk_rig *r, enum disk_op op, uint64_t offset, uint64_t bytes)
{
	return disk_rig_ask_with(r, op, offset, bytes, r->buffer);
}

bool disk_rig_all(const uint8_t *at, uint64_t bytes, uint8_t value)
{
	for (uint64_t i = 0; i < bytes; i++)
		if (at[i] != value)
			return false;
	return true;
}

/* Random operations, one after the other, against a copy in memory; iovs of odd pieces. */
bool disk_rig_walk(struct disk_rig *r, uint8_t *model, unsigned steps)
{
	uint32_t seed = 7;

	for (unsigned n = 0; n < steps; n++) {
		uint64_t offset, bytes, cut;
		enum disk_op op;

		seed = seed * 1103515245 + 12345;
		offset = (seed >> 8) % (IMAGE / 512) * 512;
		bytes = (seed >> 4) % 64 * 512;
		bytes = bytes > IMAGE - offset ? IMAGE - offset : bytes;
		op = (seed >> 28) % 4 == 3 ? DISK_WRITE_ZEROES : (seed >> 28) % 2 ? DISK_WRITE : DISK_READ;
		cut = bytes ? seed % bytes : 0;
		struct iovec iov[3] = {{r->buffer, cut}, {r->buffer + cut, 0}, {r->buffer + cut, bytes - cut}};
		struct disk_request q = {.op = op, .offset = offset, .bytes = bytes, .iov = iov, .iovs = 3, .unmap = n & 1, .done = on_done, .user = r};

		memset(r->buffer, (int)(n | 1) & 0xff, bytes);
		if (op == DISK_WRITE)
			memcpy(model + offset, r->buffer, bytes);
		if (op == DISK_WRITE_ZEROES)
			memset(model + offset, 0, bytes);
		if (disk_submit(r->d, &q))
			return false;
		disk_rig_wait(r, n + 1);
		if (r->err || (op == DISK_READ && memcmp(model + offset, r->buffer, bytes) != 0))
			return false;
	}
	return true;
}
