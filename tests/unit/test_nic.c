/* dev/nic: against a stand-in for passt that is slow, rude or dies, and against the real passt and real taps in a network namespace of the test's own. */
#include "dev/nic.h"
#include "tests/test.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KEPT = 64, WAIT_S = 20 };

struct rig {
	struct nic *n;
	struct failure f;
	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t bell;
	bool busy, up, was_up;
	unsigned frames, refusals, troubles;
	size_t bytes[KEPT];
	uint8_t frame[KEPT][NIC_HEAD_MAX + NIC_FRAME_MAX];
};

static bool on_receive(void *user, const uint8_t *frame, size_t bytes)
{
	struct rig *r = user;
	bool taken;

	pthread_mutex_lock(&r->lock);
	taken = !r->busy;
	if (taken && r->frames < KEPT) {
		r->bytes[r->frames] = bytes;
		memcpy(r->frame[r->frames], frame, bytes);
	}
	r->frames += taken;
	r->refusals += !taken;
	pthread_cond_broadcast(&r->bell);
	pthread_mutex_unlock(&r->lock);
	return taken;
}

static void on_link(void *user, bool up)
{
	struct rig *r = user;

	pthread_mutex_lock(&r->lock);
	r->up = up;
	r->was_up |= up;
	pthread_cond_broadcast(&r->bell);
	pthread_mutex_unlock(&r->lock);
}

static void on_trouble(void *user, int err, const char *what)
{
	struct rig *r = user;

	pthread_mutex_lock(&r->lock);
	r->troubles++;
	pthread_cond_broadcast(&r->bell);
	pthread_mutex_unlock(&r->lock);
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof *r);

	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->bell, NULL);
	return r;
}

static int rig_open(struct rig *r, struct nic_config c)
{
	struct nic_calls calls = {.receive = on_receive, .link = on_link, .trouble = on_trouble, .user = r};
	int err;

	r->f = (struct failure){0};
	err = nic_open(&r->n, &c, &r->f);
	return err ? err : nic_start(r->n, &calls);
}

static void rig_free(struct rig *r)
{
	nic_close(r->n);
	free(r);
}

/* Until *what is at least n; false: not in WAIT_S. */
static bool wait_for(struct rig *r, const unsigned *what, unsigned n)
{
	struct timespec until;
	int err = 0;
	bool there;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += WAIT_S;
	pthread_mutex_lock(&r->lock);
	while (*what < n && !err)
		err = pthread_cond_timedwait(&r->bell, &r->lock, &until);
	there = *what >= n;
	pthread_mutex_unlock(&r->lock);
	return there;
}

static unsigned now(struct rig *r, const unsigned *what)
{
	unsigned n;

	pthread_mutex_lock(&r->lock);
	n = *what;
	pthread_mutex_unlock(&r->lock);
	return n;
}

static bool is_up(struct rig *r)
{
	bool up;

	pthread_mutex_lock(&r->lock);
	up = r->up;
	pthread_mutex_unlock(&r->lock);
	return up;
}

static int send_bytes(struct rig *r, const void *at, size_t bytes)
{
	struct iovec iov = {(void *)(uintptr_t)at, bytes};

	return nic_send(r->n, &iov, 1);
}

/* An ARP frame (they all may pass) of this size with its number inside. */
static void number_frame(uint8_t *frame, unsigned number, size_t bytes)
{
	frame[12] = 8;
	frame[13] = 6;
	frame[14] = (uint8_t)number;
	frame[15] = (uint8_t)(number >> 8);
	for (size_t i = 16; i < bytes; i++)
		frame[i] = (uint8_t)(number + i);
}

static int send_numbered(struct rig *r, unsigned number, size_t bytes)
{
	uint8_t frame[NIC_FRAME_MAX] = {0};

	number_frame(frame, number, bytes);
	return send_bytes(r, frame, bytes);
}

