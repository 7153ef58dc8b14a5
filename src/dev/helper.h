/* Programs that work for a device in a process of their own: passt, qemu-nbd. They get one descriptor and nothing else of ours, and end with it: when this process is
 * gone, however it went, the descriptor's other end is closed. Guest memory is never theirs: they are spawned without copying this process.
 *
 * Threads: each helper has one owner; starting may wait for the program to be loaded. */
#ifndef DEV_HELPER_H
#define DEV_HELPER_H

#include "base/failure.h"
#include "base/types.h"

enum { HELPER_FD = 3, HELPER_ARGS_MAX = 64 };

struct helper {
	int pid;       /* 0: none, or waited for */
	int words;     /* what it says on stdout and stderr: a file in memory */
	int life;      /* a pipe whose other end only it has (its stdin): ends with it */
	const char *name;
};

/* Start a program without copying this process, with signals as if nobody had touched them. fd[i] becomes its descriptor i, -1: as it is here; it gets no others.
 * -errno. */
int helper_spawn(int *pid, const char *program, char *const *args, char *const *env, const int fd[HELPER_FD + 1]) MUST_CHECK;

/* Is there such a program on this host? */
bool helper_there(const char *name);

/* args: of the program, NULL at the end; args[0] is looked for in PATH and the usual folders. fd: its descriptor HELPER_FD (stays ours, too). listener: fd is a
 * listening socket, given in the way of systemd (LISTEN_FDS). package: what to install when it is missing. -ENOENT, -EAGAIN, -ENOMEM. */
int helper_start(struct helper *h, const char *const *args, int fd, bool listener, const char *package, struct failure *f) MUST_CHECK;

/* Wait until it has ended: its exit status, or -ETIMEDOUT, or -EINTR when a signal killed it. Only while everything may still be done (node/sandbox.h), as the next. */
int helper_wait(struct helper *h, unsigned timeout_ms);
void helper_kill(struct helper *h);

/* Its last line that says something, printable. "" when it said nothing. */
void helper_last_words(const struct helper *h, char *to, size_t room);

/* Give it a moment to end by itself, then forget it; at any time. Not waited for, it is a zombie until this process ends. A zeroed or closed helper: nothing. */
void helper_end(struct helper *h, unsigned patience_ms);

#endif
