/* See codec.h. Everything here handles bytes from a peer that may be hostile: no read or write passes the cursor's end. */
#include "wire/codec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set_string(char *to, size_t room, const char *s)
{
	size_t n = strnlen(s, room - 1);

	memcpy(to, s, n);
	memset(to + n, 0, room - n);
}

void wire_set_name(struct wire_name *v, const char *s)
{
	set_string(v->s, sizeof v->s, s);
}

void wire_set_text(struct wire_text *v, const char *s)
{
	set_string(v->s, sizeof v->s, s);
}

/* Where the next n bytes go, or NULL. */
static uint8_t *out_take(struct wire_out *o, size_t n)
{
	uint8_t *at = o->at;

	if (o->bad || o->later || (size_t)(o->end - o->at) < n) {
		o->bad = true;
		return NULL;
	}
	o->at += n;
	return at;
}

static void put_le(struct wire_out *o, uint64_t v, size_t n)
{
	uint8_t *to = out_take(o, n);

	for (size_t k = 0; to && k < n; k++)
		to[k] = (uint8_t)(v >> (8 * k));
}

static void put_bytes(struct wire_out *o, const void *from, size_t n)
{
	uint8_t *to = out_take(o, n);

	if (to && n && to != from)
		memcpy(to, from, n);
}

struct wire_out wire_begin(uint8_t *to, size_t room)
{
	struct wire_out o = {.at = to, .end = to + room};

	out_take(&o, WIRE_HEADER_BYTES);
	return o;
}

size_t wire_end(struct wire_out *o, uint8_t *to, uint16_t id)
{
	struct wire_out header = {.at = to, .end = o->end};
	size_t head = (size_t)(o->at - to);

	if (o->bad || head - WIRE_HEADER_BYTES + o->later > WIRE_BODY_MAX)
		return 0;
	wire_put_u32(&header, (uint32_t)(head - WIRE_HEADER_BYTES) + o->later);
	wire_put_u16(&header, id);
	wire_put_u16(&header, 0);
	return head;
}

void wire_put_u8(struct wire_out *o, uint8_t v)
{
	put_le(o, v, sizeof v);
}

void wire_put_u16(struct wire_out *o, uint16_t v)
{
	put_le(o, v, sizeof v);
}

void wire_put_u32(struct wire_out *o, uint32_t v)
{
	put_le(o, v, sizeof v);
}

void wire_put_u64(struct wire_out *o, uint64_t v)
{
	put_le(o, v, sizeof v);
}

static void put_string(struct wire_out *o, const char *s, size_t room)
{
	size_t n = strnlen(s, room);

	if (n == room) {
		o->bad = true;
		return;
	}
	wire_put_u16(o, (uint16_t)n);
	put_bytes(o, s, n);
}

void wire_put_name(struct wire_out *o, const struct wire_name *v)
{
	put_string(o, v->s, sizeof v->s);
}

void wire_put_text(struct wire_out *o, const struct wire_text *v)
{
	put_string(o, v->s, sizeof v->s);
}

void wire_put_blob(struct wire_out *o, struct wire_blob v)
{
	if (v.bytes > WIRE_BLOB_MAX) {
		o->bad = true;
		return;
	}
	wire_put_u32(o, v.bytes);
	put_bytes(o, v.at, v.bytes);
}

void wire_put_page(struct wire_out *o, struct wire_page v)
{
	if (v.at)
		put_bytes(o, v.at, PAGE_BYTES);
	else
		o->later += PAGE_BYTES;
}

/* The next n bytes, or NULL. */
static const uint8_t *in_take(struct wire_in *i, size_t n)
{
	const uint8_t *at = i->at;

	if (i->bad || (size_t)(i->end - i->at) < n) {
		i->bad = true;
		return NULL;
	}
	i->at += n;
	return at;
}

static uint64_t get_le(struct wire_in *i, size_t n)
{
	const uint8_t *from = in_take(i, n);
	uint64_t v = 0;

	for (size_t k = 0; from && k < n; k++)
		v |= (uint64_t)from[k] << (8 * k);
	return v;
}

