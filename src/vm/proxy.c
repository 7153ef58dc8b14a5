/* The stub, and what its exits mean. See proxy.h. */
#include "vm/proxy.h"

#include <errno.h>
#include <string.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "base/log.h"
#include "vm/vcpu.h"

/* Stub layout, offsets from its start. Each proxy has a small stack: two frames and a few words at most. */
enum {
	STUB_GDT = 0x0,
	STUB_NMI = 0x400,
	STUB_IDT = 0x800,
	STUB_HANDLERS = 0x1000,
	STUB_HANDLER_BYTES = 16,
	STUB_HANDLER_SENT = 4, /* behind its OUT */
	STUB_FINISH = 0x2000,
	STUB_IDLE = 0x2100,
	STUB_STACKS = 0x3000,
	STUB_STACK_BYTES = 64,
};
_Static_assert(STUB_STACKS + VCPUS_MAX * STUB_STACK_BYTES <= PROXY_STUB_BYTES, "a stack for each proxy");

enum {
	SEL_CODE = 8,
	SEL_DATA = 16,
	VECTOR_NMI = 2,
	VECTOR_FIRST_LEGAL = 16, /* SDM 3A 11.5.2: fixed interrupts have vectors 16..255 */
	LAPIC_SPIV = 0xf0,
	LAPIC_SPIV_ENABLED = 0x1ff,
	LAPIC_TPR = 0x80,
};

enum { START_TOLD = 0x100 };

static void put32(uint8_t *to, uint32_t v)
{
	memcpy(to, &v, sizeof v);
}

static void stub_build_idt(uint8_t *to, uint32_t base)
{
	for (unsigned v = 0; v < 256; v++) {
		uint32_t handler = v == VECTOR_NMI ? base + STUB_NMI : base + STUB_HANDLERS + v * STUB_HANDLER_BYTES;

		put32(to + STUB_IDT + v * 8, (SEL_CODE << 16) | (handler & 0xffff));
		put32(to + STUB_IDT + v * 8 + 4, (handler & 0xffff0000) | 0x8e00);
	}
}

/* mov al, v; out PROXY_PORT, al; jmp finish */
static void stub_build_handler(uint8_t *to, unsigned v)
{
	unsigned at = STUB_HANDLERS + v * STUB_HANDLER_BYTES;
	const uint8_t code[] = {0xb0, (uint8_t)v, 0xe6, PROXY_PORT, 0xe9};

	memcpy(to + at, code, sizeof code);
	put32(to + at + sizeof code, (uint32_t)(STUB_FINISH - (int)(at + sizeof code + 4)));
}

/* wrmsr x2APIC EOI = 0; add esp, 12: the frame of who was halted */
static const uint8_t stub_finish[] = {0xb9, 0x0b, 0x08, 0, 0, 0x31, 0xc0, 0x31, 0xd2, 0x0f, 0x30, 0x83, 0xc4, 12};

/* An NMI may come while a handler has not yet done its OUT or its EOI: then that must go on. Whoever was interrupted below 'finished' had interrupts off, and is
 * returned to without its flags; who was about to halt, or had, starts over with that. This code lies below 'finished' too, so that one NMI may interrupt another.
 *      push eax; mov al, 2; out; mov eax, [esp + 4]; cmp eax, finished; pop eax; jae +3; ret 8;  add esp, 12; jmp idle */
static void stub_build_nmi(uint8_t *to, uint32_t base)
{
	static const uint8_t code[] = {0x50, 0xb0, VECTOR_NMI, 0xe6, PROXY_PORT, 0x8b, 0x44, 0x24, 0x04, 0x3d, 0, 0, 0, 0, 0x58, 0x73, 0x03, 0xc2, 0x08, 0x00,
		0x83, 0xc4, 12, 0xe9};
	enum { CMP_AT = 10 };

	memcpy(to + STUB_NMI, code, sizeof code);
	put32(to + STUB_NMI + CMP_AT, base + STUB_FINISH + sizeof stub_finish);
	put32(to + STUB_NMI + sizeof code, STUB_IDLE - (STUB_NMI + sizeof code + 4));
}

