/* Registers of the modern virtio transport on top, what they mean to the queues' servers below. */
#include "dev/virtio_pci.h"

#include "base/ensure.h"
#include "base/log.h"
#include "dev/msix.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BAR_REGISTERS = 0, BAR_MSIX = 2, BAR_BYTES = 0x4000, REGION_BYTES = 0x1000 };
enum { REGION_COMMON, REGION_ISR, REGION_DEVICE, REGION_NOTIFY };
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4, CAP_WINDOW = 5 }; /* cfg_type */
enum { CAP_BYTES = 16, CAP_TYPE = 3, CAP_BAR = 4, CAP_OFFSET = 8, CAP_LENGTH = 12, CAP_EXTRA = 16 };
enum { NOTIFY_STRIDE = 4, NO_VECTOR = 0xffff };
enum { ISR_QUEUE = 1u << 0, ISR_CONFIG = 1u << 1 };
enum {
	STATUS_DRIVER_OK = 1u << 2,
	STATUS_FEATURES_OK = 1u << 3,
	STATUS_NEEDS_RESET = 1u << 6,
	STATUS_DRIVER = 0x8f, /* the bits a driver may set */
};

/* The common configuration as the guest reads it (4.1.4.3). */
struct common {
	uint32_t device_feature_select, device_feature, driver_feature_select, driver_feature;
	uint16_t config_vector, num_queues;
	uint8_t status, config_generation;
	uint16_t queue_select, queue_size, queue_vector, queue_enable, queue_notify_off;
	uint64_t queue_area[3]; /* descriptors, driver's ring, device's ring */
	uint16_t queue_notify_data, queue_reset;
};
_Static_assert(offsetof(struct common, queue_area) == 32 && offsetof(struct common, queue_reset) == 58, "virtio 1.2, 4.1.4.3");

enum serving { SERVING_NO, SERVING_YES, SERVING_ENDS };

/* All under the bus lock. */
struct queue {
	struct virtio_pci *v;
	unsigned index;
	uint16_t size, vector;
	bool enabled;
	uint64_t area[3];
	enum serving serving; /* what its server was told last, and whether it has obeyed */
	uint32_t epoch;       /* counts enablings */
	struct plane_wire wire; /* as told to its server */
};

struct virtio_pci {
	struct virtio_pci_config c;
	const struct virtio_dev *dev;
	struct pci_dev pci;
	unsigned window; /* offset of the capability that reaches the BAR through configuration space */
	/* Under the bus lock. */
	struct msix msix;
	bool resetting;
	uint8_t status, isr;
	uint16_t config_vector, queue_select;
	uint32_t device_feature_select, driver_feature_select;
	uint64_t offered, accepted, violations;
	struct queue queue[VIRTIO_QUEUES_MAX];
};

static void virtio_pci_update(struct virtio_pci *v);
static void virtio_pci_rewired(void *user);

/* Everything a reset forgets; no queue is served. */
static void virtio_pci_clear(struct virtio_pci *v)
{
	v->resetting = false;
	v->status = v->isr = 0;
	v->config_vector = NO_VECTOR;
	v->queue_select = 0;
	v->device_feature_select = v->driver_feature_select = 0;
	v->accepted = 0;
	for (unsigned i = 0; i < v->dev->queues; i++) {
		struct queue *q = &v->queue[i];

		q->size = v->dev->queue_size;
		q->vector = NO_VECTOR;
		q->enabled = false;
		memset(q->area, 0, sizeof q->area);
	}
}

static bool virtio_pci_serving(const struct virtio_pci *v)
{
	for (unsigned i = 0; i < v->dev->queues; i++)
		if (v->queue[i].serving != SERVING_NO)
			return true;
	return false;
}

static void virtio_pci_end_reset(struct virtio_pci *v)
{
	if (!v->resetting || virtio_pci_serving(v))
		return;
	if (v->dev->ops->reset)
		v->dev->ops->reset(v->dev->dev);
	virtio_pci_clear(v);
}

static void virtio_pci_begin_reset(struct virtio_pci *v)
{
	v->resetting = true;
	virtio_pci_update(v);
	virtio_pci_end_reset(v);
}

