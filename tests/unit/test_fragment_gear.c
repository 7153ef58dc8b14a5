/* node/fragment_gear: what another node says its disk is, is judged before a device is made of it. */
#include "node/fragment_gear.h"
#include "tests/test.h"
#include "wire/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct fragment_config config;
static struct fragment_gear gear;

static void told(uint64_t bytes, uint32_t block, uint32_t optimal)
{
	struct control_part_peer_disk m = {.disk = 0, .bytes = bytes, .block_bytes = block, .optimal_bytes = optimal};
	uint8_t frame[256];
	size_t n = control_put_part_peer_disk(&m, frame, sizeof frame);

	fragment_gear_take(&gear, frame + WIRE_HEADER_BYTES, n - WIRE_HEADER_BYTES);
}

TEST(fragment_gear_believes_no_nonsense)
{
	static const struct { uint64_t bytes; uint32_t block, optimal; } bad[] = {{1 << 20, 0, 4096}, {1 << 20, 0, 0}, {1 << 20, 256, 4096}, {1 << 20, 3 * 512, 4608},
		{1 << 20, 1 << 17, 1 << 17}, {1 << 20, 4096, 512}, {1 << 20, 512, 1000}, {1000, 512, 4096}, {1 << 20, 512, 1u << 31}};
	struct failure f = {0};

	config = (struct fragment_config){.nodes = 2, .node = {{.name = "A"}, {.name = "B"}}};
	snprintf(config.vm, sizeof config.vm, "v1");
	CHECK_EQ(gear_add_disk(&config.gear, "/images/x,node=B", NULL), 0);
	gear = (struct fragment_gear){.config = &config, .lock = PTHREAD_MUTEX_INITIALIZER};
	CHECK_EQ(fragment_gear_open(&gear, NULL), 0);
	for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		told(bad[i].bytes, bad[i].block, bad[i].optimal);
		CHECK_EQ(fragment_gear_check(&gear, &f), -EPROTO);
		CHECK(strstr(f.what, "node B") && *f.todo);
	}
	told(1 << 20, 512, 4096);
	CHECK_EQ(fragment_gear_check(&gear, NULL), 0);
	CHECK(config.gear.disk[0].bytes == 1 << 20 && config.gear.disk[0].block_bytes == 512);
	told(1 << 20, 0, 0); /* a second word changes nothing */
	CHECK(fragment_gear_check(&gear, NULL) == 0 && config.gear.disk[0].block_bytes == 512);
	fragment_gear_close(&gear);
}
