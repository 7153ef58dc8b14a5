/* Every wire decoder of both lists: no input harms it, and what decodes encodes to the same bytes again. First byte: the list; two: the id. */
#include "base/ensure.h"
#include "tests/fuzz/fuzz.h"
#include "tests/wire_sample.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	static uint8_t frame[WIRE_FRAME_MAX];
	const struct wire_sample *s;
	char text[512];
	size_t again = 0;
	int r;

	if (bytes < 2 || bytes - 2 > WIRE_BODY_MAX)
		return 0;
	s = wire_sample_find(data[0] & 1 ? "control" : "peer", data[1]);
	if (!s)
		return 0;
	data += 2;
	bytes -= 2;
	r = s->again(data, bytes, frame, sizeof frame, &again);
	ensure(r == 0 || r == -EBADMSG);
	ensure(s->print(s->id, data, bytes, text, sizeof text) == r);
	ensure(strlen(text) < sizeof text);
	if (r == 0)
		ensure(again == bytes + WIRE_HEADER_BYTES && memcmp(frame + WIRE_HEADER_BYTES, data, bytes) == 0);
	return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t room)
{
	static uint8_t frame[WIRE_FRAME_MAX];
	const struct wire_sample *s;
	size_t body;

	if (n >= ARRAY_LEN(wire_samples))
		return 0;
	s = &wire_samples[n];
	body = s->sample(frame, sizeof frame) - WIRE_HEADER_BYTES;
	ensure(body + 2 <= room);
	to[0] = strcmp(s->list, "control") == 0;
	to[1] = (uint8_t)s->id;
	memcpy(to + 2, frame + WIRE_HEADER_BYTES, body);
	return body + 2;
}
