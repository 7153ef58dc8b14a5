/* How fields become bytes: little-endian, no padding, every length checked. Used by the generated encoders and decoders of wire/peer.h and
 * wire/control.h; nobody packs a message by hand.
 *
 * A frame on a stream is an 8-byte header (u32 body bytes, u16 message id, u16 zero) and the body. */
#ifndef WIRE_CODEC_H
#define WIRE_CODEC_H

#include "base/types.h"

enum {
	WIRE_HEADER_BYTES = 8,
	WIRE_BODY_MAX = 64 * 1024, /* no message is longer; a longer length on the wire is malice */
	WIRE_STR_MAX = 1024,       /* longest 'text' field, with its 0 */
	WIRE_BLOB_MAX = 60 * 1024,
};

/* A cursor over a body; 'bad' latches the first overrun so that callers check once at the end. */
struct wire_out { uint8_t *at, *end; bool bad; };
struct wire_in { const uint8_t *at, *end; bool bad; };

/* Views into the received body or the sender's memory; valid as long as that is. */
struct wire_blob { const uint8_t *at; uint32_t bytes; };
struct wire_page { const uint8_t *at; }; /* PAGE_BYTES bytes */
struct wire_text { char s[WIRE_STR_MAX]; };
struct wire_name { char s[NAME_BYTES]; };

/* Field kinds of the message lists. name: a short identifier; text: a sentence, path or command line; both sent as u16 length + bytes, no 0 inside. */
typedef uint8_t wire_u8;
typedef uint16_t wire_u16;
typedef uint32_t wire_u32;
typedef uint64_t wire_u64;

void wire_put_u8(struct wire_out *o, uint8_t v);
void wire_put_u16(struct wire_out *o, uint16_t v);
void wire_put_u32(struct wire_out *o, uint32_t v);
void wire_put_u64(struct wire_out *o, uint64_t v);
void wire_put_name(struct wire_out *o, const struct wire_name *v);
void wire_put_text(struct wire_out *o, const struct wire_text *v);
void wire_put_blob(struct wire_out *o, struct wire_blob v);
void wire_put_page(struct wire_out *o, struct wire_page v);

uint8_t wire_get_u8(struct wire_in *i);
uint16_t wire_get_u16(struct wire_in *i);
uint32_t wire_get_u32(struct wire_in *i);
uint64_t wire_get_u64(struct wire_in *i);
void wire_get_name(struct wire_in *i, struct wire_name *v);
void wire_get_text(struct wire_in *i, struct wire_text *v);
struct wire_blob wire_get_blob(struct wire_in *i);
struct wire_page wire_get_page(struct wire_in *i);

#endif
