/* What this daemon knows of every VM of the cluster. The record of a VM that it coordinates is the truth and drives the VM's life (birth.c,
 * ending.c); those of others are copies that their coordinators' daemons send on every change.
 *
 *     ask_run -> STARTING --all parts started--> RUNNING --a part ended, or ask_kill--> STOPPING --all parts ended--> ENDED
 *                   '--a part failed, a node lost--> STOPPING --all parts ended--> (forgotten; the client is told the failure)
 *
 * A guest that resets itself: its parts end as in any end, and then the same VM is STARTING again, in the same places, from its kernel's file; its
 * clients stay (reset.c). If that fails it has ENDED.
 *
 * An ENDED record stays for 'info' until a VM of that name is started, or VMS_ENDED_MAX younger ones have ended. */
#ifndef NODE_VMS_H
#define NODE_VMS_H

#include "base/rundir.h"
#include "node/daemon.h"
#include "node/backlog.h"
#include "node/baggage.h"
#include "proto/stop.h"
#include "wire/control.h"

enum { VMS_ENDED_MAX = 32, VMS_APPEND_MAX = 2048, VMS_CPUID_MAX = 16384 };

struct vm_part {
	char node[NAME_BYTES], address[ADDR_TEXT_BYTES];
	uint64_t vcpus, memory; /* a bit each; bytes */
	enum control_part_state state;
	uint32_t pid;
	uint8_t *cpuid;         /* during birth */
	uint32_t cpuid_bytes;
	bool confirmed;         /* its daemon has told us of it since the link to it came up */
};

struct vm {
	struct vm *next;
	struct daemon *daemon;
	uint64_t id;
	char name[NAME_BYTES], coordinator[NAME_BYTES];
	enum control_vm_state state;
	uint32_t cpus, flags;
	uint64_t memory, born_ms;
	struct wire_text kernel, initrd;
	uint8_t append[VMS_APPEND_MAX];
	uint32_t append_bytes;
	struct baggage baggage; /* coordinator only */
	struct gear *gear;       /* coordinator only; NULL: none (furnish.h) */
	unsigned parts;
	struct vm_part part[NODES_MAX];
	enum stop_reason reason;
	char about[NAME_BYTES], what[256];
	uint32_t cid;            /* of the guest, for vsock */
	char sockets[RUNDIR_PATH_BYTES]; /* on the coordinator's host, as in vm_line */
	char trouble[600];       /* the last with a disk or a network card */
	/* Coordinator only. */
	struct loop_timer limit; /* of the phase of birth or ending we are in */
	struct failure failure;  /* of its birth */
	struct backlog console[CONTROL_CONSOLES];
	unsigned resets, quick_resets; /* quick: in a row */
	uint64_t balloon;            /* what its guest was last asked to do with; 0: nothing was asked */
	uint64_t booted_ms;
	bool unwanted;           /* somebody has asked for its end: it is not started again */
	bool let_go;             /* what its parts kept for another start (parts.h) has been asked back */
};

/* The VM of this name that has not ended; else the youngest that has; else NULL. */
struct vm *vms_by_name(struct daemon *d, const char *name);
struct vm *vms_by_id(struct daemon *d, uint64_t id);
/* This daemon coordinates it. */
bool vms_mine(const struct vm *vm);

/* A new record; NULL when out of memory. */
struct vm *vms_add(struct daemon *d, uint64_t id, const char *name, const char *coordinator);
void vms_remove(struct vm *vm);
void vms_close(struct daemon *d);

/* The oldest of too many ended VMs is forgotten. */
void vms_forget_old(struct daemon *d);

/* Send vm_line and part_lines: to all daemons; to one; to a client. */
void vms_tell(struct vm *vm);
void vms_tell_all(struct daemon *d, const char *node);
struct channel;
void vms_print(const struct vm *vm, struct channel *to);

/* Does anything running have a part there? */
bool vms_on_node(struct daemon *d, const char *node);

/* The link to that node's daemon is gone / has just told all its parts. */
void vms_node_lost(struct daemon *d, const char *node);
void vms_node_ready(struct daemon *d, const char *node);

/* A running part of a VM we coordinate was found: rebuild the record from it. */
struct part;
void vms_adopt(struct daemon *d, const struct part *p);

/* part_status of a part on another node, of a VM we coordinate. */
void vms_take_status(struct daemon *d, const char *from, const uint8_t *body, size_t bytes);

/* Another daemon's copy: vm_line, part_line, vm_gone. */
void vms_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes);

#endif
