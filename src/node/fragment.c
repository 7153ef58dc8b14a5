/* See fragment.h. */
#include "node/fragment.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/log.h"
#include "base/text.h"
#include "node/channel.h"
#include "node/fragment_gear.h"
#include "node/fragment_machine.h"
#include "node/fragment_talk.h"
#include "node/baggage.h"
#include "node/kvmcheck.h"
#include "node/sandbox.h"
#include "node/spawn.h"

enum {
	LINGER_MS = 3000,          /* for a daemon to come and hear how it ended */
	CLOSE_S = 5,               /* then the process is killed */
};

enum step { STEP_NONE, STEP_PREPARE, STEP_CONNECT, STEP_START };

struct fragment {
	struct loop loop;
	struct loop_watch listener, mail;
	struct channel *daemon;
	struct loop_timer linger;
	struct fragment_config config;
	struct control_part_prepare asked; /* append.at points into config, file and seed to baggage, gear.at to gear_text */
	struct baggage baggage;
	char gear_text[GEAR_TEXT_BYTES];
	struct fragment_gear gear;
	unsigned layouts;
	enum control_part_state state;
	uint64_t born_ms;
	const struct fragment_machine_ops *ops;
	struct fragment_machine *machine;
	char address[ADDR_TEXT_BYTES];
	struct fragment_talk talk;
	bool over;                         /* its end has been told, or nobody is there to be told */
	int status_fd;                     /* /proc/self/status */

	enum step step;                    /* running on the step thread */
	pthread_t thread;
	int cancel_fd;
	int step_err;                      /* the step thread's, read after it is joined */
	struct failure step_failure;
	uint8_t cpuid[FRAGMENT_CPUID_MAX];
	uint32_t cpuid_bytes;

	pthread_mutex_t lock;              /* guards what follows: news from other threads */
	bool step_done, ended;
	enum stop_reason reason;
	node_t about;
	char what[256];
};

