/* See dial.h. */
#include "node/dial.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <unistd.h>

enum { SILENCE_MS = 10000 };

void dial_tune(int fd)
{
	int one = 1, silence = SILENCE_MS;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silence, sizeof silence);
}

static void finish(struct dial *d, int err)
{
	int fd = d->watch.fd;

	loop_remove(d->loop, &d->watch);
	loop_disarm(d->loop, &d->limit);
	d->busy = false;
	if (err)
		close(fd);
	else
		dial_tune(fd);
	d->done(d, err ? -1 : fd, err);
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct dial *d = (struct dial *)((char *)w - offsetof(struct dial, watch));

	finish(d, addr_connected(d->watch.fd));
}

static void late(struct loop_timer *t)
{
	finish((struct dial *)((char *)t - offsetof(struct dial, limit)), -ETIMEDOUT);
}

int dial_start(struct dial *d, struct loop *l, const struct addr *to, unsigned limit_ms, void (*done)(struct dial *d, int fd, int err))
{
	int fd, err = addr_connect(to, &fd);

	if (err)
		return err;
	*d = (struct dial){.watch = {.fd = fd, .events = EPOLLOUT, .ready = ready}, .limit.fire = late, .loop = l, .done = done, .busy = true};
	err = loop_add(l, &d->watch);
	if (err) {
		close(fd);
		d->busy = false;
		return err;
	}
	loop_arm(l, &d->limit, limit_ms);
	return 0;
}

void dial_stop(struct dial *d)
{
	if (!d->busy)
		return;
	loop_remove(d->loop, &d->watch);
	loop_disarm(d->loop, &d->limit);
	close(d->watch.fd);
	d->busy = false;
}
