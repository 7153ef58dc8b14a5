/* Between disk.c, which judges and counts requests, and the backends that carry them out: disk_raw.c, disk_nbd.c. For these three only. */
#ifndef DEV_DISK_BACKEND_H
#define DEV_DISK_BACKEND_H

#include "base/histogram.h"
#include "dev/disk.h"

#include <pthread.h>

#include <stdatomic.h>

enum { DISK_PATH_BYTES = 1024 };

struct disk_backend_ops {
	void (*submit)(struct disk *d, struct disk_request *r); /* a judged request; ends in disk_backend_done, on another thread */
	void (*close)(struct disk *d);                          /* what was submitted has ended first */
};

struct disk {
	const struct disk_backend_ops *ops;
	void *backend;
	char path[DISK_PATH_BYTES];
	struct disk_config config; /* path points into this struct */
	/* Filled in by the backend's open. */
	uint64_t bytes;
	uint32_t block, optimal;
	bool can_discard;

	atomic_bool lost;       /* D3: a flush has failed */
	_Atomic uint64_t told;  /* errnos that trouble() has been told, a bit each */
	_Atomic uint64_t requests[DISK_OPS], moved[DISK_OPS], errors;
	struct histogram took_us;
	pthread_mutex_t took;   /* guards additions to took_us */
};

/* Fill in ops, backend and what the disk is. */
int disk_raw_open(struct disk *d, struct failure *f) MUST_CHECK;
int disk_nbd_open(struct disk *d, struct failure *f) MUST_CHECK;

/* The backend has ended r. On a thread of its own, no lock held. */
void disk_backend_done(struct disk *d, struct disk_request *r, int err);

/* Tell trouble() unless it has been told of this errno. */
void disk_backend_trouble(struct disk *d, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
