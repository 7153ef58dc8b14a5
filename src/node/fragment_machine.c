/* The real machine of a fragment: its share of an aggregate VM (vm/aggregate.h), found and joined as the daemon says.
 *
 * Threads: prepare, connect and start run on the fragment's worker, one after the other; the rest on its control thread. 'lock' guards what both touch
 * while connect is under way: the aggregate's pointer, and a stop that came before there was one. */
#include "node/fragment_machine.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "net/mesh.h"
#include "node/bootfiles.h"
#include "vm/aggregate.h"
#include "vm/leaves.h"

enum { MESH_DEADLINE_MS = 30000, STATS_HOTTEST = 10 };

struct fragment_machine {
	const struct fragment_config *config;
	struct fragment_calls calls;
	struct cpuid_table cpuid;    /* this host's, then what all nodes share */
	pthread_mutex_t lock;
	struct aggregate *aggregate; /* NULL until connected; guarded by lock for writing */
	bool stopped;                /* guarded by lock */
	struct bootfiles files;      /* node with the devices */
};

static int look_at_host(struct cpuid_table *t, struct failure *f)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int err;

	if (kvm < 0)
		return failure_set(f, -errno, "run 'tessera doctor' on that node", "cannot open /dev/kvm: %s", strerror(errno));
	err = cpuid_host(kvm, t, f);
	close(kvm);
	return err ? err : machine_host_tsc_khz(&t->tsc_khz, f);
}

static int prepare(struct fragment_machine **out, const struct fragment_config *c, const struct fragment_calls *calls, uint8_t *cpuid, uint32_t *cpuid_bytes,
                   struct failure *f)
{
	struct fragment_machine *m = calloc(1, sizeof *m);
	int err;

	if (!m)
		return -ENOMEM;
	*m = (struct fragment_machine){.config = c, .calls = *calls, .lock = PTHREAD_MUTEX_INITIALIZER};
	err = look_at_host(&m->cpuid, f);
	if (!err && node_eq(c->self, c->coordinator)) /* loading comes later, in the sandbox */
		err = bootfiles_open(&m->files, c, f);
	if (!err) {
		*cpuid_bytes = (uint32_t)leaves_pack(&m->cpuid, cpuid, FRAGMENT_CPUID_MAX);
		*out = m;
		return 0;
	}
	bootfiles_close(&m->files);
	free(m);
	return err;
}

/* All nodes compute the same table: node 0's, met with each other's in order. */
static int meet_cpuids(struct fragment_machine *m, struct failure *f)
{
	const struct fragment_config *c = m->config;
	struct cpuid_table other;
	int err = 0;

	for (unsigned n = 0; n < c->nodes && !err; n++) {
		struct cpuid_table *to = n == 0 ? &m->cpuid : &other;

		if (leaves_unpack(to, c->node[n].cpuid, c->node[n].cpuid_bytes))
			return failure_set(f, -EBADMSG, "run the same version everywhere", "node %s describes its CPU in a way this node does not know", c->node[n].name);
		if (n > 0)
			err = cpuid_meet(&m->cpuid, &other, &m->cpuid, f);
	}
	return err;
}

static int join_mesh(struct fragment_machine *m, int cancel_fd, struct mesh *mesh, struct failure *f)
{
	const struct fragment_config *c = m->config;
	struct mesh_plan plan = {.self = c->self, .nodes = c->nodes, .listen_fd = c->listen_fd, .vm_id = c->vm_id, .cookie_hi = c->cookie_hi,
		.cookie_lo = c->cookie_lo, .deadline_ms = MESH_DEADLINE_MS, .cancel_fd = cancel_fd};

	for (unsigned n = 0; n < c->nodes; n++) {
		int err = n == c->self.v ? 0 : addr_parse(&plan.peer[n], c->node[n].address, f);

		if (err)
			return err;
		TEXT_SET(plan.name[n], c->node[n].name);
	}
	return mesh_open(mesh, &plan, f);
}

static void on_console(void *owner, const void *bytes, size_t n)
{
	struct fragment_machine *m = owner;

	m->calls.console(m->calls.owner, bytes, n);
}

static void on_ended(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct fragment_machine *m = owner;

	m->calls.ended(m->calls.owner, reason, about, what);
}

/* The node of that name, "": of the devices; c->nodes: there is none. */
static unsigned node_named(const struct fragment_config *c, const char *name)
{
	unsigned n = 0;

	while (n < c->nodes && strcmp(*name ? name : c->node[c->coordinator.v].name, c->node[n].name) != 0)
		n++;
	return n;
}

