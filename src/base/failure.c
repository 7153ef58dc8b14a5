/* See failure.h. */
#include "base/failure.h"

#include <stdarg.h>
#include <stdio.h>

int failure_set(struct failure *f, int err, const char *todo, const char *fmt, ...)
{
	va_list args;

	if (!f || f->err)
		return err;
	f->err = err;
	snprintf(f->todo, sizeof f->todo, "%s", todo);
	va_start(args, fmt);
	vsnprintf(f->what, sizeof f->what, fmt, args);
	va_end(args);
	return err;
}
