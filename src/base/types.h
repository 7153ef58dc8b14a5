/* Words every room shares: distinct types for the numbers a hypervisor must never mix, and a few compiler helpers. */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

enum {
	PAGE_SHIFT = 12,
	PAGE_BYTES = 1 << PAGE_SHIFT,
	NODES_MAX = 16,   /* nodes of one VM; a node set fits a uint16_t */
	VCPUS_MAX = 64,   /* vCPUs of one VM; a vCPU set fits a uint64_t */
	NAME_BYTES = 64,  /* names of nodes and VMs, with the terminating 0 */
};

typedef struct { uint64_t v; } gpa_t;  /* guest physical address, bytes */
typedef struct { uint64_t v; } gfn_t;  /* guest frame number: gpa >> PAGE_SHIFT */
typedef struct { uint8_t v; } node_t;  /* index of a node in its VM, 0 .. NODES_MAX-1 */
typedef struct { uint16_t v; } vcpu_t; /* index of a vCPU in its VM, 0 .. VCPUS_MAX-1; also its x2APIC id */

static inline gfn_t gpa_gfn(gpa_t a) { return (gfn_t){a.v >> PAGE_SHIFT}; }
static inline gpa_t gfn_gpa(gfn_t f) { return (gpa_t){f.v << PAGE_SHIFT}; }
static inline bool node_eq(node_t a, node_t b) { return a.v == b.v; }

#endif
