/* A guest CPU goes back and forth between two KVM VMs of this process with one memory, real vCPU here, proxy there, while a CPU of each VM sends it interrupts
 * at any moment: before, while it is under way, when the move is undone. Every one arrives, once. */
#include "vm/seat.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

enum {
	RAM_BYTES = 1 << 20, COUNTS = 0x1000, CODE = 0x2000, HANDLERS = 0x4000, STACK = 0x3f00, SENDER_CODE = 0x7000, STUB = 0x10000,
	SENDER = 0, MOBILE = 1, CPUS = 2, PLACES = 2, FIRST = 32, VECTORS = 256, NMI = 2,
};

/* Real mode: halts for ever. A handler counts its vector, and its OUT tells the host. */
extern const uint8_t seat_begin[], seat_eoi[], seat_nmi[], seat_end[];
__asm__(".pushsection .rodata\n.code16\n"
	"seat_begin:\n	sti\n1:	hlt\n	jmp 1b\n"
	"seat_eoi:\n	movl $0x80b, %ecx\n	xorl %eax, %eax\n	xorl %edx, %edx\n	wrmsr\n"
	"seat_nmi:\n	popal\n	outb %al, $0xe6\n	iretw\n"
	"seat_end:\n.code64\n.popsection\n");

struct place {
	int vm;
	struct vcpu cpu[CPUS];
	struct proxy proxy;
};

struct rig {
	int kvm;
	uint8_t *ram;
	struct vcpu_shape shape;
	struct place place[PLACES];
	uint64_t offset;
	unsigned at;
	uint32_t sent[VECTORS];
	uint64_t random;
	unsigned moved, undone;
	struct failure f;
	struct vcpu_image image;
};

static struct rig rig;

static void put16(uint8_t *to, unsigned v)
{
	to[0] = (uint8_t)v;
	to[1] = (uint8_t)(v >> 8);
}

/* pushal; incl counts[v]; jmp to what ends it */
static void guest_handler(uint8_t *ram, unsigned v)
{
	uint8_t code[] = {0x66, 0x60, 0x66, 0xff, 0x06, 0, 0, 0xe9, 0, 0};
	unsigned at = HANDLERS + v * 16, end = CODE + (unsigned)((v == NMI ? seat_nmi : seat_eoi) - seat_begin);

	put16(code + 5, COUNTS + v * 4);
	put16(code + 8, end - (at + (unsigned)sizeof code));
	memcpy(ram + at, code, sizeof code);
	put16(ram + v * 4, at);
}

static uint32_t handled(const struct rig *g, unsigned v)
{
	uint32_t n;

	memcpy(&n, g->ram + COUNTS + v * 4, sizeof n);
	return n;
}

static bool set_cpuid(struct rig *g, int fd)
{
	enum { X2APIC = 1 << 21, DEADLINE = 1 << 24 };
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + 256 * sizeof c->entries[0]);
	bool ok;

	c->nent = 256;
	ok = ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, c) == 0;
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == 1)
			c->entries[i].ecx |= X2APIC | DEADLINE;
	ok = ok && ioctl(fd, KVM_SET_CPUID2, c) == 0;
	free(c);
	return ok;
}

/* Loop: out 0xe7 (the host sets the words of the ICR), wrmsr ICR. */
static bool start_sender(struct place *p, uint8_t *ram)
{
	static const uint8_t code[] = {0xe6, 0xe7, 0xb9, 0x30, 0x08, 0, 0, 0x89, 0xd8, 0x89, 0xf2, 0x0f, 0x30, 0xeb, 0xf1};
	struct vcpu *v = &p->cpu[SENDER];
	struct proxy sender = {.vcpu = {SENDER}, .fd = v->fd, .run = v->run, .stub = {STUB}};
	struct kvm_regs r;

	memcpy(ram + SENDER_CODE, code, sizeof code);
	if (proxy_enter(&sender) || ioctl(v->fd, KVM_GET_REGS, &r))
		return false;
	r.rip = SENDER_CODE;
	return ioctl(v->fd, KVM_SET_REGS, &r) == 0 && ioctl(v->fd, KVM_RUN, 0) == 0;
}

