/* See dialer.h. Each question and each answer is one message of a socket that keeps their bounds. */
#include "dev/dialer.h"

#include "dev/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

_Static_assert((int)DIALER_FD == (int)HELPER_FD, "as it is spawned");

struct question { uint32_t id, port; };

static int spawn(struct dialer *d, const char *program, const char *stem, int theirs)
{
	char *const args[] = {(char[]){"tessera"}, (char[]){"dial"}, (char *)stem, NULL}, *const env[] = {NULL}; /* POSIX: exec changes none of them */
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC), err;

	if (nothing < 0)
		return -errno;
	err = helper_spawn(&d->pid, program, args, env, (int[]){nothing, nothing, -1, theirs});
	close(nothing);
	return err;
}

int dialer_open(struct dialer *d, const char *program, const char *stem, int number)
{
	int ends[2], err;

	*d = (struct dialer){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	err = spawn(d, program, stem, ends[1]);
	close(ends[1]);
	d->fd = err || !number ? -1 : dup3(ends[0], number, O_CLOEXEC);
	if (err || d->fd >= 0)
		close(ends[0]);
	else
		d->fd = ends[0];
	return err;
}

void dialer_close(struct dialer *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

int dialer_ask(struct dialer *d, uint32_t id, uint32_t port)
{
	struct question q = {id, port};

	if (d->fd < 0)
		return -ENOTCONN;
	return send(d->fd, &q, sizeof q, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof q ? 0 : -errno;
}

int dialer_hear(struct dialer *d, uint32_t *id, int *fd)
{
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
	struct question q = {0};
	struct iovec iov = {.iov_base = &q, .iov_len = sizeof q};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(d->fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n != sizeof q)
		return -EPIPE;
	*id = q.id;
	*fd = -1;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd, CMSG_DATA(c), sizeof *fd);
	return 1;
}

/* The process. */

static int dial(const char *stem, uint32_t port)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s;

	if (snprintf(a.sun_path, sizeof a.sun_path, "%s.vsock_%u", stem, port) >= (int)sizeof a.sun_path)
		return -1;
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s >= 0 && connect(s, (struct sockaddr *)&a, sizeof a) < 0) { /* also when too many wait there */
		close(s);
		return -1;
	}
	return s;
}

static bool answer(int to, const struct question *q, int s)
{
	union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = {.head = {.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)q, .iov_len = sizeof *q};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (s >= 0) {
		memcpy(CMSG_DATA(&control.head), &s, sizeof s);
		m.msg_control = &control;
		m.msg_controllen = sizeof control;
	}
	return sendmsg(to, &m, MSG_NOSIGNAL) == sizeof *q;
}

void dialer_serve(int fd, const char *stem)
{
	struct question q;

	while (recv(fd, &q, sizeof q, 0) == sizeof q) {
		int s = dial(stem, q.port);
		bool told = answer(fd, &q, s);

		if (s >= 0)
			close(s);
		if (!told)
			return;
	}
}
