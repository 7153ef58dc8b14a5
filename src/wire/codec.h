/* How fields become bytes: little-endian, no padding, every length checked. Used by the generated encoders and decoders of wire/peer.h and
 * wire/control.h; nobody packs a message by hand. Pure functions, any thread.
 *
 * A frame on a stream is an 8-byte header (u32 body bytes, u16 message id, u16 zero) and the body. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include "base/types.h"

enum {
	WIRE_VERSION = 6, /* of both lists; goes up with every change to either (tests/unit/golden_peer.txt shows one) */
	WIRE_HEADER_BYTES = 8,
	WIRE_BODY_MAX = 64 * 1024, /* no message is longer; a longer length on the wire is malice */
	WIRE_FRAME_MAX = WIRE_HEADER_BYTES + WIRE_BODY_MAX,
	WIRE_STR_MAX = 1024,       /* longest 'text' field, with its 0 */
	WIRE_BLOB_MAX = 60 * 1024,
};

/* A cursor over a body; 'bad' latches the first overrun so that callers check once at the end. */
struct wire_out {
	uint8_t *at, *end;
	bool bad;
	uint32_t later; /* bytes of the page that the transport adds behind the head, see wire_put_page */
};
struct wire_in { const uint8_t *at, *end; bool bad; };

/* Views into the received body or the sender's memory; valid as long as that is. */
struct wire_blob { const uint8_t *at; uint32_t bytes; };
struct wire_page { const uint8_t *at; }; /* PAGE_BYTES bytes */
struct wire_text { char s[WIRE_STR_MAX]; };
struct wire_name { char s[NAME_BYTES]; };

/* Field kinds of the message lists. name: a short identifier; text: a sentence, path or command line; both sent as u16 length + bytes, no 0
 * inside. blob: u32 length + bytes, which may stand where they go already. page: PAGE_BYTES bytes, always the last field. */
typedef uint8_t wire_u8;
typedef uint16_t wire_u16;
typedef uint32_t wire_u32;
typedef uint64_t wire_u64;
typedef struct wire_blob wire_blob;
typedef struct wire_page wire_page;
typedef struct wire_text wire_text;
typedef struct wire_name wire_name;

/* Fill *v from a C string; what does not fit is cut off at the end. */
void wire_set_name(struct wire_name *v, const char *s);
void wire_set_text(struct wire_text *v, const char *s);

/* Start of a frame at 'to', with room for its header; its end: writes the header and returns the bytes written, 0 when something did not fit. */
struct wire_out wire_begin(uint8_t *to, size_t room);
size_t wire_end(struct wire_out *o, uint8_t *to, uint16_t id);

void wire_put_u8(struct wire_out *o, uint8_t v);
void wire_put_u16(struct wire_out *o, uint16_t v);
void wire_put_u32(struct wire_out *o, uint32_t v);
void wire_put_u64(struct wire_out *o, uint64_t v);
void wire_put_name(struct wire_out *o, const struct wire_name *v);
void wire_put_text(struct wire_out *o, const struct wire_text *v);
void wire_put_blob(struct wire_out *o, struct wire_blob v);

/* v.at NULL: "the page follows". Only counted in the header; the caller hands head and page to link_queue, so the bytes are copied once. */
void wire_put_page(struct wire_out *o, struct wire_page v);

/* Read a frame header. 0, or -EBADMSG when no sender of ours can have written it. */
int wire_get_header(const uint8_t header[WIRE_HEADER_BYTES], uint16_t *id, uint32_t *body_bytes) MUST_CHECK;

/* All of them return zeroes once i->bad is set. */
uint8_t wire_get_u8(struct wire_in *i);
uint16_t wire_get_u16(struct wire_in *i);
uint32_t wire_get_u32(struct wire_in *i);
uint64_t wire_get_u64(struct wire_in *i);
void wire_get_name(struct wire_in *i, struct wire_name *v);
void wire_get_text(struct wire_in *i, struct wire_text *v);
struct wire_blob wire_get_blob(struct wire_in *i);
struct wire_page wire_get_page(struct wire_in *i);

/* 0 when exactly the whole body was read and nothing was bad, else -EBADMSG. */
int wire_finish(const struct wire_in *i) MUST_CHECK;

/* The printer's cursor: "name field=value ..." into a buffer, always terminated, cut when full. */
struct wire_show { char *at, *end; };
struct wire_show wire_show_begin(char *to, size_t room, const char *name);
int wire_show_bad(struct wire_show *s, size_t bytes); /* "(malformed, N bytes)"; returns -EBADMSG */
void wire_show_u8(struct wire_show *s, const char *field, const uint8_t *v);
void wire_show_u16(struct wire_show *s, const char *field, const uint16_t *v);
void wire_show_u32(struct wire_show *s, const char *field, const uint32_t *v);
void wire_show_u64(struct wire_show *s, const char *field, const uint64_t *v);
void wire_show_name(struct wire_show *s, const char *field, const struct wire_name *v);
void wire_show_text(struct wire_show *s, const char *field, const struct wire_text *v);
void wire_show_blob(struct wire_show *s, const char *field, const struct wire_blob *v);
void wire_show_page(struct wire_show *s, const char *field, const struct wire_page *v);

#endif
