/* Boots a kernel on an aggregate VM whose fragments all lie in this one process, each with its own mapping of guest RAM, pager, KVM VM and pinned
 * threads, joined by socket pairs. A test's tool: the whole data path of a VM across nodes without daemons and networks.
 *
 * usage: manyvm --kernel FILE [--initrd FILE] [--append TEXT] [--nodes N] [--cpus PER_NODE] [--memory MIB_PER_NODE] [--cache MIB] [--hold US]
 *               [--devices NODE] [--stats] [--seconds N]
 *               [--no-prefetch] [--silence MS] [--drift PPM] [--disk TEXT]...
 * --disk: as 'tessera run' takes it; its node is A, B, ...
 * --stats: the counters at the end, and each time the guest says a line that begins with 'stats:', after that line.
 * --drift: node B takes its TSC for one that runs so much faster than it does, so that its guest's clock is moved all the time.
 * exit: enum stop_reason of the guest's end, less 1 (0 power-off), 40 could not start, 41 still running after N seconds, 2 usage */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <fcntl.h>

#include "base/log.h"
#include "dev/depot.h"
#include "net/mesh.h"
#include "vm/aggregate.h"

struct manyvm {
	struct aggregate_config config;
	unsigned nodes, cpus, memory_mib, drift_ppm;
	bool stats;
	unsigned line; /* how many characters of STATS_LINE the guest's current line began with; STATS_NOT: another */
	struct gear gear;
	struct depot *depot[NODES_MAX];
	int limit_ms; /* -1: none */
	struct aggregate *part[NODES_MAX];
	int fd[NODES_MAX][NODES_MAX][MESH_STREAMS]; /* [me][peer][stream] */
	bool over;
	int ended; /* eventfd: the first reason */
	struct cpuid_table cpuid;
};

static void print_stats(struct manyvm *m);

static const char STATS_LINE[] = "stats:";
enum { STATS_SAID = sizeof STATS_LINE - 1, STATS_NOT };

static void on_console(void *owner, const void *bytes, size_t n)
{
	struct manyvm *m = owner;

	if (write(STDOUT_FILENO, bytes, n) < 0)
		return;
	for (const char *c = bytes; m->stats && n > 0; c++, n--) {
		if (*c == '\n' && m->line == STATS_SAID)
			print_stats(m);
		m->line = *c == '\n' ? 0 : m->line == STATS_SAID || (m->line < STATS_SAID && STATS_LINE[m->line++] == *c) ? m->line : (unsigned)STATS_NOT;
	}
}

static void on_ended(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct manyvm *m = owner;
	uint64_t value = reason;

	fprintf(stderr, "manyvm: %s, node %u: %s\n", stop_reason_name(reason), about.v, what);
	if (!__atomic_exchange_n(&m->over, true, __ATOMIC_RELAXED) && write(m->ended, &value, sizeof value) < 0)
		abort();
}

static int usage(void)
{
	fprintf(stderr, "usage: manyvm --kernel FILE [--initrd FILE] [--append TEXT] [--nodes N] [--cpus N] [--memory MIB]\n"
			"              [--cache MIB] [--hold US] [--devices N] [--stats] [--seconds N]\n"
			"              [--no-prefetch] [--silence MS] [--drift PPM] [--disk TEXT]...\n");
	return 2;
}

static unsigned number(const char *s)
{
	return (unsigned)strtoul(s, NULL, 10);
}

