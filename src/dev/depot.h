/* The backends of a VM's disks and network cards that are on this node, opened while the VM is being started: afterwards nothing can be opened any more.
 *
 * Threads: open and close belong to one owner; the lookups any thread, in between. */
#ifndef DEV_DEPOT_H
#define DEV_DEPOT_H

#include "dev/gear.h"

struct depot;

/* Open all of 'g' whose node is 'node'; g's disks there get their 'found' and what goes with it. Outlives g. The first failure ends it, nothing is left open.
 * seed, seed_bytes: of the disk GEAR_SEED; copied. */
int depot_open(struct depot **out, struct gear *g, const char *node, const void *seed, size_t seed_bytes, struct failure *f) MUST_CHECK;

/* Waits for requests of its disks. Not before devices have stopped to submit, send and resume. */
void depot_close(struct depot *d);

/* The backend of g->disk[i], g->nic[i]; NULL: on another node. The depot's; a nic is started (nic_start) by whoever uses it. */
struct disk *depot_disk(const struct depot *d, unsigned i);
struct nic *depot_nic(const struct depot *d, unsigned i);

/* disk.N.* and net.N.* of each of them. */
void depot_stats(const struct depot *d, void (*line)(void *to, const char *key, uint64_t value), void *to);

#endif