static bool is_numbered(const struct rig *r, unsigned at, unsigned number, size_t bytes)
{
	const uint8_t *frame = r->frame[at];

	if (r->bytes[at] != bytes || frame[14] != (uint8_t)number || frame[15] != (uint8_t)(number >> 8))
		return false;
	for (size_t i = 16; i < bytes; i++)
		if (frame[i] != (uint8_t)(number + i))
			return false;
	return true;
}

/* A program named passt that stands first in the PATH: it gets "ready" and then does what 'mode' says. */
static const char stand_in[] =
	"#!/usr/bin/python3 -S\n"
	"import os, select, socket, sys\n"
	"mode = open(os.path.dirname(sys.argv[0]) + '/mode').read()\n"
	"if mode == 'fail':\n"
	"    print('some word\\nFailed to bind any port for it', file=sys.stderr)\n"
	"    sys.exit(1)\n"
	"s = socket.socket(fileno=3)\n"
	"if os.fork():\n"
	"    os._exit(0)\n"
	"if mode == 'rude':\n"
	"    s.sendall(b'\\0\\0\\0\\x0e' + b'x' * 14 + b'\\xff' * 100)\n"
	"    s.recv(1)\n"
	"if mode == 'deaf':\n"
	"    p = select.poll(); p.register(s, select.POLLHUP); p.poll()\n"
	"if mode == 'echo':\n"
	"    n = 1\n"
	"    while d := s.recv(n % 5000 + 1):\n"
	"        n = n * 7 + 1\n"
	"        s.sendall(d)\n";

/* The folder, or NULL. */
static char *stand_in_for_passt(const char *mode)
{
	static char folder[64];
	char path[128];
	FILE *f;

	snprintf(folder, sizeof folder, "/tmp/tessera-nic-XXXXXX");
	if (!mkdtemp(folder))
		return NULL;
	snprintf(path, sizeof path, "%s/mode", folder);
	f = fopen(path, "w");
	fputs(mode, f);
	fclose(f);
	snprintf(path, sizeof path, "%s/passt", folder);
	f = fopen(path, "w");
	fputs(stand_in, f);
	fclose(f);
	chmod(path, 0755);
	return folder;
}

static int open_with(struct rig *r, const char *mode)
{
	char path[600], old[400], *folder = stand_in_for_passt(mode);
	int err;

	snprintf(old, sizeof old, "%s", getenv("PATH"));
	snprintf(path, sizeof path, "%s:%s", folder, old);
	setenv("PATH", path, 1);
	err = rig_open(r, (struct nic_config){.kind = NIC_USER, .forwards = 1, .forward = {{.host = 1, .guest = 2}}});
	setenv("PATH", old, 1);
	snprintf(path, sizeof path, "%s/mode", folder);
	unlink(path);
	snprintf(path, sizeof path, "%s/passt", folder);
	unlink(path);
	rmdir(folder);
	return err;
}

TEST(nic_passes_frames_both_ways_however_the_stream_is_cut)
{
	static const size_t size[] = {14 + 2, 60, 61, 1514, 9000, NIC_FRAME_MAX};
	struct rig *r = rig_new();
	struct nic_counts n;

	CHECK_EQ(open_with(r, "echo"), 0);
	CHECK(r->was_up);
	for (unsigned i = 0; i < KEPT; i++) {
		CHECK_EQ(send_numbered(r, i, size[i % 6]), 0);
		CHECK(wait_for(r, &r->frames, i + 1));
	}
	for (unsigned i = 0; i < KEPT; i++)
		CHECK(is_numbered(r, i, i, size[i % 6]));
	nic_count(r->n, &n);
	CHECK_EQ(n.sent, KEPT);
	CHECK_EQ(n.dropped, 0);
	CHECK_EQ(n.sent_bytes, 11 * (16 + 60 + 61 + 1514) + 10 * (9000 + NIC_FRAME_MAX)); /* KEPT is 10 rounds and 4 */
	rig_free(r);
}

