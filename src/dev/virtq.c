/* The ring, read with suspicion. */
#include "dev/virtq.h"

#include <errno.h>

enum { DESC_BYTES = 16, DESC_NEXT = 1u << 0, DESC_WRITE = 1u << 1, DESC_INDIRECT = 1u << 2 };
enum { AVAIL_FLAGS = 0, AVAIL_IDX = 2, AVAIL_RING = 4, AVAIL_NO_INTERRUPT = 1 };
enum { USED_FLAGS = 0, USED_IDX = 2, USED_RING = 4, USED_ELEM_BYTES = 8, USED_NO_NOTIFY = 1 };

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* A descriptor table: the queue's own, or an indirect one. */
struct table {
	const uint8_t *at; /* the queue's own, or NULL: */
	gpa_t gpa;
	unsigned entries;
};

static uint16_t load16(const uint8_t *at)
{
	return __atomic_load_n((const uint16_t *)(const void *)at, __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *at, uint16_t value)
{
	__atomic_store_n((uint16_t *)(void *)at, value, __ATOMIC_RELEASE);
}

/* Avail ring entry or used_event (i == size), used ring's avail_event (as the element behind the last). */
static uint8_t *avail_entry(const struct virtq *q, unsigned i)
{
	return q->avail + AVAIL_RING + 2 * i;
}

static uint8_t *used_entry(const struct virtq *q, unsigned i)
{
	return q->used + USED_RING + USED_ELEM_BYTES * i;
}

int virtq_open(struct virtq *q, const struct virtq_config *c)
{
	uint16_t n = c->size;

	*q = (struct virtq){0};
	if (n == 0 || n > VIRTQ_SIZE_MAX || n & (n - 1))
		return -EINVAL;
	if (c->desc.v % 16 || c->avail.v % 2 || c->used.v % 4)
		return -EINVAL;
	*q = (struct virtq){.ram = c->ram, .size = n, .indirect = c->indirect, .event_idx = c->event_idx};
	q->avail = ram_at(c->ram, c->avail, AVAIL_RING + 2ull * n + 2);
	q->used = ram_at(c->ram, c->used, USED_RING + (uint64_t)USED_ELEM_BYTES * n + 2);
	q->desc = ram_at(c->ram, c->desc, (uint64_t)DESC_BYTES * n);
	if (q->avail && q->used && q->desc)
		return 0;
	*q = (struct virtq){0};
	return -EFAULT;
}

static int virtq_break(struct virtq *q)
{
	q->broken = true;
	return -EPROTO;
}

/* One load a word: what was judged is what is used. */
static struct desc desc_load(const uint8_t *at)
{
	uint64_t addr = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
	uint64_t rest = __atomic_load_n((const uint64_t *)(const void *)(at + 8), __ATOMIC_RELAXED);

	return (struct desc){.addr = addr, .len = (uint32_t)rest, .flags = (uint16_t)(rest >> 32), .next = (uint16_t)(rest >> 48)};
}

static int table_load(const struct virtq *q, const struct table *t, unsigned i, struct desc *d)
{
	uint8_t raw[DESC_BYTES] __attribute__((aligned(8)));

	if (t->at) {
		*d = desc_load(t->at + DESC_BYTES * i);
		return 0;
	}
	if (ram_read(q->ram, (gpa_t){t->gpa.v + (uint64_t)DESC_BYTES * i}, raw, sizeof raw)) /* an indirect table need not be aligned */
		return -EFAULT;
	*d = desc_load(raw);
	return 0;
}

static int chain_append(struct virtq_chain *c, const struct desc *d)
{
	bool writable = d->flags & DESC_WRITE;
	uint64_t *total = writable ? &c->writable_bytes : &c->readable_bytes;

	if (c->segs == VIRTQ_SEGS_MAX)
		return -EPROTO;
	if (!writable && c->readable != c->segs)
		return -EPROTO; /* readable behind writable (2.7.4.2) */
	if (d->addr + d->len < d->addr || *total + d->len > UINT32_MAX)
		return -EPROTO;
	*total += d->len;
	c->seg[c->segs++] = (struct virtq_seg){.at = {d->addr}, .bytes = d->len};
	c->readable += !writable;
	return 0;
}

/* Follow 'next' from entry i. An indirect descriptor is followed into its table, once, and must end the chain (2.7.5.3.1). */
static int chain_walk(const struct virtq *q, struct virtq_chain *c, unsigned i)
{
	struct table t = {.at = q->desc, .entries = q->size};
	struct desc d;

	for (unsigned seen = 0; seen < t.entries; seen++) {
		if (i >= t.entries || table_load(q, &t, i, &d))
			return -EPROTO;
		if (d.flags & DESC_INDIRECT) {
			if (!q->indirect || !t.at || d.flags & DESC_NEXT || d.len == 0 || d.len % DESC_BYTES || d.len / DESC_BYTES > VIRTQ_SEGS_MAX)
				return -EPROTO;
			t = (struct table){.gpa = {d.addr}, .entries = d.len / DESC_BYTES};
			i = 0;
			seen = UINT32_MAX; /* count the new table's entries from 0 */
			continue;
		}
		if (chain_append(c, &d))
			return -EPROTO;
		if (!(d.flags & DESC_NEXT))
			return 0;
		i = d.next;
	}
	return -EPROTO; /* a loop */
}

int virtq_pop(struct virtq *q, struct virtq_chain *chain)
{
	uint16_t ready;

	if (q->broken)
		return -EPROTO;
	ready = (uint16_t)(load16(q->avail + AVAIL_IDX) - q->avail_next);
	if (ready == 0)
		return 0;
	if (ready > q->size)
		return virtq_break(q);
	chain->head = load16(avail_entry(q, q->avail_next % q->size));
	chain->readable = chain->segs = 0;
	chain->readable_bytes = chain->writable_bytes = 0;
	if (chain_walk(q, chain, chain->head))
		return virtq_break(q);
	q->avail_next++;
	return 1;
}

void virtq_push_all(struct virtq *q, const uint16_t *head, const uint32_t *written, unsigned n)
{
	if (q->broken)
		return;
	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = used_entry(q, q->used_next++ % q->size);

		__atomic_store_n((uint32_t *)(void *)at, head[i], __ATOMIC_RELAXED);
		__atomic_store_n((uint32_t *)(void *)(at + 4), written[i], __ATOMIC_RELAXED);
		q->bytes += written[i];
	}
	q->requests += n;
	store16(q->used + USED_IDX, q->used_next);
}

