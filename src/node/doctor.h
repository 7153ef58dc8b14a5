/* What Tessera needs of a host, checked on that host: each finding has a level, a reason why it matters, and the exact remedy. The checks are in
 * kvmcheck.c (what guests need) and hostcheck.c (the rest). Takes up to a second; runs small guests, which on a broken KVM may hang: call it in
 * a process of its own with an alarm set. */
#ifndef NODE_DOCTOR_H
#define NODE_DOCTOR_H

#include "base/types.h"
#include "wire/control.h"

struct doctor {
	void *to;
	/* found, why, fix: sentences; fix is "" for CONTROL_OK. */
	void (*line)(void *to, const char *check, enum control_level level, const char *found, const char *why, const char *fix);
	/* This host's CPUID as vm/leaves.h packs it, for comparison with other nodes; may be NULL. */
	void (*cpuid)(void *to, const uint8_t *leaves, size_t bytes);
	uint64_t memory; /* bytes this host is to lend; 0: unknown */
};

void doctor_check(const struct doctor *d);

/* For the checks. */
void doctor_say(const struct doctor *d, const char *check, enum control_level level, const char *why, const char *fix, const char *fmt, ...) PRINTF_LIKE(6, 7);

/* A small file's first line, without its newline; false: there is none. */
bool doctor_read(const char *path, char *to, size_t room);

#endif