TEST(nic_sends_a_batch_in_order)
{
	static const size_t size[] = {1514, 60, NIC_FRAME_MAX};
	struct iovec batch[NIC_BATCH_MAX];
	struct rig *r = rig_new();
	struct nic_counts n;

	CHECK_EQ(open_with(r, "echo"), 0);
	for (unsigned i = 0; i < 30; i++) {
		uint8_t *frame = calloc(1, size[i % 3]);

		number_frame(frame, i, size[i % 3]);
		batch[i] = (struct iovec){frame, i == 17 ? 13 : size[i % 3]};
	}
	CHECK_EQ(nic_send(r->n, batch, 30), -EINVAL); /* for the 17th only */
	CHECK(wait_for(r, &r->frames, 15)); /* those that a queue holds beside what the kernel took at once, at least */
	nic_count(r->n, &n);
	CHECK_EQ(n.sent + n.dropped, 29);
	CHECK_EQ(n.refused, 1);
	CHECK(wait_for(r, &r->frames, (unsigned)n.sent));
	for (unsigned i = 0; i < 15; i++)
		CHECK(is_numbered(r, i, i, size[i % 3]));
	for (unsigned i = 0; i < 30; i++)
		free(batch[i].iov_base);
	rig_free(r);
}

TEST(nic_holds_what_the_guest_cannot_take)
{
	struct rig *r = rig_new();

	CHECK_EQ(open_with(r, "echo"), 0);
	pthread_mutex_lock(&r->lock);
	r->busy = true;
	pthread_mutex_unlock(&r->lock);
	for (unsigned i = 0; i < 20; i++)
		CHECK_EQ(send_numbered(r, i, 1514), 0);
	CHECK(wait_for(r, &r->refusals, 1));
	CHECK_EQ(now(r, &r->frames), 0);
	pthread_mutex_lock(&r->lock);
	r->busy = false;
	pthread_mutex_unlock(&r->lock);
	nic_resume(r->n);
	CHECK(wait_for(r, &r->frames, 20));
	for (unsigned i = 0; i < 20; i++)
		CHECK(is_numbered(r, i, i, 1514));
	CHECK_EQ(now(r, &r->refusals), 1);
	rig_free(r);
}

TEST(nic_drops_rather_than_waits)
{
	struct rig *r = rig_new();
	struct nic_counts n;

	CHECK_EQ(open_with(r, "deaf"), 0);
	for (unsigned i = 0; i < 2000; i++)
		CHECK_EQ(send_numbered(r, i, 60000), 0);
	nic_count(r->n, &n);
	CHECK_EQ(n.sent + n.dropped, 2000);
	CHECK(n.dropped > 1000 && n.sent >= NIC_QUEUE_BYTES / 60004);
	rig_free(r); /* does not wait for the queue to be taken */
}

TEST(nic_refuses_what_is_no_frame)
{
	struct rig *r = rig_new();
	uint8_t frame[64] = {[12] = 8, [13] = 0, [14] = 0x45, [30] = 127, [33] = 1};
	struct iovec many[NIC_BATCH_MAX + 1] = {{frame, sizeof frame}}, huge[2] = {{frame, SIZE_MAX}, {frame, 60}};
	struct nic_counts n;

	CHECK_EQ(open_with(r, "deaf"), 0);
	CHECK_EQ(send_bytes(r, frame, 13), -EINVAL);
	CHECK_EQ(nic_send(r->n, many, NIC_BATCH_MAX + 1), -EINVAL);
	CHECK_EQ(nic_send(r->n, huge, 2), -EINVAL);
	CHECK_EQ(nic_send(r->n, huge, 0), -EINVAL);
	CHECK_EQ(send_bytes(r, frame, sizeof frame), 0); /* for 127.0.0.1: a lie that passt would believe */
	nic_count(r->n, &n);
	CHECK_EQ(n.refused, 4);
	CHECK_EQ(n.sent, 0);
	frame[30] = 10;
	CHECK_EQ(send_bytes(r, frame, sizeof frame), 0);
	nic_count(r->n, &n);
	CHECK_EQ(n.sent, 1);
	rig_free(r);
}

