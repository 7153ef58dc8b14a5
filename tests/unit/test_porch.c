/* dev/porch: clients of the guest agent's socket that come, are slow, and go; the guest is this test's hands on the console's queues. */
#include "base/ensure.h"
#include "dev/porch.h"
#include "tests/test.h"
#include "tests/unit/queue_rig.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { IN = 0, OUT = 1, CONTROL_IN = 2, CONTROL_OUT = 3, AGENT_IN = 4, AGENT_OUT = 5 };
enum { OPENED = 1, CLOSED = 0 };

struct house {
	struct queue_rig r;
	struct porch *porch;
	struct virtio_console *console;
	char folder[32], stem[64];
	pthread_mutex_t lock; /* guards the rest */
	char said[64];
};

static struct house house;

static void on_terminal(void *user, const void *bytes, size_t n)
{
	struct house *h = user;

	pthread_mutex_lock(&h->lock);
	strncat(h->said, bytes, n);
	pthread_mutex_unlock(&h->lock);
}

/* With the agent's port known to the driver, who has heard its name. */
static struct house *house_open(void)
{
	struct house *h = &house;
	struct virtio_dev dev;

	*h = (struct house){.folder = "/tmp/porch-XXXXXX", .lock = PTHREAD_MUTEX_INITIALIZER};
	ensure(mkdtemp(h->folder));
	snprintf(h->stem, sizeof h->stem, "%s/vm1", h->folder);
	queue_rig_open(&h->r);
	ensure(porch_open(&h->porch, &(struct porch_config){.stem = h->stem, .terminal = on_terminal, .user = h}, NULL) == 0);
	ensure(virtio_console_open(&h->console, &(struct virtio_console_config){.plane = h->r.plane, .calls = porch_calls(h->porch)}) == 0);
	dev = virtio_console_dev(h->console);
	queue_rig_add(&h->r, &dev);
	ensure(porch_attach(h->porch, h->console) == 0);
	for (unsigned q = 0; q < CONSOLE_QUEUES; q++)
		queue_rig_up(&h->r, q);
	queue_rig_put(&h->r, CONTROL_OUT, "\1\0\0\0\3\0\1\0", 8, 0);
	queue_rig_get(&h->r, CONTROL_OUT, NULL, 0);
	queue_rig_put(&h->r, CONTROL_IN, NULL, 0, 64);
	queue_rig_get(&h->r, CONTROL_IN, NULL, 0);
	return h;
}

static void house_close(struct house *h)
{
	queue_rig_halt(&h->r);
	porch_detach(h->porch);
	virtio_console_close(h->console);
	queue_rig_close(&h->r);
	porch_close(h->porch);
	porch_remove(h->stem);
	ensure(rmdir(h->folder) == 0);
}

static int client(struct house *h)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(a.sun_path, sizeof a.sun_path, "%s.agent", h->stem);
	ensure(s >= 0 && connect(s, (struct sockaddr *)&a, sizeof a) == 0);
	return s;
}

/* The guest's next control message, which must be about the agent's port being opened or closed: which. */
static unsigned hear(struct house *h)
{
	uint8_t m[64];

	queue_rig_put(&h->r, CONTROL_IN, NULL, 0, sizeof m);
	ensure(queue_rig_get(&h->r, CONTROL_IN, m, sizeof m) == 8 && m[0] == 1 && m[4] == 6);
	return m[6];
}

static void guest_reads(struct house *h, char *to, size_t bytes)
{
	for (size_t had = 0, n; had < bytes; had += n) {
		queue_rig_put(&h->r, AGENT_IN, NULL, 0, bytes - had < 4096 ? bytes - had : 4096);
		n = queue_rig_get(&h->r, AGENT_IN, to + had, bytes - had);
	}
}

