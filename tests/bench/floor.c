/* See floor.h. */
#include "tests/bench/floor.h"

#include "mem/uffd.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int tcp_pair(int fd[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&at, sizeof at) || listen(l, 1) || getsockname(l, (struct sockaddr *)&at, &n))
		return -errno;
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd[0] < 0 || connect(fd[0], (struct sockaddr *)&at, sizeof at))
		return -errno;
	fd[1] = accept(l, NULL, NULL);
	close(l);
	for (int i = 0; i < 2; i++)
		setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return fd[1] < 0 ? -errno : 0;
}

static bool receive(int fd, void *to, size_t n, bool polling)
{
	for (size_t got = 0; got < n;) {
		ssize_t r = recv(fd, (char *)to + got, n - got, polling ? MSG_DONTWAIT : 0);

		if (r == 0 || (r < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		if (r < 0)
			sched_yield();
		else
			got += (size_t)r;
	}
	return true;
}

static _Noreturn void tcp_answer(int fd, bool polling)
{
	char page[PAGE_BYTES] = {1};
	uint64_t ask;

	while (receive(fd, &ask, sizeof ask, polling))
		if (send(fd, page, sizeof page, MSG_NOSIGNAL) != sizeof page)
			break;
	_exit(0);
}

int floor_tcp(struct histogram *h, unsigned rounds, bool polling)
{
	char page[PAGE_BYTES];
	int fd[2] = {-1, -1}, err = tcp_pair(fd);
	pid_t child;

	if (err)
		return err;
	child = fork();
	if (child < 0)
		return -errno;
	if (child == 0) {
		close(fd[0]);
		tcp_answer(fd[1], polling);
	}
	close(fd[1]);
	for (uint64_t i = 0; i < rounds && !err; i++) {
		uint64_t from = bench_now_ns();

		if (send(fd[0], &i, sizeof i, MSG_NOSIGNAL) != sizeof i || !receive(fd[0], page, sizeof page, polling))
			err = -EIO;
		histogram_add(h, bench_now_ns() - from);
	}
	close(fd[0]);
	waitpid(child, NULL, 0);
	return err;
}

struct server {
	struct uffd u;
	bool polling;
	_Atomic bool quit;
};

static void *serve(void *arg)
{
	static const uint8_t page[PAGE_BYTES] = {1};
	struct server *s = arg;
	struct pollfd p = {.fd = s->u.fd, .events = POLLIN};

	while (!s->quit) {
		struct uffd_fault f;

		if (!s->polling)
			poll(&p, 1, 100);
		else
			sched_yield();
		if (uffd_faults(&s->u, &f, 1) == 1 && uffd_install(&s->u, f.page, page, false))
			break;
	}
	return NULL;
}

int floor_uffd(struct histogram *h, unsigned rounds, bool polling)
{
	uint64_t bytes[NODES_MAX] = {(uint64_t)rounds * PAGE_BYTES};
	struct server s = {.polling = polling};
	struct ram r;
	pthread_t thread;
	int err = ram_layout(&r, bytes, 1);

	if (err || (err = ram_map(&r, NULL)) || (err = uffd_open(&s.u, &r, NULL)))
		return err;
	err = -pthread_create(&thread, NULL, serve, &s);
	for (unsigned i = 0; i < rounds && !err; i++) {
		uint64_t from = bench_now_ns();

		(void)*(volatile uint8_t *)ram_at(&r, (gpa_t){(uint64_t)i * PAGE_BYTES}, 1);
		histogram_add(h, bench_now_ns() - from);
	}
	s.quit = true;
	pthread_join(thread, NULL);
	uffd_close(&s.u);
	ram_unmap(&r);
	return err;
}
