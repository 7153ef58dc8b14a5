/* See channel.h. Input is kept in one buffer of a whole frame's size; output in one growing buffer, written from its head. */
#include "node/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/ensure.h"

struct channel {
	struct loop_watch watch;
	struct loop_task after; /* frees a dead one, tells the owner of a broken one */
	struct loop *loop;
	const struct channel_ops *ops;
	void *owner;
	struct channel *other; /* spliced */
	bool dead, finishing, broken;
	bool mute; /* the other side takes nothing more */
	bool taking; /* its frames are being handed out: 'in' still begins with those handed out */
	int err;
	uint8_t *out;
	size_t out_at, out_end, out_room;
	size_t in_bytes, received; /* in the buffer; ever */
	uint8_t in[WIRE_FRAME_MAX];
};

static void bury(struct loop_task *t)
{
	struct channel *c = (struct channel *)((char *)t - offsetof(struct channel, after));

	if (!c->dead) {
		int err = c->err;

		c->dead = true;
		c->ops->closed(c->owner, c, err);
	}
	if (c->watch.fd >= 0)
		close(c->watch.fd);
	free(c->out);
	free(c);
}

/* No more events; told at the end of the round. */
static void break_off(struct channel *c, int err)
{
	if (c->dead || c->broken)
		return;
	c->broken = true;
	c->err = err;
	loop_remove(c->loop, &c->watch);
	if (c->other) {
		struct channel *other = c->other;

		c->other = NULL;
		other->other = NULL;
		c->dead = true;
		channel_finish(other);
	}
	if (c->finishing)
		c->dead = true;
	loop_later(c->loop, &c->after);
}

void channel_close(struct channel *c)
{
	struct channel *other;

	if (!c || c->dead)
		return;
	other = c->other;
	c->other = NULL;
	c->dead = true;
	loop_remove(c->loop, &c->watch);
	loop_later(c->loop, &c->after);
	if (other) {
		other->other = NULL;
		channel_finish(other);
	}
}

void channel_finish(struct channel *c)
{
	if (!c || c->dead)
		return;
	if (c->broken || c->out_at == c->out_end) {
		channel_close(c);
		return;
	}
	c->finishing = true;
	loop_want(c->loop, &c->watch, EPOLLOUT);
}

void channel_give(struct channel *c, const struct channel_ops *ops, void *owner)
{
	c->ops = ops;
	c->owner = owner;
}

size_t channel_queued(const struct channel *c)
{
	return c->out_end - c->out_at;
}

