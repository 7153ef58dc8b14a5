/* See seat.h. */
#include "vm/seat.h"

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

enum {
	MSR_IA32_TSC_DEADLINE = 0x6e0,
	LAPIC_TPR = 0x80,
	LAPIC_SPIV = 0xf0,
	LAPIC_ISR = 0x100, /* in service, trigger mode, requested: eight registers each */
	LAPIC_IRR_END = 0x280,
	LAPIC_LVT_FIRST = 0x320,
	LAPIC_LVT_LAST = 0x370,
	LAPIC_TIMER_INITIAL = 0x380,
	LAPIC_STRIDE = 0x10,
	LVT_MASKED = 0x10000,
	SPIV_RESET = 0xff,
};

static int seat_failed(const struct vcpu *v, struct failure *f, const char *what)
{
	int err = -errno;

	return failure_set(f, err, "look at the kernel log", "vCPU %u: KVM refused %s: %s", v->id.v, what, strerror(-err));
}

static void lapic_put(struct kvm_lapic_state *l, unsigned at, uint32_t value)
{
	memcpy(l->regs + at, &value, sizeof value);
}

/* As after reset: nothing pending or in service, no timer; its id and its mode stay. */
static int empty_lapic(struct vcpu *v, const struct vcpu_image *s, struct failure *f)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } deadline = {.head.nmsrs = 1, .entry.index = MSR_IA32_TSC_DEADLINE};
	struct kvm_lapic_state l = s->lapic;

	if (s->tsc_deadline && ioctl(v->fd, KVM_SET_MSRS, &deadline) != 1)
		return seat_failed(v, f, "to stop its timer");
	for (unsigned at = LAPIC_ISR; at < LAPIC_IRR_END; at += LAPIC_STRIDE)
		lapic_put(&l, at, 0);
	for (unsigned at = LAPIC_LVT_FIRST; at <= LAPIC_LVT_LAST; at += LAPIC_STRIDE)
		lapic_put(&l, at, LVT_MASKED);
	lapic_put(&l, LAPIC_TIMER_INITIAL, 0);
	lapic_put(&l, LAPIC_SPIV, SPIV_RESET);
	lapic_put(&l, LAPIC_TPR, 0);
	return ioctl(v->fd, KVM_SET_LAPIC, &l) < 0 ? seat_failed(v, f, "an empty LAPIC") : 0;
}

static int no_events(struct vcpu *v, struct failure *f)
{
	struct kvm_vcpu_events none = {.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW};

	return ioctl(v->fd, KVM_SET_VCPU_EVENTS, &none) < 0 ? seat_failed(v, f, "to drop its events") : 0;
}

int seat_leave(struct vcpu *v, struct proxy *p, int trampoline, const struct vcpu_shape *shape, struct vcpu_image *s, struct failure *f)
{
	int err = vcpu_state_get(v, shape, s, f);

	if (!err && (s->mp.mp_state == KVM_MP_STATE_INIT_RECEIVED || s->mp.mp_state == KVM_MP_STATE_SIPI_RECEIVED))
		return -EBUSY;
	if (!err)
		err = empty_lapic(v, s, f);
	if (!err)
		err = no_events(v, f);
	if (err)
		return err;
	p->started = trampoline != SEAT_NEVER_STARTED;
	p->trampoline = p->started ? (uint8_t)trampoline : 0;
	p->sipi_due = false;
	p->started_elsewhere = 0;
	err = s->mp.mp_state == KVM_MP_STATE_UNINITIALIZED ? proxy_park(p) : proxy_enter(p);
	return err ? failure_set(f, err, "look at the kernel log", "vCPU %u cannot become a proxy: %s", v->id.v, strerror(-err)) : 0;
}

/* What has arrived and was not told of: requested; or taken by the CPU, whose handler has not done its OUT. */
static int take_waiting(struct vcpu *v, const struct proxy *p, struct vcpu_image *s, struct failure *f)
{
	uint32_t pending[VCPU_VECTOR_WORDS];
	struct kvm_vcpu_events e;
	struct kvm_regs r;
	int handler;

	if (vcpu_state_pending(v, pending) || ioctl(v->fd, KVM_GET_VCPU_EVENTS, &e) < 0 || ioctl(v->fd, KVM_GET_REGS, &r) < 0)
		return seat_failed(v, f, "reading its proxy");
	handler = proxy_before_out(p, r.rip);
	if (handler == -EBUSY)
		return handler;
	if (e.interrupt.injected)
		pending[e.interrupt.nr / 32] |= 1u << e.interrupt.nr % 32;
	if (handler >= 0)
		pending[handler / 32] |= 1u << handler % 32;
	vcpu_image_merge(s, pending);
	if (e.nmi.pending || e.nmi.injected) {
		s->events.nmi.pending = 1;
		s->events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	}
	return 0;
}

int seat_enter(struct vcpu *v, const struct proxy *p, const struct vcpu_shape *shape, struct vcpu_image *s, uint64_t tsc_offset, struct failure *f)
{
	struct kvm_guest_debug none = {.control = 0};
	struct kvm_mp_state mp;
	int err = vcpu_state_settle(v);

	if (err)
		return failure_set(f, err, "report this", "the proxy of vCPU %u does not come to rest: %s", v->id.v, strerror(-err));
	if (ioctl(v->fd, KVM_GET_MP_STATE, &mp) < 0)
		return seat_failed(v, f, "reading its run state");
	if (p->sipi_due || p->state == PROXY_WAIT_SIPI || (p->state == PROXY_WAIT_INIT && mp.mp_state != KVM_MP_STATE_UNINITIALIZED))
		return -EBUSY;
	err = take_waiting(v, p, s, f);
	if (!err && ioctl(v->fd, KVM_SET_GUEST_DEBUG, &none) < 0)
		err = seat_failed(v, f, "to leave the proxy");
	return err ? err : vcpu_state_set(v, shape, s, tsc_offset, f);
}
