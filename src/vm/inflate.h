/* Walks a DEFLATE stream (RFC 1951) to its end without producing what it packs: how long is it, and how much would come out? Pure. */
#ifndef VM_INFLATE_H
#define VM_INFLATE_H

#include "base/types.h"

enum inflate_result { INFLATE_OK, INFLATE_CUT, INFLATE_BAD };

/* *used: bytes of the stream, *produced: bytes it packs; both only with INFLATE_OK. Time grows with the stream, not with what it packs. */
enum inflate_result inflate_walk(const uint8_t *at, uint64_t bytes, uint64_t *used, uint64_t *produced);

#endif
