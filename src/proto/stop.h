/* Why a VM ended: the one list that fragments, daemons, the client's exit codes and doc/failure.md share. Sent in wire/peer.h 'stop' and in
 * wire/control.h 'part_ended'; values are part of the wire. */
#ifndef PROTO_STOP_H
#define PROTO_STOP_H

#include "base/types.h"

enum stop_reason {
	STOP_NONE,         /* it runs */
	STOP_POWEROFF,     /* the guest switched itself off */
	STOP_RESET,        /* the guest asked for a reset */
	STOP_PANIC,        /* the guest's kernel said that it panicked */
	STOP_TRIPLE_FAULT, /* a vCPU shut down */
	STOP_KILLED,       /* a person asked for it */
	STOP_LOST,         /* a fragment died, or its node or the link to it is gone or silent */
	STOP_NODE_ERROR,   /* a node's kernel refused something a running VM needs (memory, KVM) */
	STOP_PROTOCOL,     /* a peer said something no correct peer says */
	STOP_REASONS
};

/* A short word for tables and JSON: "power-off", "lost-node" ...; "unknown" for what is no reason. */
const char *stop_reason_name(unsigned reason);

#endif
