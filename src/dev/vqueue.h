/* The server of one virtio queue: its ring, its worker thread, and the device's serve(). It knows nothing of registers; who starts and stops it
 * (dev/plane.h) may be on another node.
 *
 *     IDLE --start--> RUNNING --stop--> STOPPING --worker out, device quiet--> IDLE, stopped()
 *                        |                  ^
 *                        +--rules broken--> BROKEN --stop--+
 *
 * IDLE and BROKEN: no guest memory is touched. IDLE: no backend owes an answer either. A stop that finds nothing under way is done at once.
 *
 * Threads: start and stop from any thread, one at a time; ring from any thread, also while this closes, but not while holding a lock that the device's quiet() takes.
 * Locks: 'lock' guards the state; inside it only the device's own (quiet) and the worker's are taken. */
#ifndef DEV_VQUEUE_H
#define DEV_VQUEUE_H

#include "dev/virtio.h"
#include "dev/worker.h"

struct vqueue_setup {
	uint32_t epoch; /* of the queue's enabling: the same as before means go on where it stopped; never 0 */
	uint16_t size;
	gpa_t desc, avail, used;
	uint64_t features;
};

/* On the worker's thread, no lock held. */
struct vqueue_calls {
	void (*interrupt)(void *owner, unsigned queue); /* the driver wants to hear of what was given back */
	void (*broken)(void *owner, unsigned queue);    /* the driver broke the rules; nothing is served until a new epoch starts */
	void (*stopped)(void *owner, unsigned queue);   /* the end of a vqueue_stop that was not done at once */
	void *owner;
};

enum vqueue_state { VQUEUE_IDLE, VQUEUE_RUNNING, VQUEUE_BROKEN, VQUEUE_STOPPING, VQUEUE_CLOSED };

struct vqueue {
	const struct ram *ram;
	const struct virtio_dev *dev;
	unsigned index;
	struct vqueue_calls calls;
	struct worker worker;
	atomic_bool stop;
	_Atomic uint64_t waits; /* times that the worker waited for memory, here or from another node */
	_Atomic uint64_t requests, bytes; /* that were given back, and what was read and written for them, headers included */
	pthread_mutex_t lock;   /* guards state, busy, epoch, features */
	enum vqueue_state state;
	bool busy;              /* the worker is in serve() */
	uint32_t epoch;
	uint64_t features;
	struct virtq vq;        /* the worker's while busy, else under lock */
};

/* In place; ram and dev outlive it. -EAGAIN: no thread. */
int vqueue_open(struct vqueue *q, const struct ram *ram, const struct virtio_dev *dev, unsigned index, const struct vqueue_calls *calls) MUST_CHECK;
/* The memory is about to become wrong: nothing is begun any more, and what serve() reads from now on, it must not act upon. Waits for nothing. */
void vqueue_hush(struct vqueue *q);

/* Hushes, and waits for the worker. Nothing if it was never opened. */
void vqueue_close(struct vqueue *q);

/* What the ring's addresses come to on any node: 0, -EINVAL or -EFAULT as virtq_open says. */
int vqueue_check(const struct ram *ram, const struct vqueue_setup *s) MUST_CHECK;

/* Touches no guest memory. Nothing happens once it was hushed. -EPROTO: not idle; -EINVAL, -EFAULT: a ring that cannot be. */
int vqueue_start(struct vqueue *q, const struct vqueue_setup *s) MUST_CHECK;

/* True: idle now; false: stopped() will be called. */
bool vqueue_stop(struct vqueue *q) MUST_CHECK;

void vqueue_ring(struct vqueue *q);

/* Has it ever been started? Any thread. */
bool vqueue_known(struct vqueue *q);

#endif