static bool place_open(struct rig *g, struct place *p)
{
	struct kvm_enable_cap x2 = {.cap = KVM_CAP_X2APIC_API, .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_userspace_memory_region slot = {.memory_size = RAM_BYTES, .userspace_addr = (uintptr_t)g->ram};
	int run_bytes = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	p->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	if (p->vm < 0 || run_bytes <= 0 || ioctl(p->vm, KVM_SET_TSS_ADDR, 0xfffbd000) || ioctl(p->vm, KVM_ENABLE_CAP, &split) || ioctl(p->vm, KVM_ENABLE_CAP, &x2) ||
	    ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return false;
	for (unsigned i = 0; i < CPUS; i++)
		if (vcpu_open(&p->cpu[i], p->vm, (size_t)run_bytes, (vcpu_t){(uint16_t)i}, &g->f) || !set_cpuid(g, p->cpu[i].fd) || vcpu_reset(&p->cpu[i], &g->f))
			return false;
	p->proxy = (struct proxy){.vcpu = {MOBILE}, .fd = p->cpu[MOBILE].fd, .run = p->cpu[MOBILE].run, .stub = {STUB}};
	return start_sender(p, g->ram);
}

/* As if it had been started at 0x2000 long ago. */
static bool start_mobile(struct vcpu *v)
{
	struct kvm_mp_state runs = {.mp_state = KVM_MP_STATE_RUNNABLE};
	struct kvm_regs r = {.rip = CODE, .rsp = STACK, .rflags = 2};
	struct kvm_lapic_state l;
	struct kvm_sregs s;
	uint32_t spiv = 0x1ff;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) || ioctl(v->fd, KVM_GET_LAPIC, &l))
		return false;
	s.cs.base = s.cs.selector = 0;
	memcpy(l.regs + 0xf0, &spiv, sizeof spiv);
	return ioctl(v->fd, KVM_SET_SREGS, &s) == 0 && ioctl(v->fd, KVM_SET_REGS, &r) == 0 && ioctl(v->fd, KVM_SET_LAPIC, &l) == 0 &&
	       ioctl(v->fd, KVM_SET_MP_STATE, &runs) == 0;
}

static void on_alarm(int sig) { (void)sig; }

static bool rig_open(struct rig *g)
{
	const struct itimerval often = {.it_interval = {.tv_usec = 150}, .it_value = {.tv_usec = 150}};
	struct sigaction alarmed = {.sa_handler = on_alarm};

	*g = (struct rig){.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), .random = 1};
	g->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->kvm < 0 || g->ram == MAP_FAILED || vcpu_kick_init() || sigaction(SIGALRM, &alarmed, NULL))
		return false;
	proxy_stub_build(g->ram + STUB, (gpa_t){STUB});
	memcpy(g->ram + CODE, seat_begin, (size_t)(seat_end - seat_begin));
	for (unsigned v = 0; v < VECTORS; v++)
		guest_handler(g->ram, v);
	for (unsigned i = 0; i < PLACES; i++)
		if (!place_open(g, &g->place[i]))
			return false;
	return vcpu_get_tsc_offset(&g->place[0].cpu[MOBILE], &g->offset) == 0 && vcpu_state_shape(&g->shape, g->kvm, g->place[0].vm, &g->f) == 0 &&
	       start_mobile(&g->place[0].cpu[MOBILE]) && proxy_enter(&g->place[1].proxy) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0;
}

static void rig_close(struct rig *g)
{
	const struct itimerval never = {{0, 0}, {0, 0}};

	setitimer(ITIMER_REAL, &never, NULL);
	for (unsigned i = 0; i < PLACES; i++) {
		for (unsigned k = 0; k < CPUS; k++)
			vcpu_close(&g->place[i].cpu[k]);
		close(g->place[i].vm);
	}
	close(g->kvm);
	munmap(g->ram, RAM_BYTES);
}

static unsigned rig_random(struct rig *g, unsigned below)
{
	g->random = g->random * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(g->random >> 33) % below;
}

