/* Memory is pooled: fragments in processes of their own hold, together, more RAM than any of them may; each in turn fills or verifies all of it; and /proc,
 * read by a process that has no part in it, says that none ever held more than its own share, its cache and the overhead that README states. What
 * ./demo asks of a whole VM in the lab is shown here at native speed. */
#include "mem/pager.h"
#include "tests/test.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NODES = 3, MIB_EACH = 96, MIB_CACHE = 16, PAGES = MIB_EACH << 8, WORDS = PAGE_BYTES / 8 };

/* README, "memory": what a fragment may hold besides its own share and the cache. */
enum { OVERHEAD_MIB = 16 + 10 * (NODES - 1) + NODES * MIB_EACH / 64 };

enum { CAN_RUN = 'r', CANNOT_RUN = 'c', DONE = 'd', WRONG = 'w', FILL = 'f', VERIFY = 'v' };

struct fragment {
	pid_t pid;
	int talk; /* socket: a command goes in, its result comes out */
};

static void on_stop(void *arg, enum stop_reason reason, node_t node, const char *what)
{
	_exit(3);
}

static uint64_t word(uint64_t page, unsigned i)
{
	return (page * WORDS + i + 1) * 0x9e3779b97f4a7c15;
}

static volatile uint64_t *page_at(const struct ram *ram, uint64_t page)
{
	return ram_at(ram, gfn_gpa(ram_page_gfn(ram, page)), PAGE_BYTES);
}

/* All of RAM: as a guest's walk over its memory would, and every word. */
static bool walk(const struct ram *ram, bool fill)
{
	for (uint64_t p = 0; p < (uint64_t)NODES * PAGES; p++) {
		volatile uint64_t *at = page_at(ram, p);

		for (unsigned i = 0; i < WORDS; i++) {
			if (fill)
				at[i] = word(p, i);
			else if (at[i] != word(p, i))
				return false;
		}
	}
	return true;
}

static void serve(unsigned self, const int streams[NODES_MAX], int talk, uint64_t cache_bytes)
{
	struct pager_config c = {.self = {(uint8_t)self}, .nodes = NODES, .cache_bytes = cache_bytes, .spin_us = -1, .on_stop = on_stop};
	uint64_t bytes[NODES_MAX] = {0};
	struct pager *pager;
	struct ram ram;
	char command, result;
	int err;

	for (unsigned n = 0; n < NODES; n++)
		bytes[n] = (uint64_t)MIB_EACH << 20;
	memcpy(c.fds, streams, sizeof c.fds);
	c.ram = &ram;
	err = ram_layout(&ram, bytes, NODES);
	if (!err)
		err = ram_map(&ram, NULL);
	if (!err)
		err = pager_start(&pager, &c, NULL);
	result = err ? CANNOT_RUN : CAN_RUN;
	while (write(talk, &result, 1) == 1 && read(talk, &command, 1) == 1)
		result = walk(&ram, command == FILL) ? DONE : WRONG;
	_exit(0);
}

static bool start(struct fragment f[NODES], uint64_t cache_bytes)
{
	int stream[NODES][NODES_MAX], pair[2];

	memset(stream, -1, sizeof stream);
	for (unsigned i = 0; i < NODES; i++)
		for (unsigned j = 0; j < i; j++) {
			if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
				return false;
			stream[i][j] = pair[0];
			stream[j][i] = pair[1];
		}
	for (unsigned i = 0; i < NODES; i++) {
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
			return false;
		f[i].talk = pair[0];
		f[i].pid = fork();
		if (f[i].pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve(i, stream[i], pair[1], cache_bytes);
		}
		close(pair[1]);
	}
	return true;
}

/* 0: it died. */
static char tell(const struct fragment *f, char command)
{
	char result = 0;

	if (command && write(f->talk, &command, 1) != 1)
		return 0;
	return read(f->talk, &result, 1) == 1 ? result : 0;
}

/* The most it ever held, as the kernel tells anybody. */
static unsigned long peak_mib(pid_t pid)
{
	char path[64], line[128];
	unsigned long kib = 0;
	FILE *status;

	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status) && sscanf(line, "VmHWM: %lu", &kib) != 1)
		;
	if (status)
		fclose(status);
	return kib >> 10;
}

static void stop(struct fragment f[NODES])
{
	for (unsigned i = 0; i < NODES; i++) {
		kill(f[i].pid, SIGKILL);
		waitpid(f[i].pid, NULL, 0);
		close(f[i].talk);
	}
}

/* Run all of it; the peaks come back. 0, or why not. */
static const char *fill_and_verify(struct fragment f[NODES], uint64_t cache_bytes, unsigned long peak[NODES])
{
	char able = CAN_RUN;

	if (!start(f, cache_bytes))
		return "no sockets";
	for (unsigned i = 0; i < NODES; i++)
		if (tell(&f[i], 0) != CAN_RUN)
			able = CANNOT_RUN;
	if (able != CAN_RUN)
		return "cannot run";
	if (tell(&f[0], FILL) != DONE)
		return "filling failed";
	for (unsigned i = 0; i < NODES; i++)
		if (tell(&f[i], VERIFY) != DONE)
			return "wrong bytes";
	for (unsigned i = 0; i < NODES; i++)
		peak[i] = peak_mib(f[i].pid);
	return NULL;
}

TEST(no_fragment_ever_holds_more_than_its_share_its_cache_and_the_overhead)
{
	struct fragment f[NODES];
	unsigned long peak[NODES] = {0};
	const char *why = fill_and_verify(f, (uint64_t)MIB_CACHE << 20, peak);

	stop(f);
	if (why && strcmp(why, "cannot run") == 0)
		SKIP("no userfaultfd for kernel-mode faults here");
	CHECK_EQ(why == NULL, true);
	for (unsigned i = 0; i < NODES; i++) {
		printf("     node %u held at most %lu MiB: %d its own, %d cache, overhead at most %d; the VM has %d\n", i, peak[i], MIB_EACH, MIB_CACHE,
		       OVERHEAD_MIB, NODES * MIB_EACH);
		CHECK(peak[i] >= MIB_EACH);
		CHECK(peak[i] <= MIB_EACH + MIB_CACHE + OVERHEAD_MIB);
	}
}

/* The same with a cache that holds everything must break the limit, or the test above sees nothing. */
TEST(the_limit_is_one_that_an_unbounded_fragment_breaks)
{
	struct fragment f[NODES];
	unsigned long peak[NODES] = {0};
	const char *why = fill_and_verify(f, (uint64_t)NODES * MIB_EACH << 20, peak);

	stop(f);
	if (why && strcmp(why, "cannot run") == 0)
		SKIP("no userfaultfd for kernel-mode faults here");
	CHECK_EQ(why == NULL, true);
	CHECK(peak[0] > MIB_EACH + MIB_CACHE + OVERHEAD_MIB);
}
