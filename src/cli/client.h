/* A client's end of a control stream: connect to the local daemon, ask, read answers. Waits; one thread. */
#ifndef CLI_CLIENT_H
#define CLI_CLIENT_H

#include "base/failure.h"
#include "base/types.h"
#include "wire/control.h"

/* One request a connection: a daemon may hand it over to another daemon with the first one. */
struct client {
	int fd;
	char node[NAME_BYTES];         /* the daemon's */
	uint8_t in[WIRE_FRAME_MAX];
	size_t at, have;
};

/* run_dir, node: as given on the command line, or NULL. -errno with the remedy: no daemon, several, another version. */
int client_open(struct client *c, const char *run_dir, const char *node, struct failure *f) MUST_CHECK;
void client_close(struct client *c);

int client_send(struct client *c, const uint8_t *frame, size_t bytes, struct failure *f) MUST_CHECK;

/* The next frame; body is valid until the next call. An 'error' from the daemon becomes -errno and *f. -ECONNRESET: the daemon is gone. */
int client_next(struct client *c, unsigned *id, const uint8_t **body, size_t *bytes, struct failure *f) MUST_CHECK;

/* Is a whole frame already here? (Then do not wait for the descriptor.) */
bool client_ready(const struct client *c);

#define CLIENT_SEND(c, f, name, ...) __extension__ ({ \
	uint8_t frame_[WIRE_FRAME_MAX]; \
	struct control_##name message_ = {__VA_ARGS__}; \
	client_send((c), frame_, control_put_##name(&message_, frame_, sizeof frame_), (f)); \
})

static inline struct wire_name client_name(const char *s)
{
	struct wire_name v;

	wire_set_name(&v, s);
	return v;
}

static inline struct wire_text client_text(const char *s)
{
	struct wire_text v;

	wire_set_text(&v, s);
	return v;
}

#endif
