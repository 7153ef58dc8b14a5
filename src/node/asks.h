/* Clients and what they wait for: one struct ask per connection, from its hello to its end.
 *
 * A request about another node's daemon (a VM that it coordinates, its part of a VM, its checks) is relayed: this daemon connects to that one's peer
 * port, says the client's hello and request there, and from then on passes bytes both ways unread. */
#ifndef NODE_ASKS_H
#define NODE_ASKS_H

#include "node/channel.h"
#include "node/daemon.h"
#include "node/parts.h"
#include "node/vms.h"

enum { ASKS_MAX = 256, ASKS_CONSOLE_QUEUE_MAX = 1 << 20 }; /* console bytes queued to a client before some are skipped */

/* A client connected (the descriptor is taken), or a stream whose first frame was a client's hello. */
void asks_accept(struct daemon *d, int fd);
void asks_take(struct daemon *d, struct channel *c, unsigned id, const uint8_t *body, size_t bytes);
void asks_close(struct daemon *d);

/* What those who wait for a VM are told. */
void asks_vm_born(struct vm *vm);
void asks_vm_failed(struct vm *vm);
void asks_vm_ended(struct vm *vm);
/* Something is wrong with its disks or network cards: vm->trouble, a line on its consoles. */
void asks_vm_trouble(const struct vm *vm);
void asks_vm_again(struct vm *vm);

/* Somebody who asked for the VM's end is waiting for it. */
bool asks_end_awaited(const struct vm *vm);

/* console_out, or an answer to part_ask_stats (stat_line, end), from a fragment here. */
void asks_from_part(struct part *p, unsigned id, const uint8_t *body, size_t bytes);
void asks_part_gone(struct daemon *d, uint64_t vm_id);

#endif
