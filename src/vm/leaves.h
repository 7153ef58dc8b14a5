/* A CPUID table (vm/cpuid.h) as bytes, for the journey between nodes. Little-endian: u32 leaves, u32 tsc_khz, u64 arch_capabilities, then per leaf
 * u32 leaf, u32 index, u32 indexed, u32 eax, ebx, ecx, edx. Pure. */
#ifndef VM_LEAVES_H
#define VM_LEAVES_H

#include "vm/cpuid.h"

enum { LEAVES_BYTES_MAX = 16 + 28 * CPUID_LEAVES_MAX };

/* Bytes written; 0 when they do not fit. */
size_t leaves_pack(const struct cpuid_table *t, uint8_t *to, size_t room) MUST_CHECK;

/* -EBADMSG for anything leaves_pack cannot have written. */
int leaves_unpack(struct cpuid_table *t, const uint8_t *from, size_t bytes) MUST_CHECK;

#endif
