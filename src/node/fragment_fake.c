/* A machine without a guest (tessera run --fake): meshes with its neighbours as a real one does, echoes what is typed, and obeys a few words, so that
 * tests can drive the whole life of a VM on a host that cannot run one.
 *
 * On the console, a line each: poweroff, reset, panic, deaf (the power button does nothing from now on), die (the process exits without a word),
 * flood (write a megabyte), forbidden (make a system call that the sandbox does not allow). Each look at its statistics finds some requests more in a queue of
 * each vCPU, and always the same hot pages. In --append: fail=STEP:INDEX (that node refuses at prepare,
 * connect or start, or at prepare once the guest has reset itself: again), hang=STEP:INDEX (it takes for ever), ponder (its statistics take a while).
 *
 * Threads: one that watches the mesh; how it ends is vm/verdict's, as in the real one. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/log.h"
#include "base/text.h"
#include "net/mesh.h"
#include "node/fragment_machine.h"
#include "vm/verdict.h"
#include "wire/peer.h"

enum { DEADLINE_MS = 30000, TICK_MS = 100 };

struct fragment_machine {
	const struct fragment_config *config;
	struct fragment_calls calls;
	struct mesh mesh;
	struct verdict verdict;
	bool meshed, threaded, ended; /* atomic */
	pthread_t thread;
	int wake_fd; /* readable: watch no longer */
	bool deaf;   /* this and the rest: the control thread's */
	char line[64];
	size_t typed;
	uint64_t keys, looks; /* looks: at the statistics */
	uint64_t target, held; /* of and in its balloon */
};

static bool told(const struct fragment_config *c, const char *word, const char *step)
{
	char text[64];

	snprintf(text, sizeof text, "%s=%s:%u", word, step, c->self.v);
	return strstr(c->append, text) != NULL;
}

/* What --append wants of this step. */
static int obey(const struct fragment_config *c, const char *step, int cancel_fd, struct failure *f)
{
	struct pollfd p = {.fd = cancel_fd, .events = POLLIN};

	if (told(c, "fail", step))
		return failure_set(f, -ENOSPC, "do not ask for it", "node %s was told to fail at %s", c->node[c->self.v].name, step);
	if (!told(c, "hang", step))
		return 0;
	poll(&p, 1, -1);
	return -ECANCELED;
}

