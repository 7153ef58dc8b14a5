/* The order of KVM's ioctls, see vcpu_state.h. */
#include "vm/vcpu_state.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

enum {
	MSR_IA32_TSC = 0x10,
	MSR_IA32_TSC_DEADLINE = 0x6e0,
	KERNEL_SIGSET_BYTES = 8,
	LISTED_MAX = 340,      /* and not more than VCPU_MSRS_MAX with those that are not listed */
	LAPIC_TRIES = 100,
	CLOCK_BEHIND_MS = 100, /* two clocks of one guest never differ that much */
};

static int state_failed(const struct vcpu *v, struct failure *f, const char *what)
{
	int err = -errno;

	return failure_set(f, err, "look at the kernel log; are both hosts' kernels of one version?", "vCPU %u: KVM refused %s: %s", v->id.v, what, strerror(-err));
}

/* --- what to ask for --- */

static int compare_index(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void shape_add(struct vcpu_shape *shape, uint32_t first, unsigned n)
{
	for (unsigned i = 0; i < n && shape->msrs < VCPU_MSRS_MAX; i++)
		if (first + i != MSR_IA32_TSC && first + i != MSR_IA32_TSC_DEADLINE)
			shape->msr[shape->msrs++] = first + i;
}

/* What KVM lists, and what it has and does not list: memory types, machine checks, debug control. A guest that lacks one is not asked for it. */
static void shape_fill(struct vcpu_shape *shape, const struct kvm_msr_list *list)
{
	static const struct { uint32_t first; unsigned n; } unlisted[] = {{0x179, 3}, {0x1d9, 1}, {0x200, 16}, {0x250, 1}, {0x258, 2}, {0x268, 8}, {0x2ff, 1}, {0x400, 128}};
	unsigned n = 0;

	shape->msrs = 0;
	for (unsigned i = 0; i < ARRAY_LEN(unlisted); i++)
		shape_add(shape, unlisted[i].first, unlisted[i].n);
	for (unsigned i = 0; i < list->nmsrs; i++)
		shape_add(shape, list->indices[i], 1);
	qsort(shape->msr, shape->msrs, sizeof shape->msr[0], compare_index);
	for (unsigned i = 0; i < shape->msrs; i++)
		if (i == 0 || shape->msr[i] != shape->msr[n - 1])
			shape->msr[n++] = shape->msr[i];
	shape->msrs = n;
}

int vcpu_state_shape(struct vcpu_shape *shape, int kvm_fd, int vm_fd, struct failure *f)
{
	union { struct kvm_msr_list head; uint8_t room[sizeof(struct kvm_msr_list) + LISTED_MAX * sizeof(uint32_t)]; } list = {.room = {0}};
	int xsave = ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	if (xsave < VCPU_XSAVE_MIN || xsave > VCPU_XSAVE_MAX || ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_SREGS2) <= 0)
		return failure_set(f, -ENOTSUP, "use Linux 6.1 or later", "this host's KVM cannot give a vCPU's whole state (XSAVE %d bytes)", xsave);
	list.head.nmsrs = LISTED_MAX;
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, &list) < 0)
		return failure_set(f, -errno, "report this", "KVM does not list its MSRs: %s", strerror(errno));
	shape->xsave_bytes = (uint32_t)xsave;
	shape_fill(shape, &list.head);
	return 0;
}

/* --- at rest --- */

static int signal_unmasked_inside(struct vcpu *v, const sigset_t *mask)
{
	struct { struct kvm_signal_mask head; uint8_t set[KERNEL_SIGSET_BYTES]; } m = {.head.len = KERNEL_SIGSET_BYTES};

	if (mask)
		memcpy(m.set, mask, sizeof m.set);
	return ioctl(v->fd, KVM_SET_SIGNAL_MASK, mask ? (void *)&m : NULL) < 0 ? -errno : 0;
}

/* With a signal pending that only KVM_RUN lets in, KVM completes the access and puts timers that ran out into the LAPIC, but does not get to the guest. immediate_exit
 * would turn back before the timers. */
