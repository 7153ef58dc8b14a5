/* Ending a VM, by the daemon that coordinates it: when its guest ends, when a part of it dies, when a person asks for it, and when its birth fails.
 * The fragments of a running VM tell each other; this tells those that did not hear, and gathers until nothing is left. */
#ifndef NODE_ENDING_H
#define NODE_ENDING_H

#include "node/vms.h"

enum { ENDING_LIMIT_MS = 10000 };

/* End all parts. The first reason counts. */
void ending_begin(struct vm *vm, enum stop_reason reason, const char *about, const char *what);

/* One part is gone; died: without saying why itself. */
void ending_part(struct vm *vm, struct vm_part *p, bool died, enum stop_reason reason, const char *about, const char *what);

/* part_ended from the daemon of node 'from'. */
void ending_take(struct daemon *d, const char *from, const uint8_t *body, size_t bytes);

/* The node of that part of a VM that is ending cannot be reached: not waited for. */
void ending_lost(struct vm *vm, struct vm_part *p);

/* Part p needs no more waiting for; if it was the last, the VM is over. */
void ending_settle(struct vm *vm, struct vm_part *p);

#endif