static int parse(struct manyvm *m, int argc, char **argv)
{
	static const struct option options[] = {
		{"kernel", 1, NULL, 'k'}, {"initrd", 1, NULL, 'i'}, {"append", 1, NULL, 'a'}, {"nodes", 1, NULL, 'n'}, {"cpus", 1, NULL, 'c'},
		{"memory", 1, NULL, 'm'}, {"cache", 1, NULL, 'C'}, {"hold", 1, NULL, 'h'}, {"devices", 1, NULL, 'd'}, {"stats", 0, NULL, 's'},
		{"seconds", 1, NULL, 't'}, {"no-prefetch", 0, NULL, 'p'}, {"silence", 1, NULL, 'S'}, {"drift", 1, NULL, 'D'}, {"disk", 1, NULL, 'x'}, {0},
	};
	struct failure f = {0};
	int c;

	*m = (struct manyvm){.nodes = 2, .cpus = 1, .memory_mib = 128, .limit_ms = -1, .config.silence_ms = 60000 /* everything shares one scheduler here */};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'k': m->config.kernel = optarg; break;
		case 'i': m->config.initrd = optarg; break;
		case 'a': m->config.cmdline = optarg; break;
		case 'n': m->nodes = number(optarg); break;
		case 'c': m->cpus = number(optarg); break;
		case 'm': m->memory_mib = number(optarg); break;
		case 'C': m->config.cache_bytes = (uint64_t)number(optarg) << 20; break;
		case 'h': m->config.hold_us = number(optarg); break;
		case 'd': m->config.devices.v = (uint8_t)number(optarg); break;
		case 's': m->stats = true; break;
		case 'p': m->config.prefetch_off = true; break;
		case 'S': m->config.silence_ms = number(optarg); break;
		case 'D': m->drift_ppm = number(optarg); break;
		case 't': m->limit_ms = (int)number(optarg) * 1000; break;
		case 'x':
			if (gear_add_disk(&m->gear, optarg, &f)) {
				fprintf(stderr, "manyvm: %s; %s\n", f.what, f.todo);
				return 2;
			}
			break;
		default: return usage();
		}
	}
	return m->config.kernel && optind == argc && m->nodes >= 1 && m->nodes <= NODES_MAX && m->cpus * m->nodes <= VCPUS_MAX ? 0 : usage();
}

static void pin(unsigned node)
{
	cpu_set_t set;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	CPU_ZERO(&set);
	CPU_SET(node % (unsigned)(cpus > 0 ? cpus : 1), &set);
	sched_setaffinity(0, sizeof set, &set);
}

static int connect_all(struct manyvm *m)
{
	for (unsigned i = 0; i < m->nodes; i++)
		for (unsigned j = 0; j < i; j++)
			for (unsigned s = 0; s < MESH_STREAMS; s++) {
				int fd[2];

				if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
					return -errno;
				m->fd[i][j][s] = fd[0];
				m->fd[j][i][s] = fd[1];
			}
	return 0;
}

static int open_disks(struct manyvm *m, struct failure *f)
{
	int err = 0;

	for (unsigned n = 0; n < m->nodes && !err; n++) {
		err = depot_open(&m->depot[n], &(struct depot_config){.gear = &m->gear, .node = m->config.name[n]}, f);
		for (unsigned i = 0; i < m->gear.disks; i++)
			if (strcmp(m->gear.disk[i].node, m->config.name[n]) == 0)
				m->config.disk_node[i].v = (uint8_t)n;
	}
	for (unsigned i = 0; i < m->gear.disks && !err; i++)
		if (!m->gear.disk[i].found)
			err = failure_set(f, -EINVAL, "say node=A, B, ...", "disk %s is on no node", m->gear.disk[i].path);
	m->config.gear = &m->gear;
	return err;
}

static int open_part(struct manyvm *m, unsigned self, struct failure *f)
{
	struct aggregate_config c = m->config;

	c.self.v = (uint8_t)self;
	c.depot = m->depot[self];
	if (self == 1 && m->drift_ppm)
		c.pretended = (struct clock_scale){(UINT64_C(1) << 40) / 1000000 * (1000000 + m->drift_ppm), 40};
	for (unsigned n = 0; n < NODES_MAX; n++) {
		c.page_fd[n] = n < m->nodes && n != self ? m->fd[self][n][MESH_PAGE] : -1;
		c.bus_fd[n] = n < m->nodes && n != self ? m->fd[self][n][MESH_BUS] : -1;
		c.io_fd[n] = n < m->nodes && n != self ? m->fd[self][n][MESH_IO] : -1;
	}
	pin(self);
	return aggregate_open(&m->part[self], &c, f);
}