int vcpu_state_settle(struct vcpu *v)
{
	sigset_t kick, before, inside;
	int err, out;

	sigemptyset(&kick);
	sigaddset(&kick, VCPU_KICK_SIGNAL);
	err = -pthread_sigmask(SIG_BLOCK, &kick, &before);
	if (err)
		return err;
	inside = before;
	sigdelset(&inside, VCPU_KICK_SIGNAL);
	err = signal_unmasked_inside(v, &inside);
	if (!err)
		err = -pthread_kill(pthread_self(), VCPU_KICK_SIGNAL);
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	out = err || ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL); /* now the signal's handler runs, and it is pending no more */
	if (!err)
		err = signal_unmasked_inside(v, NULL);
	if (err)
		return err;
	return out == -EINTR || out == -EAGAIN ? 0 : out ? out : -EAGAIN;
}

/* --- MSRs --- */

union msr_block {
	struct kvm_msrs head;
	uint8_t room[sizeof(struct kvm_msrs) + VCPU_MSRS_MAX * sizeof(struct kvm_msr_entry)];
};

/* KVM stops at the first one it does not like: go on behind it. bad: told for each. 0, or -errno. */
static int msrs_each(struct vcpu *v, unsigned long request, struct vcpu_msr *msr, unsigned n, bool *bad)
{
	union msr_block b;
	unsigned at = 0;

	while (at < n) {
		int done;

		b.head.nmsrs = n - at;
		b.head.pad = 0;
		for (unsigned i = at; i < n; i++)
			b.head.entries[i - at] = (struct kvm_msr_entry){.index = msr[i].index, .data = msr[i].value};
		done = ioctl(v->fd, request, &b);
		if (done < 0)
			return -errno;
		for (unsigned i = 0; i < (unsigned)done; i++) {
			msr[at + i].value = b.head.entries[i].data;
			bad[at + i] = false;
		}
		at += (unsigned)done;
		if (at < n)
			bad[at++] = true;
	}
	return 0;
}

static int one_msr(struct vcpu *v, unsigned long request, uint32_t index, uint64_t *value)
{
	struct vcpu_msr m = {index, *value};
	bool bad;
	int err = msrs_each(v, request, &m, 1, &bad);

	*value = m.value;
	return err ? err : bad ? -EINVAL : 0;
}

/* Those that KVM lists and this guest has. */
static int msrs_get(struct vcpu *v, const struct vcpu_shape *shape, struct vcpu_image *s, struct failure *f)
{
	bool bad[VCPU_MSRS_MAX];

	for (unsigned i = 0; i < shape->msrs; i++)
		s->msr[i] = (struct vcpu_msr){.index = shape->msr[i]};
	if (msrs_each(v, KVM_GET_MSRS, s->msr, shape->msrs, bad) < 0)
		return state_failed(v, f, "reading MSRs");
	s->msrs = 0;
	for (unsigned i = 0; i < shape->msrs; i++)
		if (!bad[i])
			s->msr[s->msrs++] = s->msr[i];
	return 0;
}

/* Only what differs is written: some writes have effects of their own, and some MSRs cannot be written but are the same anyway. */
static int msrs_set(struct vcpu *v, const struct vcpu_image *s, struct failure *f)
{
	struct vcpu_msr have[VCPU_MSRS_MAX], write[VCPU_MSRS_MAX];
	bool bad[VCPU_MSRS_MAX];
	unsigned n = 0;

	memcpy(have, s->msr, s->msrs * sizeof have[0]);
	if (msrs_each(v, KVM_GET_MSRS, have, s->msrs, bad) < 0)
		return state_failed(v, f, "reading MSRs");
	for (unsigned i = 0; i < s->msrs; i++)
		if (bad[i] ? s->msr[i].value != 0 : s->msr[i].value != have[i].value)
			write[n++] = s->msr[i];
	if (msrs_each(v, KVM_SET_MSRS, write, n, bad) < 0)
		return state_failed(v, f, "writing MSRs");
	for (unsigned i = 0; i < n; i++)
		if (bad[i])
			return failure_set(f, -EINVAL, "put the VM on hosts whose processors and kernels are alike",
			                   "vCPU %u: KVM on this host does not take MSR 0x%x = 0x%llx", v->id.v, write[i].index, (unsigned long long)write[i].value);
	return 0;
}

