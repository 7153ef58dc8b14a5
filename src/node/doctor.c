/* See doctor.h. */
#include "node/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "node/hostcheck.h"
#include "node/kvmcheck.h"

void doctor_say(const struct doctor *d, const char *check, enum control_level level, const char *why, const char *fix, const char *fmt, ...)
{
	char found[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(found, sizeof found, fmt, args);
	va_end(args);
	d->line(d->to, check, level, found, why, level == CONTROL_OK ? "" : fix);
}

bool doctor_read(const char *path, char *to, size_t room)
{
	FILE *in = fopen(path, "re");
	bool ok = in && fgets(to, (int)room, in);

	if (in)
		fclose(in);
	if (ok)
		to[strcspn(to, "\n")] = 0;
	return ok;
}

void doctor_check(const struct doctor *d)
{
	hostcheck_kernel(d);
	if (kvmcheck_device(d)) {
		kvmcheck_abilities(d);
		kvmcheck_stock_kernel(d);
		kvmcheck_mmu(d);
		kvmcheck_faults(d);
		kvmcheck_cpuid(d);
		kvmcheck_tsc(d);
	}
	hostcheck_userfaultfd(d);
	hostcheck_memory(d);
	hostcheck_limits(d);
	hostcheck_sandbox(d);
	hostcheck_devices(d);
}