TEST(nic_outlives_its_passt)
{
	for (unsigned i = 0; i < 2; i++) {
		struct rig *r = rig_new();
		struct nic_counts n;

		CHECK_EQ(open_with(r, i ? "rude" : "die"), 0);
		CHECK(wait_for(r, &r->troubles, 1));
		CHECK(r->was_up && !is_up(r));
		CHECK_EQ(now(r, &r->frames), i);
		CHECK_EQ(send_numbered(r, 1, 60), 0);
		nic_resume(r->n);
		nic_count(r->n, &n);
		CHECK_EQ(n.dropped, 1);
		CHECK_EQ(now(r, &r->troubles), 1);
		rig_free(r);
	}
}

TEST(nic_says_why_passt_does_not_start)
{
	struct rig *r = rig_new();

	CHECK_EQ(open_with(r, "fail"), -EADDRINUSE);
	CHECK(strstr(r->f.what, "Failed to bind any port for it"));
	CHECK(!r->n && !r->was_up);
	rig_free(r);
}

/* What follows runs in a child with a network of its own. */

static void configure(const char *name, const char *address)
{
	struct ifreq i = {0};
	struct sockaddr_in a = {.sin_family = AF_INET};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(i.ifr_name, sizeof i.ifr_name, "%s", name);
	if (address) {
		inet_pton(AF_INET, address, &a.sin_addr);
		memcpy(&i.ifr_addr, &a, sizeof a);
		ioctl(s, SIOCSIFADDR, &i);
	}
	ioctl(s, SIOCGIFFLAGS, &i);
	i.ifr_flags |= IFF_UP;
	ioctl(s, SIOCSIFFLAGS, &i);
	close(s);
}

/* 0: in a network namespace. */
static int enter_namespace(void)
{
	if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return -1;
	configure("lo", "127.0.0.1");
	return access("/dev/net/tun", R_OK | W_OK);
}

static void in_child(struct test *self, void (*what)(struct test *self))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (enter_namespace())
			_exit(77);
		what(self);
		_exit(self->failed);
	}
	waitpid(pid, &status, 0);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("no network namespace or no /dev/net/tun here");
	CHECK_EQ(status, 0);
}

enum { SEGMENT = 1000, SEGMENTS = 3, HEADERS = 14 + 20 + 20 };

/* So many frames from b's number 'from' on are of the test's TCP flow, the first of this size. */
static unsigned count_tcp(struct rig *b, unsigned from, size_t bytes)
{
	unsigned found = 0;

	pthread_mutex_lock(&b->lock);
	for (unsigned i = from; i < b->frames && i < KEPT; i++)
		found += b->bytes[i] == NIC_HEAD_MAX + bytes && memcmp(b->frame[i] + NIC_HEAD_MAX + 26, (uint8_t[]){10, 9, 0, 1, 10, 9, 0, 2}, 8) == 0;
	pthread_mutex_unlock(&b->lock);
	return found;
}

