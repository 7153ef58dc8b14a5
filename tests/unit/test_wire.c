/* wire: every message of both lists survives the trip, nothing malformed does, and the bytes on the wire are the ones we published. */
#include "tests/test.h"
#include "tests/wire_sample.h"

#include <errno.h>
#include <stdlib.h>

static uint8_t frame[WIRE_FRAME_MAX], second[WIRE_FRAME_MAX], damaged[WIRE_FRAME_MAX + 1];

TEST(every_message_round_trips)
{
	for (size_t k = 0; k < ARRAY_LEN(wire_samples); k++) {
		const struct wire_sample *s = &wire_samples[k];
		size_t bytes = s->sample(frame, sizeof frame), again = 0;
		uint32_t body = 0;
		uint16_t id = 0;

		CHECK(bytes >= WIRE_HEADER_BYTES);
		CHECK_EQ(wire_get_header(frame, &id, &body), 0);
		CHECK_EQ(id, s->id);
		CHECK_EQ(body + WIRE_HEADER_BYTES, bytes);
		CHECK_EQ(s->again(frame + WIRE_HEADER_BYTES, body, second, sizeof second, &again), 0);
		CHECK_EQ(again, bytes);
		CHECK(memcmp(frame, second, bytes) == 0);
	}
}

TEST(fields_arrive_where_they_were_put)
{
	struct peer_io_write sent = {.vcpu = 63, .space = 1, .addr = 0xfee00abc, .bytes = 4, .value = 0x1122334455667788}, got;
	struct control_error wrong = {.code = 12}, told;

	CHECK(peer_put_io_write(&sent, frame, sizeof frame) > 0);
	CHECK_EQ(peer_get_io_write(frame + WIRE_HEADER_BYTES, 20, &got), 0);
	CHECK_EQ(got.vcpu, 63);
	CHECK_EQ(got.space, 1);
	CHECK_EQ(got.addr, 0xfee00abc);
	CHECK_EQ(got.bytes, 4);
	CHECK_EQ(got.value, 0x1122334455667788);

	wire_set_name(&wrong.node, "B");
	wire_set_text(&wrong.what, "no memory");
	wire_set_text(&wrong.todo, "lend more");
	size_t bytes = control_put_error(&wrong, frame, sizeof frame);
	CHECK_EQ(control_get_error(frame + WIRE_HEADER_BYTES, bytes - WIRE_HEADER_BYTES, &told), 0);
	CHECK_EQ(told.code, 12);
	CHECK(strcmp(told.node.s, "B") == 0 && strcmp(told.what.s, "no memory") == 0 && strcmp(told.todo.s, "lend more") == 0);
}

TEST(every_truncation_and_a_trailing_byte_are_rejected)
{
	for (size_t k = 0; k < ARRAY_LEN(wire_samples); k++) {
		const struct wire_sample *s = &wire_samples[k];
		size_t body = s->sample(frame, sizeof frame) - WIRE_HEADER_BYTES, again;

		for (size_t cut = 0; cut < body; cut++) {
			uint8_t *exact = malloc(cut ? cut : 1); /* its own block, so that a sanitizer sees a read past the end */

			memcpy(exact, frame + WIRE_HEADER_BYTES, cut);
			int r = s->again(exact, cut, second, sizeof second, &again);
			free(exact);
			CHECK_EQ(r, -EBADMSG);
		}
		memcpy(damaged, frame + WIRE_HEADER_BYTES, body);
		damaged[body] = 0;
		CHECK_EQ(s->again(damaged, body + 1, second, sizeof second, &again), -EBADMSG);
	}
}

TEST(encoding_never_passes_the_room_given)
{
	for (size_t k = 0; k < ARRAY_LEN(wire_samples); k++) {
		const struct wire_sample *s = &wire_samples[k];
		size_t bytes = s->sample(frame, sizeof frame);

		for (size_t room = 0; room < bytes; room++) {
			damaged[room] = 0x5a;
			CHECK_EQ(s->sample(damaged, room), 0);
			CHECK_EQ(damaged[room], 0x5a);
		}
		CHECK_EQ(s->sample(damaged, bytes), bytes);
	}
}

static int get_line(const char *bytes, size_t n)
{
	struct control_line m;

	return control_get_line((const uint8_t *)bytes, n, &m);
}

TEST(bad_strings_are_rejected)
{
	static uint8_t longest[2 + WIRE_STR_MAX];
	struct control_line m;

	CHECK_EQ(get_line("\3\0abc", 5), 0);
	CHECK_EQ(get_line("\0\0", 2), 0);
	CHECK_EQ(get_line("\3\0a\0c", 5), -EBADMSG);
	CHECK_EQ(get_line("\377\377abc", 5), -EBADMSG);
	memset(longest, 'x', sizeof longest);
	longest[0] = (WIRE_STR_MAX - 1) & 0xff;
	longest[1] = (WIRE_STR_MAX - 1) >> 8;
	CHECK_EQ(control_get_line(longest, 1 + WIRE_STR_MAX, &m), 0);
	CHECK_EQ(strlen(m.text.s), WIRE_STR_MAX - 1);
	longest[0] = WIRE_STR_MAX & 0xff;
	longest[1] = WIRE_STR_MAX >> 8;
	CHECK_EQ(control_get_line(longest, sizeof longest, &m), -EBADMSG);
	memset(&m, 'x', sizeof m); /* unterminated: our own sender's mistake does not reach the wire */
	CHECK_EQ(control_put_line(&m, frame, sizeof frame), 0);
}