int channel_peer_pid(const struct channel *c)
{
	struct ucred cred;
	socklen_t n = sizeof cred;

	return getsockopt(c->watch.fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0 ? 0 : cred.pid;
}

static uint32_t wanted(const struct channel *c)
{
	uint32_t events = c->out_at != c->out_end ? EPOLLOUT : 0u;

	if (!c->finishing && !(c->other && channel_queued(c->other) > CHANNEL_QUEUE_MAX / 2))
		events |= EPOLLIN;
	return events;
}

static void flush(struct channel *c)
{
	while (c->out_at != c->out_end) {
		ssize_t n = send(c->watch.fd, c->out + c->out_at, c->out_end - c->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN && c->finishing) {
			break_off(c, -errno);
			return;
		}
		if (n < 0 && errno != EAGAIN) { /* nobody takes it any more; what was said before that is still to be read, then comes the end */
			c->out_at = c->out_end;
			c->mute = true;
			break;
		}
		if (n < 0)
			break;
		c->out_at += (size_t)n;
	}
	if (c->out_at == c->out_end)
		c->out_at = c->out_end = 0;
	loop_want(c->loop, &c->watch, wanted(c));
}

static int make_room(struct channel *c, size_t bytes)
{
	size_t room = c->out_room;
	uint8_t *bigger;

	if (c->out_end - c->out_at + bytes > CHANNEL_QUEUE_MAX + WIRE_FRAME_MAX)
		return -ENOBUFS;
	if (c->out_at) {
		memmove(c->out, c->out + c->out_at, c->out_end - c->out_at);
		c->out_end -= c->out_at;
		c->out_at = 0;
	}
	while (c->out_end + bytes > room)
		room = room ? room * 2 : 4096;
	if (room == c->out_room)
		return 0;
	bigger = realloc(c->out, room);
	if (!bigger)
		return -ENOMEM;
	c->out = bigger;
	c->out_room = room;
	return 0;
}

static void queue(struct channel *c, const uint8_t *bytes, size_t n)
{
	int err;

	if (c->dead || c->broken || c->finishing || c->mute)
		return;
	err = make_room(c, n);
	if (err) {
		break_off(c, err);
		return;
	}
	memcpy(c->out + c->out_end, bytes, n);
	c->out_end += n;
}

void channel_send(struct channel *c, const uint8_t *frame, size_t bytes)
{
	ensure(bytes > 0);
	if (!c)
		return;
	queue(c, frame, bytes);
	if (!c->dead && !c->broken)
		flush(c);
}

void channel_pass(struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	uint8_t frame[WIRE_FRAME_MAX];
	struct wire_out o = wire_begin(frame, sizeof frame);

	ensure(bytes <= WIRE_BODY_MAX && id <= UINT16_MAX);
	if (bytes)
		memcpy(o.at, body, bytes);
	o.at += bytes;
	channel_send(c, frame, wire_end(&o, frame, (uint16_t)id));
}

static void pour(struct channel *c)
{
	struct channel *other = c->other;

	if (c->taking)
		return;
	if (c->in_bytes) {
		queue(other, c->in, c->in_bytes);
		c->in_bytes = 0;
		if (!other->broken && !other->dead)
			flush(other);
	}
	if (!c->dead && !c->broken)
		loop_want(c->loop, &c->watch, wanted(c));
}

static void take_frames(struct channel *c)
{
	size_t at = 0;

	c->taking = true;
	while (!c->dead && !c->broken && !c->other && !c->finishing && c->in_bytes - at >= WIRE_HEADER_BYTES) {
		uint16_t id;
		uint32_t bytes;

		if (wire_get_header(c->in + at, &id, &bytes)) {
			break_off(c, -EBADMSG);
			return;
		}
		if (c->in_bytes - at < WIRE_HEADER_BYTES + bytes)
			break;
		at += WIRE_HEADER_BYTES + bytes;
		c->ops->frame(c->owner, c, id, c->in + at - bytes, bytes);
	}
	c->taking = false;
	memmove(c->in, c->in + at, c->in_bytes - at);
	c->in_bytes -= at;
	if (c->other && !c->dead && !c->broken)
		pour(c);
}

static void fill(struct channel *c)
{
	ssize_t n = recv(c->watch.fd, c->in + c->in_bytes, sizeof c->in - c->in_bytes, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		break_off(c, n < 0 ? -errno : 0);
		return;
	}
	c->in_bytes += (size_t)n;
	c->received += (size_t)n;
	if (c->other)
		pour(c);
	else
		take_frames(c);
}

void channel_drain(struct channel *c)
{
	size_t before;

	if (!c)
		return;
	do {
		before = c->received;
		if (!c->dead && !c->broken && !c->finishing)
			fill(c);
	} while (c->received != before);
}

static void ready(struct loop_watch *w, uint32_t events)
{
	struct channel *c = (struct channel *)w;

	if (events & EPOLLOUT) {
		flush(c);
		if (c->finishing && c->out_at == c->out_end)
			channel_close(c);
		else if (!c->dead && !c->broken && c->out_at == c->out_end && c->ops->drained && !c->other)
			c->ops->drained(c->owner, c);
		if (c->other && !c->dead && !c->broken)
			loop_want(c->loop, &c->other->watch, wanted(c->other));
	}
	if (c->dead || c->broken)
		return;
	if (c->finishing) {
		if (events & (EPOLLERR | EPOLLHUP))
			channel_close(c);
		return;
	}
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		fill(c);
}

void channel_splice(struct channel *a, struct channel *b)
{
	if (a->dead || a->broken || b->dead || b->broken) {
		channel_finish(a);
		channel_finish(b);
		return;
	}
	a->other = b;
	b->other = a;
	pour(a);
	if (b->other)
		pour(b);
}

int channel_open(struct channel **out, struct loop *l, int fd, const struct channel_ops *ops, void *owner)
{
	struct channel *c = calloc(1, sizeof *c);
	int err = c ? 0 : -ENOMEM;

	if (!err) {
		*c = (struct channel){.watch = {.fd = fd, .events = EPOLLIN, .ready = ready}, .after.run = bury, .loop = l, .ops = ops, .owner = owner};
		err = loop_add(l, &c->watch);
	}
	if (err) {
		close(fd);
		free(c);
		return err;
	}
	*out = c;
	return 0;
}
