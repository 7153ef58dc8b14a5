/* The sample virtio device: one queue, no configuration, no state. */
#include "dev/virtio_rng.h"

#include <errno.h>
#include <sys/random.h>

enum {
	RNG_REQUEST_MAX = 64 * 1024, /* more is not given to one request: a driver asks again */
	RNG_CHUNK = 4096,
	RNG_BATCH = 16,
};

/* Returns the bytes written, or -errno. */
static int rng_fill(struct virtq *q, const struct virtq_chain *chain, const atomic_bool *stop)
{
	uint64_t wanted = chain->writable_bytes < RNG_REQUEST_MAX ? chain->writable_bytes : RNG_REQUEST_MAX, done = 0;
	uint8_t random[RNG_CHUNK];

	while (done < wanted && !atomic_load(stop)) {
		uint64_t chunk = wanted - done < sizeof random ? wanted - done : sizeof random;
		ssize_t got = getrandom(random, chunk, 0);
		int err;

		if (got <= 0)
			break; /* the driver gets what there is */
		err = virtq_write(q, chain, done, random, (uint64_t)got);
		if (err)
			return err;
		done += (uint64_t)got;
	}
	return (int)done;
}

static int rng_serve(void *dev, unsigned queue, struct virtq *q, uint64_t features, const atomic_bool *stop)
{
	struct virtq_chain chain;

	for (unsigned i = 0; i < RNG_BATCH; i++) {
		int n = virtq_pop(q, &chain);

		if (n <= 0)
			return n ? n : VIRTIO_DRAINED;
		n = rng_fill(q, &chain, stop);
		if (n < 0)
			return n;
		virtq_push(q, &chain, (uint32_t)n); /* also when a stop has cut it short: nobody else knows of it */
		if (atomic_load(stop))
			return VIRTIO_DRAINED;
	}
	return VIRTIO_MORE;
}

struct virtio_dev virtio_rng_dev(void)
{
	static const struct virtio_ops ops = {.serve = rng_serve};

	return (struct virtio_dev){.name = "virtio-rng", .type = VIRTIO_ID_RNG, .pci_class = 0x00ff00, .queues = 1, .queue_size = 64, .ops = &ops};
}
