/* Turns a list of messages into their ids, structs, encoders, decoders and printer. No include guard: included once by each list's header, which
 * first defines
 *   WIRE_PREFIX    peer              what generated names begin with
 *   WIRE_ENUM      PEER              the same for the ids
 *   WIRE_MESSAGES  PEER_MESSAGES     the list: M(name, id, F(kind, field) ...) ...; kinds are those of wire/codec.h
 * Declares everything; where WIRE_DEFINE is defined too (peer.c, control.c) it also defines it. The contract is told in wire/peer.h.
 */
#ifdef WIRE_PREFIX

#define WIRE_GLUE_(a, b) a##b
#define WIRE_GLUE(a, b) WIRE_GLUE_(a, b)
#define WIRE_SYM(rest) WIRE_GLUE(WIRE_PREFIX, rest)

/* Ids. */
#define M(name, id, fields) WIRE_GLUE(WIRE_ENUM, _##name) = (id),
enum WIRE_SYM(_id) { WIRE_MESSAGES(M) };
#undef M

/* Structs. */
#define F(kind, field) wire_##kind field;
#define M(name, id, fields) struct WIRE_SYM(_##name) { fields };
WIRE_MESSAGES(M)
#undef M
#undef F

/* Functions. */
#define M(name, id, fields) \
	size_t WIRE_SYM(_put_##name)(const struct WIRE_SYM(_##name) *m, uint8_t *to, size_t room) MUST_CHECK; \
	int WIRE_SYM(_get_##name)(const uint8_t *body, size_t bytes, struct WIRE_SYM(_##name) *m) MUST_CHECK;
WIRE_MESSAGES(M)
#undef M
const char *WIRE_SYM(_name)(unsigned id);
int WIRE_SYM(_print)(unsigned id, const uint8_t *body, size_t bytes, char *to, size_t room);

#ifdef WIRE_DEFINE

#define WIRE_PUT_u8(o, v) wire_put_u8(o, v)
#define WIRE_PUT_u16(o, v) wire_put_u16(o, v)
#define WIRE_PUT_u32(o, v) wire_put_u32(o, v)
#define WIRE_PUT_u64(o, v) wire_put_u64(o, v)
#define WIRE_PUT_name(o, v) wire_put_name(o, &(v))
#define WIRE_PUT_text(o, v) wire_put_text(o, &(v))
#define WIRE_PUT_blob(o, v) wire_put_blob(o, v)
#define WIRE_PUT_page(o, v) wire_put_page(o, v)
#define F(kind, field) WIRE_PUT_##kind(&o, m->field);
#define M(name, id, fields) \
	size_t WIRE_SYM(_put_##name)(const struct WIRE_SYM(_##name) *m, uint8_t *to, size_t room) \
	{ \
		struct wire_out o = wire_begin(to, room); \
		fields \
		return wire_end(&o, to, id); \
	}
WIRE_MESSAGES(M)
#undef M
#undef F

#define WIRE_GET_u8(i, v) (v) = wire_get_u8(i)
#define WIRE_GET_u16(i, v) (v) = wire_get_u16(i)
#define WIRE_GET_u32(i, v) (v) = wire_get_u32(i)
#define WIRE_GET_u64(i, v) (v) = wire_get_u64(i)
#define WIRE_GET_name(i, v) wire_get_name(i, &(v))
#define WIRE_GET_text(i, v) wire_get_text(i, &(v))
#define WIRE_GET_blob(i, v) (v) = wire_get_blob(i)
#define WIRE_GET_page(i, v) (v) = wire_get_page(i)
#define F(kind, field) WIRE_GET_##kind(&i, m->field);
#define M(name, id, fields) \
	int WIRE_SYM(_get_##name)(const uint8_t *body, size_t bytes, struct WIRE_SYM(_##name) *m) \
	{ \
		struct wire_in i = {.at = body, .end = body + bytes}; \
		fields \
		return wire_finish(&i); \
	}
WIRE_MESSAGES(M)
#undef M
#undef F

/* Two messages of one id do not compile: duplicate case. */
#define M(name, id, fields) case id: return #name;
const char *WIRE_SYM(_name)(unsigned id)
{
	switch (id) {
		WIRE_MESSAGES(M)
	default:
		return "unknown";
	}
}
#undef M

#define F(kind, field) wire_show_##kind(&s, #field, &m.field);
#define M(name, id, fields) \
	static int WIRE_SYM(_print_##name)(const uint8_t *body, size_t bytes, char *to, size_t room) \
	{ \
		struct WIRE_SYM(_##name) m; \
		struct wire_show s = wire_show_begin(to, room, #name); \
		if (WIRE_SYM(_get_##name)(body, bytes, &m)) \
			return wire_show_bad(&s, bytes); \
		fields \
		return 0; \
	}
WIRE_MESSAGES(M)
#undef M
#undef F

#define M(name, id, fields) case id: return WIRE_SYM(_print_##name)(body, bytes, to, room);
int WIRE_SYM(_print)(unsigned id, const uint8_t *body, size_t bytes, char *to, size_t room)
{
	struct wire_show s;

	switch (id) {
		WIRE_MESSAGES(M)
	default:
		s = wire_show_begin(to, room, "unknown");
		return wire_show_bad(&s, bytes);
	}
}
#undef M

#endif /* WIRE_DEFINE */

#undef WIRE_PREFIX
#undef WIRE_ENUM
#undef WIRE_MESSAGES
#undef WIRE_GLUE_
#undef WIRE_GLUE
#undef WIRE_SYM

#endif
