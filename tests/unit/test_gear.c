/* dev/gear: what people write for disks and network cards is read, written and read again; the rest is refused with a remedy. dev/depot opens what is read. */
#include "dev/depot.h"
#include "tests/test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int disk(struct gear *g, const char *text)
{
	struct failure f = {0};
	int err;

	*g = (struct gear){0};
	err = gear_add_disk(g, text, &f);
	return err && (!*f.what || !*f.todo || g->disks) ? 1 : err;
}

static int net(struct gear *g, const char *text)
{
	struct failure f = {0};
	int err;

	*g = (struct gear){0};
	err = gear_add_net(g, text, &f);
	return err && (!*f.what || !*f.todo || g->nics) ? 1 : err;
}

TEST(gear_reads_disks)
{
	struct gear g;

	CHECK_EQ(disk(&g, "/var/a.img"), 0);
	CHECK(g.disks == 1 && strcmp(g.disk[0].path, "/var/a.img") == 0 && !*g.disk[0].node && !g.disk[0].readonly);
	CHECK(g.disk[0].format == DISK_RAW && g.disk[0].cache == DISK_WRITEBACK);
	CHECK_EQ(disk(&g, "/x,node=B,readonly,cache=none,format=vmdk"), 0);
	CHECK(strcmp(g.disk[0].node, "B") == 0 && g.disk[0].readonly && g.disk[0].cache == DISK_NONE && g.disk[0].format == DISK_VMDK);
	CHECK_EQ(disk(&g, "/a,,b=c,readonly"), 0);
	CHECK(strcmp(g.disk[0].path, "/a,b=c") == 0 && g.disk[0].readonly);
}

TEST(gear_takes_the_format_from_the_name_only)
{
	static const struct { const char *text; enum disk_format format; } known[] = {{"/a.qcow2", DISK_QCOW2}, {"/A.QCOW2", DISK_QCOW2}, {"/a.vhd", DISK_VPC},
		{"/a.vhdx", DISK_VHDX},
		{"/qcow2", DISK_RAW}, {"/.qcow2", DISK_QCOW2}, {"/a.qcow2.bak", DISK_RAW}, {"/a.qcow2,format=raw", DISK_RAW}, {"/a.raw,format=qcow2", DISK_QCOW2},
		{"nbd://host/x.qcow2", DISK_NBD}, {"nbd+unix:///?socket=/s", DISK_NBD}};
	struct gear g;

	for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
		CHECK_EQ(disk(&g, known[i].text), 0);
		CHECK_EQ(g.disk[0].format, known[i].format);
	}
}

TEST(gear_refuses_disks_that_make_no_sense)
{
	static const char *const bad[] = {"", ",readonly", "/a,", "/a,node", "/a,node=", "/a,node=B,node=C", "/a,node=B C", "/a,readonly=on", "/a,readonly,readonly",
		"/a,cache=", "/a,cache=fast",
		"/a,cache=none,cache=none", "/a,format=iso", "/a,format=raw,format=raw", "/a,format=nbd", "nbd://h,format=raw", "nbd://h,cache=none", "/a\nb",
			"/a,fromat=raw", "/a,b"};
	char longest[GEAR_PATH_BYTES + 2];
	struct gear g;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(disk(&g, bad[i]), -EINVAL);
	memset(longest, 'a', sizeof longest);
	longest[GEAR_PATH_BYTES] = 0;
	CHECK_EQ(disk(&g, longest), -ENAMETOOLONG);
	longest[GEAR_PATH_BYTES - 1] = 0;
	CHECK_EQ(disk(&g, longest), 0);
}

TEST(gear_reads_network_cards)
{
	const struct nic_forward *w;
	struct gear g;

	CHECK_EQ(net(&g, "user"), 0);
	CHECK(g.nics == 1 && g.nic[0].link.kind == NIC_USER && !g.nic[0].has_mac && !g.nic[0].link.forwards);
	CHECK_EQ(net(&g, "user,forward=tcp:2222:22,forward=udp:127.0.0.1:53:5353,mac=52:54:00:aB:cd:ef,node=A"), 0);
	w = g.nic[0].link.forward;
	CHECK(g.nic[0].link.forwards == 2 && !w[0].udp && !*w[0].address && w[0].host == 2222 && w[0].guest == 22);
	CHECK(w[1].udp && strcmp(w[1].address, "127.0.0.1") == 0 && w[1].host == 53 && w[1].guest == 5353);
	CHECK(g.nic[0].has_mac && memcmp(g.nic[0].mac, "\x52\x54\x00\xab\xcd\xef", 6) == 0 && strcmp(g.nic[0].node, "A") == 0);
	CHECK_EQ(net(&g, "tap,bridge=br0,name=vm1"), 0);
	CHECK(g.nic[0].link.kind == NIC_TAP && strcmp(g.nic[0].link.bridge, "br0") == 0 && strcmp(g.nic[0].link.ifname, "vm1") == 0);
}

