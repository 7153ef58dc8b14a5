/* See crew.h. */
#include "tests/bench/crew.h"
#include "tests/bench/floor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct member {
	struct ram ram;
	struct pager *pager;
	struct crew_report *report;
};

static _Atomic uint64_t *word(struct member *m, uint64_t page)
{
	return ram_at(&m->ram, gfn_gpa(ram_page_gfn(&m->ram, page)), 8);
}

/* The i-th of count in an order without neighbours: a stride prime to any power of two. */
static uint64_t shuffled(uint64_t i, uint64_t count)
{
	return i * 7919 % count;
}

static void touch_all(struct member *m, const struct crew_order *o)
{
	bool stores = o->verb == CREW_WRITE || o->verb == CREW_FILL, shuffle = o->verb == CREW_WRITE || o->verb == CREW_READ;

	for (uint64_t i = 0; i < o->count; i++) {
		_Atomic uint64_t *at = word(m, o->first + (shuffle ? shuffled(i, o->count) : i));
		uint64_t from = bench_now_ns();

		if (stores)
			*at = i + 1;
		else
			(void)*at;
		histogram_add(&m->report->ns, bench_now_ns() - from);
	}
}

static void take_turns(struct member *m, const struct crew_order *o)
{
	_Atomic uint64_t *at = word(m, o->first);

	for (uint64_t i = 0; i < o->count; i++) {
		uint64_t from = bench_now_ns(), mine = i * o->turns + o->turn;

		while (*at != mine)
			sched_yield();
		*at = mine + 1;
		histogram_add(&m->report->ns, bench_now_ns() - from);
	}
}

static void obey(struct member *m, const struct crew_order *o)
{
	uint64_t from;

	memset(&m->report->ns, 0, sizeof m->report->ns);
	from = bench_now_ns();
	if (o->verb == CREW_TURNS)
		take_turns(m, o);
	else if (o->verb != CREW_STATS)
		touch_all(m, o);
	m->report->all_ns = bench_now_ns() - from;
	pager_stats(m->pager, &m->report->stats);
}

static void on_stop(void *arg, enum stop_reason reason, node_t node, const char *what)
{
	const struct member *m = arg;

	if (m->report->over)
		_exit(0);
	fprintf(stderr, "bench: a pager stopped: %s, node %u: %s\n", stop_reason_name(reason), node.v, what);
	_exit(1);
}

static void pin(unsigned node)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(node % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof set, &set);
}

static _Noreturn void member_run(struct crew *c, const struct crew_options *o, unsigned self, const int fds[CREW_NODES_MAX], int order, int done)
{
	struct pager_config config = {.self = {(uint8_t)self}, .nodes = o->nodes, .cache_bytes = o->pages * o->nodes * PAGE_BYTES, .spin_us = o->spin_us,
		.hold_us = o->hold_us, .on_stop = on_stop};
	struct member m = {.report = &c->report[self]};
	uint64_t bytes[NODES_MAX] = {0};
	struct crew_order next;
	struct failure f = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (o->pin)
		pin(self);
	memcpy(config.fds, fds, CREW_NODES_MAX * sizeof fds[0]);
	for (unsigned n = 0; n < o->nodes; n++)
		bytes[n] = o->pages * PAGE_BYTES;
	config.ram = &m.ram;
	config.arg = &m;
	if (ram_layout(&m.ram, bytes, o->nodes) || ram_map(&m.ram, &f) || pager_start(&m.pager, &config, &f)) {
		fprintf(stderr, "bench: %s\n", f.what);
		_exit(1);
	}
	while (read(order, &next, sizeof next) == sizeof next && next.verb != CREW_QUIT) {
		obey(&m, &next);
		if (write(done, "", 1) != 1)
			break;
	}
	_exit(0);
}

/* A TCP pair per pair of nodes. */
static int connect_all(unsigned nodes, int fds[CREW_NODES_MAX][CREW_NODES_MAX])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&at, sizeof at) || listen(l, 1) || getsockname(l, (struct sockaddr *)&at, &n))
		return -errno;
	for (unsigned i = 0; i < nodes; i++)
		for (unsigned j = 0; j < i; j++) {
			fds[i][j] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
			if (fds[i][j] < 0 || connect(fds[i][j], (struct sockaddr *)&at, sizeof at))
				return -errno;
			fds[j][i] = accept(l, NULL, NULL);
		}
	close(l);
	return 0;
}

static int fork_member(struct crew *c, const struct crew_options *o, unsigned self, int fds[CREW_NODES_MAX][CREW_NODES_MAX])
{
	int order[2], done[2];

	if (pipe(order) || pipe(done))
		return -errno;
	c->pid[self] = fork();
	if (c->pid[self] < 0)
		return -errno;
	if (c->pid[self] == 0) {
		for (unsigned i = 0; i < o->nodes; i++)
			for (unsigned j = 0; j < o->nodes; j++)
				if (i != j && i != self)
					close(fds[i][j]);
		close(order[1]);
		member_run(c, o, self, fds[self], order[0], done[1]);
	}
	close(order[0]);
	close(done[1]);
	c->order[self] = order[1];
	c->done[self] = done[0];
	return 0;
}

int crew_start(struct crew *c, const struct crew_options *o)
{
	int fds[CREW_NODES_MAX][CREW_NODES_MAX], err;

	memset(fds, -1, sizeof fds);
	memset(c, 0, sizeof *c);
	c->nodes = o->nodes;
	c->report = mmap(NULL, CREW_NODES_MAX * sizeof c->report[0], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (c->report == MAP_FAILED)
		return -errno;
	err = connect_all(o->nodes, fds);
	for (unsigned n = 0; !err && n < o->nodes; n++)
		err = fork_member(c, o, n, fds);
	for (unsigned i = 0; i < o->nodes; i++)
		for (unsigned j = 0; j < o->nodes; j++)
			if (fds[i][j] >= 0)
				close(fds[i][j]);
	return err;
}

void crew_stop(struct crew *c)
{
	for (unsigned n = 0; n < c->nodes; n++)
		c->report[n].over = true;
	for (unsigned n = 0; n < c->nodes; n++)
		kill(c->pid[n], SIGKILL);
	for (unsigned n = 0; n < c->nodes; n++) {
		waitpid(c->pid[n], NULL, 0);
		close(c->order[n]);
		close(c->done[n]);
	}
	munmap(c->report, CREW_NODES_MAX * sizeof c->report[0]);
}

void crew_tell(struct crew *c, unsigned node, struct crew_order order)
{
	if (write(c->order[node], &order, sizeof order) != sizeof order)
		exit(1);
}

void crew_wait(struct crew *c, unsigned node)
{
	char byte;

	if (read(c->done[node], &byte, 1) != 1) {
		fprintf(stderr, "bench: fragment %u died\n", node);
		exit(1);
	}
}

void crew_do(struct crew *c, unsigned node, struct crew_order order)
{
	crew_tell(c, node, order);
	crew_wait(c, node);
}