/* Which node has each disk, and that it said what the disk is; and which has each network card. */
static int place_gear(const struct fragment_config *c, struct aggregate_config *a, struct failure *f)
{
	for (unsigned i = 0; i < c->gear.nics; i++) {
		unsigned n = node_named(c, c->gear.nic[i].node);

		if (n == c->nodes)
			return failure_set(f, -ENODEV, "run the same version everywhere", "node %s, which has a network card, has no part of the VM", c->gear.nic[i].node);
		a->nic_node[i].v = (uint8_t)n;
	}
	for (unsigned i = 0; i < c->gear.disks; i++) {
		const struct gear_disk *d = &c->gear.disk[i];
		unsigned n = node_named(c, d->node);

		if (n == c->nodes || !d->found)
			return failure_set(f, -ENODEV, "see that node's log", "nothing is known of disk %s on node %s", d->path, d->node);
		a->disk_node[i].v = (uint8_t)n;
	}
	return 0;
}

static int open_aggregate(struct fragment_machine *m, struct mesh *mesh, struct aggregate **out, struct failure *f)
{
	const struct fragment_config *c = m->config;
	struct aggregate_config a = {.self = c->self, .nodes = c->nodes, .devices = c->coordinator, .cpuid = &m->cpuid,
		.gear = &c->gear, .depot = c->depot, .porch = c->porch, .kernel = m->files.kernel,
		.initrd = c->initrd[0] ? c->initrd : m->files.initrd_fd > 0 ? m->files.kernel : NULL, .kernel_fd = m->files.kernel_fd, .initrd_fd = m->files.initrd_fd,
		.cmdline = m->files.append,
		.console = on_console, .ended = on_ended, .owner = m};
	int err = place_gear(c, &a, f);

	if (err) {
		mesh_close(mesh);
		return err;
	}
	for (unsigned n = 0; n < NODES_MAX; n++) {
		a.page_fd[n] = n < c->nodes ? mesh->fd[n][MESH_PAGE] : -1;
		a.bus_fd[n] = n < c->nodes ? mesh->fd[n][MESH_BUS] : -1;
		a.io_fd[n] = n < c->nodes ? mesh->fd[n][MESH_IO] : -1;
	}
	for (unsigned n = 0; n < c->nodes; n++) {
		TEXT_SET(a.name[n], c->node[n].name);
		a.bytes[n] = c->node[n].memory;
		a.vcpus[n] = c->node[n].vcpus;
	}
	return aggregate_open(out, &a, f);
}

static int connect_all(struct fragment_machine *m, int cancel_fd, struct failure *f)
{
	struct aggregate *a = NULL;
	struct mesh mesh;
	int err = meet_cpuids(m, f);

	if (!err)
		err = join_mesh(m, cancel_fd, &mesh, f);
	if (!err)
		err = open_aggregate(m, &mesh, &a, f);
	if (err)
		return err;
	pthread_mutex_lock(&m->lock);
	m->aggregate = a;
	err = m->stopped ? -ECANCELED : 0;
	pthread_mutex_unlock(&m->lock);
	return err;
}

static int start(struct fragment_machine *m, struct failure *f)
{
	int err = aggregate_start(m->aggregate, f);

	bootfiles_close(&m->files);
	return err;
}

static void stop(struct fragment_machine *m, enum stop_reason reason, node_t about, const char *what)
{
	struct aggregate *a;

	pthread_mutex_lock(&m->lock);
	a = m->aggregate;
	m->stopped = true;
	pthread_mutex_unlock(&m->lock);
	if (a)
		aggregate_end(a, reason, about, what);
	else
		m->calls.ended(m->calls.owner, reason, about, what);
}

static void console_input(struct fragment_machine *m, const void *bytes, size_t n)
{
	if (m->aggregate && aggregate_console_input(m->aggregate, bytes, n) < n)
		log_debug("the guest's console takes no more keys for now");
}

static void power_button(struct fragment_machine *m)
{
	if (m->aggregate)
		aggregate_power_button(m->aggregate);
}

static void balloon(struct fragment_machine *m, uint64_t memory)
{
	if (m->aggregate)
		aggregate_balloon(m->aggregate, memory);
}

static void stats(struct fragment_machine *m, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	struct pager_hot hot[STATS_HOTTEST];
	unsigned found;

	if (!m->aggregate)
		return;
	aggregate_stats(m->aggregate, line, to);
	found = aggregate_hottest(m->aggregate, hot, STATS_HOTTEST);
	for (unsigned k = 0; k < found; k++) {
		char key[NAME_BYTES];

		snprintf(key, sizeof key, "hot.gfn.0x%" PRIx64, hot[k].gfn.v);
		line(to, key, hot[k].faults);
	}
}

static void drain(struct fragment_machine *m)
{
	if (m->aggregate)
		aggregate_drain(m->aggregate);
}

static void close_machine(struct fragment_machine *m)
{
	aggregate_close(m->aggregate);
	bootfiles_close(&m->files);
	free(m);
}

const struct fragment_machine_ops fragment_machine_real = {
	.prepare = prepare, .connect = connect_all, .start = start, .stop = stop, .console_input = console_input, .power_button = power_button,
	.balloon = balloon, .stats = stats, .drain = drain, .close = close_machine,
};
