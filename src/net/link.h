/* A framed, nonblocking, ordered byte stream over a connected TCP or Unix socket, owned by one thread: nothing here locks, waits or (after open)
 * allocates.
 *
 * Sending: link_queue copies into the output buffer, link_flush gives everything queued to the kernel in one system call: queue much, flush once.
 * Receiving: link_fill takes what there is in one system call, link_next hands out complete frames as views.
 *
 *     while ((r = link_fill(l)) == 0)
 *             while ((r = link_next(l, &fr)) > 0) handle(&fr);     (then r < 0: fence this peer)
 *     r == -EAGAIN: poll for POLLIN (and POLLOUT while link_pending); anything else: the stream is over.
 */
#ifndef NET_LINK_H
#define NET_LINK_H

#include "base/types.h"
#include "wire/codec.h"

enum {
	LINK_IN_BYTES = 512 * 1024,   /* receive buffer */
	LINK_OUT_BYTES = 1024 * 1024, /* default bound of the output queue */
};

struct link_frame {
	uint16_t id;
	uint32_t bytes;      /* of the body */
	const uint8_t *body; /* a view: valid until the next link_fill or link_close */
};

/* Counted since open; read by the owner thread only. */
struct link_count {
	uint64_t frames_sent, bytes_sent, sends;          /* frames: queued; bytes: taken by the kernel; sends: system calls that moved bytes */
	uint64_t frames_received, bytes_received, receives;
};

struct link;

/* Takes ownership of fd (also on failure) and makes it nonblocking. out_bytes: bound of the output queue, at least WIRE_FRAME_MAX, or 0 for
 * LINK_OUT_BYTES. dead_ms: on TCP, give up when the other kernel acknowledges nothing for so long (0: the system's defaults); a peer that is
 * alive but stuck is not noticed by that: the bus's echo is for it. -ENOMEM or setsockopt's -errno. */
int link_open(struct link **out, int fd, size_t out_bytes, unsigned dead_ms) MUST_CHECK;

/* Closes the fd; unsent output is lost. NULL is fine. */
void link_close(struct link *l);

int link_fd(const struct link *l);
const struct link_count *link_count(const struct link *l);

/* Queue one frame as encoded by the generated put functions: head_bytes at head and, when the frame's page was left out of it, the page (else
 * NULL). Both are copied. -ENOBUFS, nothing queued, when the bound is reached: flush, and wait for POLLOUT if that is not enough. head_bytes 0 (the
 * encoder refused) is our bug: asserts. */
int link_queue(struct link *l, const uint8_t *head, size_t head_bytes, const uint8_t *page) MUST_CHECK;

/* As link_queue and link_flush of one frame, but with nothing pending: what the kernel takes at once is not copied. 0, -EAGAIN, or the stream is dead. */
int link_send(struct link *l, const uint8_t *frame, size_t bytes) MUST_CHECK;

/* Bytes queued and not yet taken by the kernel; bytes that still fit. */
size_t link_pending(const struct link *l);
size_t link_room(const struct link *l);

/* Give the kernel what is queued. 0 when all is gone, -EAGAIN when some is left (poll for POLLOUT), else the stream is dead: -EPIPE, -ECONNRESET,
 * -ETIMEDOUT ... Never raises SIGPIPE. */
int link_flush(struct link *l) MUST_CHECK;

/* Receive what there is, as far as there is space. 0: something came. -EAGAIN: nothing there. -EPIPE: closed by the peer between frames;
 * -ECONNRESET: closed in the middle of one. Frames of earlier fills need not have been taken: with no space left it returns 0 and receives
 * nothing, and the peer is held up by TCP. */
int link_fill(struct link *l) MUST_CHECK;

/* The next complete frame: 1 and *out, 0 when there is none yet, -EBADMSG when the stream holds no frame of ours (and from then on). */
int link_next(struct link *l, struct link_frame *out) MUST_CHECK;

#endif
