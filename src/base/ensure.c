/* The one place where a broken promise of our own ends the process. */
#include "base/ensure.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void ensure_failed(const char *what, const char *file, int line)
{
	char text[512];
	int n = snprintf(text, sizeof text, "tessera: bug: '%s' does not hold at %s:%d; please report it\n", what, file, line);

	if (n > 0 && write(STDERR_FILENO, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1) < 0)
		_exit(134);
	abort();
}
