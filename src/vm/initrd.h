/* Is this something Linux can unpack as its initial RAM disk, and is all of it there? A cut archive otherwise shows only as a guest that panics.
 *
 * An initrd is one or more members, each a cpio archive (newc), plain or compressed, with zero padding between (Linux
 * Documentation/driver-api/early-userspace/buffer-format.rst). Members are walked, not unpacked: cpio by its headers, gzip by its Huffman codes (RFC
 * 1951, 1952), zstd by its block headers (RFC 8878), xz by its footer, lz4 by its block lengths. What comes after something that is walked no further
 * (bzip2, lzma, lzo) is not looked at. Pure. */
#ifndef VM_INITRD_H
#define VM_INITRD_H

#include "base/types.h"

enum initrd_kind { INITRD_WHOLE, INITRD_CUT, INITRD_NO_ARCHIVE };

enum initrd_kind initrd_judge(const uint8_t *at, uint64_t bytes);

#endif
