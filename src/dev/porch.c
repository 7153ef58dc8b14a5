/* See porch.h. */
#include "dev/porch.h"

#include "base/log.h"
#include "base/thread.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { CHUNK = 4096, WAITING_CLIENTS = 8 };

struct porch {
	struct porch_config c;
	struct hall *hall;
	int listener, bell; /* -1: none */
	pthread_t thread;
	bool threaded;
	bool eof;              /* the client says no more; the thread's */
	pthread_mutex_t lock;  /* guards the rest */
	struct virtio_console *console;
	int client;            /* -1: nobody */
	bool wants_write;      /* the client took less than it was given */
	bool ends;
	struct porch_stats stats;
};

static void wake(struct porch *p)
{
	uint64_t one = 1;

	while (write(p->bell, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* What the console calls. */

/* All of it when nobody can take it. */
static size_t send_to_client(struct porch *p, const uint8_t *bytes, size_t n)
{
	size_t taken = n;
	ssize_t sent;

	pthread_mutex_lock(&p->lock);
	if (p->client >= 0) {
		sent = send(p->client, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		taken = sent >= 0 ? (size_t)sent : errno == EAGAIN || errno == EINTR ? 0 : n;
		p->stats.from_guest += taken;
		p->wants_write = taken < n;
	}
	pthread_mutex_unlock(&p->lock);
	if (taken < n)
		wake(p);
	return taken;
}

static size_t on_output(void *user, unsigned port, const uint8_t *bytes, size_t n)
{
	struct porch *p = user;

	if (port == CONSOLE_AGENT)
		return send_to_client(p, bytes, n);
	p->c.terminal(p->c.user, bytes, n);
	return n;
}

static void on_room(void *user, unsigned port)
{
	if (port == CONSOLE_AGENT)
		wake(user);
}

struct virtio_console_calls porch_calls(struct porch *p)
{
	return (struct virtio_console_calls){.output = on_output, .room = on_room, .user = p};
}

/* The thread. */

static void set_client(struct porch *p, int client)
{
	int before;

	pthread_mutex_lock(&p->lock);
	before = p->client;
	p->client = client;
	p->wants_write = false;
	pthread_mutex_unlock(&p->lock);
	p->eof = false;
	if (before >= 0)
		close(before);
	virtio_console_connect(p->console, CONSOLE_AGENT, client >= 0);
	virtio_console_resume(p->console, CONSOLE_AGENT); /* a request that waited for the client waits no more */
}

/* There is room: only we put bytes there. */
static void give_to_guest(struct porch *p, const uint8_t *bytes, size_t n)
{
	n = virtio_console_input(p->console, CONSOLE_AGENT, bytes, n);
	pthread_mutex_lock(&p->lock);
	p->stats.to_guest += n;
	pthread_mutex_unlock(&p->lock);
}

static void take_from_client(struct porch *p, size_t room)
{
	uint8_t bytes[CHUNK];
	ssize_t n = recv(p->client, bytes, room < sizeof bytes ? room : sizeof bytes, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		set_client(p, -1);
	else if (n == 0)
		p->eof = true;
	else
		give_to_guest(p, bytes, (size_t)n);
}

static void serve_client(struct porch *p, short happened, size_t room)
{
	if (happened & POLLOUT) {
		pthread_mutex_lock(&p->lock);
		p->wants_write = false;
		pthread_mutex_unlock(&p->lock);
		virtio_console_resume(p->console, CONSOLE_AGENT);
	}
	if (happened & (POLLIN | POLLHUP) && !p->eof && room)
		take_from_client(p, room);
	if (p->client >= 0 && (happened & POLLERR || (happened & POLLHUP && (p->eof || !room))))
		set_client(p, -1);
}

/* What a client said before it went is still for the guest, as far as there is room. */
static void wait_and_serve(struct porch *p)
{
	size_t room = p->client >= 0 && !p->eof ? virtio_console_free(p->console, CONSOLE_AGENT) : 0;
	struct pollfd at[3] = {{.fd = p->bell, .events = POLLIN}, {.fd = p->client >= 0 ? -1 : p->listener, .events = POLLIN}, {.fd = -1}};
	uint64_t count;
	bool writes;
	int client;

	pthread_mutex_lock(&p->lock);
	writes = p->wants_write;
	pthread_mutex_unlock(&p->lock);
	if (p->client >= 0)
		at[2] = (struct pollfd){.fd = p->client, .events = (short)((room ? POLLIN : 0) | (writes ? POLLOUT : 0))};
	if (poll(at, ARRAY_LEN(at), -1) < 0)
		return;
	if (at[0].revents && read(p->bell, &count, sizeof count) < 0)
		log_debug("porch: woken by nobody");
	if (at[1].revents) {
		client = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (client >= 0)
			set_client(p, client);
	}
	if (at[2].revents)
		serve_client(p, at[2].revents, room);
}

static void *porch_main(void *arg)
{
	struct porch *p = arg;
	bool ends = false;

	while (!ends) {
		wait_and_serve(p);
		pthread_mutex_lock(&p->lock);
		ends = p->ends;
		pthread_mutex_unlock(&p->lock);
	}
	return NULL;
}

/* Life. */

static int listen_at(const char *stem, const char *kind, int *out)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int err = 0, s;

	if (snprintf(a.sun_path, sizeof a.sun_path, "%s.%s", stem, kind) >= (int)sizeof a.sun_path)
		return -ENAMETOOLONG;
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	unlink(a.sun_path);
	if (bind(s, (struct sockaddr *)&a, sizeof a) < 0 || chmod(a.sun_path, 0600) < 0 || listen(s, WAITING_CLIENTS) < 0) { /* nobody connects before listen */
		err = -errno;
		close(s);
		return err;
	}
	*out = s;
	return 0;
}

int porch_open(struct porch **out, const struct porch_config *c, struct failure *f)
{
	struct porch *p = calloc(1, sizeof *p);
	int err = 0, vsock = -1;

	if (!p)
		return failure_set(f, -ENOMEM, "free some memory on this node", "no memory for the guest agent's socket");
	*p = (struct porch){.c = *c, .listener = -1, .client = -1, .lock = PTHREAD_MUTEX_INITIALIZER, .bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	p->c.stem = p->c.program = NULL;
	if (p->bell < 0)
		err = -errno;
	if (!err && c->stem)
		err = listen_at(c->stem, "agent", &p->listener);
	if (!err && c->stem)
		err = listen_at(c->stem, "vsock", &vsock);
	if (!err)
		err = hall_open(&p->hall, vsock, c->program, c->stem, c->number);
	if (err) {
		porch_close(p);
		return failure_set(f, err, "use shorter names (--run-dir, --name), and see that the folder can be written", "cannot listen at %s.agent and .vsock: %s",
			c->stem ? c->stem : "", strerror(-err));
	}
	*out = p;
	return 0;
}

void porch_close(struct porch *p)
{
	if (!p)
		return;
	porch_detach(p);
	hall_close(p->hall);
	if (p->listener >= 0)
		close(p->listener);
	if (p->bell >= 0)
		close(p->bell);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

int porch_attach(struct porch *p, struct virtio_console *c)
{
	sigset_t before;
	int err = 0;

	pthread_mutex_lock(&p->lock);
	p->console = c;
	p->ends = false;
	pthread_mutex_unlock(&p->lock);
	if (p->listener >= 0) {
		thread_block(&before, 0);
		err = -pthread_create(&p->thread, NULL, porch_main, p);
		thread_unblock(&before);
		p->threaded = !err;
	}
	if (p->threaded)
		pthread_setname_np(p->thread, "porch");
	return err;
}

void porch_detach(struct porch *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->console = p->threaded ? p->console : NULL;
	p->ends = true;
	pthread_mutex_unlock(&p->lock);
	if (p->threaded) {
		wake(p);
		pthread_join(p->thread, NULL);
		p->threaded = false;
	}
	pthread_mutex_lock(&p->lock);
	p->console = NULL;
	if (p->client >= 0)
		close(p->client);
	p->client = -1;
	pthread_mutex_unlock(&p->lock);
}

/* The rest. */

struct hall *porch_hall(struct porch *p)
{
	return p->hall;
}

uint32_t porch_cid(const struct porch *p)
{
	return p->c.cid;
}

size_t porch_input(struct porch *p, const void *bytes, size_t n)
{
	size_t taken = 0;

	pthread_mutex_lock(&p->lock);
	if (p->console)
		taken = virtio_console_input(p->console, CONSOLE_TERMINAL, bytes, n);
	pthread_mutex_unlock(&p->lock);
	return taken;
}

void porch_resize(struct porch *p, uint16_t columns, uint16_t rows)
{
	pthread_mutex_lock(&p->lock);
	if (p->console)
		virtio_console_resize(p->console, columns, rows);
	pthread_mutex_unlock(&p->lock);
}

void porch_stats(struct porch *p, struct porch_stats *to)
{
	pthread_mutex_lock(&p->lock);
	*to = p->stats;
	to->guest = p->console && virtio_console_guest_open(p->console, CONSOLE_AGENT);
	to->host = p->client >= 0;
	pthread_mutex_unlock(&p->lock);
}

void porch_remove(const char *stem)
{
	char path[sizeof ((struct sockaddr_un *)NULL)->sun_path];

	if (snprintf(path, sizeof path, "%s.agent", stem) < (int)sizeof path)
		unlink(path);
	if (snprintf(path, sizeof path, "%s.vsock", stem) < (int)sizeof path)
		unlink(path);
}
