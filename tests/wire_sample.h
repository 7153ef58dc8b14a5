/* One sample of every message of both lists, made from the lists themselves: for round trips, golden bytes and fuzz seeds. */
#ifndef TESTS_WIRE_SAMPLE_H
#define TESTS_WIRE_SAMPLE_H

#include "wire/control.h"
#include "wire/peer.h"

#include <string.h>

/* How a list's message is handled without knowing which: name and id, encode a sample, decode and encode again. */
struct wire_sample {
	const char *list, *name;
	uint16_t id;
	size_t (*sample)(uint8_t *to, size_t room);
	/* 0 and the frame in 'to', or the decoder's error; *frame_bytes 0 when the second encode failed. */
	int (*again)(const uint8_t *body, size_t bytes, uint8_t *to, size_t room, size_t *frame_bytes);
	int (*print)(unsigned id, const uint8_t *body, size_t bytes, char *to, size_t room);
};

static uint8_t sample_bytes[PAGE_BYTES];

static inline uint8_t sample_u8(unsigned n) { return (uint8_t)(0x10 + n); }
static inline uint16_t sample_u16(unsigned n) { return (uint16_t)(0x2010 + n); }
static inline uint32_t sample_u32(unsigned n) { return 0x40302010u + n; }
static inline uint64_t sample_u64(unsigned n) { return 0x8070605040302010u + n; }
static inline struct wire_name sample_name(unsigned n) { struct wire_name v; wire_set_name(&v, n % 2 ? "A" : "node-b"); return v; }
static inline struct wire_text sample_text(unsigned n) { struct wire_text v; wire_set_text(&v, n % 2 ? "" : "caf\xc3\xa9 \x1b[1m"); return v; }
static inline struct wire_blob sample_blob(unsigned n) { return (struct wire_blob){sample_bytes, 3 + n}; }
static inline struct wire_page sample_page(unsigned n) { memset(sample_bytes, 0xa5, sizeof sample_bytes); (void)n; return (struct wire_page){sample_bytes}; }

#define F(kind, field) m.field = sample_##kind(n++);
#define M(name, id, fields) \
	static size_t sample_peer_##name(uint8_t *to, size_t room) \
	{ \
		struct peer_##name m; \
		unsigned n = 0; \
		fields (void)n; \
		return peer_put_##name(&m, to, room); \
	} \
	static int again_peer_##name(const uint8_t *body, size_t bytes, uint8_t *to, size_t room, size_t *frame_bytes) \
	{ \
		struct peer_##name m; \
		int r = peer_get_##name(body, bytes, &m); \
		*frame_bytes = r ? 0 : peer_put_##name(&m, to, room); \
		return r; \
	}
PEER_MESSAGES(M)
#undef M
#define M(name, id, fields) \
	static size_t sample_control_##name(uint8_t *to, size_t room) \
	{ \
		struct control_##name m; \
		unsigned n = 0; \
		fields (void)n; \
		return control_put_##name(&m, to, room); \
	} \
	static int again_control_##name(const uint8_t *body, size_t bytes, uint8_t *to, size_t room, size_t *frame_bytes) \
	{ \
		struct control_##name m; \
		int r = control_get_##name(body, bytes, &m); \
		*frame_bytes = r ? 0 : control_put_##name(&m, to, room); \
		return r; \
	}
CONTROL_MESSAGES(M)
#undef M
#undef F

static const struct wire_sample wire_samples[] = {
#define M(name, id, fields) {"peer", #name, id, sample_peer_##name, again_peer_##name, peer_print},
	PEER_MESSAGES(M)
#undef M
#define M(name, id, fields) {"control", #name, id, sample_control_##name, again_control_##name, control_print},
	CONTROL_MESSAGES(M)
#undef M
};

/* The sample of this list and id, or NULL. */
static inline const struct wire_sample *wire_sample_find(const char *list, unsigned id)
{
	for (size_t i = 0; i < ARRAY_LEN(wire_samples); i++)
		if (wire_samples[i].id == id && strcmp(wire_samples[i].list, list) == 0)
			return &wire_samples[i];
	return NULL;
}

#endif
