/* net/mesh: all fragments meet in spite of strangers at the door; who stays away is named. */
#include "net/mesh.h"
#include "tests/test.h"
#include "wire/peer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { PATIENCE_MS = 60 * 1000 }; /* never waited for when all is well */

struct fragment {
	struct mesh_plan plan;
	struct mesh mesh;
	struct failure failure;
	pthread_t thread;
	int result;
};

static void *fragment_run(void *arg)
{
	struct fragment *g = arg;

	g->result = mesh_open(&g->mesh, &g->plan, &g->failure);
	return NULL;
}

/* n plans with listeners on a loopback address each. */
static bool plans_make(struct fragment *g, unsigned n, const char *where, unsigned deadline_ms)
{
	struct addr at[NODES_MAX];

	memset(g, 0, n * sizeof *g);
	for (unsigned i = 0; i < n; i++)
		if (addr_parse(&at[i], where, NULL) || addr_listen(&at[i], &g[i].plan.listen_fd, NULL))
			return false;
	for (unsigned i = 0; i < n; i++) {
		struct mesh_plan *p = &g[i].plan;

		p->self.v = (uint8_t)i;
		p->nodes = n;
		p->vm_id = 42;
		p->cookie_hi = 0x1111;
		p->cookie_lo = 0x2222;
		p->deadline_ms = deadline_ms;
		p->cancel_fd = -1;
		memcpy(p->peer, at, sizeof at);
		for (unsigned j = 0; j < n; j++)
			snprintf(p->name[j], NAME_BYTES, "%c", 'A' + j);
	}
	return true;
}

static void plans_close(struct fragment *g, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		mesh_close(&g[i].mesh);
		close(g[i].plan.listen_fd);
	}
}

/* A connection to node i that says these bytes (and then nothing). */
static int stranger(const struct fragment *g, unsigned i, const void *bytes, size_t n)
{
	struct pollfd pfd = {.events = POLLOUT};

	if (addr_connect(&g->plan.peer[i], &pfd.fd))
		return -1;
	poll(&pfd, 1, PATIENCE_MS);
	if (n && write(pfd.fd, bytes, n) != (ssize_t)n)
		return -1;
	return pfd.fd;
}

static size_t hello(uint8_t to[64], const struct fragment *g, uint64_t cookie_lo, uint8_t node, uint8_t stream)
{
	struct peer_hello h = {.version = WIRE_VERSION, .vm_id = g->plan.vm_id, .cookie_hi = g->plan.cookie_hi, .cookie_lo = cookie_lo, .node = node, .stream = stream};

	return peer_put_hello(&h, to, 64);
}

/* Each pair's two ends are joined, and each stream is the one its label says: what i writes for j on stream k, j reads from i on k. */
static bool all_joined(struct fragment *g, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		for (unsigned j = 0; j < n; j++)
			for (unsigned k = 0; k < MESH_STREAMS && i != j; k++) {
				uint8_t say[3] = {(uint8_t)i, (uint8_t)j, (uint8_t)k}, got[3] = {0};
				struct pollfd pfd = {.fd = g[j].mesh.fd[i][k], .events = POLLIN};

				if (write(g[i].mesh.fd[j][k], say, 3) != 3 || poll(&pfd, 1, PATIENCE_MS) != 1)
					return false;
				if (read(pfd.fd, got, 3) != 3 || memcmp(say, got, 3) != 0)
					return false;
			}
	return true;
}

static bool four_meet(struct fragment *g, const char *where)
{
	if (!plans_make(g, 4, where, PATIENCE_MS))
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (pthread_create(&g[i].thread, NULL, fragment_run, &g[i]))
			return false;
	for (unsigned i = 0; i < 4; i++)
		pthread_join(g[i].thread, NULL);
	for (unsigned i = 0; i < 4; i++)
		if (g[i].result)
			printf("%u: %d %s\n", i, g[i].result, g[i].failure.what);
	return all_joined(g, 4);
}

TEST(four_fragments_meet)
{
	static struct fragment g[4];

	CHECK(four_meet(g, "127.0.0.1:0"));
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(g[i].mesh.strangers, 0);
		CHECK_EQ(g[i].mesh.fd[i][MESH_PAGE], -1);
		CHECK_EQ(g[i].mesh.fd[4][MESH_BUS], -1);
	}
	plans_close(g, 4);
}

TEST(four_fragments_meet_over_ipv6)
{
	static struct fragment g[4];
	struct addr a;
	int fd;

	if (addr_parse(&a, "[::1]:0", NULL) || addr_listen(&a, &fd, NULL))
		SKIP("this machine has no IPv6 loopback");
	close(fd);
	CHECK(four_meet(g, "[::1]:0"));
	plans_close(g, 4);
}

