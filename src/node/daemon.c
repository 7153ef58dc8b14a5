/* See daemon.h: start and end of a daemon, its sockets, and the way of messages between daemons and within one. */
#include "node/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/ends.h"
#include "base/ensure.h"
#include "base/log.h"
#include "base/quantity.h"
#include "base/rundir.h"
#include "base/text.h"
#include "node/asks.h"
#include "node/birth.h"
#include "node/ending.h"
#include "node/furnish.h"
#include "node/kept.h"
#include "node/meeting.h"
#include "node/members.h"
#include "node/parts.h"
#include "node/relay.h"
#include "node/vms.h"

/* A message to ourselves, waiting for the end of the round. */
struct local_frame {
	struct local_frame *next;
	size_t bytes;
	uint8_t frame[];
};

void daemon_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes)
{
	switch (id) {
	case CONTROL_part_prepare:
	case CONTROL_part_layout:
	case CONTROL_part_peer:
	case CONTROL_part_peer_disk:
	case CONTROL_part_connect:
	case CONTROL_part_start:
	case CONTROL_part_stop:
	case CONTROL_part_button:
	case CONTROL_part_balloon:
		parts_take(d, from, id, body, bytes);
		break;
	case CONTROL_part_disk:
	case CONTROL_part_ready:
	case CONTROL_part_meshed:
	case CONTROL_part_started:
	case CONTROL_part_failed:
		birth_take(d, from, id, body, bytes);
		break;
	case CONTROL_part_trouble:
		furnish_trouble(d, from, body, bytes);
		break;
	case CONTROL_part_ended:
		ending_take(d, from, body, bytes);
		break;
	case CONTROL_part_status:
		vms_take_status(d, from, body, bytes);
		break;
	case CONTROL_node_ready:
		vms_node_ready(d, from);
		break;
	case CONTROL_vm_line:
	case CONTROL_part_line:
	case CONTROL_vm_gone:
		vms_take(d, from, id, body, bytes);
		break;
	default:
		d->garbage++;
		log_warn("node %s says what no daemon says (%s)", from, control_name(id));
	}
}

static void take_local(struct loop_task *t)
{
	struct daemon *d = (struct daemon *)((char *)t - offsetof(struct daemon, local_task));

	while (d->local) {
		struct local_frame *l = d->local;
		uint16_t id;
		uint32_t bytes;

		d->local = l->next;
		if (!d->local)
			d->local_end = &d->local;
		ensure(!wire_get_header(l->frame, &id, &bytes) && bytes + WIRE_HEADER_BYTES == l->bytes);
		daemon_take(d, d->name, id, l->frame + WIRE_HEADER_BYTES, bytes);
		free(l);
	}
}

int daemon_send(struct daemon *d, const char *to, const uint8_t *frame, size_t bytes)
{
	struct member *m;
	struct local_frame *l;

	ensure(bytes > 0);
	if (strcmp(to, d->name) != 0) {
		m = members_find(d, to);
		if (!m || !m->link)
			return -ENOTCONN;
		channel_send(m->link, frame, bytes);
		return 0;
	}
	l = malloc(sizeof *l + bytes);
	if (!l)
		return -ENOMEM;
	l->next = NULL;
	l->bytes = bytes;
	memcpy(l->frame, frame, bytes);
	*d->local_end = l;
	d->local_end = &l->next;
	loop_later(&d->loop, &d->local_task);
	return 0;
}

void daemon_stop(struct daemon *d, const struct failure *f)
{
	if (f)
		d->fatal = *f;
	loop_stop(&d->loop);
}

static void accept_all(struct daemon *d, int listener, void (*take)(struct daemon *d, int fd))
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0)
		take(d, fd);
}

static void peer_ready(struct loop_watch *w, uint32_t events)
{
	accept_all((struct daemon *)((char *)w - offsetof(struct daemon, peers)), w->fd, meeting_accept);
}

static void client_ready(struct loop_watch *w, uint32_t events)
{
	accept_all((struct daemon *)((char *)w - offsetof(struct daemon, clients)), w->fd, asks_accept);
}

