/* Where guest RAM lies: the guest-physical layout, its mapping into this process, and copies for devices and loaders. */
#include "mem/ram.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static const uint64_t low_end = (uint64_t)RAM_LOW_END_MIB << 20;
static const uint64_t high_start = 4ull << 30;
static const uint64_t ram_bytes_max = 1ull << 46; /* the least physical address width of an x86-64 server; also keeps every sum from wrapping */
static const uint64_t huge_bytes = 2ull << 20;

static void ram_add(struct ram *r, uint64_t gpa, uint64_t bytes, unsigned home)
{
	r->range[r->ranges++] = (struct ram_range){.gpa = {gpa}, .bytes = bytes, .home = {(uint8_t)home}};
	r->bytes += bytes;
}

int ram_layout(struct ram *r, const uint64_t bytes[NODES_MAX], unsigned nodes)
{
	uint64_t at = 0;

	*r = (struct ram){0};
	if (nodes > NODES_MAX)
		return -EINVAL;
	for (unsigned n = 0; n < nodes; n++)
		if (bytes[n] % PAGE_BYTES || bytes[n] > ram_bytes_max)
			return -EINVAL;
	for (unsigned n = 0; n < nodes; n++) {
		uint64_t low = at < low_end && bytes[n] > low_end - at ? low_end - at : bytes[n];

		if (low)
			ram_add(r, at, low, n);
		at += low;
		if (at == low_end)
			at = high_start;
		if (bytes[n] > low)
			ram_add(r, at, bytes[n] - low, n);
		at += bytes[n] - low;
	}
	return r->bytes && r->bytes <= ram_bytes_max ? 0 : -EINVAL;
}

/* Reserve address space whose offset within a huge page equals the gpa's, so that huge pages can come back on consolidation. */
static uint8_t *ram_map_range(const struct ram_range *range)
{
	uint64_t all = range->bytes + huge_bytes;
	uint8_t *at = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t skip;

	if (at == MAP_FAILED)
		return NULL;
	skip = (range->gpa.v - (uintptr_t)at) % huge_bytes;
	if (skip)
		munmap(at, skip);
	munmap(at + skip + range->bytes, huge_bytes - skip);
	return at + skip;
}

/* 4 KiB pages only (the DSM's unit); a fork must not inherit, a core dump must not fault in, what other nodes hold. */
static int ram_advise(uint8_t *at, uint64_t bytes)
{
	if (madvise(at, bytes, MADV_NOHUGEPAGE) < 0 && errno != EINVAL) /* EINVAL: a kernel without huge pages */
		return -errno;
	if (madvise(at, bytes, MADV_DONTFORK) < 0 || madvise(at, bytes, MADV_DONTDUMP) < 0)
		return -errno;
	return 0;
}

int ram_map(struct ram *r, struct failure *f)
{
	for (unsigned i = 0; i < r->ranges; i++) {
		int err = 0;

		r->hva[i] = ram_map_range(&r->range[i]);
		if (!r->hva[i])
			err = -errno;
		else
			err = ram_advise(r->hva[i], r->range[i].bytes);
		if (err) {
			ram_unmap(r);
			return failure_set(f, err, "check 'ulimit -v' and /proc/sys/vm/max_map_count, or give the VM less memory",
				"cannot reserve %llu MiB of address space for guest memory: %s", (unsigned long long)(r->bytes >> 20), strerror(-err));
		}
	}
	return 0;
}

void ram_unmap(struct ram *r)
{
	for (unsigned i = 0; i < r->ranges; i++)
		if (r->hva[i]) {
			munmap(r->hva[i], r->range[i].bytes);
			r->hva[i] = NULL;
		}
}

/* The range that holds gpa, or ranges if none does. */
static unsigned ram_find(const struct ram *r, gpa_t gpa)
{
	unsigned i;

	for (i = 0; i < r->ranges; i++)
		if (gpa.v >= r->range[i].gpa.v && gpa.v - r->range[i].gpa.v < r->range[i].bytes)
			break;
	return i;
}

void *ram_at(const struct ram *r, gpa_t gpa, uint64_t bytes)
{
	unsigned i = ram_find(r, gpa);
	uint64_t offset;

	if (i == r->ranges)
		return NULL;
	offset = gpa.v - r->range[i].gpa.v;
	return bytes <= r->range[i].bytes - offset ? r->hva[i] + offset : NULL;
}

/* The longest piece of [gpa, gpa+bytes) within one range; NULL if gpa is no RAM. */
static uint8_t *ram_piece(const struct ram *r, gpa_t gpa, uint64_t bytes, uint64_t *piece)
{
	unsigned i = ram_find(r, gpa);
	uint64_t offset;

	if (i == r->ranges)
		return NULL;
	offset = gpa.v - r->range[i].gpa.v;
	*piece = bytes < r->range[i].bytes - offset ? bytes : r->range[i].bytes - offset;
	return r->hva[i] + offset;
}

int ram_read(const struct ram *r, gpa_t gpa, void *to, uint64_t bytes)
{
	uint8_t *out = to;

	for (uint64_t piece; bytes; gpa.v += piece, out += piece, bytes -= piece) {
		const uint8_t *from = ram_piece(r, gpa, bytes, &piece);

		if (!from)
			return -EFAULT;
		memcpy(out, from, piece);
	}
	return 0;
}

int ram_write(const struct ram *r, gpa_t gpa, const void *from, uint64_t bytes)
{
	const uint8_t *in = from;

	for (uint64_t piece; bytes; gpa.v += piece, in += piece, bytes -= piece) {
		uint8_t *to = ram_piece(r, gpa, bytes, &piece);

		if (!to)
			return -EFAULT;
		memcpy(to, in, piece);
	}
	return 0;
}

int64_t ram_page(const struct ram *r, gfn_t gfn)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < r->ranges; i++) {
		uint64_t first = gpa_gfn(r->range[i].gpa).v, pages = r->range[i].bytes >> PAGE_SHIFT;

		if (gfn.v >= first && gfn.v - first < pages)
			return (int64_t)(before + gfn.v - first);
		before += pages;
	}
	return -1;
}

/* The range of a dense page number; *page becomes its number within the range. Our own callers pass valid numbers. */
static const struct ram_range *ram_page_range(const struct ram *r, uint64_t *page)
{
	const struct ram_range *range = r->range;

	while (*page >= range->bytes >> PAGE_SHIFT) {
		*page -= range->bytes >> PAGE_SHIFT;
		range++;
	}
	return range;
}

gfn_t ram_page_gfn(const struct ram *r, uint64_t page)
{
	const struct ram_range *range = ram_page_range(r, &page);

	return (gfn_t){gpa_gfn(range->gpa).v + page};
}

node_t ram_page_home(const struct ram *r, uint64_t page)
{
	return ram_page_range(r, &page)->home;
}
