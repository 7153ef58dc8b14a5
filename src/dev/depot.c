/* See depot.h. */
#include "dev/depot.h"

#include "base/types.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct depot {
	void (*trouble)(void *user, const char *what);
	void *user;
	struct disk *disk[GEAR_DISKS_MAX];
	struct nic *nic[GEAR_NICS_MAX];
};

/* The seed becomes a file in memory. */
static int make_seed(const void *seed, size_t bytes, struct failure *f)
{
	int fd = memfd_create("seed", MFD_CLOEXEC);
	const uint8_t *at = seed;

	while (fd >= 0 && bytes) {
		ssize_t n = write(fd, at, bytes);

		if (n <= 0) {
			close(fd);
			fd = -1;
		} else {
			at += n;
			bytes -= (size_t)n;
		}
	}
	return fd < 0 ? failure_set(f, -ENOMEM, "free some memory on this host", "no memory for the seed disk") : fd;
}

static void on_disk(void *user, int err, const char *what)
{
	struct depot *d = user;

	d->trouble(d->user, what);
}

static int open_disk(struct depot *d, const struct depot_config *c, unsigned i, struct failure *f)
{
	struct gear_disk *g = &c->gear->disk[i];
	struct disk_config with = {.path = g->path, .format = g->format, .cache = g->cache, .readonly = g->readonly, .trouble = d->trouble ? on_disk : NULL, .user = d};
	struct disk *disk;
	int err;

	if (strcmp(g->path, GEAR_SEED) == 0) {
		with.fd = c->seed_bytes && g->readonly ? make_seed(c->seed, c->seed_bytes, f) : failure_set(f, -EINVAL, "give the path of a file", "the VM has no seed");
		if (with.fd < 0)
			return with.fd;
	}
	err = disk_open(&disk, &with, f);
	if (err)
		return err;
	g->found = true;
	g->bytes = disk_bytes(disk);
	g->block_bytes = disk_block_bytes(disk);
	g->optimal_bytes = disk_optimal_bytes(disk);
	g->discards = disk_can_discard(disk);
	g->writes_back = disk_writes_back(disk);
	d->disk[i] = disk;
	return 0;
}

int depot_open(struct depot **out, const struct depot_config *c, struct failure *f)
{
	struct depot *d = calloc(1, sizeof *d);
	struct gear *g = c->gear;
	int err = 0;

	if (!d)
		return failure_set(f, -ENOMEM, "free some memory on this host", "out of memory for disks and network cards");
	d->trouble = c->trouble;
	d->user = c->user;
	for (unsigned i = 0; i < g->disks && !err; i++)
		if (strcmp(g->disk[i].node, c->node) == 0)
			err = open_disk(d, c, i, f);
	for (unsigned i = 0; i < g->nics && !err; i++) {
		if (strcmp(g->nic[i].node, c->node) != 0)
			continue;
		g->nic[i].link.trouble = d->trouble;
		g->nic[i].link.user = d->user;
		err = nic_open(&d->nic[i], &g->nic[i].link, f);
	}
	if (err) {
		depot_close(d);
		return err;
	}
	*out = d;
	return 0;
}

void depot_close(struct depot *d)
{
	if (!d)
		return;
	for (unsigned i = 0; i < GEAR_NICS_MAX; i++)
		nic_close(d->nic[i]);
	for (unsigned i = 0; i < GEAR_DISKS_MAX; i++)
		disk_close(d->disk[i]);
	free(d);
}

struct disk *depot_disk(const struct depot *d, unsigned i)
{
	return i < GEAR_DISKS_MAX ? d->disk[i] : NULL;
}

struct nic *depot_nic(const struct depot *d, unsigned i)
{
	return i < GEAR_NICS_MAX ? d->nic[i] : NULL;
}

static void tell(const char *kind, unsigned i, const char *what, uint64_t value, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	char key[NAME_BYTES];

	snprintf(key, sizeof key, "%s.%u.%s", kind, i, what);
	line(to, key, value);
}

void depot_stats(const struct depot *d, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct disk_counts n;
	struct nic_counts c;

	for (unsigned i = 0; i < GEAR_DISKS_MAX; i++) {
		if (!d->disk[i])
			continue;
		disk_count(d->disk[i], &n);
		tell("disk", i, "reads", n.requests[DISK_READ], line, to);
		tell("disk", i, "writes", n.requests[DISK_WRITE], line, to);
		tell("disk", i, "flushes", n.requests[DISK_FLUSH], line, to);
		tell("disk", i, "bytes_read", n.bytes[DISK_READ], line, to);
		tell("disk", i, "bytes_written", n.bytes[DISK_WRITE], line, to);
		tell("disk", i, "errors", n.errors, line, to);
		tell("disk", i, "p50_us", n.us_p50, line, to);
		tell("disk", i, "p99_us", n.us_p99, line, to);
	}
	for (unsigned i = 0; i < GEAR_NICS_MAX; i++) {
		if (!d->nic[i])
			continue;
		nic_count(d->nic[i], &c);
		tell("net", i, "frames_sent", c.sent, line, to);
		tell("net", i, "bytes_sent", c.sent_bytes, line, to);
		tell("net", i, "frames_received", c.received, line, to);
		tell("net", i, "bytes_received", c.received_bytes, line, to);
		tell("net", i, "frames_dropped", c.dropped, line, to);
		tell("net", i, "frames_refused", c.refused, line, to);
	}
}