int wire_get_header(const uint8_t header[WIRE_HEADER_BYTES], uint16_t *id, uint32_t *body_bytes)
{
	struct wire_in i = {.at = header, .end = header + WIRE_HEADER_BYTES};

	*body_bytes = wire_get_u32(&i);
	*id = wire_get_u16(&i);
	return wire_get_u16(&i) != 0 || *id == 0 || *body_bytes > WIRE_BODY_MAX ? -EBADMSG : 0;
}

uint8_t wire_get_u8(struct wire_in *i)
{
	return (uint8_t)get_le(i, 1);
}

uint16_t wire_get_u16(struct wire_in *i)
{
	return (uint16_t)get_le(i, 2);
}

uint32_t wire_get_u32(struct wire_in *i)
{
	return (uint32_t)get_le(i, 4);
}

uint64_t wire_get_u64(struct wire_in *i)
{
	return get_le(i, 8);
}

static void get_string(struct wire_in *i, char *to, size_t room)
{
	size_t n = wire_get_u16(i);
	const uint8_t *from = n < room ? in_take(i, n) : NULL;

	if (!from || memchr(from, 0, n)) {
		i->bad = true;
		n = 0;
	}
	if (n)
		memcpy(to, from, n);
	to[n] = 0;
}

void wire_get_name(struct wire_in *i, struct wire_name *v)
{
	get_string(i, v->s, sizeof v->s);
}

void wire_get_text(struct wire_in *i, struct wire_text *v)
{
	get_string(i, v->s, sizeof v->s);
}

struct wire_blob wire_get_blob(struct wire_in *i)
{
	uint32_t n = wire_get_u32(i);
	const uint8_t *at = n <= WIRE_BLOB_MAX ? in_take(i, n) : NULL;

	if (!at) {
		i->bad = true;
		n = 0;
	}
	return (struct wire_blob){.at = at, .bytes = n};
}

struct wire_page wire_get_page(struct wire_in *i)
{
	return (struct wire_page){.at = in_take(i, PAGE_BYTES)};
}

int wire_finish(const struct wire_in *i)
{
	return i->bad || i->at != i->end ? -EBADMSG : 0;
}

static void show(struct wire_show *s, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void show(struct wire_show *s, const char *fmt, ...)
{
	size_t room = (size_t)(s->end - s->at);
	va_list args;
	int n;

	if (room == 0)
		return;
	va_start(args, fmt);
	n = vsnprintf(s->at, room, fmt, args);
	va_end(args);
	s->at += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

struct wire_show wire_show_begin(char *to, size_t room, const char *name)
{
	struct wire_show s = {.at = to, .end = to + room};

	show(&s, "%s", name);
	return s;
}

int wire_show_bad(struct wire_show *s, size_t bytes)
{
	show(s, " (malformed, %zu bytes)", bytes);
	return -EBADMSG;
}

void wire_show_u8(struct wire_show *s, const char *field, const uint8_t *v)
{
	show(s, " %s=%u", field, *v);
}

void wire_show_u16(struct wire_show *s, const char *field, const uint16_t *v)
{
	show(s, " %s=%u", field, *v);
}

void wire_show_u32(struct wire_show *s, const char *field, const uint32_t *v)
{
	show(s, " %s=%" PRIu32, field, *v);
}

void wire_show_u64(struct wire_show *s, const char *field, const uint64_t *v)
{
	show(s, " %s=0x%" PRIx64, field, *v);
}

/* A peer's text may hold terminal escapes: show only what prints. */
static void show_string(struct wire_show *s, const char *field, const char *text)
{
	show(s, " %s='", field);
	for (; *text; text++)
		show(s, "%c", *text >= ' ' && *text <= '~' ? *text : '?');
	show(s, "'");
}

void wire_show_name(struct wire_show *s, const char *field, const struct wire_name *v)
{
	show_string(s, field, v->s);
}

void wire_show_text(struct wire_show *s, const char *field, const struct wire_text *v)
{
	show_string(s, field, v->s);
}

void wire_show_blob(struct wire_show *s, const char *field, const struct wire_blob *v)
{
	show(s, " %s=[%" PRIu32 " bytes]", field, v->bytes);
}

void wire_show_page(struct wire_show *s, const char *field, const struct wire_page *v)
{
	show(s, " %s=[page %02x %02x %02x %02x ...]", field, v->at[0], v->at[1], v->at[2], v->at[3]);
}