void virtq_push(struct virtq *q, const struct virtq_chain *chain, uint32_t written)
{
	q->bytes += chain->readable_bytes;
	virtq_push_all(q, &chain->head, &written, 1);
}

bool virtq_wants_interrupt(struct virtq *q)
{
	uint16_t from = q->used_told, event;

	if (q->broken || q->used_next == from)
		return false;
	q->used_told = q->used_next;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* used->idx is seen before the driver's wish is read */
	if (!q->event_idx)
		return !(load16(q->avail + AVAIL_FLAGS) & AVAIL_NO_INTERRUPT);
	event = load16(avail_entry(q, q->size));
	return (uint16_t)(q->used_next - event - 1) < (uint16_t)(q->used_next - from);
}

void virtq_quiet(struct virtq *q)
{
	if (!q->broken && !q->event_idx)
		store16(q->used + USED_FLAGS, USED_NO_NOTIFY);
}

bool virtq_listen(struct virtq *q)
{
	if (q->broken)
		return false;
	if (q->event_idx)
		store16(used_entry(q, q->size), q->avail_next);
	else
		store16(q->used + USED_FLAGS, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the wish is seen before avail->idx is read */
	return load16(q->avail + AVAIL_IDX) != q->avail_next;
}

/* Copy 'bytes' between buf and segments first..last, starting 'offset' into them. */
static int virtq_copy(struct virtq *q, const struct virtq_seg *seg, unsigned segs, uint64_t offset, uint8_t *buf, uint64_t bytes, bool to_guest)
{
	for (unsigned i = 0; i < segs && bytes; i++) {
		uint64_t here = seg[i].bytes;
		gpa_t at = {seg[i].at.v + offset};
		int err;

		if (offset >= here) {
			offset -= here;
			continue;
		}
		here = here - offset < bytes ? here - offset : bytes;
		err = to_guest ? ram_write(q->ram, at, buf, here) : ram_read(q->ram, at, buf, here);
		if (err)
			return virtq_break(q);
		buf += here;
		bytes -= here;
		offset = 0;
	}
	return bytes ? virtq_break(q) : 0;
}

int virtq_read(struct virtq *q, const struct virtq_chain *chain, uint64_t offset, void *to, uint64_t bytes)
{
	return virtq_copy(q, chain->seg, chain->readable, offset, to, bytes, false);
}

int virtq_write(struct virtq *q, const struct virtq_chain *chain, uint64_t offset, const void *from, uint64_t bytes)
{
	/* ram_write only reads 'from'; the cast lets one loop serve both ways. */
	return virtq_copy(q, chain->seg + chain->readable, chain->segs - chain->readable, offset, (uint8_t *)(uintptr_t)from, bytes, true);
}

unsigned virtq_map(const struct virtq *q, const struct virtq_chain *chain, bool writable, uint64_t offset, uint64_t bytes, struct iovec *iov, unsigned most)
{
	unsigned i = writable ? chain->readable : 0, end = writable ? chain->segs : chain->readable, n = 0;

	for (; i < end && bytes; i++) {
		uint64_t here = chain->seg[i].bytes;
		void *at;

		if (offset >= here) {
			offset -= here;
			continue;
		}
		here = here - offset < bytes ? here - offset : bytes;
		at = n < most ? ram_at(q->ram, (gpa_t){chain->seg[i].at.v + offset}, here) : NULL;
		if (!at)
			return 0;
		iov[n++] = (struct iovec){at, here};
		bytes -= here;
		offset = 0;
	}
	return bytes ? 0 : n;
}