static void signal_ready(struct loop_watch *w, uint32_t events)
{
	struct daemon *d = (struct daemon *)((char *)w - offsetof(struct daemon, signals));
	struct signalfd_siginfo info;

	if (read(w->fd, &info, sizeof info) == sizeof info)
		daemon_stop(d, NULL);
}

static int open_signals(struct daemon *d)
{
	signal(SIGPIPE, SIG_IGN);
	d->signals.fd = ends_watch(0, NULL);
	if (d->signals.fd < 0)
		return d->signals.fd;
	d->signals.events = EPOLLIN;
	d->signals.ready = signal_ready;
	return loop_add(&d->loop, &d->signals);
}

static int make_folder(const char *path, mode_t mode, struct failure *f)
{
	if (mkdir(path, mode) == 0 || errno == EEXIST)
		return 0;
	return failure_set(f, -errno, "run the daemon as root, or give a folder of your own with --run-dir", "cannot make %s: %s", path, strerror(errno));
}

/* The run directory, ours alone while we hold its lock. */
static int open_rundir(struct daemon *d, struct failure *f)
{
	char path[RUNDIR_PATH_BYTES];
	int err = make_folder(d->root, 0755, f);

	if (!err)
		err = rundir_path(d->root, d->name, "", path, f);
	if (!err)
		err = make_folder(path, 0700, f);
	if (!err)
		err = rundir_path(d->root, d->name, "vms", path, f);
	if (!err)
		err = make_folder(path, 0700, f);
	if (!err)
		err = rundir_path(d->root, d->name, "lock", path, f);
	if (err)
		return err;
	d->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (d->lock_fd >= 0 && flock(d->lock_fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (d->lock_fd >= 0)
		close(d->lock_fd);
	d->lock_fd = -1; /* what is there is another's */
	return failure_set(f, -EEXIST, "choose another --name, or end that daemon first", "a daemon named %s already runs on this host", d->name);
}

static void close_rundir(struct daemon *d)
{
	static const char *const leaves[] = {"control.sock", "lock"};
	char path[RUNDIR_PATH_BYTES];

	if (d->lock_fd < 0)
		return;
	for (unsigned k = 0; k < ARRAY_LEN(leaves); k++)
		if (!rundir_path(d->root, d->name, leaves[k], path, NULL))
			unlink(path);
	if (!rundir_path(d->root, d->name, "vms", path, NULL))
		rmdir(path); /* stays while VMs run */
	if (!rundir_path(d->root, d->name, "", path, NULL))
		rmdir(path);
	close(d->lock_fd);
}

static int open_clients(struct daemon *d, struct failure *f)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int err = rundir_path(d->root, d->name, "control.sock", a.sun_path, f);

	if (err)
		return err;
	unlink(a.sun_path);
	d->clients.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (d->clients.fd < 0 || bind(d->clients.fd, (struct sockaddr *)&a, sizeof a) < 0 || chmod(a.sun_path, 0600) < 0 || listen(d->clients.fd, 64) < 0)
		return failure_set(f, -errno, "run the daemon as root, or give a folder of your own with --run-dir", "cannot listen on %s: %s", a.sun_path,
		                   strerror(errno));
	d->clients.events = EPOLLIN;
	d->clients.ready = client_ready;
	return loop_add(&d->loop, &d->clients);
}

static bool is_any(const struct addr *a)
{
	if (a->sa.ss_family == AF_INET)
		return ((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr == 0;
	return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)&a->sa)->sin6_addr);
}

static int open_peers(struct daemon *d, struct failure *f)
{
	const char *listen = d->options.listen ? d->options.listen : "127.0.0.1:0";
	int err = addr_parse(&d->address, listen, f);

	if (err)
		return err;
	if (is_any(&d->address))
		return failure_set(f, -EINVAL, "give the address at which the other nodes reach this one", "%s is no address of this host", listen);
	if (!addr_is_loopback(&d->address) && !d->options.insecure)
		return failure_set(f, -EPERM, "use a loopback address, or --insecure on a network that only you can reach",
			"%s can be reached from outside, and links between nodes are not yet encrypted or authenticated: whoever reaches it owns the VMs", listen);
	err = addr_listen(&d->address, &d->peers.fd, f);
	if (err)
		return err;
	addr_print(&d->address, d->address_text);
	d->peers.events = EPOLLIN;
	d->peers.ready = peer_ready;
	return loop_add(&d->loop, &d->peers);
}

