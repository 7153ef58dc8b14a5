/* See link.h. Both buffers are linear: data moves to the front only when a partial frame (or an unsent rest) is in the way, which is at most one
 * frame for the input and rare for the output. */
#include "net/link.h"

#include "base/ensure.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Bytes [from, to) of at[] are in use. */
struct buffer {
	uint8_t *at;
	size_t from, to, room;
};

struct link {
	int fd;
	bool broken; /* the input holds no frames of ours */
	struct buffer in, out;
	struct link_count count;
};

static int buffer_open(struct buffer *b, size_t room)
{
	b->at = malloc(room);
	b->room = room;
	return b->at ? 0 : -ENOMEM;
}

static size_t buffer_used(const struct buffer *b)
{
	return b->to - b->from;
}

static void buffer_to_front(struct buffer *b)
{
	if (b->from == 0)
		return;
	memmove(b->at, b->at + b->from, buffer_used(b));
	b->to = buffer_used(b);
	b->from = 0;
}

/* n bytes were taken from the front. */
static void buffer_take(struct buffer *b, size_t n)
{
	b->from += n;
	if (b->from == b->to)
		b->from = b->to = 0;
}

static int set_option(int fd, int level, int option, int value)
{
	return setsockopt(fd, level, option, &value, sizeof value) ? -errno : 0;
}

/* Unacknowledged data and an idle line both end after about dead_ms. */
static int set_deadline(int fd, unsigned dead_ms)
{
	int seconds = (int)((dead_ms + 1999) / 2000), r;

	r = set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)dead_ms);
	if (r == 0)
		r = set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
	if (r == 0)
		r = set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, seconds);
	if (r == 0)
		r = set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, seconds);
	return r;
}

static int set_socket_up(int fd, unsigned dead_ms)
{
	int flags = fcntl(fd, F_GETFL), family = 0, r;
	socklen_t bytes = sizeof family;

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes))
		return -errno;
	if (family != AF_INET && family != AF_INET6)
		return 0;
	r = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
	if (r == 0 && dead_ms)
		r = set_deadline(fd, dead_ms);
	return r;
}

int link_open(struct link **out, int fd, size_t out_bytes, unsigned dead_ms)
{
	struct link *l = calloc(1, sizeof *l);
	int r = -ENOMEM;

	ensure(out_bytes == 0 || out_bytes >= WIRE_FRAME_MAX);
	*out = NULL;
	if (!l) {
		close(fd);
		return r;
	}
	l->fd = fd;
	r = buffer_open(&l->in, LINK_IN_BYTES);
	if (r == 0)
		r = buffer_open(&l->out, out_bytes ? out_bytes : LINK_OUT_BYTES);
	if (r == 0)
		r = set_socket_up(fd, dead_ms);
	if (r) {
		link_close(l);
		return r;
	}
	*out = l;
	return 0;
}

void link_close(struct link *l)
{
	if (!l)
		return;
	close(l->fd);
	free(l->in.at);
	free(l->out.at);
	free(l);
}

int link_fd(const struct link *l)
{
	return l->fd;
}

const struct link_count *link_count(const struct link *l)
{
	return &l->count;
}

/* The encoder's header must tell the truth about what follows it, or the peer would lose step. */
static void check_frame(const uint8_t *head, size_t head_bytes, size_t page_bytes)
{
	uint32_t body = 0;
	uint16_t id;

	ensure(head_bytes >= WIRE_HEADER_BYTES && wire_get_header(head, &id, &body) == 0);
	ensure(body + WIRE_HEADER_BYTES == head_bytes + page_bytes);
}

int link_queue(struct link *l, const uint8_t *head, size_t head_bytes, const uint8_t *page)
{
	size_t page_bytes = page ? PAGE_BYTES : 0, bytes = head_bytes + page_bytes;
	struct buffer *b = &l->out;

	check_frame(head, head_bytes, page_bytes);
	if (link_room(l) < bytes)
		return -ENOBUFS;
	if (b->room - b->to < bytes)
		buffer_to_front(b);
	memcpy(b->at + b->to, head, head_bytes);
	if (page)
		memcpy(b->at + b->to + head_bytes, page, PAGE_BYTES);
	b->to += bytes;
	l->count.frames_sent++;
	return 0;
}

/* How much the kernel takes now, -EAGAIN for none. */
static ssize_t link_give(struct link *l, const uint8_t *at, size_t bytes)
{
	ssize_t n;

	do
		n = send(l->fd, at, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	l->count.sends++;
	l->count.bytes_sent += (uint64_t)n;
	return n;
}

int link_send(struct link *l, const uint8_t *frame, size_t bytes)
{
	struct buffer *b = &l->out;
	ssize_t gone;

	check_frame(frame, bytes, 0);
	ensure(!buffer_used(b));
	gone = link_give(l, frame, bytes);
	if (gone < 0 && gone != -EAGAIN)
		return (int)gone;
	if (gone < 0)
		gone = 0;
	memcpy(b->at + b->to, frame + gone, bytes - (size_t)gone);
	b->to += bytes - (size_t)gone;
	l->count.frames_sent++;
	return buffer_used(b) ? -EAGAIN : 0;
}

size_t link_pending(const struct link *l)
{
	return buffer_used(&l->out);
}

size_t link_room(const struct link *l)
{
	return l->out.room - buffer_used(&l->out);
}

int link_flush(struct link *l)
{
	struct buffer *b = &l->out;

	while (buffer_used(b)) {
		ssize_t n = link_give(l, b->at + b->from, buffer_used(b));

		if (n < 0)
			return (int)n;
		buffer_take(b, (size_t)n);
	}
	return 0;
}

/* The end of the stream: between frames or inside one. */
static int stream_end(const struct link *l)
{
	return buffer_used(&l->in) ? -ECONNRESET : -EPIPE;
}

int link_fill(struct link *l)
{
	struct buffer *b = &l->in;
	ssize_t n;

	if (l->broken)
		return -EBADMSG;
	if (b->room - b->to < WIRE_FRAME_MAX)
		buffer_to_front(b);
	if (b->to == b->room)
		return 0; /* full of frames that nobody has taken yet */
	do
		n = recv(l->fd, b->at + b->to, b->room - b->to, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if (n == 0)
		return stream_end(l);
	b->to += (size_t)n;
	l->count.receives++;
	l->count.bytes_received += (uint64_t)n;
	return 0;
}

int link_next(struct link *l, struct link_frame *out)
{
	struct buffer *b = &l->in;
	const uint8_t *at = b->at + b->from;

	if (l->broken)
		return -EBADMSG;
	if (buffer_used(b) < WIRE_HEADER_BYTES)
		return 0;
	if (wire_get_header(at, &out->id, &out->bytes)) {
		l->broken = true;
		return -EBADMSG;
	}
	if (buffer_used(b) < WIRE_HEADER_BYTES + out->bytes)
		return 0;
	out->body = at + WIRE_HEADER_BYTES;
	buffer_take(b, WIRE_HEADER_BYTES + out->bytes);
	l->count.frames_received++;
	return 1;
}
