/* `tessera node`: the daemon of one host. It lends CPUs and memory, keeps in touch with the daemons of other hosts, starts and watches the
 * fragments of VMs on this host, and serves clients. It holds no guest memory and no KVM descriptor: it can end, or be killed, and be started
 * again while its VMs run on.
 *
 * A message about a VM goes to the daemon that coordinates it or that has a part of it by name; when that is this daemon it goes through a queue
 * of its own and is handled by the same code (daemon_send, daemon_take).
 *
 * One thread, one loop; every function of node/ that takes a struct daemon belongs to that thread. Who owns what:
 *   members.c   the other daemons and the links to them         parts.c   fragments on this host (also those found at start)
 *   vms.c       what is known of every VM of the cluster        birth.c   starting a VM this daemon coordinates; ending.c
 *   reset.c     and starting it again; kept.c: what it keeps meanwhile
 *   asks.c      requests of clients                             checks.c  the doctor's work in a daemon
 */
#ifndef NODE_DAEMON_H
#define NODE_DAEMON_H

#include "base/failure.h"
#include "base/types.h"
#include "net/addr.h"
#include "node/loop.h"

struct daemon_options {
	const char *name;     /* NULL: the host's name */
	const char *listen;   /* NULL: 127.0.0.1:0 */
	const char *join;     /* NULL: begin a cluster of its own */
	const char *run_dir;  /* root; NULL: the default */
	uint64_t lend_cpus, lend_memory; /* memory in bytes */
	bool insecure;        /* listen where others than this host can reach it */
};

struct amount { uint64_t cpus, memory; };

struct daemon {
	struct daemon_options options;
	struct loop loop;
	char name[NAME_BYTES];
	char root[256];
	struct addr address;
	char address_text[ADDR_TEXT_BYTES];
	uint64_t incarnation;
	int lock_fd;
	struct loop_watch peers, clients, signals;
	struct amount lent, used;
	uint64_t garbage; /* streams dropped because they did not speak our language */
	struct member *members;
	struct meeting *meetings;
	struct loop_timer beat;
	struct vm *vms;
	struct part *parts;
	struct kept *kept;
	unsigned adopting; /* fragments found at start that have not answered yet; clients wait outside meanwhile */
	struct ask *asks;
	struct relay *relays;
	struct local_frame *local, **local_end; /* messages to itself */
	struct loop_task local_task;
	struct failure fatal; /* set: daemon_run ends with it */
};

/* Run until SIGTERM or SIGINT. 0, or -errno with the reason; the run directory holds nothing of it afterwards but running VMs' sockets. */
int daemon_run(const struct daemon_options *o, struct failure *f) MUST_CHECK;

/* Send a control frame to the daemon of node 'to', which may be this one (then it is handled at the end of the round).
 * -ENOTCONN when there is no link to it. */
int daemon_send(struct daemon *d, const char *to, const uint8_t *frame, size_t bytes);

/* A message about VMs or parts from another daemon or from this one. */
void daemon_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes);

/* DAEMON_SEND(d, to, name, .field = value ...); gives what daemon_send gives. */
#define DAEMON_SEND(d, to, name, ...) __extension__ ({ \
	uint8_t frame_[WIRE_FRAME_MAX]; \
	struct control_##name message_ = {__VA_ARGS__}; \
	daemon_send((d), (to), frame_, control_put_##name(&message_, frame_, sizeof frame_)); \
})

/* One of d->adopting has answered (or died); after the last one clients are let in. */
void daemon_adopted(struct daemon *d);

/* End, telling why (f may be NULL: on purpose). */
void daemon_stop(struct daemon *d, const struct failure *f);

#endif
