/* See outfit.h. */
#include "dev/outfit.h"

#include "dev/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of devices in the plane. */
enum { OUTFIT_RNG };

struct outfit {
	struct outfit_config c;
	struct plane *plane;
};

static int outfit_open_rng(struct outfit *o)
{
	struct virtio_dev dev = virtio_rng_dev();
	node_t node[VIRTIO_QUEUES_MAX] = {o->c.plane.devices};

	return plane_add(o->plane, OUTFIT_RNG, &dev, node);
}

int outfit_open(struct outfit **out, const struct outfit_config *c, struct failure *f)
{
	struct outfit *o = calloc(1, sizeof *o);
	int err = -ENOMEM;

	if (o) {
		o->c = *c;
		err = plane_open(&o->plane, &c->plane);
		if (!err)
			err = outfit_open_rng(o);
		o->c.vcpu_node = NULL;
	}
	if (err) {
		outfit_close(o);
		return failure_set(f, err, "free memory and threads on this node", "cannot make the devices: %s", strerror(-err));
	}
	*out = o;
	return 0;
}

void outfit_halt(struct outfit *o)
{
	if (o)
		plane_halt(o->plane);
}

void outfit_close(struct outfit *o)
{
	if (!o)
		return;
	if (o->plane)
		plane_close(o->plane);
	free(o);
}

struct plane *outfit_plane(struct outfit *o)
{
	return o->plane;
}