TEST(gear_refuses_network_cards_that_make_no_sense)
{
	static const char *const bad[] = {"", "nat", "user,", "user,bridge=br0", "tap,forward=tcp:1:2", "user,forward=tcp:1", "user,forward=tcp:0:1",
		"user,forward=tcp:1:65536", "user,forward=sctp:1:2",
		"user,forward=tcp:", "user,forward=tcp::", "user,forward=tcp:host:1:2", "user,forward=tcp:1.2.3:1:2", "user,forward=tcp:1.2.3.4.5:1:2",
			"user,forward=tcp:256.0.0.1:1:2",
		"user,mac=52:54:00:ab:cd", "user,mac=52:54:00:ab:cd:eg", "user,mac=53:54:00:ab:cd:ef", "user,mac=52-54-00-ab-cd-ef",
			"user,mac=52:54:00:ab:cd:ef,mac=52:54:00:ab:cd:ef",
		"tap,bridge=sixteencharacters", "tap,bridge=a/b", "tap,bridge=", "tap,name=a b"};
	struct gear g;

	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		CHECK_EQ(net(&g, bad[i]), -EINVAL);
}

TEST(gear_has_room_for_so_many)
{
	struct gear g = {0};

	for (unsigned i = 0; i < GEAR_GIVEN_MAX; i++)
		CHECK_EQ(gear_add_disk(&g, "/a", NULL), 0);
	CHECK_EQ(gear_add_disk(&g, "/a", NULL), -E2BIG);
	CHECK_EQ(gear_add_disk(&g, GEAR_SEED ",readonly", NULL), 0);
	CHECK_EQ(gear_add_disk(&g, GEAR_SEED ",readonly", NULL), -E2BIG);
	for (unsigned i = 0; i < GEAR_NICS_MAX; i++)
		CHECK_EQ(gear_add_net(&g, "user", NULL), 0);
	CHECK_EQ(gear_add_net(&g, "user", NULL), -E2BIG);
}

TEST(gear_travels)
{
	static const char lines[] = "disk /a,,b,node=B,readonly,cache=none,format=raw\ndisk nbd://h,cache=writeback,format=nbd\n"
				    "net user,node=A,mac=02:00:00:00:00:01,forward=tcp:2222:22,forward=udp:10.0.0.1:1:2\nnet tap,bridge=br0,name=t\n";
	static char text[GEAR_TEXT_BYTES];
	struct gear g = {0};

	CHECK_EQ(gear_read(&g, lines, strlen(lines), NULL), 0);
	CHECK_EQ(gear_print(&g, text), (int)strlen(lines));
	CHECK(strcmp(text, lines) == 0);
	CHECK_EQ(gear_read(&g, "", 0, NULL), 0);
	CHECK_EQ(gear_print(&g, text), 0);
	CHECK_EQ(gear_read(&g, lines, strlen(lines) - 1, NULL), -EINVAL);
	CHECK_EQ(gear_read(&g, "disk /a\0b\n", 10, NULL), -EINVAL);
	CHECK_EQ(gear_read(&g, "tape /a\n", 8, NULL), -EINVAL);
}

TEST(gear_too_big_to_travel_is_refused)
{
	static char text[GEAR_TEXT_BYTES];
	struct gear g = {.disks = GEAR_GIVEN_MAX};

	for (unsigned i = 0; i < g.disks; i++)
		memset(g.disk[i].path, ',', GEAR_PATH_BYTES - 1);
	CHECK_EQ(gear_print(&g, text), -E2BIG);
	g.disks--;
	CHECK(gear_print(&g, text) > 7 * 2 * (GEAR_PATH_BYTES - 1));
}

TEST(gear_macs_are_a_vms_own)
{
	struct gear a = {.nics = 2}, b = {.nics = 2}, again = {.nics = 2, .nic = {{.has_mac = true, .mac = {2, 3}}}};

	gear_set_macs(&a, "vm1");
	gear_set_macs(&b, "vm2");
	gear_set_macs(&again, "vm1");
	CHECK(a.nic[0].has_mac && (a.nic[0].mac[0] & 3) == 2);
	CHECK(memcmp(a.nic[0].mac, a.nic[1].mac, 6) != 0 && memcmp(a.nic[0].mac, b.nic[0].mac, 6) != 0);
	CHECK(memcmp(a.nic[1].mac, again.nic[1].mac, 6) == 0 && again.nic[0].mac[1] == 3);
}

TEST(depot_opens_what_is_on_its_node)
{
	char path[] = "/tmp/tessera-depot-XXXXXX", line[100];
	struct depot *d = NULL;
	struct failure f = {0};
	struct gear g = {0};
	struct depot_config a = {.gear = &g, .node = "A"}, b = {.gear = &g, .node = "B", .seed = "seeds", .seed_bytes = 5};
	int fd = mkstemp(path);

	CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0 && close(fd) == 0);
	snprintf(line, sizeof line, "%s,node=B,readonly", path);
	CHECK_EQ(gear_add_disk(&g, "/nowhere,node=A", NULL), 0);
	CHECK_EQ(gear_add_disk(&g, line, NULL), 0);
	CHECK_EQ(gear_add_disk(&g, GEAR_SEED ",node=B,readonly", NULL), 0);
	CHECK_EQ(depot_open(&d, &b, &f), 0);
	CHECK(!depot_disk(d, 0) && depot_disk(d, 1) && !depot_disk(d, GEAR_DISKS_MAX) && !depot_nic(d, 0));
	CHECK(!g.disk[0].found && g.disk[1].found && g.disk[1].bytes == 1 << 20 && !g.disk[1].writes_back);
	CHECK(depot_disk(d, 2) && g.disk[2].bytes == 512);
	depot_close(d);
	CHECK_EQ(depot_open(&d, &a, &f), -ENOENT);
	CHECK(strstr(f.what, "/nowhere"));
	unlink(path);
}
