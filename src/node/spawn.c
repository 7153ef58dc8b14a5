/* See spawn.h. The daemon makes the socket, so there is no moment at which a fragment exists and cannot be found. */
#include "node/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

static struct sockaddr_un unix_address(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	strncat(a.sun_path, path, sizeof a.sun_path - 1);
	return a;
}

static int listen_on(const char *path, int *out)
{
	struct sockaddr_un a = unix_address(path);
	int err, s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -errno;
	unlink(path);
	if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || listen(s, 4) < 0) {
		err = -errno;
		close(s);
		return err;
	}
	*out = s;
	return 0;
}

static int connect_to(const char *path, int *out)
{
	struct sockaddr_un a = unix_address(path);
	int err, s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (s < 0)
		return -errno;
	if (connect(s, (struct sockaddr *)&a, sizeof a) < 0) {
		err = -errno;
		close(s);
		return err;
	}
	*out = s;
	return 0;
}

/* In the child. Everything but the control socket and stderr stays behind. */
static _Noreturn void become_fragment(int listener, const char *node, const char *vm, const char *address)
{
	char *args[] = {strdup("tessera"), strdup("fragment"), strdup(node), strdup(vm), strdup(address), NULL};
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0)
		_exit(126);
	if (listener == SPAWN_CONTROL_FD)
		fcntl(listener, F_SETFD, 0);
	else if (dup2(listener, SPAWN_CONTROL_FD) < 0)
		_exit(126);
	close_range(SPAWN_CONTROL_FD + 1, ~0u, 0);
	if (chdir("/") < 0)
		_exit(126);
	execv("/proc/self/exe", args);
	_exit(127);
}

int spawn_fragment(struct daemon *d, const char *vm, const char *path, int *pid, int *pidfd, int *sock, struct failure *f)
{
	struct addr any = d->address;
	char address[ADDR_TEXT_BYTES];
	int listener = -1, err = listen_on(path, &listener);

	if (any.sa.ss_family == AF_INET)
		((struct sockaddr_in *)&any.sa)->sin_port = 0;
	else
		((struct sockaddr_in6 *)&any.sa)->sin6_port = 0;
	addr_print(&any, address);
	if (!err)
		err = connect_to(path, sock);
	if (!err) {
		*pid = fork();
		if (*pid == 0)
			become_fragment(listener, d->name, vm, address);
		if (*pid < 0)
			err = -errno;
	}
	if (!err) {
		*pidfd = (int)syscall(SYS_pidfd_open, *pid, 0);
		if (*pidfd < 0) {
			err = -errno;
			kill(*pid, SIGKILL);
		}
	}
	if (listener >= 0)
		close(listener);
	if (!err)
		return 0;
	if (*sock >= 0)
		close(*sock);
	*sock = -1;
	return failure_set(f, err, "see that the node has processes, memory and descriptors left", "node %s cannot start a fragment: %s", d->name, strerror(-err));
}

/* A fragment listens on its socket again when it starts, so the socket's credentials name it and not the daemon that made it. */
int spawn_find(const char *path, int *pid, int *pidfd, int *sock)
{
	struct ucred cred;
	socklen_t n = sizeof cred;
	int err = connect_to(path, sock);

	if (err)
		return err;
	if (getsockopt(*sock, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 || (*pidfd = (int)syscall(SYS_pidfd_open, cred.pid, 0)) < 0) {
		err = -errno;
		close(*sock);
		return err;
	}
	*pid = cred.pid;
	return 0;
}

void spawn_kill(int pidfd)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		log_warn("cannot kill a fragment: %s", strerror(errno));
}