/* --- all of it --- */

/* KVM notes by itself that a timer has run out, and makes that an interrupt only in KVM_RUN; KVM_GET_LAPIC does not tell of the note. So: a timer that ran out before
 * the first look has become an interrupt when it has settled, and none may have run out between the looks. (A deadline that has run out unnoted is
 * still armed, and fires again where it is set.) */
static int get_lapic(struct vcpu *v, struct vcpu_image *s, struct failure *f)
{
	struct kvm_lapic_state before;
	int err;

	for (unsigned i = 0; i < LAPIC_TRIES; i++) {
		if (ioctl(v->fd, KVM_GET_LAPIC, &before) < 0)
			return state_failed(v, f, "reading its LAPIC");
		err = vcpu_state_settle(v);
		if (err)
			return err == -EAGAIN ? err : failure_set(f, err, "report this", "vCPU %u does not come to rest: %s", v->id.v, strerror(-err));
		if (ioctl(v->fd, KVM_GET_LAPIC, &s->lapic) < 0)
			return state_failed(v, f, "reading its LAPIC");
		if (one_msr(v, KVM_GET_MSRS, MSR_IA32_TSC, &s->tsc)) /* right behind it: its timer counts from here */
			return state_failed(v, f, "reading its clock");
		if (!vcpu_image_timer_ran_out(&before, &s->lapic))
			return 0;
	}
	return failure_set(f, -EBUSY, "report this", "vCPU %u: its timer is too fast", v->id.v);
}

/* The LAPIC first, for it takes entering KVM; the run state before registers, since asking for it may change them (an INIT or SIPI is accepted). */
int vcpu_state_get(struct vcpu *v, const struct vcpu_shape *shape, struct vcpu_image *s, struct failure *f)
{
	int err;

	*s = (struct vcpu_image){.xsave_bytes = shape->xsave_bytes};
	err = get_lapic(v, s, f);
	if (err)
		return err;
	if (ioctl(v->fd, KVM_GET_MP_STATE, &s->mp) < 0)
		return state_failed(v, f, "reading its run state");
	if (ioctl(v->fd, KVM_GET_VCPU_EVENTS, &s->events) < 0)
		return state_failed(v, f, "reading pending events");
	if (ioctl(v->fd, KVM_GET_REGS, &s->regs) < 0 || ioctl(v->fd, KVM_GET_SREGS2, &s->sregs) < 0)
		return state_failed(v, f, "reading registers");
	if (ioctl(v->fd, KVM_GET_XSAVE2, s->xsave) < 0 || ioctl(v->fd, KVM_GET_XCRS, &s->xcrs) < 0)
		return state_failed(v, f, "reading vector registers");
	if (ioctl(v->fd, KVM_GET_DEBUGREGS, &s->debug) < 0)
		return state_failed(v, f, "reading debug registers");
	if (one_msr(v, KVM_GET_MSRS, MSR_IA32_TSC_DEADLINE, &s->tsc_deadline)) /* a CPU without it has none armed */
		s->tsc_deadline = 0;
	return msrs_get(v, shape, s, f);
}

static int set_xsave(struct vcpu *v, const struct vcpu_shape *shape, const struct vcpu_image *s, struct failure *f)
{
	static const uint8_t none[64];
	uint8_t xsave[VCPU_XSAVE_MAX] = {0};
	uint32_t bytes = s->xsave_bytes < shape->xsave_bytes ? s->xsave_bytes : shape->xsave_bytes;

	for (uint32_t i = bytes; i < s->xsave_bytes; i += sizeof none)
		if (memcmp(s->xsave + i, none, s->xsave_bytes - i < sizeof none ? s->xsave_bytes - i : sizeof none) != 0)
			return failure_set(f, -EINVAL, "put the VM on hosts whose processors are alike", "vCPU %u uses vector registers that this host does not have", v->id.v);
	memcpy(xsave, s->xsave, bytes);
	if (s->xcrs.nr_xcrs && ioctl(v->fd, KVM_SET_XCRS, &s->xcrs) < 0)
		return state_failed(v, f, "XCR0");
	return ioctl(v->fd, KVM_SET_XSAVE, xsave) < 0 ? state_failed(v, f, "vector registers") : 0;
}