static int open_all(struct manyvm *m, struct failure *f)
{
	struct aggregate_config *c = &m->config;
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int err;

	if (kvm < 0)
		return failure_set(f, -errno, "load KVM", "no /dev/kvm");
	err = cpuid_host(kvm, &m->cpuid, f);
	close(kvm);
	if (!err)
		err = machine_host_tsc_khz(&m->cpuid.tsc_khz, f);
	c->cpuid = &m->cpuid;
	c->nodes = m->nodes;
	c->console = on_console;
	c->ended = on_ended;
	c->owner = m;
	for (unsigned n = 0; n < m->nodes; n++) {
		snprintf(c->name[n], sizeof c->name[n], "%c", 'A' + (int)n);
		c->bytes[n] = (uint64_t)m->memory_mib << 20;
		c->vcpus[n] = ((UINT64_C(1) << m->cpus) - 1) << (n * m->cpus);
	}
	if (!err)
		err = open_disks(m, f);
	for (unsigned n = 0; n < m->nodes && !err; n++)
		err = open_part(m, n, f);
	return err;
}

struct starter {
	struct manyvm *m;
	unsigned node;
	struct failure failure;
	int err;
};

static void *start_part(void *arg)
{
	struct starter *s = arg;

	pin(s->node);
	s->err = aggregate_start(s->m->part[s->node], &s->failure);
	return NULL;
}

static int start_all(struct manyvm *m, struct failure *f)
{
	struct starter starter[NODES_MAX];
	pthread_t thread[NODES_MAX];

	for (unsigned n = 0; n < m->nodes; n++) {
		starter[n] = (struct starter){.m = m, .node = n};
		if (pthread_create(&thread[n], NULL, start_part, &starter[n]))
			return -EAGAIN;
	}
	for (unsigned n = 0; n < m->nodes; n++) {
		pthread_join(thread[n], NULL);
		if (starter[n].err)
			*f = starter[n].failure;
	}
	return f->err;
}

static void print_stat(void *to, const char *key, uint64_t value)
{
	if (value)
		fprintf(stderr, "%c %s %llu\n", *(char *)to, key, (unsigned long long)value);
}

static void print_stats(struct manyvm *m)
{
	struct pager_hot hot[10];

	for (unsigned n = 0; n < m->nodes; n++) {
		char name = (char)('A' + (int)n);
		unsigned found = aggregate_hottest(m->part[n], hot, ARRAY_LEN(hot));

		aggregate_stats(m->part[n], print_stat, &name);
		for (unsigned i = 0; i < found; i++)
			fprintf(stderr, "%c hot gfn 0x%llx faults %u\n", name, (unsigned long long)hot[i].gfn.v, hot[i].faults);
	}
}

int main(int argc, char **argv)
{
	struct failure f = {0};
	struct manyvm m;
	uint64_t reason;
	int err;

	if (parse(&m, argc, argv))
		return 2;
	log_init(getenv("TESSERA_DEBUG") ? LOG_DEBUG : LOG_INFO, "manyvm");
	m.ended = eventfd(0, EFD_CLOEXEC);
	err = connect_all(&m);
	if (!err)
		err = open_all(&m, &f);
	if (!err)
		err = start_all(&m, &f);
	if (err) {
		fprintf(stderr, "manyvm: %s; %s\n", f.what, f.todo);
		return 40;
	}
	if (poll(&(struct pollfd){.fd = m.ended, .events = POLLIN}, 1, m.limit_ms) == 0)
		reason = 42;
	else if (read(m.ended, &reason, sizeof reason) < 0)
		return 40;
	if (m.stats)
		print_stats(&m);
	/* Threads that wait for pages never return: leave as a fragment does. */
	fflush(NULL);
	_exit((int)reason - 1);
}
