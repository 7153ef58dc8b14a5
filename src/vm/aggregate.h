/* This node's share of an aggregate VM, assembled: guest RAM and its pager, the machine with real and proxy vCPUs, the interlink to the other
 * fragments, and a hub (net/hub.h) for what their devices' queues carry. The one visible place where the rooms' callbacks meet.
 *
 *   aggregate_open (all nodes) -> aggregate_start (all nodes) -> config.ended (each node, once) -> aggregate_close
 *
 * The guest ends once, by the agreed stop (proto/stop.h, driven by vm/verdict.h): at the first cause a node freezes - no page is installed or answered any
 * more, no vCPU enters the guest - and tells all others on every kind of stream; 'ended' comes with the verdict, which all nodes share. Threads that wait
 * for a page never return; a process that owns an aggregate reports and exits.
 *
 * Threads: open, start, close on one owner thread. The callbacks come from any thread and must not block. */
#ifndef VM_AGGREGATE_H
#define VM_AGGREGATE_H

#include "base/failure.h"
#include "base/types.h"
#include "mem/pager.h"
#include "proto/stop.h"
#include "vm/cpuid.h"
#include "vm/interlink.h"
#include "vm/machine.h"

struct aggregate_config {
	node_t self;
	unsigned nodes;
	node_t devices;                      /* the node with the devices and the kernel's files */
	char name[NODES_MAX][NAME_BYTES];    /* of the nodes, for what people read */
	uint64_t bytes[NODES_MAX];           /* RAM homed on each */
	uint64_t vcpus[NODES_MAX];           /* vCPUs placed on each, one bit each; disjoint, together 0 .. n-1 */
	const struct cpuid_table *cpuid;     /* the meet of all nodes; read during open */
	int page_fd[NODES_MAX], bus_fd[NODES_MAX], io_fd[NODES_MAX]; /* from net/mesh.h; owned from the call on */
	const struct gear *gear;             /* the VM's disks and network cards, as all nodes know them; read during open; NULL: none */
	const struct depot *depot;           /* this node's backends of them; outlives the aggregate */
	struct porch *porch;                 /* the same on node 'devices': who is at the guest's other console and its agent; may be NULL */
	node_t disk_node[GEAR_DISKS_MAX], nic_node[GEAR_NICS_MAX]; /* of each */
	const char *kernel, *initrd, *cmdline;     /* node 'devices'; initrd may be NULL; read during start */
	int kernel_fd, initrd_fd;                  /* as in vm/boot.h */
	uint64_t cache_bytes;                /* and the rest as in mem/pager.h, 0: its defaults */
	uint32_t hold_us;
	int32_t spin_us;
	bool prefetch_off;
	unsigned silence_ms;                 /* 0: AGGREGATE_SILENCE_MS */
	struct clock_scale pretended;        /* tests: take this host's TSC for one that runs at such a rate; ratio 0: what it is */
	void (*console)(void *owner, const void *bytes, size_t n);
	void (*ended)(void *owner, enum stop_reason reason, node_t about, const char *what);
	void *owner;
};

enum { AGGREGATE_SILENCE_MS = 1500, AGGREGATE_CACHE_BYTES = 64 << 20 };

struct aggregate;

int aggregate_open(struct aggregate **out, const struct aggregate_config *c, struct failure *f) MUST_CHECK;

/* Load the kernel (node 'devices'), agree on the guest's clock, run. Blocks for other nodes' memory and, on vCPU 0's node, until the entry point is known. */
int aggregate_start(struct aggregate *a, struct failure *f) MUST_CHECK;

/* End the VM everywhere, for this cause unless there was an earlier one here or a higher-ranking one elsewhere. Any thread; never blocks. */
void aggregate_end(struct aggregate *a, enum stop_reason reason, node_t about, const char *what);

/* Stop what runs here and free it. Safe in every state after open. */
void aggregate_close(struct aggregate *a);

size_t aggregate_console_input(struct aggregate *a, const void *bytes, size_t n);
void aggregate_power_button(struct aggregate *a);
void aggregate_balloon(struct aggregate *a, uint64_t memory); /* outfit_aim */

/* Wait until 'console' has had all that the guest wrote so far: a moment. After 'ended', but not from it. */
void aggregate_drain(struct aggregate *a);

/* Name and value of every counter, in a fixed order. Any thread. */
void aggregate_stats(struct aggregate *a, void (*each)(void *to, const char *key, uint64_t value), void *to);
unsigned aggregate_hottest(const struct aggregate *a, struct pager_hot *out, unsigned max);

#endif