/* Garbage, wrong cookie, silence, half a hello, an unexpected node, one that hangs up, and more of the silent than there are places: all before
 * the others start. */
TEST(strangers_do_not_keep_fragments_apart)
{
	static struct fragment g[4];
	enum { SILENT = 100 };
	int fd[SILENT + 6];
	uint8_t said[64];
	unsigned n = 0;
	size_t bytes;

	CHECK(plans_make(g, 4, "127.0.0.1:0", PATIENCE_MS));
	CHECK_EQ(pthread_create(&g[0].thread, NULL, fragment_run, &g[0]), 0);
	fd[n++] = stranger(g, 0, "GET / HTTP/1.1\r\nHost: here\r\nAccept: everything\r\n\r\n", 49);
	bytes = hello(said, g, 0x2223, 1, MESH_PAGE);
	fd[n++] = stranger(g, 0, said, bytes);
	bytes = hello(said, g, 0x2222, 1, MESH_PAGE);
	fd[n++] = stranger(g, 0, said, bytes / 2);
	bytes = hello(said, g, 0x2222, 0, MESH_PAGE);
	fd[n++] = stranger(g, 0, said, bytes);
	bytes = hello(said, g, 0x2222, 9, MESH_BUS);
	fd[n++] = stranger(g, 0, said, bytes);
	bytes = hello(said, g, 0x2222, 1, MESH_STREAMS);
	fd[n++] = stranger(g, 0, said, bytes);
	for (unsigned i = 0; i < SILENT; i++)
		fd[n++] = stranger(g, 0, NULL, 0);
	for (unsigned i = 0; i < n; i++)
		CHECK(fd[i] >= 0);
	for (unsigned i = 1; i < 4; i++)
		CHECK_EQ(pthread_create(&g[i].thread, NULL, fragment_run, &g[i]), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(g[i].thread, NULL);
	CHECK(all_joined(g, 4));
	CHECK(g[0].mesh.strangers >= 5);
	for (unsigned i = 0; i < n; i++)
		close(fd[i]);
	plans_close(g, 4);
}

TEST(a_node_that_stays_away_is_named)
{
	static struct fragment g[3];

	CHECK(plans_make(g, 3, "127.0.0.1:0", 300));
	fragment_run(&g[0]);
	CHECK_EQ(g[0].result, -ETIMEDOUT);
	CHECK(strstr(g[0].failure.what, "node B did not connect"));
	CHECK_EQ(g[0].mesh.fd[1][0], -1);
	close(g[0].plan.listen_fd); /* refuses now */
	fragment_run(&g[2]);
	CHECK_EQ(g[2].result, -ETIMEDOUT);
	CHECK(strstr(g[2].failure.what, "node A did not answer") && strstr(g[2].failure.what, "refused"));
	g[0].plan.listen_fd = -1;
	plans_close(g, 3);
}

TEST(another_version_is_told_at_once)
{
	static struct fragment g[2];
	uint8_t said[64];
	int fd;

	CHECK(plans_make(g, 2, "127.0.0.1:0", PATIENCE_MS));
	CHECK_EQ(pthread_create(&g[0].thread, NULL, fragment_run, &g[0]), 0);
	CHECK(hello(said, g, 0x2222, 1, MESH_PAGE) > 0);
	said[WIRE_HEADER_BYTES]++;
	fd = stranger(g, 0, said, WIRE_HEADER_BYTES + 30);
	pthread_join(g[0].thread, NULL);
	CHECK_EQ(g[0].result, -EPROTO);
	CHECK(strstr(g[0].failure.what, "node B speaks version"));
	close(fd);
	plans_close(g, 2);
}

TEST(setup_can_be_cancelled)
{
	static struct fragment g[2];

	CHECK(plans_make(g, 2, "127.0.0.1:0", PATIENCE_MS));
	g[1].plan.cancel_fd = eventfd(1, EFD_CLOEXEC);
	fragment_run(&g[1]);
	CHECK_EQ(g[1].result, -ECANCELED);
	close(g[1].plan.cancel_fd);
	plans_close(g, 2);
}

TEST(a_plan_without_sense_is_refused)
{
	static struct fragment g[1];

	CHECK(plans_make(g, 1, "127.0.0.1:0", 1000));
	fragment_run(&g[0]);
	CHECK_EQ(g[0].result, 0); /* alone: nobody to meet */
	g[0].plan.self.v = 1;
	fragment_run(&g[0]);
	CHECK_EQ(g[0].result, -EINVAL);
	plans_close(g, 1);
}