/* Clients are let in when every fragment found has said what it is, so that what they see is all there is. */
static void let_in(struct daemon *d)
{
	char memory[QUANTITY_TEXT_BYTES];
	struct failure f = {0};

	if (open_clients(d, &f)) {
		daemon_stop(d, &f);
		return;
	}
	members_start(d);
	if (d->options.join && meeting_join(d, d->options.join, &f)) {
		daemon_stop(d, &f);
		return;
	}
	log_info("node %s listens on %s and lends %llu CPUs and %s of memory", d->name, d->address_text, (unsigned long long)d->lent.cpus,
		quantity_print_bytes(d->lent.memory, memory));
}

void daemon_adopted(struct daemon *d)
{
	if (--d->adopting == 0)
		let_in(d);
}

static int set_name(struct daemon *d, struct failure *f)
{
	char host[NAME_BYTES] = "";

	if (!d->options.name && gethostname(host, sizeof host - 1) == 0)
		host[strcspn(host, ".")] = 0;
	if (!rundir_good_name(d->options.name ? d->options.name : host))
		return failure_set(f, -EINVAL, "give the node a --name of up to 63 letters, digits, '.', '_' and '-'", "'%.80s' is no name for a node",
		                   d->options.name ? d->options.name : host);
	TEXT_SET(d->name, d->options.name ? d->options.name : host);
	TEXT_SET(d->root, rundir_root(d->options.run_dir));
	return 0;
}

/* A fragment with many vCPUs needs many descriptors; children inherit the limit. */
static void raise_files(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int start(struct daemon *d, struct failure *f)
{
	int err = set_name(d, f);

	if (err)
		return err;
	log_init(LOG_INFO, d->name);
	raise_files();
	ensure(getrandom(&d->incarnation, sizeof d->incarnation, 0) == sizeof d->incarnation);
	d->lent = (struct amount){d->options.lend_cpus, d->options.lend_memory};
	err = loop_open(&d->loop);
	if (!err)
		err = open_signals(d);
	if (err)
		return failure_set(f, err, "raise the limit of open files", "cannot set up: %s", strerror(-err));
	err = open_rundir(d, f);
	if (!err)
		err = open_peers(d, f);
	if (!err)
		err = parts_adopt(d, f);
	if (!err && !d->adopting)
		let_in(d);
	return err;
}

static void finish(struct daemon *d)
{
	unsigned running = 0;

	for (struct part *p = d->parts; p; p = p->next)
		running++;
	if (running)
		log_info("%u VM part%s keep running here; start the daemon again to manage them", running, running == 1 ? "" : "s");
	MEMBERS_TELL(d, node_leave, );
	asks_close(d);
	relay_close_all(d);
	meeting_close_all(d);
	members_close(d);
	kept_close(d);
	parts_close(d);
	vms_close(d);
	while (d->local) {
		struct local_frame *l = d->local;

		d->local = l->next;
		free(l);
	}
	d->local_end = &d->local;
	loop_close(&d->loop);
	for (unsigned k = 0; k < 3; k++) {
		int fd = (int[]){d->peers.fd, d->clients.fd, d->signals.fd}[k];

		if (fd >= 0)
			close(fd);
	}
	close_rundir(d);
}

int daemon_run(const struct daemon_options *o, struct failure *f)
{
	struct daemon *d = calloc(1, sizeof *d);
	int err;

	if (!d)
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	*d = (struct daemon){.options = *o, .lock_fd = -1, .peers.fd = -1, .clients.fd = -1, .signals.fd = -1, .local_task.run = take_local};
	d->local_end = &d->local;
	err = start(d, f);
	if (!err)
		err = loop_run(&d->loop);
	if (!err && d->fatal.err) {
		err = d->fatal.err;
		if (f)
			*f = d->fatal;
	}
	finish(d);
	free(d);
	return err;
}