static void wake(struct fragment_machine *m)
{
	uint64_t one = 1;

	while (write(m->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* What the verdict asks for. */

static void on_stopping(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct fragment_machine *m = owner;
	struct peer_stop stop = {.reason = (uint8_t)reason, .node = about.v};
	uint8_t frame[WIRE_FRAME_MAX];
	size_t bytes;

	if (!__atomic_load_n(&m->meshed, __ATOMIC_ACQUIRE))
		return;
	wire_set_text(&stop.what, what);
	bytes = peer_put_stop(&stop, frame, sizeof frame);
	for (unsigned k = 0; k < m->config->nodes; k++)
		if (m->mesh.fd[k][MESH_BUS] >= 0 && write(m->mesh.fd[k][MESH_BUS], frame, bytes) < 0)
			continue; /* it is gone, and others tell why */
}

static void on_ended(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct fragment_machine *m = owner;

	log_info("the VM ended: %s, node %s: %s", stop_reason_name(reason), m->config->node[about.v].name, what);
	__atomic_store_n(&m->ended, true, __ATOMIC_RELEASE);
	m->calls.ended(m->calls.owner, reason, about, what);
	wake(m);
}

static int fake_prepare(struct fragment_machine **out, const struct fragment_config *c, const struct fragment_calls *calls, uint8_t *cpuid,
                        uint32_t *cpuid_bytes, struct failure *f)
{
	struct fragment_machine *m;
	int err = obey(c, c->resets ? "again" : "prepare", -1, f);

	if (err)
		return err;
	m = calloc(1, sizeof *m);
	if (!m)
		return -ENOMEM;
	*m = (struct fragment_machine){.config = c, .calls = *calls, .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	verdict_init(&m->verdict, c->self, c->nodes, &(struct verdict_calls){on_stopping, on_ended, m});
	for (unsigned k = 0; k < NODES_MAX; k++)
		for (unsigned s = 0; s < MESH_STREAMS; s++)
			m->mesh.fd[k][s] = -1;
	memcpy(cpuid, "fake", 4);
	*cpuid_bytes = 4;
	*out = m;
	return 0;
}

static int fake_connect(struct fragment_machine *m, int cancel_fd, struct failure *f)
{
	const struct fragment_config *c = m->config;
	struct mesh_plan plan = {.self = c->self, .nodes = c->nodes, .listen_fd = c->listen_fd, .vm_id = c->vm_id, .cookie_hi = c->cookie_hi,
		.cookie_lo = c->cookie_lo, .deadline_ms = DEADLINE_MS, .cancel_fd = cancel_fd};
	int err = obey(c, "connect", cancel_fd, f);

	for (unsigned k = 0; k < c->nodes && !err; k++) {
		TEXT_SET(plan.name[k], c->node[k].name);
		if (k != c->self.v)
			err = addr_parse(&plan.peer[k], c->node[k].address, f);
		if (!err && (c->node[k].cpuid_bytes != 4 || memcmp(c->node[k].cpuid, "fake", 4) != 0))
			err = failure_set(f, -EXDEV, "do not mix them", "node %s is not fake", c->node[k].name);
	}
	if (!err)
		err = mesh_open(&m->mesh, &plan, f);
	__atomic_store_n(&m->meshed, !err, __ATOMIC_RELEASE);
	return err;
}

static void say(struct fragment_machine *m, const char *text)
{
	if (m->config->self.v == m->config->coordinator.v)
		m->calls.console(m->calls.owner, text, strlen(text));
}

/* Before anybody watches the mesh there is nobody to wait for. */
static void end(struct fragment_machine *m, enum stop_reason reason, node_t about, const char *what)
{
	verdict_cause(&m->verdict, reason, about, what);
	if (!__atomic_load_n(&m->threaded, __ATOMIC_ACQUIRE))
		verdict_tick(&m->verdict, UINT64_MAX);
}

/* A peer says that it stops, or is gone (false). */
static bool heard(struct fragment_machine *m, unsigned k)
{
	uint8_t frame[WIRE_FRAME_MAX];
	ssize_t n = read(m->mesh.fd[k][MESH_BUS], frame, sizeof frame);
	node_t from = {(uint8_t)k};
	struct peer_stop stop;
	char what[128];

	if (n > WIRE_HEADER_BYTES && !peer_get_stop(frame + WIRE_HEADER_BYTES, (size_t)n - WIRE_HEADER_BYTES, &stop)) {
		verdict_heard(&m->verdict, from, stop.reason, (node_t){stop.node}, stop.what.s);
		return true;
	}
	snprintf(what, sizeof what, "the stream to node %s broke", m->config->node[k].name);
	verdict_lost(&m->verdict, from, what);
	return false;
}

static void *watch(void *arg)
{
	struct fragment_machine *m = arg;
	struct pollfd p[NODES_MAX + 1] = {{.fd = m->wake_fd, .events = POLLIN}};
	unsigned nodes = m->config->nodes;

	for (unsigned k = 0; k < nodes; k++)
		p[k + 1] = (struct pollfd){.fd = m->mesh.fd[k][MESH_BUS], .events = POLLIN};
	while (poll(p, nodes + 1, TICK_MS) < 0 || !(p[0].revents & POLLIN)) {
		for (unsigned k = 0; k < nodes; k++)
			if (p[k + 1].revents && !heard(m, k))
				p[k + 1].fd = -1;
		verdict_tick(&m->verdict, verdict_now_ms());
	}
	return NULL;
}

static int fake_start(struct fragment_machine *m, struct failure *f)
{
	char text[128];
	int err = obey(m->config, "start", -1, f);

	if (err)
		return err;
	if (__atomic_load_n(&m->ended, __ATOMIC_ACQUIRE))
		return -ECANCELED;
	if (pthread_create(&m->thread, NULL, watch, m))
		return -EAGAIN;
	__atomic_store_n(&m->threaded, true, __ATOMIC_RELEASE);
	snprintf(text, sizeof text, "fake guest: %u CPUs on %u nodes\r\n", m->config->cpus, m->config->nodes);
	say(m, text);
	return 0;
}

static void fake_stop(struct fragment_machine *m, enum stop_reason reason, node_t about, const char *what)
{
	end(m, reason, about, what);
}

static void flood(struct fragment_machine *m)
{
	char text[65];

	for (unsigned k = 0; k < 16384; k++) {
		snprintf(text, sizeof text, "%08x%054x\r\n", k, k);
		say(m, text);
	}
}

/* The sandbox ends the process here. */
static void forbidden(struct fragment_machine *m)
{
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	say(m, s < 0 ? "it was refused\r\n" : "it was allowed\r\n");
	if (s >= 0)
		close(s);
}

static void command(struct fragment_machine *m, const char *line)
{
	node_t self = m->config->self;

	if (strcmp(line, "poweroff") == 0)
		end(m, STOP_POWEROFF, self, "");
	else if (strcmp(line, "reset") == 0)
		end(m, STOP_RESET, self, "");
	else if (strcmp(line, "panic") == 0)
		end(m, STOP_PANIC, self, "the guest said so");
	else if (strcmp(line, "deaf") == 0)
		m->deaf = true;
	else if (strcmp(line, "die") == 0)
		abort();
	else if (strcmp(line, "forbidden") == 0)
		forbidden(m);
	else if (strcmp(line, "flood") == 0)
		flood(m);
}

static void fake_console_input(struct fragment_machine *m, const void *bytes, size_t n)
{
	const char *at = bytes;

	m->calls.console(m->calls.owner, bytes, n);
	m->keys += n;
	for (; n; n--, at++) {
		if (*at != '\r' && *at != '\n') {
			if (m->typed < sizeof m->line - 1)
				m->line[m->typed++] = *at;
			continue;
		}
		m->line[m->typed] = 0;
		m->typed = 0;
		command(m, m->line);
	}
}

static void fake_power_button(struct fragment_machine *m)
{
	say(m, "power button\r\n");
	if (!m->deaf)
		end(m, STOP_POWEROFF, m->config->self, "");
}

/* It gives what it is asked for, half at a time. */
static void fake_balloon(struct fragment_machine *m, uint64_t memory)
{
	m->target = m->config->memory - memory;
}

static void fake_stats(struct fragment_machine *m, void (*line)(void *to, const char *key, uint64_t value), void *to)
{
	char key[NAME_BYTES];

	line(to, "keys", m->keys);
	m->looks++;
	if (strstr(m->config->append, "ponder"))
		poll(NULL, 0, 300);
	if (node_eq(m->config->self, m->config->coordinator)) {
		line(to, "balloon.driver", 1);
		line(to, "balloon.target_bytes", m->target);
		line(to, "balloon.held_bytes", m->held = (m->held + m->target) / 2);
	}
	for (unsigned v = 0; v < VCPUS_MAX; v++) {
		if (!(m->config->node[m->config->self.v].vcpus >> v & 1))
			continue;
		snprintf(key, sizeof key, "vcpu.%u.cpu_ns", v);
		line(to, key, 0);
		snprintf(key, sizeof key, "vcpu.%u.faults", v);
		line(to, key, m->keys);
		snprintf(key, sizeof key, "queue.blk0.%u.requests", v);
		line(to, key, 1000 * (v + 1) * m->looks);
		snprintf(key, sizeof key, "queue.blk0.%u.bytes", v);
		line(to, key, 4096000 * m->looks);
		snprintf(key, sizeof key, "queue.blk0.%u.waits", v);
		line(to, key, 7);
	}
	for (unsigned k = 0; k < 12; k++) {
		snprintf(key, sizeof key, "hot.gfn.0x%x", 0x100 + k);
		line(to, key, 100 - k);
	}
	line(to, "vcpus", (uint64_t)__builtin_popcountll(m->config->node[m->config->self.v].vcpus));
}

static void fake_close(struct fragment_machine *m)
{
	verdict_mute(&m->verdict);
	wake(m);
	if (m->threaded)
		pthread_join(m->thread, NULL);
	if (m->meshed)
		mesh_close(&m->mesh);
	close(m->wake_fd);
	verdict_fini(&m->verdict);
	free(m);
}

const struct fragment_machine_ops fragment_machine_fake = {
	.prepare = fake_prepare,
	.connect = fake_connect,
	.start = fake_start,
	.stop = fake_stop,
	.console_input = fake_console_input,
	.power_button = fake_power_button,
	.balloon = fake_balloon,
	.stats = fake_stats,
	.close = fake_close,
};
