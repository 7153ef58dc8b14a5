/* See helper.h. posix_spawn, because a fork of a process with a guest's memory would copy its page tables and break every frame's mapping. */
#include "dev/helper.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WORDS_BYTES = 4096, PROGRAM_BYTES = 512 };

static bool find(const char *name, char to[PROGRAM_BYTES])
{
	const char *path = getenv("PATH");
	char folders[2048];

	snprintf(folders, sizeof folders, "%s:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin", path ? path : "");
	for (char *at = folders, *next; at; at = next) {
		next = strchr(at, ':');
		if (next)
			*next++ = 0;
		if (*at == '/' && snprintf(to, PROGRAM_BYTES, "%s/%s", at, name) < PROGRAM_BYTES && access(to, X_OK) == 0)
			return true;
	}
	return false;
}

bool helper_there(const char *name)
{
	char program[PROGRAM_BYTES];

	return find(name, program);
}

int helper_spawn(int *pid, const char *program, char *const *args, char *const *env, const int fd[HELPER_FD + 1])
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	sigset_t all, none;
	int err = 0;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&how);
	posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	posix_spawnattr_setsigdefault(&how, &all);
	posix_spawnattr_setsigmask(&how, &none);
	for (int i = 0; i <= HELPER_FD && !err; i++)
		err = fd[i] < 0 ? 0 : posix_spawn_file_actions_adddup2(&files, fd[i], i);
	err = err ? err : posix_spawn_file_actions_addclosefrom_np(&files, HELPER_FD + 1);
	err = err ? err : posix_spawn(pid, program, &files, &how, args, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&how);
	return -err;
}

static int spawn(struct helper *h, const char *program, char *const *args, int life, int fd)
{
	char *const env[] = {(char[]){"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}, (char[]){"LC_ALL=C"}, NULL};

	return helper_spawn(&h->pid, program, args, env, (int[]){life, h->words, h->words, fd});
}

static void forget(struct helper *h)
{
	if (h->words >= 0)
		close(h->words);
	if (h->life >= 0)
		close(h->life);
	*h = (struct helper){.words = -1, .life = -1};
}

int helper_start(struct helper *h, const char *const *args, int fd, bool listener, const char *package, struct failure *f)
{
	/* LISTEN_PID must be the program's own, which only it knows. */
	static const char activate[] = "export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
	const char *full[HELPER_ARGS_MAX + 5];
	char program[PROGRAM_BYTES], todo[100];
	unsigned n = 0;
	int life[2], err;

	*h = (struct helper){.words = -1, .life = -1, .name = args[0]};
	if (!find(args[0], program)) {
		snprintf(todo, sizeof todo, "install the package %s on that node", package);
		return failure_set(f, -ENOENT, todo, "the program %s is not there", args[0]);
	}
	if (listener) {
		full[n++] = "sh";
		full[n++] = "-c";
		full[n++] = activate;
		full[n++] = "sh";
	}
	full[n++] = program;
	while (*++args && n < ARRAY_LEN(full) - 1)
		full[n++] = *args;
	full[n] = NULL;
	if (*args)
		return failure_set(f, -E2BIG, "ask for less", "too many arguments for %s", h->name);
	if (pipe2(life, O_CLOEXEC) < 0)
		return failure_set(f, -errno, "see that the node has descriptors left", "no pipe to be had for %s", h->name);
	h->life = life[0];
	h->words = memfd_create("words", MFD_CLOEXEC);
	err = h->words < 0 ? -errno : spawn(h, listener ? "/bin/sh" : program, (char *const *)full, life[1], fd); /* POSIX: exec changes none of them */
	close(life[1]);
	if (!err)
		return 0;
	forget(h);
	return failure_set(f, err, "see that the node has processes and memory left", "cannot start %s: %s", program, strerror(-err));
}

int helper_wait(struct helper *h, unsigned timeout_ms)
{
	struct pollfd p = {.events = POLLIN};
	int status = 0, n;

	if (!h->pid)
		return -ESRCH;
	p.fd = (int)syscall(SYS_pidfd_open, h->pid, 0);
	if (p.fd >= 0) {
		do
			n = poll(&p, 1, (int)timeout_ms);
		while (n < 0 && errno == EINTR);
		close(p.fd);
		if (n == 0)
			return -ETIMEDOUT;
	}
	while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
		;
	h->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

void helper_last_words(const struct helper *h, char *to, size_t room)
{
	char text[WORDS_BYTES + 1];
	struct stat s = {0};
	ssize_t n = -1;
	char *line;

	*to = 0;
	if (h->words >= 0 && fstat(h->words, &s) == 0) /* its file position is the program's, too */
		n = pread(h->words, text, WORDS_BYTES, s.st_size > WORDS_BYTES ? s.st_size - WORDS_BYTES : 0);
	if (n <= 0)
		return;
	while (n > 0 && (unsigned char)text[n - 1] <= ' ')
		n--;
	text[n] = 0;
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	for (char *c = line; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
	snprintf(to, room, "%s", line);
}

void helper_kill(struct helper *h)
{
	if (h->pid && kill(h->pid, SIGKILL) == 0)
		helper_wait(h, 60000);
}

void helper_end(struct helper *h, unsigned patience_ms)
{
	struct pollfd p = {.fd = h->life};
	int n = 1;

	if (!h->name)
		return;
	if (h->pid)
		do
			n = poll(&p, 1, (int)patience_ms);
		while (n < 0 && errno == EINTR);
	if (n == 0)
		log_warn("%s (process %d) has not ended yet", h->name, h->pid);
	forget(h);
}