/* Nobody may read a clock behind one that this CPU has read. */
static int wait_for_clock(struct vcpu *v, uint64_t tsc, struct failure *f)
{
	struct timespec begin, now;
	uint64_t have = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (;;) {
		if (one_msr(v, KVM_GET_MSRS, MSR_IA32_TSC, &have))
			return state_failed(v, f, "reading its clock");
		if ((int64_t)(have - tsc) >= 0)
			return 0;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 > CLOCK_BEHIND_MS)
			return failure_set(f, -ERANGE, "report this", "vCPU %u: the guest's clock on this host is behind by %llu cycles", v->id.v, (unsigned long long)(tsc - have));
	}
}

/* The guest's clock has gone on since s->tsc, and its timer with it. */
static int set_lapic(struct vcpu *v, const struct vcpu_image *s, struct failure *f)
{
	int khz = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);
	struct kvm_lapic_state l = s->lapic;
	uint64_t now = 0;

	if (khz <= 0 || one_msr(v, KVM_GET_MSRS, MSR_IA32_TSC, &now))
		return state_failed(v, f, "reading its clock");
	vcpu_image_age(&l, (uint64_t)((unsigned __int128)(now - s->tsc) * 1000000 / (unsigned)khz));
	return ioctl(v->fd, KVM_SET_LAPIC, &l) < 0 ? state_failed(v, f, "its LAPIC") : 0;
}

/* The base of the LAPIC before the LAPIC (its mode lays out its id), the LAPIC before the deadline (its LVT says whether there is one), the clock before both;
 * events after the registers, whose writes drop pending exceptions, and after the LAPIC. */
int vcpu_state_set(struct vcpu *v, const struct vcpu_shape *shape, const struct vcpu_image *s, uint64_t tsc_offset, struct failure *f)
{
	uint64_t deadline = s->tsc_deadline;
	int err;

	if (vcpu_set_tsc_offset(v, tsc_offset) < 0)
		return state_failed(v, f, "its TSC offset");
	if (ioctl(v->fd, KVM_SET_SREGS2, &s->sregs) < 0)
		return state_failed(v, f, "segments and control registers");
	if (ioctl(v->fd, KVM_SET_REGS, &s->regs) < 0)
		return state_failed(v, f, "registers");
	err = set_xsave(v, shape, s, f);
	if (!err)
		err = msrs_set(v, s, f);
	if (!err)
		err = wait_for_clock(v, s->tsc, f);
	if (!err)
		err = set_lapic(v, s, f);
	if (err)
		return err;
	if (ioctl(v->fd, KVM_SET_DEBUGREGS, &s->debug) < 0)
		return state_failed(v, f, "debug registers");
	if (ioctl(v->fd, KVM_SET_VCPU_EVENTS, &s->events) < 0)
		return state_failed(v, f, "pending events");
	if (ioctl(v->fd, KVM_SET_MP_STATE, &s->mp) < 0)
		return state_failed(v, f, "its run state");
	if (deadline && one_msr(v, KVM_SET_MSRS, MSR_IA32_TSC_DEADLINE, &deadline))
		return state_failed(v, f, "its deadline");
	return 0;
}

int vcpu_state_pending(struct vcpu *v, uint32_t pending[VCPU_VECTOR_WORDS])
{
	struct kvm_lapic_state l;

	if (ioctl(v->fd, KVM_GET_LAPIC, &l) < 0)
		return -errno;
	vcpu_image_pending(&l, pending);
	return 0;
}