/* TCP to be segmented later comes in segments to who has not asked for more, whole to who has. */
static void tap_offloads(struct test *self, struct rig *a, struct rig *b)
{
	static uint8_t frame[NIC_HEAD_MAX + HEADERS + SEGMENTS * SEGMENT] = {1, 1, HEADERS, 0, SEGMENT & 0xff, SEGMENT >> 8, 34, 0, 16, 0,
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, (HEADERS - 14 + SEGMENTS * SEGMENT) >> 8, (HEADERS - 14 + SEGMENTS * SEGMENT) & 0xff,
		0, 0, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2, 0x30, 0x39, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0};
	unsigned sum = 0, from = now(b, &b->frames), step = 0;

	for (unsigned i = 0; i < 20; i += 2) /* the IPv4 header's checksum */
		sum += (unsigned)frame[NIC_HEAD_MAX + 14 + i] << 8 | frame[NIC_HEAD_MAX + 15 + i];
	sum = ~(sum + (sum >> 16)) & 0xffff;
	frame[NIC_HEAD_MAX + 24] = (uint8_t)(sum >> 8);
	frame[NIC_HEAD_MAX + 25] = (uint8_t)sum;
	CHECK_EQ(send_bytes(a, frame, sizeof frame), 0);
	while (count_tcp(b, from, HEADERS + SEGMENT) < SEGMENTS && step++ < 50)
		CHECK(wait_for(b, &b->frames, from + step));
	CHECK_EQ(count_tcp(b, from, HEADERS + SEGMENT), SEGMENTS);
	CHECK_EQ(count_tcp(b, from, HEADERS + SEGMENTS * SEGMENT), 0);
	nic_offload(b->n, TUN_F_CSUM | TUN_F_TSO4);
	for (step = 0; count_tcp(b, from, HEADERS + SEGMENTS * SEGMENT) == 0 && now(b, &b->frames) < KEPT - SEGMENTS;) {
		CHECK_EQ(send_bytes(a, frame, sizeof frame), 0);
		CHECK(wait_for(b, &b->frames, now(b, &b->frames) + 1));
	}
	CHECK(count_tcp(b, from, HEADERS + SEGMENTS * SEGMENT) > 0);
}

static void two_taps(struct test *self)
{
	struct rig *a = rig_new(), *b = rig_new();
	uint8_t frame[NIC_HEAD_MAX + 60] = {[NIC_HEAD_MAX] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, 'h', 'i'};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK_EQ(rig_open(a, (struct nic_config){.kind = NIC_TAP, .bridge = "br7"}), -ENOENT);
	CHECK(strstr(a->f.what, "no bridge br7"));
	CHECK_EQ(rig_open(a, (struct nic_config){.kind = NIC_TAP, .bridge = "lo"}), -EINVAL);
	if (ioctl(s, SIOCBRADDBR, "br7") < 0)
		_exit(77);
	configure("br7", NULL);
	CHECK_EQ(rig_open(a, (struct nic_config){.kind = NIC_TAP, .bridge = "br7"}), 0);
	CHECK_EQ(rig_open(b, (struct nic_config){.kind = NIC_TAP, .bridge = "br7", .ifname = "mine"}), 0);
	CHECK_EQ(nic_head_bytes(a->n), NIC_HEAD_MAX);
	CHECK(strcmp(nic_interface(b->n), "mine") == 0 && *nic_interface(a->n));
	for (bool there = false; !there;) { /* other frames: the kernel's own, of IPv6 */
		unsigned had = now(b, &b->frames);

		CHECK_EQ(send_bytes(a, frame, sizeof frame), 0);
		CHECK(wait_for(b, &b->frames, had + 1));
		for (unsigned i = 0; i <= had && i < KEPT; i++)
			there |= b->bytes[i] == sizeof frame && memcmp(b->frame[i], frame, sizeof frame) == 0;
	}
	tap_offloads(self, a, b);
	CHECK_EQ(system("ip link delete mine"), 0);
	CHECK(wait_for(b, &b->troubles, 1));
	CHECK(!is_up(b) && is_up(a));
	close(s);
	rig_free(a);
	rig_free(b);
}

TEST(nic_tap_joins_a_bridge)
{
	in_child(self, two_taps);
}

/* The one process besides us in our network namespace. */
static pid_t find_passt(void)
{
	struct stat ours, theirs;
	struct dirent *e;
	char path[300];
	pid_t found = 0;
	DIR *d = opendir("/proc");

	stat("/proc/self/ns/net", &ours);
	while ((e = readdir(d))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		snprintf(path, sizeof path, "/proc/%s/ns/net", e->d_name);
		if (pid > 0 && pid != getpid() && stat(path, &theirs) == 0 && theirs.st_ino == ours.st_ino)
			found = pid;
	}
	closedir(d);
	return found;
}

