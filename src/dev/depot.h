/* The backends of a VM's disks and network cards that are on this node, opened while the VM is being started: afterwards nothing can be opened any more.
 *
 * Threads: open and close belong to one owner; the lookups any thread, in between. */
#ifndef DEV_DEPOT_H
#define DEV_DEPOT_H

#include "dev/gear.h"

struct depot;

struct depot_config {
	struct gear *gear;      /* its disks on this node get their 'found' and what goes with it; read during open */
	const char *node;       /* this one */
	const void *seed;       /* of the disk GEAR_SEED; copied */
	size_t seed_bytes;
	/* A line for a person: once for each kind of trouble with a disk (dev/disk.h) or a card. Any thread; short. NULL: it is logged. */
	void (*trouble)(void *user, const char *what);
	void *user;
};

/* Open all that is on this node. The first failure ends it, and nothing is left open. */
int depot_open(struct depot **out, const struct depot_config *c, struct failure *f) MUST_CHECK;

/* Waits for requests of its disks. Not before devices have stopped to submit, send and resume. */
void depot_close(struct depot *d);

/* The backend of g->disk[i], g->nic[i]; NULL: on another node. The depot's; a nic is started (nic_start) by whoever uses it. */
struct disk *depot_disk(const struct depot *d, unsigned i);
struct nic *depot_nic(const struct depot *d, unsigned i);

/* disk.N.* and net.N.* of each of them. */
void depot_stats(const struct depot *d, void (*line)(void *to, const char *key, uint64_t value), void *to);

#endif
