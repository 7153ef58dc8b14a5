/* The fragments on this host: their processes, their sockets, what is reserved for them. One struct part per VM.
 *
 * A fragment is a child of the daemon that started it, but lives in a session of its own and is found again through ROOT/NODE/vms/VM.sock, so
 * a daemon may be replaced at any time. What belongs to a part is given back when its process is gone, and only then is the coordinator told. */
#ifndef NODE_PARTS_H
#define NODE_PARTS_H

#include "base/rundir.h"
#include "node/channel.h"
#include "node/daemon.h"
#include "node/vms.h"
#include "wire/control.h"

enum {
	PARTS_ADOPT_MS = 3000, /* a fragment that does not answer a new daemon in that time is ended */
	PARTS_TERM_MS = 1500,  /* from part_stop to SIGKILL */
};

struct part {
	struct part *next;
	struct daemon *daemon;
	struct control_part_prepare config; /* append.at points to append */
	uint8_t append[VMS_APPEND_MAX];
	struct baggage baggage;          /* config.file and config.seed point to it */
	uint8_t *gear;                      /* config.gear points to it */
	struct control_part_layout layout[NODES_MAX];
	unsigned layouts;
	enum control_part_state state;
	uint64_t born_ms;
	char address[ADDR_TEXT_BYTES];
	char path[RUNDIR_PATH_BYTES];
	struct amount reserved;
	int pid;
	struct loop_watch process; /* a pidfd */
	struct channel *channel;
	struct loop_timer limit;
	bool adopted, settled;     /* found at start; has answered since */
	bool ended;                /* it has said why */
	unsigned looks_asked, looks_told; /* at its statistics: it answers in turn */
	struct control_part_ended end;
};

/* Find the fragments an earlier daemon of this name left running; d->adopting counts those that have not answered yet. Sockets without a process
 * are removed. */
int parts_adopt(struct daemon *d, struct failure *f) MUST_CHECK;

/* part_prepare, part_layout, part_peer, part_connect, part_start, part_stop, part_button, part_balloon from the coordinator's daemon. */
void parts_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes);

struct part *parts_by_id(struct daemon *d, uint64_t vm_id);
struct part *parts_by_name(struct daemon *d, const char *vm);

/* Tell a daemon of its VMs' parts here (part_status each, then node_ready). */
void parts_tell_all(struct daemon *d, const char *node);

/* The link to that node's daemon is gone: a VM it had begun to start here will not be. */
void parts_node_lost(struct daemon *d, const char *node);

/* Let go of them all; they live on. */
void parts_close(struct daemon *d);

#endif
