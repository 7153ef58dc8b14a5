/* What a fragment needs of the machine inside it. Two machines: the real one (fragment_machine.c, made of vm/, mem/ and dev/) and one without
 * a guest (fragment_fake.c), which meshes, talks on its console, ends and dies as told, so that the life of VMs can be tested on any host.
 *
 *     prepare -> connect -> start -> (stop, or the guest ends) -> calls.ended -> close
 *
 * prepare, connect and start are called one after the other on a thread that may wait; stop may come at any time after prepare has returned, also
 * during connect and start, from another thread. Everything else comes from the fragment's control thread and must not wait. */
#ifndef NODE_FRAGMENT_MACHINE_H
#define NODE_FRAGMENT_MACHINE_H

#include "base/failure.h"
#include "base/types.h"
#include "dev/depot.h"
#include "dev/porch.h"
#include "net/addr.h"
#include "proto/stop.h"
#include "wire/codec.h"

enum { FRAGMENT_CPUID_MAX = 16384 };

struct fragment_node {
	char name[NAME_BYTES];
	uint64_t vcpus, memory;        /* a bit each; bytes */
	char address[ADDR_TEXT_BYTES]; /* where its fragment listens; known from connect on */
	uint8_t *cpuid;                /* what its prepare returned; known from connect on */
	uint32_t cpuid_bytes;
};

/* Filled in by the fragment, stays where it is; outlives the machine. */
struct fragment_config {
	uint64_t vm_id, cookie_hi, cookie_lo; /* cookie: known from connect on */
	char vm[NAME_BYTES];
	node_t self, coordinator;      /* the coordinator's node has the devices, boots the kernel and owns the console */
	unsigned nodes, cpus;
	uint32_t cid;                  /* of the guest, for vsock */
	unsigned resets;               /* how often its guest has reset itself before */
	uint64_t memory;
	struct fragment_node node[NODES_MAX];
	char kernel[1024], initrd[1024], append[2048]; /* paths are good on the coordinator's node only; initrd "": none */
	struct wire_blob seed;         /* a read-only disk besides the others, on the coordinator's node; empty: none */
	struct gear gear;              /* disks and network cards; what their nodes found is known from connect on */
	struct depot *depot;           /* those of this node, opened; stays the fragment's */
	struct porch *porch;           /* coordinator's node, else NULL; stays the fragment's */
	uint32_t flags;                /* enum control_run_flag */
	int listen_fd;                 /* nonblocking, for the mesh; stays the fragment's */
};

/* Upward; any thread, never block. */
struct fragment_calls {
	void *owner;
	void (*console)(void *owner, const void *bytes, size_t n);
	/* The VM is over, for this reason (of several calls the first counts). about: the node it is about. */
	void (*ended)(void *owner, enum stop_reason reason, node_t about, const char *what);
};

struct fragment_machine;

struct fragment_machine_ops {
	/* Reserve what this part needs and find out what this host can do. cpuid: FRAGMENT_CPUID_MAX bytes of room, for the others' connect. */
	int (*prepare)(struct fragment_machine **out, const struct fragment_config *c, const struct fragment_calls *calls, uint8_t *cpuid, uint32_t *cpuid_bytes,
		struct failure *f);
	/* Find the others (net/mesh.h), agree on CPUID and clocks, be ready to run. cancel_fd becomes readable when it must give up: -ECANCELED. */
	int (*connect)(struct fragment_machine *m, int cancel_fd, struct failure *f);
	/* Run the vCPUs; on the coordinator's node, load the kernel first. From here on in the sandbox: nothing can be opened any more. */
	int (*start)(struct fragment_machine *m, struct failure *f);
	/* Tell the other parts and end; calls.ended follows, if it has not been called. Does not wait. */
	void (*stop)(struct fragment_machine *m, enum stop_reason reason, node_t about, const char *what);
	void (*console_input)(struct fragment_machine *m, const void *bytes, size_t n);
	void (*power_button)(struct fragment_machine *m);
	void (*balloon)(struct fragment_machine *m, uint64_t memory); /* the guest is asked to do with so many bytes */
	void (*stats)(struct fragment_machine *m, void (*line)(void *to, const char *key, uint64_t value), void *to);
	/* After calls.ended: wait, a moment, until calls.console has had all that the guest wrote. NULL: it always has. */
	void (*drain)(struct fragment_machine *m);
	/* After calls.ended, or after a failed step: join threads, close, free. The process ends soon after; it is killed if this takes seconds. */
	void (*close)(struct fragment_machine *m);
};

extern const struct fragment_machine_ops fragment_machine_real, fragment_machine_fake;

#endif