TEST(bad_headers_are_rejected)
{
	uint8_t good[] = {0, 0, 1, 0, 7, 0, 0, 0}, zero_id[] = {0, 0, 0, 0, 0, 0, 0, 0};
	uint8_t longer[] = {1, 0, 1, 0, 7, 0, 0, 0}, spare[] = {0, 0, 0, 0, 7, 0, 0, 1};
	uint32_t body;
	uint16_t id;

	CHECK_EQ(wire_get_header(good, &id, &body), 0);
	CHECK_EQ(body, WIRE_BODY_MAX);
	CHECK_EQ(id, 7);
	CHECK_EQ(wire_get_header(zero_id, &id, &body), -EBADMSG);
	CHECK_EQ(wire_get_header(longer, &id, &body), -EBADMSG);
	CHECK_EQ(wire_get_header(spare, &id, &body), -EBADMSG);
}

TEST(a_page_may_follow_its_head)
{
	struct peer_page_data m = {.gfn = 7, .data = {sample_bytes}}, got;
	size_t whole, head;

	memset(sample_bytes, 0x3c, sizeof sample_bytes);
	whole = peer_put_page_data(&m, frame, sizeof frame);
	m.data.at = NULL;
	head = peer_put_page_data(&m, second, sizeof second);
	CHECK_EQ(whole, head + PAGE_BYTES);
	CHECK(memcmp(frame, second, head) == 0);
	CHECK_EQ(peer_get_page_data(frame + WIRE_HEADER_BYTES, whole - WIRE_HEADER_BYTES, &got), 0);
	CHECK(got.data.at == frame + head); /* a view, no copy */
}

TEST(printing_is_safe_and_says_what_it_saw)
{
	char text[256];

	CHECK(peer_put_irq(&(struct peer_irq){.vcpu = 3, .vector = 0xec}, frame, sizeof frame) > 0);
	CHECK_EQ(peer_print(PEER_irq, frame + WIRE_HEADER_BYTES, 4, text, sizeof text), 0);
	CHECK(strcmp(text, "irq vcpu=3 mode=0 vector=236") == 0);
	CHECK_EQ(peer_print(PEER_irq, frame, 3, text, sizeof text), -EBADMSG);
	CHECK(strcmp(text, "irq (malformed, 3 bytes)") == 0);
	CHECK_EQ(peer_print(999, frame, 4, text, sizeof text), -EBADMSG);
	CHECK(strcmp(peer_name(999), "unknown") == 0 && strcmp(peer_name(PEER_page_inv), "page_inv") == 0);
	CHECK_EQ(control_print(CONTROL_line, (const uint8_t *)"\4\0\33[1m", 6, text, sizeof text), 0);
	CHECK(strcmp(text, "line text='?[1m'") == 0);
	for (size_t k = 0; k < ARRAY_LEN(wire_samples); k++) {
		size_t bytes = wire_samples[k].sample(frame, sizeof frame);

		for (size_t room = 1; room < 40; room++) {
			memset(text, 0x7f, sizeof text);
			CHECK_EQ(wire_samples[k].print(wire_samples[k].id, frame + WIRE_HEADER_BYTES, bytes - WIRE_HEADER_BYTES, text, room), 0);
			CHECK(strlen(text) < room && text[room] == 0x7f);
		}
	}
}

/* "id name: hex", with runs of equal bytes written once: a5*4096. */
static void golden_line(const struct wire_sample *s, FILE *to)
{
	size_t bytes = s->sample(frame, sizeof frame);

	fprintf(to, "%s %u %s:", s->list, s->id, s->name);
	for (size_t i = 0, n; i < bytes; i += n) {
		for (n = 1; i + n < bytes && frame[i + n] == frame[i]; n++)
			;
		if (n >= 16)
			fprintf(to, " %02x*%zu", frame[i], n);
		else
			n = 1, fprintf(to, " %02x", frame[i]);
	}
	fprintf(to, "\n");
}

/* The published bytes of WIRE_VERSION. After an intended change raise WIRE_VERSION, then: TESSERA_GOLDEN=write build/tests/unit/unit_wire */
TEST(bytes_on_the_wire_are_the_published_ones)
{
	char *now = NULL, then[65536];
	size_t now_bytes = 0, then_bytes;
	FILE *to = open_memstream(&now, &now_bytes), *file;

	for (size_t k = 0; k < ARRAY_LEN(wire_samples); k++)
		if (strcmp(wire_samples[k].list, "peer") == 0)
			golden_line(&wire_samples[k], to);
	fclose(to);
	if (getenv("TESSERA_GOLDEN")) {
		file = fopen(GOLDEN_FILE, "w");
		CHECK(file);
		fwrite(now, 1, now_bytes, file);
		fclose(file);
	}
	file = fopen(GOLDEN_FILE, "r");
	CHECK(file);
	then_bytes = fread(then, 1, sizeof then, file);
	fclose(file);
	bool same = then_bytes == now_bytes && memcmp(now, then, now_bytes) == 0;
	if (!same)
		printf("now:\n%s", now);
	free(now);
	CHECK(same);
}