static int listen_udp(const char *address, uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct timeval limit = {WAIT_S, 0};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	inet_pton(AF_INET, address, &a.sin_addr);
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
	return bind(s, (struct sockaddr *)&a, sizeof a) < 0 ? -1 : s;
}

static int send_udp(struct rig *r, const char *to, uint16_t port)
{
	uint8_t f[14 + 20 + 8 + 4] = {0x52, 0x55, 0x0a, 0, 2, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 2, 15, [34] = 0x12, 0x34,
		(uint8_t)(port >> 8), (uint8_t)port, 0, 12, 0, 0, 'p', 'i', 'n', 'g'};
	uint32_t sum = 0;

	inet_pton(AF_INET, to, f + 30);
	for (unsigned i = 14; i < 34; i += 2)
		sum += (uint32_t)f[i] << 8 | f[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = ~((sum & 0xffff) + (sum >> 16));
	f[24] = (uint8_t)(sum >> 8);
	f[25] = (uint8_t)sum;
	return send_bytes(r, f, sizeof f);
}

/* Among the frames that came: a SYN for the guest's port. */
static bool has_syn(struct rig *r, uint16_t port)
{
	unsigned frames = now(r, &r->frames);

	for (unsigned i = 0; i < frames && i < KEPT; i++) {
		const uint8_t *f = r->frame[i];

		if (r->bytes[i] >= 54 && f[12] == 8 && f[13] == 0 && f[23] == 6 && (f[36] << 8 | f[37]) == port && f[47] == 2)
			return true;
	}
	return false;
}

static void with_passt(struct test *self)
{
	static const uint8_t arp[60] = {255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 2, 15, [38] = 10, 0, 2, 2};
	struct nic_config c = {.kind = NIC_USER, .forwards = 2, .forward = {{.host = 2222, .guest = 22}, {.address = "127.0.0.1", .host = 8080, .guest = 80}}};
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(2222), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct rig *host = rig_new(), *r = rig_new(), *second = rig_new();
	int udp, tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char word[16];

	CHECK_EQ(rig_open(r, c), -ENETDOWN);
	CHECK_EQ(rig_open(host, (struct nic_config){.kind = NIC_TAP, .ifname = "up0"}), 0);
	configure("up0", "192.0.2.5");
	CHECK_EQ(rig_open(r, c), 0);
	CHECK(r->was_up);
	CHECK_EQ(rig_open(second, c), -EADDRINUSE);

	CHECK_EQ(send_bytes(r, arp, sizeof arp), 0);
	CHECK(wait_for(r, &r->frames, 1));
	CHECK(r->frame[0][21] == 2 && memcmp(r->frame[0] + 22, "\x52\x55\x0a\x00\x02\x02\x0a\x00\x02\x02", 10) == 0);

	udp = listen_udp("192.0.2.5", 9999);
	CHECK_EQ(send_udp(r, "192.0.2.5", 9999), 0);
	CHECK_EQ(recv(udp, word, sizeof word, 0), 4);
	CHECK(memcmp(word, "ping", 4) == 0);

	CHECK(connect(tcp, (struct sockaddr *)&a, sizeof a) == 0 || errno == EINPROGRESS);
	for (unsigned n = 2; !has_syn(r, 22); n++)
		CHECK(wait_for(r, &r->frames, n));

	CHECK_EQ(kill(find_passt(), SIGKILL), 0);
	CHECK(wait_for(r, &r->troubles, 1));
	CHECK(!is_up(r));
	close(udp);
	close(tcp);
	rig_free(r);
	rig_free(host);
	free(second);
}

TEST(nic_user_goes_through_passt)
{
	if (access("/usr/bin/passt", X_OK) < 0)
		SKIP("passt is not installed");
	in_child(self, with_passt);
}