/* A CPU of that place sends a vector that is not under way already (two of one would become one, as they may). */
static int rig_send(struct rig *g, unsigned place)
{
	unsigned v = rig_random(g, 16) ? FIRST + rig_random(g, VECTORS - FIRST) : NMI;
	struct vcpu *sender = &g->place[place].cpu[SENDER];
	struct kvm_regs r;
	int err;

	if (g->sent[v] != handled(g, v))
		return 0;
	g->sent[v]++;
	if (ioctl(sender->fd, KVM_GET_REGS, &r))
		return -errno;
	r.rbx = v == NMI ? 0x4400 : 0x4000 | v;
	r.rsi = MOBILE;
	if (ioctl(sender->fd, KVM_SET_REGS, &r))
		return -errno;
	do
		err = vcpu_enter(sender);
	while (err == -EINTR);
	return err ? err : sender->run->exit_reason == KVM_EXIT_IO ? 0 : -EIO;
}

/* What machine_deliver does. To a CPU that is under way it waits in the LAPIC of the place that it leaves. */
static int rig_deliver(struct rig *g, struct proxy_irq irq)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000 | MOBILE << 12, .data = (uint32_t)irq.mode << 8 | irq.vector | 1 << 14};

	return ioctl(g->place[g->at].vm, KVM_SIGNAL_MSI, &msi) == 1 ? 0 : -EIO;
}

static int run_proxy(struct rig *g)
{
	struct proxy_irq irq;
	int got = proxy_run(&g->place[!g->at].proxy, &irq);

	return got == 1 ? rig_deliver(g, irq) : got;
}

static int run_mobile(struct rig *g)
{
	int err = vcpu_enter(&g->place[g->at].cpu[MOBILE]);

	return err == -EINTR || err == -EAGAIN ? 0 : err;
}

/* Away and back, or over. Meanwhile both places send, and the proxy of the place that it goes to still works. */
static int rig_move(struct rig *g, bool commit)
{
	struct place *from = &g->place[g->at], *to = &g->place[commit ? !g->at : g->at];
	int err = seat_leave(&from->cpu[MOBILE], &from->proxy, SEAT_NEVER_STARTED, &g->shape, &g->image, &g->f);

	for (unsigned n = rig_random(g, 4); n && !err; n--)
		err = rig_random(g, 3) ? rig_send(g, rig_random(g, 2)) : run_proxy(g);
	while (!err && (err = seat_enter(&to->cpu[MOBILE], &to->proxy, &g->shape, &g->image, g->offset, &g->f)) == -EBUSY)
		err = run_proxy(g);
	if (err)
		return err;
	if (commit)
		g->at = !g->at;
	*(commit ? &g->moved : &g->undone) += 1;
	return 0;
}

static int rig_step(struct rig *g)
{
	switch (rig_random(g, 8)) {
	case 0: return rig_move(g, true);
	case 1: return rig_move(g, false);
	case 2: return run_mobile(g);
	case 3: return run_proxy(g);
	default: return rig_send(g, rig_random(g, 2));
	}
}

static unsigned missing(const struct rig *g)
{
	unsigned n = 0;

	for (unsigned v = 0; v < VECTORS; v++)
		n += g->sent[v] != handled(g, v);
	return n;
}

TEST(no_interrupt_is_lost_or_doubled_while_a_cpu_moves)
{
	struct rig *g = &rig;
	unsigned sent = 0;
	int err = 0;

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	CHECK(rig_open(g));
	for (unsigned i = 0; i < 16000 && !err; i++) {
		err = rig_step(g);
		for (unsigned v = 0; v < VECTORS && !err; v++)
			err = handled(g, v) > g->sent[v] ? -EALREADY : 0;
	}
	for (unsigned i = 0; i < 20000 && !err && missing(g); i++)
		err = i & 1 ? run_mobile(g) : run_proxy(g);
	if (err)
		printf("     after %u moves: %s; %s\n", g->moved, strerror(-err), g->f.what);
	for (unsigned v = 0; v < VECTORS; v++) {
		sent += g->sent[v];
		if (g->sent[v] != handled(g, v))
			printf("     vector %u: %u sent, %u handled\n", v, g->sent[v], handled(g, v));
	}
	printf("     %u moves, %u undone; %u interrupts, %u NMIs\n", g->moved, g->undone, sent, g->sent[NMI]);
	CHECK_EQ(err, 0);
	CHECK_EQ(missing(g), 0);
	CHECK_EQ(g->place[0].proxy.repairs + g->place[1].proxy.repairs, 0);
	CHECK(g->moved > 1000 && sent > 1000 && g->sent[NMI] > 20);
	rig_close(g);
}
