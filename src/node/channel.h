/* A stream of control frames (wire/control.h) on a socket of the loop, that never blocks: reads what is there, queues what does not fit.
 *
 * A channel belongs to its loop's thread. channel_open takes the descriptor; after channel_close or the closed() callback the channel must not be
 * used again (its memory goes at the end of the round, so callbacks up the stack are safe). */
#ifndef NODE_CHANNEL_H
#define NODE_CHANNEL_H

#include "base/types.h"
#include "node/loop.h"
#include "wire/control.h"

struct channel;

struct channel_ops {
	/* A whole frame; body is valid during the call. */
	void (*frame)(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes);
	/* The other side closed (0) or the stream broke: -errno, -EBADMSG for what is no frame. Not called by channel_close. */
	void (*closed)(void *owner, struct channel *c, int err);
	/* May be NULL. The queue ran empty. */
	void (*drained)(void *owner, struct channel *c);
};

enum { CHANNEL_QUEUE_MAX = 8 << 20 }; /* bytes queued to a reader that does not read, before it counts as broken */

/* -ENOMEM, -errno; the descriptor is closed then too. */
int channel_open(struct channel **out, struct loop *l, int fd, const struct channel_ops *ops, void *owner) MUST_CHECK;

/* At once, and dropping what is queued; or when all that is queued has been written (closed() is not called either). NULL is fine. */
void channel_close(struct channel *c);
void channel_finish(struct channel *c);

/* Hand it to another owner (a stream whose first frame tells what it is). */
void channel_give(struct channel *c, const struct channel_ops *ops, void *owner);

/* A frame made by control_put_NAME (bytes 0 means it did not fit: our bug). Failure is told by closed(), later. */
void channel_send(struct channel *c, const uint8_t *frame, size_t bytes);

/* Pass the body of a frame on under the same id. */
void channel_pass(struct channel *c, unsigned id, const uint8_t *body, size_t bytes);

/* Handle now all that has arrived. The other side is known to be gone: nothing more comes. */
void channel_drain(struct channel *c);

size_t channel_queued(const struct channel *c);

/* From now on everything that arrives at either goes out of the other unread, to the end of both. Call outside their callbacks or from either's. */
void channel_splice(struct channel *a, struct channel *b);

/* Process at the other end of a Unix socket, 0 if unknown. */
int channel_peer_pid(const struct channel *c);

/* Field values of the message lists. */
static inline struct wire_name channel_name(const char *s)
{
	struct wire_name v;

	wire_set_name(&v, s);
	return v;
}

static inline struct wire_text channel_text(const char *s)
{
	struct wire_text v;

	wire_set_text(&v, s);
	return v;
}

/* CHANNEL_SEND(c, name, .field = value ...): build and send control message 'name'. */
#define CHANNEL_SEND(c, name, ...) do { \
	uint8_t frame_[WIRE_FRAME_MAX]; \
	struct control_##name message_ = {__VA_ARGS__}; \
	channel_send((c), frame_, control_put_##name(&message_, frame_, sizeof frame_)); \
} while (0)

#endif
