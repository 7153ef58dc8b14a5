/* Lines for people: one write(2) a line, so that threads and processes never mix within one. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static enum log_level threshold = LOG_INFO;
static char tag_text[2 * NAME_BYTES];

void log_init(enum log_level level, const char *tag)
{
	threshold = level;
	snprintf(tag_text, sizeof tag_text, "%s", tag);
}

bool log_enabled(enum log_level level)
{
	return level <= threshold;
}

void log_at(enum log_level level, const char *fmt, ...)
{
	static const char *const names[] = {"error", "warn", "info", "debug", "trace"};
	char line[1024];
	struct timespec now;
	va_list args;
	int n;

	if (!log_enabled(level))
		return;
	clock_gettime(CLOCK_REALTIME, &now);
	n = snprintf(line, sizeof line, "%lld.%06ld %s [%s] ", (long long)now.tv_sec, now.tv_nsec / 1000, names[level], tag_text);
	va_start(args, fmt);
	n += vsnprintf(line + n, sizeof line - (size_t)n, fmt, args);
	va_end(args);
	if ((size_t)n > sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return; /* nobody left to tell */
}
