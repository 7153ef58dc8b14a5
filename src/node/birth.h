/* Starting a VM, by the daemon that coordinates it. All parts go through each phase side by side; a phase begins when the last part is through
 * the one before. Any failure ends what has been begun on all nodes, and only then is the client told, so that it can try again at once.
 *
 *     part_prepare, part_layout -> part_disk ..., part_ready   reserved, its fragment has opened its disks and listens
 *     part_peer, part_peer_disk, part_connect -> part_meshed    the fragments have found each other and agree on what they are
 *     part_start                -> part_started    the vCPUs run
 */
#ifndef NODE_BIRTH_H
#define NODE_BIRTH_H

#include "node/vms.h"

enum { BIRTH_PHASE_MS = 120000 };

/* Judge the request, place the VM and set it going. *out: asks_vm_born or asks_vm_failed is called about it later. -errno with the reason. */
int birth_begin(struct daemon *d, const struct control_ask_run *r, struct vm **out, struct failure *f) MUST_CHECK;

/* All its parts have ended, in a reset: set it going again where it was. asks_vm_born or ending.c's end follows. */
void birth_again(struct vm *vm);

/* part_disk, part_ready, part_meshed, part_started, part_failed from the daemon of node 'from'. */
void birth_take(struct daemon *d, const char *from, unsigned id, const uint8_t *body, size_t bytes);

/* That part's node is gone. */
void birth_lost(struct vm *vm, struct vm_part *p);

/* All its parts have started; or one of them says that the guest has ended, so it ran. */
void birth_done(struct vm *vm);

/* It fails, for this reason (the first one told counts). */
void birth_fail(struct vm *vm, const struct failure *why);

#endif
