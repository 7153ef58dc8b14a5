/* See hall.h. */
#include "dev/hall.h"

#include "base/log.h"
#include "base/thread.h"
#include "dev/dialer.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 32, FIXED = 3 };

/* Has not said where to yet. */
struct client {
	int fd; /* -1: none */
	uint64_t until_ms;
	unsigned said;
	char line[LINE_BYTES];
};

struct hall {
	int listener, bell;
	struct dialer dialer;
	struct virtio_vsock *vsock; /* set before the thread begins */
	pthread_t thread;
	bool threaded;
	_Atomic bool ends;
	struct client client[HALL_CLIENTS]; /* the thread's */
};

static void wake(struct hall *h)
{
	uint64_t one = 1;

	while (write(h->bell, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void on_wanted(void *user, uint32_t id, uint32_t port)
{
	struct hall *h = user;

	if (dialer_ask(&h->dialer, id, port))
		virtio_vsock_answer(h->vsock, id, -1);
}

static void on_changed(void *user)
{
	wake(user);
}

struct virtio_vsock_calls hall_calls(struct hall *h)
{
	return (struct virtio_vsock_calls){.wanted = on_wanted, .changed = on_changed, .user = h};
}

/* --- clients that have not said where to --- */

static void client_go(struct client *c)
{
	close(c->fd);
	*c = (struct client){.fd = -1};
}

/* "CONNECT PORT", and nothing else. */
static bool line_port(const char *line, uint32_t *port)
{
	static const char word[] = "CONNECT ";
	unsigned long v;
	char *end;

	if (strncmp(line, word, sizeof word - 1) != 0 || line[sizeof word - 1] < '0' || line[sizeof word - 1] > '9')
		return false;
	v = strtoul(line + sizeof word - 1, &end, 10);
	*port = (uint32_t)v;
	return !*end && v < UINT32_MAX;
}

/* A byte at a time: what comes after the line is the guest's. */
static void client_listen(struct hall *h, struct client *c)
{
	uint32_t port;
	ssize_t n;
	char byte;

	while ((n = recv(c->fd, &byte, 1, MSG_DONTWAIT)) == 1) {
		if (byte == '\n' && line_port(c->line, &port)) {
			if (virtio_vsock_connect(h->vsock, c->fd, port))
				log_debug("vsock: too many connections");
			*c = (struct client){.fd = -1};
			return;
		}
		if (byte == '\n' || !byte || c->said == LINE_BYTES - 1) {
			client_go(c);
			return;
		}
		c->line[c->said++] = byte;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR))
		client_go(c);
}

static struct client *client_place(struct hall *h)
{
	for (unsigned i = 0; i < HALL_CLIENTS; i++)
		if (h->client[i].fd < 0)
			return &h->client[i];
	return NULL;
}

static void admit(struct hall *h)
{
	struct client *c = client_place(h);
	int fd = c ? accept4(h->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;

	if (fd >= 0)
		*c = (struct client){.fd = fd, .until_ms = now_ms() + HALL_PATIENCE_MS};
}

/* Those who have waited too long go; how long until the next one has, -1: nobody waits. */
static int patience(struct hall *h)
{
	uint64_t now = now_ms(), next = UINT64_MAX;

	for (unsigned i = 0; i < HALL_CLIENTS; i++) {
		struct client *c = &h->client[i];

		if (c->fd >= 0 && c->until_ms <= now)
			client_go(c);
		if (c->fd >= 0 && c->until_ms - now < next)
			next = c->until_ms - now;
	}
	return next == UINT64_MAX ? -1 : (int)next;
}

/* --- the thread --- */

static void hear_dialer(struct hall *h)
{
	uint32_t id;
	int fd, got;

	while ((got = dialer_hear(&h->dialer, &id, &fd)) == 1)
		virtio_vsock_answer(h->vsock, id, fd);
	if (got < 0) {
		log_warn("vsock: the process that connects for the guest is gone: guests reach nobody any more");
		shutdown(h->dialer.fd, SHUT_RDWR); /* on_wanted may be using it; it fails from now on */
		h->dialer.pid = 0;
	}
}

static void serve(struct hall *h)
{
	struct pollfd at[FIXED + HALL_CLIENTS + VSOCK_CONNECTIONS] = {{.fd = h->bell, .events = POLLIN},
		{.fd = client_place(h) ? h->listener : -1, .events = POLLIN}, {.fd = h->dialer.pid ? h->dialer.fd : -1, .events = POLLIN}};
	struct pollfd *clients = at + FIXED, *conns = clients + HALL_CLIENTS;
	uint32_t id[VSOCK_CONNECTIONS];
	int timeout_ms = patience(h);
	uint64_t count;
	unsigned n;

	for (unsigned i = 0; i < HALL_CLIENTS; i++)
		clients[i] = (struct pollfd){.fd = h->client[i].fd, .events = POLLIN};
	n = virtio_vsock_poll(h->vsock, conns, id);
	if (poll(at, FIXED + HALL_CLIENTS + n, timeout_ms) <= 0)
		return;
	if (at[0].revents && read(h->bell, &count, sizeof count) < 0)
		log_debug("vsock: woken by nobody");
	for (unsigned i = 0; i < n; i++)
		if (conns[i].revents && !(conns[i].revents & POLLNVAL)) /* closed meanwhile: its id is not known any more, either */
			virtio_vsock_happened(h->vsock, id[i], conns[i].revents);
	for (unsigned i = 0; i < HALL_CLIENTS; i++)
		if (clients[i].revents)
			client_listen(h, &h->client[i]);
	if (at[1].revents)
		admit(h);
	if (at[2].revents)
		hear_dialer(h);
}

static void *hall_main(void *arg)
{
	struct hall *h = arg;

	while (!h->ends)
		serve(h);
	return NULL;
}

/* --- life --- */

int hall_open(struct hall **out, int listener, const char *program, const char *stem, int number)
{
	struct hall *h = calloc(1, sizeof *h);
	int err = 0;

	if (!h) {
		if (listener >= 0)
			close(listener);
		return -ENOMEM;
	}
	*h = (struct hall){.listener = listener, .bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .dialer.fd = -1};
	for (unsigned i = 0; i < HALL_CLIENTS; i++)
		h->client[i].fd = -1;
	if (h->bell < 0)
		err = -errno;
	if (!err && program)
		err = dialer_open(&h->dialer, program, stem, number);
	if (err)
		hall_close(h);
	else
		*out = h;
	return err;
}

void hall_close(struct hall *h)
{
	if (!h)
		return;
	hall_detach(h);
	dialer_close(&h->dialer);
	if (h->listener >= 0)
		close(h->listener);
	if (h->bell >= 0)
		close(h->bell);
	free(h);
}

int hall_attach(struct hall *h, struct virtio_vsock *v)
{
	sigset_t before;
	int err;

	h->vsock = v;
	h->ends = false;
	thread_block(&before, 0);
	err = -pthread_create(&h->thread, NULL, hall_main, h);
	thread_unblock(&before);
	h->threaded = !err;
	if (h->threaded)
		pthread_setname_np(h->thread, "hall");
	return err;
}

void hall_detach(struct hall *h)
{
	if (!h || !h->threaded)
		return;
	h->ends = true;
	wake(h);
	pthread_join(h->thread, NULL);
	h->threaded = false;
	for (unsigned i = 0; i < HALL_CLIENTS; i++)
		if (h->client[i].fd >= 0)
			client_go(&h->client[i]);
}