void proxy_stub_build(uint8_t *to, gpa_t stub)
{
	static const uint8_t idle[] = {0xfb, 0xf4, 0xeb, 0xfc}; /* sti; hlt; jmp back */
	static const uint64_t gdt[] = {0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	uint32_t base = (uint32_t)stub.v;

	memset(to, 0, PROXY_STUB_BYTES);
	memcpy(to + STUB_GDT, gdt, sizeof gdt);
	stub_build_idt(to, base);
	for (unsigned v = 0; v < 256; v++)
		stub_build_handler(to, v);
	stub_build_nmi(to, base);
	memcpy(to + STUB_FINISH, stub_finish, sizeof stub_finish);
	memcpy(to + STUB_FINISH + sizeof stub_finish, idle, sizeof idle);
	memcpy(to + STUB_IDLE, idle, sizeof idle);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .db = 1, .s = 1, .g = 1};
}

static int proxy_set_sregs(struct proxy *p)
{
	struct kvm_sregs s;

	if (ioctl(p->fd, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cs = segment(SEL_CODE, 11);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(SEL_DATA, 3);
	s.gdt.base = p->stub.v + STUB_GDT;
	s.gdt.limit = 3 * 8 - 1;
	s.idt.base = p->stub.v + STUB_IDT;
	s.idt.limit = 256 * 8 - 1;
	s.cr0 = 0x11; /* PE | ET */
	s.cr3 = s.cr4 = s.efer = 0;
	s.apic_base = vcpu_apic_base(p->vcpu);
	memset(s.interrupt_bitmap, 0, sizeof s.interrupt_bitmap);
	return ioctl(p->fd, KVM_SET_SREGS, &s) < 0 ? -errno : 0;
}

static int proxy_enable_lapic(struct proxy *p)
{
	struct kvm_lapic_state l;
	uint32_t spiv = LAPIC_SPIV_ENABLED, tpr = 0;

	if (ioctl(p->fd, KVM_GET_LAPIC, &l) < 0)
		return -errno;
	memcpy(l.regs + LAPIC_SPIV, &spiv, sizeof spiv);
	memcpy(l.regs + LAPIC_TPR, &tpr, sizeof tpr);
	return ioctl(p->fd, KVM_SET_LAPIC, &l) < 0 ? -errno : 0;
}

/* Armed while waiting for the first SIPI: stop at any instruction. Afterwards: stop at the trampoline that SIPI named. */
static int proxy_set_traps(struct proxy *p)
{
	struct kvm_guest_debug d = {.control = 0};

	if (p->state == PROXY_WAIT_SIPI)
		d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP;
	else if (p->started) {
		d.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
		d.arch.debugreg[0] = (uint64_t)p->trampoline << PAGE_SHIFT;
		d.arch.debugreg[7] = 0x402; /* SDM 3B 18.2.4: G0, execute, one byte */
	}
	return ioctl(p->fd, KVM_SET_GUEST_DEBUG, &d) < 0 ? -errno : 0;
}

static int proxy_set_mp_state(struct proxy *p, uint32_t state)
{
	struct kvm_mp_state m = {.mp_state = state};

	return ioctl(p->fd, KVM_SET_MP_STATE, &m) < 0 ? -errno : 0;
}

/* An NMI handler that ends without IRET leaves NMIs blocked; say that it ended. */
static int proxy_unblock_nmi(struct proxy *p)
{
	struct kvm_vcpu_events e;

	if (ioctl(p->fd, KVM_GET_VCPU_EVENTS, &e) < 0)
		return -errno;
	e.nmi.masked = 0;
	return ioctl(p->fd, KVM_SET_VCPU_EVENTS, &e) < 0 ? -errno : 0;
}

int proxy_enter(struct proxy *p)
{
	struct kvm_regs r = {.rip = p->stub.v + STUB_IDLE, .rsp = p->stub.v + STUB_STACKS + (p->vcpu.v + 1u) * STUB_STACK_BYTES, .rflags = 2};
	int err = proxy_set_sregs(p);

	if (err)
		return err;
	if (ioctl(p->fd, KVM_SET_REGS, &r) < 0)
		return -errno;
	p->state = PROXY_STUB;
	err = proxy_set_traps(p);
	if (!err)
		err = proxy_enable_lapic(p);
	return err ? err : proxy_set_mp_state(p, KVM_MP_STATE_RUNNABLE);
}

int proxy_park(struct proxy *p)
{
	int err = proxy_enter(p);

	if (err)
		return err;
	p->state = PROXY_WAIT_INIT;
	return proxy_set_mp_state(p, KVM_MP_STATE_UNINITIALIZED);
}

/* KVM_RUN came back without an exit: a kick, or the INIT of an AP that waited for one. */
static int proxy_interrupted(struct proxy *p, struct proxy_irq *irq)
{
	struct kvm_mp_state m;
	int err;

	if (p->state != PROXY_WAIT_INIT)
		return 0;
	if (ioctl(p->fd, KVM_GET_MP_STATE, &m) < 0)
		return -errno;
	if (m.mp_state == KVM_MP_STATE_UNINITIALIZED)
		return 0;
	p->state = PROXY_WAIT_SIPI;
	err = proxy_set_traps(p);
	*irq = (struct proxy_irq){.mode = IRQ_INIT};
	return err ? err : 1;
}

/* Stopped on the way into the guest's trampoline. A later start is reported in two calls: its INIT, then its SIPI. */
static int proxy_sipi(struct proxy *p, struct proxy_irq *irq)
{
	bool again = p->state == PROXY_STUB;
	struct kvm_sregs s;
	int err;

	if (ioctl(p->fd, KVM_GET_SREGS, &s) < 0)
		return -errno;
	p->trampoline = (uint8_t)(s.cs.base >> PAGE_SHIFT);
	p->started = true;
	p->sipi_due = again;
	*irq = again ? (struct proxy_irq){.mode = IRQ_INIT} : (struct proxy_irq){.mode = IRQ_SIPI, .vector = p->trampoline};
	err = proxy_enter(p);
	return err ? err : 1;
}

static int proxy_vector(struct proxy *p, uint8_t vector, struct proxy_irq *irq)
{
	if (vector == VECTOR_NMI) {
		int err = proxy_unblock_nmi(p);

		*irq = (struct proxy_irq){.mode = IRQ_NMI};
		return err ? err : 1;
	}
	if (vector < VECTOR_FIRST_LEGAL) /* an exception in the stub: somebody wrote to it */
		return -EFAULT;
	*irq = (struct proxy_irq){.mode = IRQ_FIXED, .vector = vector};
	return 1;
}

/* The stub cannot get here by itself. Count it, start over; what was pending in the LAPIC stays pending. */
static int proxy_repair(struct proxy *p)
{
	if (p->repairs++ == 0)
		log_warn("the guest disturbed the proxy of its vCPU %u (exit %u); put back", p->vcpu.v, p->run->exit_reason);
	return proxy_enter(p);
}

int proxy_before_out(const struct proxy *p, uint64_t rip)
{
	uint64_t at = rip - p->stub.v - STUB_HANDLERS;

	if (rip - p->stub.v - STUB_NMI < STUB_IDT - STUB_NMI)
		return -EBUSY;
	return at < 256 * STUB_HANDLER_BYTES && at % STUB_HANDLER_BYTES < STUB_HANDLER_SENT ? (int)(at / STUB_HANDLER_BYTES) : -ENOENT;
}

void proxy_started(struct proxy *p, uint8_t trampoline)
{
	__atomic_store_n(&p->started_elsewhere, START_TOLD | trampoline, __ATOMIC_SEQ_CST);
}

int proxy_run(struct proxy *p, struct proxy_irq *irq)
{
	const struct kvm_run *run = p->run;
	uint32_t start = __atomic_exchange_n(&p->started_elsewhere, 0, __ATOMIC_SEQ_CST);
	int got;

	if (start) {
		p->trampoline = (uint8_t)start;
		p->started = true;
		got = p->state == PROXY_STUB ? proxy_set_traps(p) : proxy_enter(p);
		if (got)
			return got;
	}
	if (p->sipi_due) {
		p->sipi_due = false;
		*irq = (struct proxy_irq){.mode = IRQ_SIPI, .vector = p->trampoline};
		return 1;
	}
	if (ioctl(p->fd, KVM_RUN, 0) < 0)
		return errno == EAGAIN || errno == EINTR ? proxy_interrupted(p, irq) : -errno;
	if (run->exit_reason == KVM_EXIT_DEBUG && (p->state == PROXY_WAIT_SIPI || p->started))
		return proxy_sipi(p, irq);
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != PROXY_PORT || run->io.direction != KVM_EXIT_IO_OUT)
		return proxy_repair(p);
	got = proxy_vector(p, *((const uint8_t *)run + run->io.data_offset), irq);
	return got == -EFAULT ? proxy_repair(p) : got;
}
