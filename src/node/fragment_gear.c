/* See fragment_gear.h. */
#include "node/fragment_gear.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"
#include "base/text.h"
#include "wire/control.h"

static void on_trouble(void *user, const char *what)
{
	struct fragment_gear *g = user;

	log_warn("%s", what);
	pthread_mutex_lock(&g->lock);
	if (!*g->trouble)
		TEXT_SET(g->trouble, what);
	pthread_mutex_unlock(&g->lock);
	g->wake(g->owner);
}

int fragment_gear_open(struct fragment_gear *g, struct failure *f)
{
	struct fragment_config *c = g->config;
	struct depot_config d = {.gear = &c->gear, .node = c->node[c->self.v].name, .seed = c->seed.at, .seed_bytes = c->seed.bytes, .trouble = on_trouble, .user = g};

	return depot_open(&c->depot, &d, f);
}

void fragment_gear_close(struct fragment_gear *g)
{
	depot_close(g->config->depot);
	g->config->depot = NULL;
	pthread_mutex_destroy(&g->lock);
}

void fragment_gear_tell(const struct fragment_gear *g, struct channel *daemon)
{
	const struct fragment_config *c = g->config;

	for (unsigned i = 0; i < c->gear.disks; i++) {
		const struct gear_disk *d = &c->gear.disk[i];

		if (d->found)
			CHANNEL_SEND(daemon, part_disk, .vm_id = c->vm_id, .index = c->self.v, .disk = (uint8_t)i, .bytes = d->bytes, .block_bytes = d->block_bytes,
				.optimal_bytes = d->optimal_bytes,
				.flags = (uint8_t)((d->discards ? CONTROL_DISK_DISCARDS : 0) | (d->writes_back ? CONTROL_DISK_WRITES_BACK : 0)));
	}
}

void fragment_gear_report(struct fragment_gear *g, struct channel *daemon)
{
	char what[sizeof g->trouble];

	pthread_mutex_lock(&g->lock);
	TEXT_SET(what, g->trouble);
	if (daemon)
		*g->trouble = 0;
	pthread_mutex_unlock(&g->lock);
	if (daemon && *what)
		CHANNEL_SEND(daemon, part_trouble, .vm_id = g->config->vm_id, .index = g->config->self.v, .what = channel_text(what));
}

/* As dev/disk.h describes disks; a device is made of it (dev/virtio_blk.c). */
static bool sane(const struct control_part_peer_disk *d)
{
	return d->block_bytes >= DISK_SECTOR && d->block_bytes <= 1u << 16 && !(d->block_bytes & (d->block_bytes - 1)) && d->bytes % d->block_bytes == 0 &&
		d->optimal_bytes >= d->block_bytes && d->optimal_bytes % d->block_bytes == 0 && d->optimal_bytes <= 1u << 30;
}

void fragment_gear_take(struct fragment_gear *g, const uint8_t *body, size_t bytes)
{
	struct control_part_peer_disk in;
	struct gear_disk *d;

	if (control_get_part_peer_disk(body, bytes, &in) || in.disk >= g->config->gear.disks || depot_disk(g->config->depot, in.disk))
		return;
	d = &g->config->gear.disk[in.disk];
	if (!sane(&in) || d->found) {
		log_warn("node %s says what no node says of a disk", d->node);
		return;
	}
	d->found = true;
	d->bytes = in.bytes;
	d->block_bytes = in.block_bytes;
	d->optimal_bytes = in.optimal_bytes;
	d->discards = in.flags & CONTROL_DISK_DISCARDS;
	d->writes_back = in.flags & CONTROL_DISK_WRITES_BACK;
}

int fragment_gear_check(const struct fragment_gear *g, struct failure *f)
{
	for (unsigned i = 0; i < g->config->gear.disks; i++) {
		const struct gear_disk *d = &g->config->gear.disk[i];

		if (!d->found)
			return failure_set(f, -EPROTO, "run the same version of tessera on all nodes", "node %s has not said what the disk %.200s is", d->node, d->path);
	}
	return 0;
}
