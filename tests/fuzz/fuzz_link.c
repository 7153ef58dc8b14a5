/* Framing: however a byte stream is cut, link_next hands out the same frames, and they are the stream's bytes; what is no frame ends it.
 * First byte: how the stream is cut into pieces. */
#include "base/ensure.h"
#include "net/link.h"
#include "tests/fuzz/fuzz.h"
#include "tests/wire_sample.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

/* Where the reference reader stands: frames are checked against the plain bytes. */
struct reader {
	const uint8_t *data;
	size_t bytes, at;
};

/* What must come next: 1 a frame, 0 nothing yet, -EBADMSG. 'have' bytes have been sent. */
static int expect(const struct reader *r, size_t have, uint16_t *id, uint32_t *body)
{
	if (have - r->at < WIRE_HEADER_BYTES)
		return 0;
	if (wire_get_header(r->data + r->at, id, body))
		return -EBADMSG;
	return have - r->at >= WIRE_HEADER_BYTES + *body;
}

/* Take all frames there are; false when the stream is broken. */
static bool take(struct link *l, struct reader *r, size_t have)
{
	struct link_frame fr;
	uint32_t body = 0;
	uint16_t id = 0;
	int want, got;

	do {
		want = expect(r, have, &id, &body);
		got = link_next(l, &fr);
		ensure(want == got);
		if (got == 1) {
			ensure(fr.id == id && fr.bytes == body && memcmp(fr.body, r->data + r->at + WIRE_HEADER_BYTES, body) == 0);
			r->at += WIRE_HEADER_BYTES + body;
		}
	} while (got == 1);
	return got == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	struct reader r = {.data = data + 1, .bytes = bytes - 1};
	struct link *l;
	size_t have = 0, piece;
	bool whole = true;
	int fd[2], end;

	if (bytes < 1 || bytes > 64 * 1024)
		return 0;
	piece = data[0] ? data[0] * (size_t)data[0] : 1;
	if (bytes / piece > 64)
		piece = 1 + bytes / 64;
	ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
	ensure(link_open(&l, fd[0], WIRE_FRAME_MAX, 0) == 0);
	while (whole && have < r.bytes) {
		ssize_t n = write(fd[1], r.data + have, r.bytes - have < piece ? r.bytes - have : piece);

		ensure(n > 0);
		have += (size_t)n;
		ensure(link_fill(l) == 0);
		whole = take(l, &r, have);
	}
	close(fd[1]);
	end = link_fill(l);
	ensure(end == (!whole ? -EBADMSG : r.at == have ? -EPIPE : -ECONNRESET));
	link_close(l);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	size_t at = 1;

	if (n >= 4)
		return 0;
	to[0] = (uint8_t)(n * 7);
	for (size_t k = n; k < ARRAY_LEN(wire_samples) && at + 2 * PAGE_BYTES < room; k += 1 + n)
		at += wire_samples[k].sample(to + at, room - at);
	return at;
}
