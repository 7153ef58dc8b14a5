/* Guest RAM as this process sees it: where each guest frame lies in our address space and which node is its home.
 *
 * Two views of the same bytes, never mixed up:
 *   guest view  struct ram; touching it may fault into userfaultfd and wait for a network round trip. For vCPUs, devices and loaders.
 *   frame view  inside mem/ only: the pager reads and replaces frames it holds and must never touch the guest view.
 */
#ifndef MEM_RAM_H
#define MEM_RAM_H

#include "base/failure.h"
#include "base/types.h"

enum { RAM_RANGES_MAX = 2 * NODES_MAX };

/* One stretch of guest-physical RAM with one home. Page-aligned; ranges are sorted by gpa and do not overlap. */
struct ram_range {
	gpa_t gpa;
	uint64_t bytes;
	node_t home;
};

struct ram {
	struct ram_range range[RAM_RANGES_MAX];
	uint8_t *hva[RAM_RANGES_MAX]; /* guest view of each range; one anonymous private mapping a range */
	unsigned ranges;
	uint64_t bytes; /* sum over ranges */
};

/* Lay bytes[i] of RAM from node i (page multiples) out over guest-physical space: from 0 up to RAM_LOW_END, the rest from 4 GiB; node 0
 * lowest. Pure: fills range[]/ranges/bytes, maps nothing. -EINVAL when a size is not a page multiple or the sum is 0. */
enum { RAM_LOW_END_MIB = 3072 };
int ram_layout(struct ram *r, const uint64_t bytes[NODES_MAX], unsigned nodes) MUST_CHECK;

/* Map the laid-out ranges (no memory is taken yet; MADV_NOHUGEPAGE). -errno on failure, nothing left mapped. */
int ram_map(struct ram *r, struct failure *f) MUST_CHECK;
void ram_unmap(struct ram *r);

/* Guest-view pointer to [gpa, gpa+bytes) if that lies inside ONE range, else NULL. Any thread; touching it may block. */
void *ram_at(const struct ram *r, gpa_t gpa, uint64_t bytes);

/* Copy between guest RAM and a buffer, across ranges. -EFAULT if any byte is no RAM (then nothing is promised about the rest). May block. */
int ram_read(const struct ram *r, gpa_t gpa, void *to, uint64_t bytes) MUST_CHECK;
int ram_write(const struct ram *r, gpa_t gpa, const void *from, uint64_t bytes) MUST_CHECK;

/* Dense page numbering 0 .. bytes/PAGE_BYTES-1 over all ranges in order: index of a guest frame, or -1 if it is no RAM; and back. */
int64_t ram_page(const struct ram *r, gfn_t gfn);
gfn_t ram_page_gfn(const struct ram *r, uint64_t page);
node_t ram_page_home(const struct ram *r, uint64_t page);

#endif
