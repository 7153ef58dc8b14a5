/* A fragment's side of its VM's disks and network cards: opening this node's, telling the others what they are, and what becomes of them. */
#ifndef NODE_FRAGMENT_GEAR_H
#define NODE_FRAGMENT_GEAR_H

#include <pthread.h>

#include "node/channel.h"
#include "node/fragment_machine.h"

struct fragment_gear {
	struct fragment_config *config;
	void (*wake)(void *owner);   /* fragment_gear_report has something to say. Any thread */
	void *owner;
	pthread_mutex_t lock;        /* guards trouble */
	char trouble[512];           /* not yet reported; "": none. What comes meanwhile is in the log only */
};

/* config, wake and owner are set; lock is PTHREAD_MUTEX_INITIALIZER. Fills in config->depot. May wait. */
int fragment_gear_open(struct fragment_gear *g, struct failure *f) MUST_CHECK;

/* After the machine is closed. */
void fragment_gear_close(struct fragment_gear *g);

/* To the daemon: what this node's disks are; that something is wrong with one. */
void fragment_gear_tell(const struct fragment_gear *g, struct channel *daemon);
void fragment_gear_report(struct fragment_gear *g, struct channel *daemon);

/* From the daemon: part_peer_disk, a disk of another node. Nonsense is dropped. */
void fragment_gear_take(struct fragment_gear *g, const uint8_t *body, size_t bytes);

/* Has every node said what its disks are? -EPROTO: which has not. */
int fragment_gear_check(const struct fragment_gear *g, struct failure *f) MUST_CHECK;

#endif
