/* See relay.h. The other daemon's hello is swallowed: the client has had ours. */
#include "node/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "node/dial.h"
#include "wire/control.h"

enum { RELAY_PATIENCE_MS = 5000, EARLY_MAX = 64 * 1024 };

struct relay {
	struct relay *next;
	struct daemon *daemon;
	struct channel *client, *far;
	struct dial dial;
	char node[NAME_BYTES];
	unsigned id;
	uint8_t *body;
	size_t bytes;
	uint8_t *early;   /* frames that the client sent meanwhile: keys, the size of its terminal */
	size_t early_bytes;
};

static void forget(struct relay *r)
{
	struct relay **at = &r->daemon->relays;

	while (*at != r)
		at = &(*at)->next;
	*at = r->next;
	if (r->dial.busy)
		dial_stop(&r->dial);
	free(r->body);
	free(r->early);
	free(r);
}

static void fail(struct relay *r, int err)
{
	if (r->client) {
		CHANNEL_SEND(r->client, error, .code = (uint32_t)-err, .node = channel_name(r->node), .what = channel_text(strerror(-err)),
			.todo = channel_text("see that its daemon runs ('tessera ls')"));
		channel_finish(r->client);
	}
	channel_close(r->far);
	forget(r);
}

static void far_frame(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct relay *r = owner;
	struct channel *client = r->client;

	if (id != CONTROL_hello) {
		fail(r, -EPROTO);
		return;
	}
	channel_pass(c, r->id, r->body, r->bytes);
	if (r->early_bytes)
		channel_send(c, r->early, r->early_bytes);
	forget(r);
	channel_splice(client, c);
}

static void far_closed(void *owner, struct channel *c, int err)
{
	struct relay *r = owner;

	r->far = NULL;
	fail(r, err ? err : -ECONNRESET);
}

/* A client may speak before it is answered. What is too much is dropped, as a guest's slow console does. */
static void client_frame(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	uint8_t frame[WIRE_FRAME_MAX], *more;
	struct wire_out o = wire_begin(frame, sizeof frame);
	struct relay *r = owner;
	size_t whole;

	if (bytes)
		memcpy(o.at, body, bytes);
	o.at += bytes;
	whole = wire_end(&o, frame, (uint16_t)id);
	more = r->early_bytes + whole <= EARLY_MAX ? realloc(r->early, r->early_bytes + whole) : NULL;
	if (!more)
		return;
	memcpy(more + r->early_bytes, frame, whole);
	r->early = more;
	r->early_bytes += whole;
}

static void client_closed(void *owner, struct channel *c, int err)
{
	struct relay *r = owner;

	r->client = NULL;
	channel_close(r->far);
	forget(r);
}

static const struct channel_ops far_ops = {.frame = far_frame, .closed = far_closed};
static const struct channel_ops client_ops = {.frame = client_frame, .closed = client_closed};

static void dialed(struct dial *dial, int fd, int err)
{
	struct relay *r = (struct relay *)((char *)dial - offsetof(struct relay, dial));

	if (!err)
		err = channel_open(&r->far, &r->daemon->loop, fd, &far_ops, r);
	if (err)
		fail(r, err);
	else
		CHANNEL_SEND(r->far, hello, .version = WIRE_VERSION, .role = CONTROL_CLIENT);
}

void relay_start(struct daemon *d, struct channel *client, const char *node, const char *address, unsigned id, const uint8_t *body, size_t bytes)
{
	struct relay *r = calloc(1, sizeof *r);
	struct addr a;
	int err;

	if (!r) {
		channel_close(client);
		return;
	}
	*r = (struct relay){.next = d->relays, .daemon = d, .client = client, .id = id, .bytes = bytes, .body = malloc(bytes + 1)};
	d->relays = r;
	TEXT_SET(r->node, node);
	channel_give(client, &client_ops, r);
	err = r->body ? addr_parse(&a, address, NULL) : -ENOMEM;
	if (!err && bytes)
		memcpy(r->body, body, bytes);
	if (!err)
		err = dial_start(&r->dial, &d->loop, &a, RELAY_PATIENCE_MS, dialed);
	if (err)
		fail(r, err);
}

void relay_close_all(struct daemon *d)
{
	while (d->relays) {
		channel_close(d->relays->client);
		channel_close(d->relays->far);
		forget(d->relays);
	}
}