TEST(porch_clients_come_and_go)
{
	struct house *h = house_open();
	char text[16] = "", path[80];
	struct porch_stats count;
	struct stat s;
	int a, b;

	snprintf(path, sizeof path, "%s.agent", h->stem);
	CHECK(stat(path, &s) == 0 && S_ISSOCK(s.st_mode) && (s.st_mode & 0777) == 0600);
	a = client(h);
	CHECK_EQ(hear(h), OPENED);
	b = client(h); /* waits */
	CHECK_EQ(write(a, "{1}", 3), 3);
	guest_reads(h, text, 3);
	CHECK(strcmp(text, "{1}") == 0);
	queue_rig_put(&h->r, AGENT_OUT, "{answer}", 8, 0);
	queue_rig_get(&h->r, AGENT_OUT, NULL, 0);
	CHECK(read(a, text, sizeof text) == 8 && memcmp(text, "{answer}", 8) == 0);
	close(a);
	CHECK_EQ(hear(h), CLOSED);
	CHECK_EQ(hear(h), OPENED);
	CHECK_EQ(write(b, "{2}", 3), 3);
	CHECK_EQ(shutdown(b, SHUT_WR), 0); /* says no more, and still hears */
	guest_reads(h, text, 3);
	queue_rig_put(&h->r, AGENT_OUT, "{again}", 7, 0);
	CHECK(read(b, text, sizeof text) == 7);
	close(b);
	CHECK_EQ(hear(h), CLOSED);
	queue_rig_put(&h->r, AGENT_OUT, "nobody", 6, 0); /* is dropped */
	queue_rig_get(&h->r, AGENT_OUT, NULL, 0);
	porch_stats(h->porch, &count);
	CHECK_EQ(count.to_guest, 6);
	CHECK_EQ(count.from_guest, 15);
	CHECK_EQ(count.host, 0);
	house_close(h);
}

TEST(porch_slow_sides_are_waited_for)
{
	enum { BYTES = 1 << 20 };
	static char sent[BYTES], had[BYTES];
	struct house *h = house_open();
	int s = client(h), status = -1;
	pid_t pid;

	CHECK_EQ(hear(h), OPENED);
	for (unsigned i = 0; i < BYTES; i++)
		sent[i] = (char)(i ^ i >> 8);
	pid = fork(); /* the client writes all, then reads all */
	if (pid == 0) {
		for (size_t at = 0; at < BYTES;) {
			ssize_t n = write(s, sent + at, BYTES - at);

			if (n <= 0)
				_exit(1);
			at += (size_t)n;
		}
		_exit(0);
	}
	guest_reads(h, had, BYTES);
	CHECK(memcmp(sent, had, BYTES) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	for (size_t at = 0; at < QUEUE_RIG_SLOTS * 8192; at += 8192)
		queue_rig_put(&h->r, AGENT_OUT, sent + at, 8192, 0);
	for (size_t at = 0, n; at < QUEUE_RIG_SLOTS * 8192; at += n) {
		ssize_t got = read(s, had + at, QUEUE_RIG_SLOTS * 8192 - at);

		CHECK(got > 0);
		n = (size_t)got;
	}
	CHECK(memcmp(sent, had, QUEUE_RIG_SLOTS * 8192) == 0);
	close(s);
	CHECK_EQ(hear(h), CLOSED);
	house_close(h);
}

TEST(porch_client_that_goes_frees_what_waited_for_it)
{
	struct house *h = house_open();
	static const char bytes[8192];
	int s = client(h), small = 4096;

	CHECK_EQ(hear(h), OPENED);
	CHECK_EQ(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
	for (unsigned i = 0; i < 100; i++) { /* far more than any socket takes */
		if (i >= QUEUE_RIG_SLOTS && i < 50 && !queue_rig_back(&h->r, AGENT_OUT))
			i = 50;
		if (i == 50)
			close(s);
		if (i >= QUEUE_RIG_SLOTS)
			queue_rig_get(&h->r, AGENT_OUT, NULL, 0);
		queue_rig_put(&h->r, AGENT_OUT, bytes, sizeof bytes, 0);
	}
	CHECK_EQ(hear(h), CLOSED);
	house_close(h);
}

TEST(porch_without_a_console_takes_nothing)
{
	struct house *h = house_open();

	queue_rig_halt(&h->r);
	porch_detach(h->porch);
	CHECK_EQ(porch_input(h->porch, "x", 1), 0);
	porch_resize(h->porch, 80, 24);
	porch_detach(h->porch);
	CHECK_EQ(porch_attach(h->porch, h->console), 0);
	CHECK_EQ(porch_input(h->porch, "x", 1), 1);
	house_close(h);
}
