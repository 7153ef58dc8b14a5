/* Which pages migrate: node after node reads such a page and then writes it (a lock and what it guards, a counter, a list's head). Each turn costs a
 * read fault and an upgrade; a home that knows serves the read as a write, and the upgrade is spared (Stenström, Brorsson and Sandberg, ISCA 1993;
 * Cox and Fowler, same place).
 *
 *   learnt      a sharer asks to write, and besides it only the last writer, another node, may still use its copy: +1
 *               the last writer asks to write again what others have read, or several others share it:             -1
 *   verified    the home remembers a print of the bytes of each page it gave out writable to a reader. They come back changed: +1;
 *               as they were: the reader only read, and took the page from others for nothing:                      -3
 *
 * A page migrates while its score is above zero. One of these for each page at its home; all zero: nothing known. Pure; a wrong guess costs time only. */
#ifndef MEM_MIGRATE_H
#define MEM_MIGRATE_H

#include "base/types.h"

struct migrate {
	uint32_t print;   /* of the bytes the owner got for a read; 0: it asked to write, nothing is to be verified */
	uint16_t readers; /* nodes whose reads are being served as writes */
	uint8_t owner;    /* 1 + the node that could write last; 0: none yet */
	int8_t score;
};

/* Serve a read of 'reader' as a write? Ask once for each request. */
bool migrate_read(struct migrate *m, node_t reader) MUST_CHECK;

/* A sharer asks to write. sharers: nodes with a copy, one bit each; the home has one in any case. */
void migrate_upgrade(struct migrate *m, node_t who, uint16_t sharers, node_t home);

/* The page was granted writable; true when this was for a read: then tell the print of its bytes with migrate_watch(). */
bool migrate_granted(struct migrate *m, node_t to);
void migrate_watch(struct migrate *m, uint32_t print);

/* The owner gives its bytes up: is a print of them wanted? Then tell it; *changed: it had written. */
bool migrate_watched(const struct migrate *m, node_t owner);
void migrate_back(struct migrate *m, uint32_t print, bool *changed);

/* Different bytes have different prints but for one case in 2^32. Never 0. page: PAGE_BYTES; NULL: all zero. */
uint32_t migrate_print(const uint8_t *page);

#endif