static void wake(struct fragment *g)
{
	uint64_t one = 1;

	while (write(g->mail.fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void wake_up(void *owner)
{
	wake(owner);
}

static void on_console(void *owner, const void *bytes, size_t n)
{
	fragment_talk_add(&((struct fragment *)owner)->talk, CONTROL_CONSOLE_SERIAL, bytes, n);
}

static void on_ended(void *owner, enum stop_reason reason, node_t about, const char *what)
{
	struct fragment *g = owner;

	pthread_mutex_lock(&g->lock);
	if (!g->ended) {
		g->ended = true;
		g->reason = reason;
		g->about = about;
		TEXT_SET(g->what, what);
	}
	pthread_mutex_unlock(&g->lock);
	wake(g);
}

static int prepare(struct fragment *g)
{
	struct fragment_calls calls = {.owner = g, .console = on_console, .ended = on_ended};
	struct fragment_config *c = &g->config;
	int err = fragment_gear_open(&g->gear, &g->step_failure);

	if (!err && !(c->flags & (CONTROL_RUN_FAKE | CONTROL_RUN_UNSAFE_MMU))) {
		if (c->nodes > 1)
			err = kvmcheck_span(c->node[c->self.v].name, &g->step_failure);
		if (!err)
			err = kvmcheck_stock(c->node[c->self.v].name, &g->step_failure);
	}
	return err ? err : g->ops->prepare(&g->machine, c, &calls, g->cpuid, &g->cpuid_bytes, &g->step_failure);
}

static void *run_step(void *arg)
{
	struct fragment *g = arg;

	if (g->step == STEP_PREPARE)
		g->step_err = prepare(g);
	else if (g->step == STEP_CONNECT)
		g->step_err = g->ops->connect(g->machine, g->cancel_fd, &g->step_failure);
	else
		g->step_err = g->ops->start(g->machine, &g->step_failure);
	pthread_mutex_lock(&g->lock);
	g->step_done = true;
	pthread_mutex_unlock(&g->lock);
	wake(g);
	return NULL;
}

static void begin_step(struct fragment *g, enum step step)
{
	if (g->step != STEP_NONE || g->over)
		return;
	g->step = step;
	ensure(pthread_create(&g->thread, NULL, run_step, g) == 0);
}

static void join_step(struct fragment *g)
{
	uint64_t one = 1;

	if (g->step == STEP_NONE)
		return;
	if (write(g->cancel_fd, &one, sizeof one) < 0)
		log_warn("cannot cancel: %s", strerror(errno));
	pthread_join(g->thread, NULL);
	g->step = STEP_NONE;
}

/* Nothing more to do or tell: leave the loop when the daemon has taken all we said. */
static void leave(struct fragment *g)
{
	g->over = true;
	if (!g->daemon || !channel_queued(g->daemon))
		loop_stop(&g->loop);
	else
		loop_arm(&g->loop, &g->linger, LINGER_MS);
}

static void linger_over(struct loop_timer *t)
{
	loop_stop(&((struct fragment *)((char *)t - offsetof(struct fragment, linger)))->loop);
}

static void fail(struct fragment *g, const struct failure *f)
{
	if (g->daemon)
		CHANNEL_SEND(g->daemon, part_failed, .vm_id = g->config.vm_id, .index = g->config.self.v, .code = (uint32_t)-f->err,
			.node = channel_name(f->node), .what = channel_text(f->what), .todo = channel_text(f->todo));
	leave(g);
}

static void tell_ended(struct fragment *g)
{
	const char *about = g->about.v < g->config.nodes ? g->config.node[g->about.v].name : "";

	g->state = CONTROL_PART_ENDED;
	if (!g->daemon) {
		if (!g->linger.armed)
			loop_arm(&g->loop, &g->linger, LINGER_MS);
		return;
	}
	if (!fragment_talk_show(&g->talk, g->daemon))
		return; /* see drained */
	CHANNEL_SEND(g->daemon, part_ended, .vm_id = g->config.vm_id, .index = g->config.self.v, .resets = g->config.resets, .reason = (uint8_t)g->reason,
		.about = channel_name(about), .what = channel_text(g->what));
	leave(g);
}

/* All it needs is open now, and no guest has run. */
static int lock_up(struct fragment *g)
{
	return g->config.flags & CONTROL_RUN_NO_SANDBOX ? 0 : sandbox_lock(g->config.vm_id, &g->step_failure);
}

static void step_over(struct fragment *g)
{
	enum step step = g->step;

	pthread_join(g->thread, NULL);
	g->step = STEP_NONE;
	if (!g->step_err && step == STEP_CONNECT)
		g->step_err = lock_up(g);
	if (g->step_err == -ECANCELED && step == STEP_START && g->machine)
		return; /* the VM ended before it ran here; what it ended by is being agreed on, and told by on_ended */
	if (g->step_err) {
		failure_set(&g->step_failure, g->step_err, "look at that node's log", "node %s cannot take its part of %s: %s", g->config.node[g->config.self.v].name,
			g->config.vm, strerror(-g->step_err));
		fail(g, &g->step_failure);
		return;
	}
	if (!g->daemon)
		return; /* it is over for us: see daemon_closed */
	if (step == STEP_PREPARE) {
		fragment_gear_tell(&g->gear, g->daemon);
		g->state = CONTROL_PART_READY;
		CHANNEL_SEND(g->daemon, part_ready, .vm_id = g->config.vm_id, .index = g->config.self.v, .pid = (uint32_t)getpid(),
			.address = channel_text(g->address), .cpuid = {g->cpuid, g->cpuid_bytes});
	} else if (step == STEP_CONNECT) {
		g->state = CONTROL_PART_MESHED;
		CHANNEL_SEND(g->daemon, part_meshed, .vm_id = g->config.vm_id, .index = g->config.self.v);
	} else {
		g->state = CONTROL_PART_STARTED;
		CHANNEL_SEND(g->daemon, part_started, .vm_id = g->config.vm_id, .index = g->config.self.v);
	}
}

/* Its last words come before its end: what a guest says in its last millisecond, and why it panicked, is still on its way then. */
static void hear_out(struct fragment *g)
{
	if (g->step == STEP_PREPARE || g->step == STEP_CONNECT || !g->machine || !g->ops->drain)
		return;
	g->ops->drain(g->machine);
	fragment_talk_take(&g->talk);
	fragment_talk_show(&g->talk, g->daemon);
}

static void mail_ready(struct loop_watch *w, uint32_t events)
{
	struct fragment *g = (struct fragment *)((char *)w - offsetof(struct fragment, mail));
	uint64_t count;
	bool step_done, ended;

	if (read(w->fd, &count, sizeof count) < 0)
		return;
	fragment_talk_take(&g->talk);
	fragment_talk_show(&g->talk, g->daemon);
	fragment_gear_report(&g->gear, g->daemon);
	pthread_mutex_lock(&g->lock);
	step_done = g->step_done;
	g->step_done = false;
	ended = g->ended;
	pthread_mutex_unlock(&g->lock);
	if (step_done)
		step_over(g);
	if (ended && g->state != CONTROL_PART_ENDED)
		hear_out(g);
	if (ended && !g->over)
		tell_ended(g);
}

static void on_prepare(struct fragment *g, const uint8_t *body, size_t bytes)
{
	struct control_part_prepare in;
	struct fragment_config *c = &g->config;

	if (c->nodes || control_get_part_prepare(body, bytes, &in) || in.nodes < 1 || in.nodes > NODES_MAX || in.index >= in.nodes ||
	    in.coordinator_index >= in.nodes || in.append.bytes >= sizeof c->append || !baggage_good(&in.file, &in.seed) ||
	    in.gear.bytes >= sizeof g->gear_text || gear_read(&c->gear, (const char *)in.gear.at, in.gear.bytes, NULL) || baggage_set(&g->baggage, in.file, in.seed))
		return;
	g->asked = in;
	g->asked.append.at = (const uint8_t *)c->append;
	g->asked.file = g->baggage.file;
	g->asked.seed = g->baggage.seed;
	c->seed = g->baggage.seed;
	g->asked.gear.at = (const uint8_t *)g->gear_text;
	c->vm_id = in.vm_id;
	TEXT_SET(c->vm, in.vm.s);
	c->self.v = in.index;
	c->coordinator.v = in.coordinator_index;
	c->nodes = in.nodes;
	c->cpus = in.cpus;
	c->memory = in.memory;
	TEXT_SET(c->kernel, in.kernel.s);
	TEXT_SET(c->initrd, in.initrd.s);
	if (in.append.bytes)
		memcpy(c->append, in.append.at, in.append.bytes);
	if (in.gear.bytes)
		memcpy(g->gear_text, in.gear.at, in.gear.bytes);
	c->flags = in.flags;
	c->resets = in.resets;
	c->cid = in.cid;
	fragment_talk_seek(&g->talk, CONTROL_CONSOLE_SERIAL, in.console_at);
	fragment_talk_seek(&g->talk, CONTROL_CONSOLE_HVC, in.hvc_at);
	g->ops = in.flags & CONTROL_RUN_FAKE ? &fragment_machine_fake : &fragment_machine_real;
}

/* While there is one thread and nothing has been opened. */
static int enter_sandbox(struct fragment *g)
{
	g->status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	if (!(g->config.flags & CONTROL_RUN_NO_SANDBOX))
		return sandbox_begin(&g->step_failure);
	log_warn("%s runs without a sandbox: whoever takes over its guest's fragment has this host", g->config.vm);
	return 0;
}

static void on_layout(struct fragment *g, const uint8_t *body, size_t bytes)
{
	struct control_part_layout in;

	if (control_get_part_layout(body, bytes, &in) || in.of != g->layouts || g->layouts >= g->config.nodes)
		return;
	TEXT_SET(g->config.node[in.of].name, in.node.s);
	g->config.node[in.of].vcpus = in.vcpus;
	g->config.node[in.of].memory = in.memory;
	if (++g->layouts < g->config.nodes)
		return;
	/* before the sandbox: the process that connects for the guest keeps the host's files */
	if (fragment_talk_open(&g->talk, SPAWN_CONTROL_FD, &g->step_failure) || enter_sandbox(g))
		fail(g, &g->step_failure);
	else
		begin_step(g, STEP_PREPARE);
}

static void on_peer(struct fragment *g, const uint8_t *body, size_t bytes)
{
	struct control_part_peer in;
	struct fragment_node *n;

	if (control_get_part_peer(body, bytes, &in) || in.of >= g->config.nodes || in.cpuid.bytes > FRAGMENT_CPUID_MAX)
		return;
	n = &g->config.node[in.of];
	TEXT_SET(n->address, in.address.s);
	free(n->cpuid);
	n->cpuid = malloc(in.cpuid.bytes + 1);
	ensure(n->cpuid);
	if (in.cpuid.bytes)
		memcpy(n->cpuid, in.cpuid.at, in.cpuid.bytes);
	n->cpuid_bytes = in.cpuid.bytes;
}

static void on_connect(struct fragment *g, const uint8_t *body, size_t bytes)
{
	struct control_part_connect in;
	struct failure f = {0};

	if (control_get_part_connect(body, bytes, &in) || g->state != CONTROL_PART_READY)
		return;
	g->config.cookie_hi = in.cookie_hi;
	g->config.cookie_lo = in.cookie_lo;
	if (fragment_gear_check(&g->gear, &f))
		fail(g, &f);
	else
		begin_step(g, STEP_CONNECT);
}

static node_t node_named(const struct fragment *g, const char *name)
{
	for (unsigned k = 0; k < g->config.nodes; k++)
		if (strcmp(g->config.node[k].name, name) == 0)
			return (node_t){(uint8_t)k};
	return g->config.self;
}

static void on_stop(struct fragment *g, const uint8_t *body, size_t bytes)
{
	struct control_part_stop in;
	node_t about;

	if (control_get_part_stop(body, bytes, &in) || in.reason >= STOP_REASONS)
		return;
	about = node_named(g, in.about.s);
	if (g->step != STEP_NONE) { /* not yet a machine that could be told: cut the step short */
		uint64_t one = 1;

		if (write(g->cancel_fd, &one, sizeof one) < 0)
			log_warn("cannot cancel: %s", strerror(errno));
	}
	if (g->step != STEP_PREPARE && g->machine)
		g->ops->stop(g->machine, in.reason, about, in.what.s);
	else
		on_ended(g, in.reason, about, in.what.s);
}

static void stat_line(void *to, const char *key, uint64_t value)
{
	CHANNEL_SEND((struct channel *)to, stat_line, .key = channel_name(key), .value = value);
}

/* What the kernel says this process holds; bytes of a field of /proc/self/status, which counts kB. */
static void stat_memory(struct fragment *g, const char *key, const char *field)
{
	char status[4096], *line;
	ssize_t n = pread(g->status_fd, status, sizeof status - 1, 0);
	uint64_t kib;

	status[n > 0 ? n : 0] = 0;
	for (line = status; line; line = strchr(line + 1, '\n'))
		if (strncmp(line + 1, field, strlen(field)) == 0 && sscanf(line + 1 + strlen(field), ": %" SCNu64, &kib) == 1)
			stat_line(g->daemon, key, kib << 10);
}

static void on_ask_stats(struct fragment *g)
{
	if (g->state == CONTROL_PART_STARTED && g->machine) {
		stat_line(g->daemon, "memory.guest_bytes", g->config.node[g->config.self.v].memory);
		stat_memory(g, "memory.resident_bytes", "VmRSS");
		stat_memory(g, "memory.resident_max_bytes", "VmHWM");
		g->ops->stats(g->machine, stat_line, g->daemon);
		depot_stats(g->config.depot, stat_line, g->daemon);
		fragment_talk_stats(&g->talk, stat_line, g->daemon);
	}
	CHANNEL_SEND(g->daemon, end, );
}

/* A daemon that does not know us. */
static void on_ask_status(struct fragment *g)
{
	uint8_t frame[WIRE_FRAME_MAX];

	channel_send(g->daemon, frame, control_put_part_prepare(&g->asked, frame, sizeof frame));
	for (unsigned k = 0; k < g->layouts; k++)
		CHANNEL_SEND(g->daemon, part_layout, .vm_id = g->config.vm_id, .of = (uint8_t)k, .node = channel_name(g->config.node[k].name),
			.vcpus = g->config.node[k].vcpus, .memory = g->config.node[k].memory);
	CHANNEL_SEND(g->daemon, part_status, .vm_id = g->config.vm_id, .index = g->config.self.v, .state = (uint8_t)g->state, .pid = (uint32_t)getpid(),
		.age_ms = loop_now_ms() - g->born_ms, .address = channel_text(g->address));
	fragment_talk_begin(&g->talk, true);
	fragment_talk_show(&g->talk, g->daemon);
	if (g->state == CONTROL_PART_ENDED)
		tell_ended(g);
}

static void on_keys(struct fragment *g, const uint8_t *body, size_t bytes)
{
	bool takes = g->state == CONTROL_PART_STARTED || g->step == STEP_START; /* a guest that is being started may have asked already */
	struct control_console_in in;

	if (control_get_console_in(body, bytes, &in) || !takes || !g->machine)
		return;
	if (in.port == CONTROL_CONSOLE_SERIAL)
		g->ops->console_input(g->machine, in.bytes.at, in.bytes.bytes);
	else
		fragment_talk_keys(&g->talk, in.bytes);
}

static void on_balloon(struct fragment *g, const uint8_t *body, size_t bytes)
{
	struct control_part_balloon in;

	if (!control_get_part_balloon(body, bytes, &in) && g->state == CONTROL_PART_STARTED && g->machine && node_eq(g->config.self, g->config.coordinator))
		g->ops->balloon(g->machine, in.memory);
}

static void from_daemon(void *owner, struct channel *c, unsigned id, const uint8_t *body, size_t bytes)
{
	struct fragment *g = owner;

	switch (id) {
	case CONTROL_part_prepare:
		on_prepare(g, body, bytes);
		break;
	case CONTROL_part_layout:
		on_layout(g, body, bytes);
		break;
	case CONTROL_part_peer:
		on_peer(g, body, bytes);
		break;
	case CONTROL_part_peer_disk:
		if (g->state == CONTROL_PART_READY)
			fragment_gear_take(&g->gear, body, bytes);
		break;
	case CONTROL_part_connect:
		on_connect(g, body, bytes);
		break;
	case CONTROL_part_start:
		if (g->state == CONTROL_PART_MESHED)
			begin_step(g, STEP_START);
		break;
	case CONTROL_part_stop:
		on_stop(g, body, bytes);
		break;
	case CONTROL_part_button:
		if (g->state == CONTROL_PART_STARTED && g->machine)
			g->ops->power_button(g->machine);
		break;
	case CONTROL_part_balloon:
		on_balloon(g, body, bytes);
		break;
	case CONTROL_part_ask_status:
		on_ask_status(g);
		break;
	case CONTROL_part_ask_stats:
		on_ask_stats(g);
		break;
	case CONTROL_console_in:
		on_keys(g, body, bytes);
		break;
	case CONTROL_console_size:
		fragment_talk_resize(&g->talk, body, bytes);
		break;
	default:
		log_warn("the daemon says what no daemon says (%s)", control_name(id));
	}
}

static void daemon_closed(void *owner, struct channel *c, int err)
{
	struct fragment *g = owner;

	if (g->daemon != c)
		return;
	g->daemon = NULL;
	if (g->state == CONTROL_PART_STARTED)
		return; /* the VM runs on; another daemon will come */
	if (g->over)
		loop_stop(&g->loop);
	if (g->state == CONTROL_PART_ENDED) {
		if (!g->over)
			loop_arm(&g->loop, &g->linger, LINGER_MS);
		return;
	}
	log_warn("the daemon went away while %s was being started", g->config.vm);
	leave(g);
}

static void drained(void *owner, struct channel *c)
{
	struct fragment *g = owner;

	fragment_talk_show(&g->talk, g->daemon);
	if (g->state == CONTROL_PART_ENDED && !g->over)
		tell_ended(g);
	if (g->over && !channel_queued(c))
		loop_stop(&g->loop);
}

static const struct channel_ops daemon_ops = {.frame = from_daemon, .closed = daemon_closed, .drained = drained};

static void listener_ready(struct loop_watch *w, uint32_t events)
{
	struct fragment *g = (struct fragment *)((char *)w - offsetof(struct fragment, listener));
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct channel *c;

	if (fd < 0 || channel_open(&c, &g->loop, fd, &daemon_ops, g))
		return;
	channel_close(g->daemon); /* the newest counts */
	g->daemon = c;
	fragment_talk_begin(&g->talk, false);
	loop_disarm(&g->loop, &g->linger);
}

/* Listening once more makes the socket carry our process id, by which a later daemon knows us (spawn_find). */
static int open_control(struct fragment *g, struct failure *f)
{
	g->listener = (struct loop_watch){.fd = SPAWN_CONTROL_FD, .events = EPOLLIN, .ready = listener_ready};
	g->mail = (struct loop_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .events = EPOLLIN, .ready = mail_ready};
	g->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	g->linger.fire = linger_over;
	if (listen(SPAWN_CONTROL_FD, 4) < 0 || g->mail.fd < 0 || g->cancel_fd < 0)
		return failure_set(f, -errno, "use 'tessera run'; the daemon starts fragments", "no control socket: %s", strerror(errno));
	if (loop_open(&g->loop) || loop_add(&g->loop, &g->listener) || loop_add(&g->loop, &g->mail))
		return failure_set(f, -EMFILE, "raise the limit of open files", "cannot set up a fragment");
	return 0;
}

static void finish(struct fragment *g)
{
	alarm(CLOSE_S);
	join_step(g);
	if (g->machine)
		g->ops->close(g->machine);
	fragment_gear_close(&g->gear);
	fragment_talk_close(&g->talk);
	channel_finish(g->daemon);
	loop_close(&g->loop);
	baggage_free(&g->baggage);
	for (unsigned k = 0; k < NODES_MAX; k++)
		free(g->config.node[k].cpuid);
	close(g->mail.fd);
	close(g->cancel_fd);
	if (g->config.listen_fd >= 0)
		close(g->config.listen_fd);
	if (g->status_fd >= 0)
		close(g->status_fd);
	pthread_mutex_destroy(&g->lock);
}

int fragment_run(const char *node, const char *vm, const char *address, struct failure *f)
{
	struct fragment *g = calloc(1, sizeof *g);
	char tag[2 * NAME_BYTES];
	struct addr a;
	int err;

	if (!g)
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	snprintf(tag, sizeof tag, "%.63s/%.63s", node, vm);
	log_init(LOG_INFO, tag);
	signal(SIGPIPE, SIG_IGN);
	*g = (struct fragment){.born_ms = loop_now_ms(), .lock = PTHREAD_MUTEX_INITIALIZER,
		.gear = {.config = &g->config, .wake = wake_up, .owner = g, .lock = PTHREAD_MUTEX_INITIALIZER},
		.talk = {.config = &g->config, .wake = wake_up, .owner = g, .lock = PTHREAD_MUTEX_INITIALIZER}, .config.listen_fd = -1, .status_fd = -1};
	err = addr_parse(&a, address, f);
	if (!err)
		err = addr_listen(&a, &g->config.listen_fd, f);
	if (!err) {
		addr_print(&a, g->address);
		err = open_control(g, f);
	}
	if (!err)
		err = loop_run(&g->loop);
	finish(g);
	free(g);
	return err;
}