/* The driver has broken the rules: tell it, if it can be told, and serve it no more. */
static void virtio_pci_fence(struct virtio_pci *v)
{
	if (v->status & STATUS_NEEDS_RESET)
		return;
	v->violations++;
	log_debug("virtio: %s: the driver broke the rules; waiting for its reset", v->dev->name);
	v->status |= STATUS_NEEDS_RESET;
	virtio_pci_update(v);
	if (!(v->status & STATUS_DRIVER_OK))
		return;
	v->isr |= ISR_CONFIG;
	msix_raise(&v->msix, v->config_vector);
}

/* --- registers --- */

static struct queue *queue_selected(struct virtio_pci *v)
{
	return v->queue_select < v->dev->queues ? &v->queue[v->queue_select] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
	return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

static void common_read(struct virtio_pci *v, uint64_t offset, void *data, unsigned bytes)
{
	struct queue *q = queue_selected(v);
	struct common c = {.device_feature_select = v->device_feature_select, .device_feature = feature_word(v->offered, v->device_feature_select),
		.driver_feature_select = v->driver_feature_select, .driver_feature = feature_word(v->accepted, v->driver_feature_select),
		.config_vector = v->config_vector, .num_queues = (uint16_t)v->dev->queues, .status = v->status, .queue_select = v->queue_select};

	if (q) {
		c.queue_size = q->size;
		c.queue_vector = q->vector;
		c.queue_enable = q->enabled;
		c.queue_notify_off = (uint16_t)q->index;
		memcpy(c.queue_area, q->area, sizeof c.queue_area);
	}
	if (offset + bytes <= sizeof c)
		memcpy(data, (const uint8_t *)&c + offset, bytes);
}

static void virtio_pci_set_features(struct virtio_pci *v, uint32_t value)
{
	unsigned shift = 32 * v->driver_feature_select;

	if (v->driver_feature_select < 2 && !(v->status & STATUS_FEATURES_OK))
		v->accepted = (v->accepted & ~(0xffffffffull << shift)) | (uint64_t)value << shift;
}

static void virtio_pci_set_status(struct virtio_pci *v, uint8_t value)
{
	bool acceptable = !(v->accepted & ~v->offered) && v->accepted & 1ull << VIRTIO_F_VERSION_1, readied;

	if (value == 0) {
		virtio_pci_begin_reset(v);
		return;
	}
	value &= STATUS_DRIVER;
	if (!(v->status & STATUS_FEATURES_OK) && !acceptable)
		value &= (uint8_t)~STATUS_FEATURES_OK;
	if (!((v->status | value) & STATUS_FEATURES_OK))
		value &= (uint8_t)~STATUS_DRIVER_OK;
	readied = value & ~v->status & STATUS_DRIVER_OK;
	if (readied && v->dev->ops->ready)
		v->dev->ops->ready(v->dev->dev, v->accepted);
	v->status |= value;
	virtio_pci_update(v);
}

static uint16_t virtio_pci_vector(const struct virtio_pci *v, uint64_t value)
{
	return value < v->msix.vectors ? (uint16_t)value : NO_VECTOR;
}

static void queue_set_size(struct queue *q, uint64_t value)
{
	if (!q->enabled && value && value <= q->v->dev->queue_size && (value & (value - 1)) == 0)
		q->size = (uint16_t)value;
}

static struct vqueue_setup queue_setup(const struct queue *q)
{
	return (struct vqueue_setup){.epoch = q->epoch, .size = q->size, .desc = {q->area[0]}, .avail = {q->area[1]}, .used = {q->area[2]},
		.features = q->v->accepted};
}

static void queue_enable(struct queue *q)
{
	struct virtio_pci *v = q->v;
	struct vqueue_setup s = queue_setup(q);

	if (q->enabled || !(v->status & STATUS_FEATURES_OK))
		return;
	if (vqueue_check(plane_ram(v->c.plane), &s)) {
		virtio_pci_fence(v);
		return;
	}
	q->enabled = true;
	if (++q->epoch == 0)
		q->epoch = 1;
	virtio_pci_update(v);
}

static void queue_set_area(struct queue *q, uint64_t offset, const void *data, unsigned bytes)
{
	uint64_t at = offset - offsetof(struct common, queue_area);

	if (!q->enabled && (bytes == 4 || bytes == 8) && at % bytes == 0)
		memcpy((uint8_t *)q->area + at, data, bytes);
}

static void queue_write(struct queue *q, uint64_t offset, const void *data, unsigned bytes)
{
	uint64_t value = bus_get(data, bytes);

	if (offset >= offsetof(struct common, queue_area) && offset + bytes <= offsetof(struct common, queue_notify_data)) {
		queue_set_area(q, offset, data, bytes);
		return;
	}
	switch (offset) {
	case offsetof(struct common, queue_size): queue_set_size(q, value); break;
	case offsetof(struct common, queue_vector):
		q->vector = virtio_pci_vector(q->v, value);
		virtio_pci_update(q->v);
		break;
	case offsetof(struct common, queue_enable):
		if (value == 1)
			queue_enable(q);
		break;
	}
}

static void common_write(struct virtio_pci *v, uint64_t offset, const void *data, unsigned bytes)
{
	uint64_t value = bus_get(data, bytes);
	struct queue *q = queue_selected(v);

	if (v->resetting)
		return;
	switch (offset) {
	case offsetof(struct common, device_feature_select): v->device_feature_select = (uint32_t)value; break;
	case offsetof(struct common, driver_feature_select): v->driver_feature_select = (uint32_t)value; break;
	case offsetof(struct common, driver_feature): virtio_pci_set_features(v, (uint32_t)value); break;
	case offsetof(struct common, config_vector): v->config_vector = virtio_pci_vector(v, value); break;
	case offsetof(struct common, status): virtio_pci_set_status(v, (uint8_t)value); break;
	case offsetof(struct common, queue_select): v->queue_select = (uint16_t)value; break;
	default:
		if (q)
			queue_write(q, offset, data, bytes);
	}
}

static void isr_read(struct virtio_pci *v, uint64_t offset, void *data)
{
	if (offset)
		return;
	bus_put(data, 1, v->isr);
	v->isr = 0;
}

static void virtio_pci_bar_read(void *dev, uint64_t offset, void *data, unsigned bytes)
{
	struct virtio_pci *v = dev;
	const struct virtio_dev *d = v->dev;
	uint64_t at = offset % REGION_BYTES;

	memset(data, 0, bytes);
	switch (offset / REGION_BYTES) {
	case REGION_COMMON: common_read(v, at, data, bytes); break;
	case REGION_ISR: isr_read(v, at, data); break;
	case REGION_DEVICE:
		if (d->ops->config_read && at + bytes <= d->config_bytes)
			d->ops->config_read(d->dev, (unsigned)at, data, bytes);
		break;
	}
}

static void virtio_pci_bar_write(void *dev, uint64_t offset, const void *data, unsigned bytes)
{
	struct virtio_pci *v = dev;
	const struct virtio_dev *d = v->dev;
	uint64_t at = offset % REGION_BYTES;

	switch (offset / REGION_BYTES) {
	case REGION_COMMON: common_write(v, at, data, bytes); break;
	case REGION_DEVICE:
		if (d->ops->config_write && at + bytes <= d->config_bytes)
			d->ops->config_write(d->dev, (unsigned)at, data, bytes);
		break;
	case REGION_NOTIFY:
		if (at / NOTIFY_STRIDE < d->queues)
			plane_ring(v->c.plane, v->c.device, (unsigned)at / NOTIFY_STRIDE);
		break;
	}
}

static const struct bus_ops virtio_pci_bar_ops = {.read = virtio_pci_bar_read, .write = virtio_pci_bar_write};

/* --- configuration space --- */

static struct virtio_pci *virtio_pci_of(struct pci_dev *d)
{
	return (struct virtio_pci *)(void *)((uint8_t *)d - offsetof(struct virtio_pci, pci));
}

/* The window (4.1.4.9): which access to the registers' BAR its data bytes stand for; false: none. */
static bool virtio_pci_window(const struct virtio_pci *v, unsigned offset, unsigned bytes, uint32_t *at, uint32_t *length)
{
	unsigned data = v->window + CAP_EXTRA;

	*at = pci_get(&v->pci, v->window + CAP_OFFSET, 4);
	*length = pci_get(&v->pci, v->window + CAP_LENGTH, 4);
	if (offset + bytes <= data || offset >= data + 4 || pci_get(&v->pci, v->window + CAP_BAR, 1) != BAR_REGISTERS)
		return false;
	return (*length == 1 || *length == 2 || *length == 4) && *at % *length == 0 && *at < BAR_BYTES;
}

static void virtio_pci_config_read(struct pci_dev *d, unsigned offset, unsigned bytes)
{
	struct virtio_pci *v = virtio_pci_of(d);
	uint32_t at, length;

	if (virtio_pci_window(v, offset, bytes, &at, &length))
		virtio_pci_bar_read(v, at, d->config + v->window + CAP_EXTRA, length);
}

static void virtio_pci_config_written(struct pci_dev *d, unsigned offset, unsigned bytes)
{
	struct virtio_pci *v = virtio_pci_of(d);
	uint32_t at, length;

	if (virtio_pci_window(v, offset, bytes, &at, &length))
		virtio_pci_bar_write(v, at, d->config + v->window + CAP_EXTRA, length);
	msix_config_written(&v->msix);
	virtio_pci_update(v); /* bus mastering, masks or a BAR may have changed */
}

static const struct pci_ops virtio_pci_ops = {.config_read = virtio_pci_config_read, .config_written = virtio_pci_config_written};

static unsigned virtio_pci_add_cap(struct virtio_pci *v, uint8_t type, unsigned region, uint32_t length, unsigned extra)
{
	unsigned at = pci_cap_add(&v->pci, PCI_CAP_VENDOR, CAP_BYTES + extra);

	pci_set(&v->pci, at + 2, 1, CAP_BYTES + extra);
	pci_set(&v->pci, at + CAP_TYPE, 1, type);
	pci_set(&v->pci, at + CAP_BAR, 1, BAR_REGISTERS);
	pci_set(&v->pci, at + CAP_OFFSET, 4, region * REGION_BYTES);
	pci_set(&v->pci, at + CAP_LENGTH, 4, length);
	return at;
}

static void virtio_pci_describe(struct virtio_pci *v)
{
	const struct virtio_dev *d = v->dev;
	struct pci_id id = {.vendor = 0x1af4, .device = (uint16_t)(0x1040 + d->type), .subsystem_vendor = 0x1af4, .subsystem = 0x0040, .class = d->pci_class,
		.revision = 1};
	unsigned notify;

	pci_dev_init(&v->pci, d->name, &id, &virtio_pci_ops);
	pci_bar_init(&v->pci, BAR_REGISTERS, BAR_BYTES, &virtio_pci_bar_ops, v);
	msix_init(&v->msix, &v->pci, BAR_MSIX, d->queues + 1, v->c.irq_sink);
	v->msix.changed = virtio_pci_rewired;
	v->msix.user = v;
	virtio_pci_add_cap(v, CAP_COMMON, REGION_COMMON, sizeof(struct common), 0);
	virtio_pci_add_cap(v, CAP_ISR, REGION_ISR, 1, 0);
	if (d->config_bytes)
		virtio_pci_add_cap(v, CAP_DEVICE, REGION_DEVICE, d->config_bytes, 0);
	notify = virtio_pci_add_cap(v, CAP_NOTIFY, REGION_NOTIFY, d->queues * NOTIFY_STRIDE, 4);
	pci_set(&v->pci, notify + CAP_EXTRA, 4, NOTIFY_STRIDE);
	v->window = virtio_pci_add_cap(v, CAP_WINDOW, 0, 0, 4);
	pci_allow(&v->pci, v->window + CAP_BAR, 1, 0xff);
	pci_allow(&v->pci, v->window + CAP_OFFSET, 4, 0xffffffff);
	pci_allow(&v->pci, v->window + CAP_LENGTH, 4, 0xffffffff);
	pci_allow(&v->pci, v->window + CAP_EXTRA, 4, 0xffffffff);
}

/* --- the queues' servers --- */

/* Not as it is now but as it should be: what the registers say of the queue. */
static bool queue_wanted(const struct queue *q)
{
	const struct virtio_pci *v = q->v;

	return q->enabled && !v->resetting && (v->status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK && pci_is_master(&v->pci);
}

static struct plane_wire queue_wire(const struct queue *q)
{
	const struct pci_bar *bar = &q->v->pci.bar[BAR_REGISTERS];
	struct plane_wire w = {.bell = bar->mapped ? bar->at + REGION_NOTIFY * REGION_BYTES + q->index * NOTIFY_STRIDE : 0};

	w.direct = msix_message(&q->v->msix, q->vector, &w.address, &w.data);
	return w;
}

static bool wire_equal(const struct plane_wire *a, const struct plane_wire *b)
{
	return a->bell == b->bell && a->direct == b->direct && a->address == b->address && a->data == b->data;
}

/* Tell a queue's server what has changed. Its wiring goes before its start, so that it never runs with an older one; a queue that is not served has none. */
static void queue_update(struct queue *q)
{
	struct virtio_pci *v = q->v;
	bool wanted = queue_wanted(q);
	struct plane_wire w = {0};

	if (!wanted && q->serving == SERVING_YES)
		q->serving = plane_stop(v->c.plane, v->c.device, q->index) ? SERVING_NO : SERVING_ENDS;
	if (wanted || q->serving != SERVING_NO)
		w = queue_wire(q);
	if (!wire_equal(&w, &q->wire)) {
		q->wire = w;
		plane_wire(v->c.plane, v->c.device, q->index, &w);
	}
	if (wanted && q->serving == SERVING_NO) {
		struct vqueue_setup s = queue_setup(q);

		q->serving = SERVING_YES;
		plane_start(v->c.plane, v->c.device, q->index, &s);
	}
}

/* After any change of registers that the servers should know of. */
static void virtio_pci_update(struct virtio_pci *v)
{
	for (unsigned i = 0; i < v->dev->queues; i++)
		queue_update(&v->queue[i]);
}

static void virtio_pci_rewired(void *user)
{
	virtio_pci_update(user);
}

static void on_raise(void *fn, unsigned queue)
{
	struct virtio_pci *v = fn;

	bus_lock(v->c.bus);
	if (!v->resetting && v->queue[queue].serving != SERVING_NO) {
		v->isr |= ISR_QUEUE;
		msix_raise(&v->msix, v->queue[queue].vector);
	}
	bus_unlock(v->c.bus);
}

static void on_stopped(void *fn, unsigned queue)
{
	struct virtio_pci *v = fn;

	bus_lock(v->c.bus);
	if (v->queue[queue].serving == SERVING_ENDS) {
		v->queue[queue].serving = SERVING_NO;
		virtio_pci_end_reset(v);
		queue_update(&v->queue[queue]);
	}
	bus_unlock(v->c.bus);
}

static void on_broken(void *fn, unsigned queue)
{
	struct virtio_pci *v = fn;

	bus_lock(v->c.bus);
	if (v->queue[queue].serving != SERVING_NO && !v->resetting)
		virtio_pci_fence(v);
	bus_unlock(v->c.bus);
}

static void on_changed(void *fn)
{
	struct virtio_pci *v = fn;

	bus_lock(v->c.bus);
	if (!v->resetting && v->status & STATUS_DRIVER_OK) {
		v->isr |= ISR_CONFIG;
		msix_raise(&v->msix, v->config_vector);
	}
	bus_unlock(v->c.bus);
}

static int virtio_pci_start(struct virtio_pci *v)
{
	int err;

	for (unsigned i = 0; i < v->dev->queues; i++) {
		v->queue[i].v = v;
		v->queue[i].index = i;
	}
	plane_attach(v->c.plane, v->c.device, &(struct plane_function){.raise = on_raise, .stopped = on_stopped, .broken = on_broken, .changed = on_changed, .fn = v});
	bus_lock(v->c.bus);
	err = pci_add(v->c.pci, v->c.slot, &v->pci);
	bus_unlock(v->c.bus);
	return err;
}

int virtio_pci_open(struct virtio_pci **out, const struct virtio_pci_config *c)
{
	const struct virtio_dev *dev = plane_dev(c->plane, c->device);
	struct virtio_pci *v = calloc(1, sizeof *v);
	int err;

	ensure(dev && dev->queue_size <= VIRTQ_SIZE_MAX && dev->config_bytes <= REGION_BYTES);
	if (!v)
		return -ENOMEM;
	v->c = *c;
	v->dev = dev;
	v->offered = dev->features | 1ull << VIRTIO_F_VERSION_1 | 1ull << VIRTIO_F_INDIRECT_DESC | 1ull << VIRTIO_F_EVENT_IDX;
	virtio_pci_describe(v);
	virtio_pci_clear(v);
	err = virtio_pci_start(v);
	if (err)
		virtio_pci_close(v);
	else
		*out = v;
	return err;
}

void virtio_pci_close(struct virtio_pci *v)
{
	if (!v)
		return;
	bus_lock(v->c.bus);
	pci_remove(&v->pci);
	bus_unlock(v->c.bus);
	free(v);
}

uint64_t virtio_pci_violations(struct virtio_pci *v)
{
	uint64_t n;

	bus_lock(v->c.bus);
	n = v->violations;
	bus_unlock(v->c.bus);
	return n;
}
