/* One logger for the whole process: lines on stderr, "time level [node] text". The only mutable static of the house. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG, LOG_TRACE };

/* Set the least important level printed (default LOG_INFO) and the tag, e.g. "B/vm1", put in each line. Call before threads start. */
void log_init(enum log_level level, const char *tag);

/* Any thread. Never blocks on anything but stderr; keep everything on the fault path at LOG_TRACE. */
void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
bool log_enabled(enum log_level level);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) (log_enabled(LOG_DEBUG) ? log_at(LOG_DEBUG, __VA_ARGS__) : (void)0)
#define log_trace(...) (log_enabled(LOG_TRACE) ? log_at(LOG_TRACE, __VA_ARGS__) : (void)0)

#endif
