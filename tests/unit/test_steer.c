/* dev/steer: which queue pair a flow is for. */
#include "dev/steer.h"
#include "tests/test.h"

#include <string.h>

/* UDP over IPv4 between these ports. */
static void make_frame(uint8_t *to, size_t bytes, unsigned from, unsigned port, uint8_t fill)
{
	static const uint8_t head[42] = {2, 0, 0, 0, 0, 7, 2, 0, 0, 0, 0, 8, 8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2};

	memset(to, fill, bytes);
	memcpy(to, head, sizeof head);
	to[34] = (uint8_t)(from >> 8);
	to[35] = (uint8_t)from;
	to[36] = (uint8_t)(port >> 8);
	to[37] = (uint8_t)port;
}

TEST(steer_follows_the_flow)
{
	static struct steer s;
	uint8_t out[64], back[64], vlan[68];
	unsigned seen = 0;

	steer_init(&s);
	make_frame(out, sizeof out, 1000, 80, 0);
	CHECK_EQ(steer_choose(&s, out, sizeof out), 0);
	steer_set_pairs(&s, 4);
	memcpy(back, out, sizeof back);
	memcpy(back + 26, out + 30, 4);
	memcpy(back + 30, out + 26, 4);
	memcpy(back + 34, out + 36, 2);
	memcpy(back + 36, out + 34, 2);
	for (unsigned pair = 0; pair < 4; pair++) {
		steer_learn(&s, out, sizeof out, pair);
		CHECK_EQ(steer_choose(&s, back, sizeof back), pair);
	}
	memcpy(vlan, back, 12);
	memcpy(vlan + 12, (uint8_t[]){0x81, 0, 0, 5}, 4);
	memcpy(vlan + 16, back + 12, sizeof back - 12);
	CHECK_EQ(steer_choose(&s, vlan, sizeof vlan), 3);
	steer_set_pairs(&s, 2); /* what was learned is no more, and nothing goes to a pair that is not used */
	for (unsigned port = 1; port < 500; port++) {
		make_frame(out, sizeof out, port, 80, 0);
		CHECK(steer_choose(&s, out, sizeof out) < 2);
		seen |= 1u << steer_choose(&s, out, sizeof out);
	}
	CHECK_EQ(seen, 3);
	for (size_t n = 0; n < sizeof out; n++)
		CHECK(steer_choose(&s, out, n) < 2);
	out[13] = 6;
	CHECK_EQ(steer_choose(&s, out, sizeof out), 0);
}
