/* Our own bugs end the process, in every build: a wrong state machine must never go on to write guest memory. */
#ifndef BASE_ENSURE_H
#define BASE_ENSURE_H

/* Print the broken promise with its place and abort. Async-signal-safe. */
_Noreturn void ensure_failed(const char *what, const char *file, int line);

/* For our bugs only: a guest's, peer's or person's mistake gets an error instead. */
#define ensure(cond) ((cond) ? (void)0 : ensure_failed(#cond, __FILE__, __LINE__))

#endif
