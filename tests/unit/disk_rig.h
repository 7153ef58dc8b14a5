/* A disk under test: one request at a time and waited for, or many; what it says of trouble; a random walk against a copy in memory. */
#ifndef TESTS_UNIT_DISK_RIG_H
#define TESTS_UNIT_DISK_RIG_H

#include "dev/disk.h"

#include <pthread.h>

enum { IMAGE = 1 << 20, BUFFER = 256 * 1024 };

struct disk_rig {
	struct disk *d;
	char path[64];
	struct failure f;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t bell;
	unsigned done, failed, troubles;
	int err;
	char trouble[512];
	uint8_t *buffer;
	void (*on_done)(struct disk_request *q, int err); /* for requests of the test's own; user: the rig */
};

/* A file of so many bytes in that folder; not open yet. */
struct disk_rig *disk_rig_new(const char *folder, uint64_t bytes);
int disk_rig_open(struct disk_rig *r, const struct disk_config *c);
void disk_rig_free(struct disk_rig *r);

void disk_rig_wait(struct disk_rig *r, unsigned n);
int disk_rig_ask_with(struct disk_rig *r, enum disk_op op, uint64_t offset, uint64_t bytes, void *memory);
int disk_rig_ask(struct disk_rig *r, enum disk_op op, uint64_t offset, uint64_t bytes);
bool disk_rig_all(const uint8_t *at, uint64_t bytes, uint8_t value);
bool disk_rig_walk(struct disk_rig *r, uint8_t *model, unsigned steps);

#endif
