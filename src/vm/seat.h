/* A guest CPU's vCPU on this node changes between running the guest and being its proxy, when the CPU leaves for another node or comes from one
 * (doc/decisions/mobility.md). No interrupt is lost or doubled: at any time one LAPIC here receives what is sent to the CPU, and what it has not passed on goes along.
 *
 *     seat_leave: state -> image, an empty proxy that is not to run yet --committed--> proxy_run
 *                                                                       --undone----> seat_enter
 *     proxy_run ... -> seat_enter: the image and what waited here run
 *
 * Only the vCPU's own thread. While one of these works nothing may be sent to that CPU on this node: all other vCPUs here are out of the guest, injections are
 * shut out. */
#ifndef VM_SEAT_H
#define VM_SEAT_H

#include "vm/proxy.h"
#include "vm/vcpu_state.h"

enum { SEAT_NEVER_STARTED = -1 };

/* The vCPU runs the guest: take its state, and make it the proxy *p, whose vcpu, fd, run and stub are set. trampoline: of its last SIPI, or SEAT_NEVER_STARTED
 * (vCPU 0 too). The proxy must not run before the move is decided. -EAGAIN: it came out with an access, as vcpu_state_settle. -EBUSY: it is being started,
 * try again later. */
int seat_leave(struct vcpu *v, struct proxy *p, int trampoline, const struct vcpu_shape *shape, struct vcpu_image *s, struct failure *f) MUST_CHECK;

/* The vCPU is the proxy *p, or was left and has not run: make it run the guest, with what has arrived for the CPU here and proxy_run has not told of merged into *s.
 * -EBUSY: proxy_run must tell of something first (an INIT, a SIPI, an NMI). */
int seat_enter(struct vcpu *v, const struct proxy *p, const struct vcpu_shape *shape, struct vcpu_image *s, uint64_t tsc_offset, struct failure *f) MUST_CHECK;

#endif
