/* A guest CPU that counts and takes interrupts moves between two KVM VMs of this process, which have one memory, a thousand times: registers, vector registers, MSRs,
 * timers and pending interrupts are there afterwards, no tick is lost or comes twice, and the clock never goes back. */
#include "vm/vcpu_state.h"
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
#include <time.h>
#include <unistd.h>

/* The guest, in real mode: counts in ebx, says so now and then with an OUT, then halts if it is told to. Vector 0x40 is its timer, which it arms again, 0x41 what
 * is sent to it. LINK words are where the two meet. */
enum {
	RAM_BYTES = 64 * 1024, CODE = 0x1000, STACK = 0x7000, PORT = 0xe7, VECTOR_TIMER = 0x40, VECTOR_SENT = 0x41,
	LINK_TICKS = 0x800, LINK_SENT = 0x804, LINK_ERRORS = 0x808, LINK_LAST = 0x810, LINK_DUE = 0x818, LINK_HALTS = 0x820,
	LINK_LVT = 0x824, LINK_INITIAL = 0x828, LINK_DELTA = 0x82c,
	LVT_ONESHOT = VECTOR_TIMER, LVT_PERIODIC = 1 << 17 | VECTOR_TIMER, LVT_DEADLINE = 2 << 17 | VECTOR_TIMER,
};

extern const uint8_t guest_begin[], guest_timer[], guest_sent[], guest_end[];
__asm__(".pushsection .rodata\n.code16\n"
	"guest_begin:\n"
	"	movl $0x832, %ecx\n	movl 0x824, %eax\n	xorl %edx, %edx\n	wrmsr\n" /* the timer's LVT */
	"	call arm\n"
	"	sti\n"
	"1:	incl %ebx\n"
	"	testb $63, %bl\n	jnz 1b\n"
	"	outb %al, $0xe7\n"
	"	cmpb $0, 0x820\n	je 1b\n"
	"	hlt\n"
	"	jmp 1b\n"
	"arm:\n"
	"	rdtsc\n"
	"	movl %eax, 0x810\n	movl %edx, 0x814\n"
	"	addl 0x82c, %eax\n	adcl $0, %edx\n"
	"	movl %eax, 0x818\n	movl %edx, 0x81c\n"
	"	testl $0x40000, 0x824\n	jz 2f\n"
	"	movl $0x6e0, %ecx\n	wrmsr\n	ret\n"
	"2:	movl $0x838, %ecx\n	movl 0x828, %eax\n	xorl %edx, %edx\n	wrmsr\n	ret\n"
	"guest_timer:\n"
	"	pushal\n"
	"	incl 0x800\n"
	"	rdtsc\n" /* not before it was due, so not behind what was read before either */
	"	subl 0x818, %eax\n	sbbl 0x81c, %edx\n	jns 3f\n"
	"	incl 0x808\n"
	"3:	testl $0x20000, 0x824\n	jnz 4f\n" /* a periodic timer goes on by itself */
	"	call arm\n"
	"4:	jmp eoi\n"
	"guest_sent:\n"
	"	pushal\n"
	"	incl 0x804\n"
	"eoi:	movl $0x80b, %ecx\n	xorl %eax, %eax\n	xorl %edx, %edx\n	wrmsr\n"
	"	popal\n"
	"	iretw\n"
	"guest_end:\n"
	".code64\n.popsection\n");

enum { PLACES = 2, TIMER_US = 400 };

struct place {
	int vm;
	struct vcpu cpu;
};

struct rig {
	int kvm;
	uint8_t *ram;
	struct vcpu_shape shape;
	struct place place[PLACES];
	uint64_t offset;
	uint32_t khz;
	unsigned at;
	struct failure f;
	struct vcpu_image image, after;
	uint8_t bytes[VCPU_IMAGE_BYTES_MAX];
	unsigned halted, pending; /* moves of a CPU that had halted; with an interrupt in its LAPIC */
};

static uint32_t link_get(const struct rig *g, unsigned where)
{
	uint32_t v;

	memcpy(&v, g->ram + where, sizeof v);
	return v;
}

static void link_put(struct rig *g, unsigned where, uint32_t v)
{
	memcpy(g->ram + where, &v, sizeof v);
}

static bool place_cpuid(struct rig *g, struct place *p)
{
	enum { X2APIC = 1 << 21, DEADLINE = 1 << 24 };
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + 256 * sizeof c->entries[0]);
	bool ok;

	c->nent = 256;
	ok = ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, c) == 0;
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == 1)
			c->entries[i].ecx |= X2APIC | DEADLINE;
	ok = ok && ioctl(p->cpu.fd, KVM_SET_CPUID2, c) == 0;
	free(c);
	return ok;
}

static bool place_open(struct rig *g, struct place *p)
{
	struct kvm_enable_cap x2 = {.cap = KVM_CAP_X2APIC_API, .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_userspace_memory_region slot = {.memory_size = RAM_BYTES, .userspace_addr = (uintptr_t)g->ram};
	int run_bytes = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	p->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	return p->vm >= 0 && run_bytes > 0 && ioctl(p->vm, KVM_SET_TSS_ADDR, 0xfffbd000) == 0 && ioctl(p->vm, KVM_ENABLE_CAP, &split) == 0 &&
	       ioctl(p->vm, KVM_ENABLE_CAP, &x2) == 0 && ioctl(p->vm, KVM_SET_USER_MEMORY_REGION, &slot) == 0 &&
	       vcpu_open(&p->cpu, p->vm, (size_t)run_bytes, (vcpu_t){0}, &g->f) == 0 && place_cpuid(g, p) && vcpu_reset(&p->cpu, &g->f) == 0;
}

static bool guest_place(struct rig *g)
{
	const struct { unsigned vector; const uint8_t *handler; } ivt[] = {{VECTOR_TIMER, guest_timer}, {VECTOR_SENT, guest_sent}};
	struct kvm_regs r = {.rip = CODE, .rsp = STACK, .rflags = 2, .rdi = 0x1111, .rsi = 0x2222, .rbp = 0x3333, .r8 = 0x8888888888888888, .r15 = 0xffffffff12345678};
	struct vcpu *v = &g->place[0].cpu;
	struct kvm_lapic_state l;
	struct kvm_sregs s;
	uint32_t spiv = 0x1ff;

	memcpy(g->ram + CODE, guest_begin, (size_t)(guest_end - guest_begin));
	for (unsigned i = 0; i < sizeof ivt / sizeof ivt[0]; i++)
		link_put(g, ivt[i].vector * 4, CODE + (uint32_t)(ivt[i].handler - guest_begin));
	if (ioctl(v->fd, KVM_GET_SREGS, &s) || ioctl(v->fd, KVM_GET_LAPIC, &l))
		return false;
	s.cs.base = s.cs.selector = 0;
	memcpy(l.regs + 0xf0, &spiv, sizeof spiv);
	return ioctl(v->fd, KVM_SET_SREGS, &s) == 0 && ioctl(v->fd, KVM_SET_REGS, &r) == 0 && ioctl(v->fd, KVM_SET_LAPIC, &l) == 0;
}

/* initial: what the timer counts from, ns; due_us: not before that may it fire */
static bool rig_open(struct rig *g, uint32_t lvt, uint32_t initial, uint32_t due_us)
{
	*g = (struct rig){.kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC)};
	g->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->kvm < 0 || g->ram == MAP_FAILED || vcpu_kick_init())
		return false;
	for (unsigned i = 0; i < PLACES; i++)
		if (!place_open(g, &g->place[i]))
			return false;
	if (vcpu_get_tsc_offset(&g->place[0].cpu, &g->offset) || vcpu_state_shape(&g->shape, g->kvm, g->place[0].vm, &g->f))
		return false;
	link_put(g, LINK_LVT, lvt);
	link_put(g, LINK_INITIAL, initial);
	g->khz = (uint32_t)ioctl(g->place[0].cpu.fd, KVM_GET_TSC_KHZ, 0);
	link_put(g, LINK_DELTA, (uint32_t)((uint64_t)due_us * g->khz / 1000));
	return guest_place(g);
}

static void rig_close(struct rig *g)
{
	for (unsigned i = 0; i < PLACES; i++) {
		vcpu_close(&g->place[i].cpu);
		close(g->place[i].vm);
	}
	close(g->kvm);
	munmap(g->ram, RAM_BYTES);
}

static struct vcpu *rig_cpu(struct rig *g)
{
	return &g->place[g->at].cpu;
}

/* Until its next OUT or a kick. 0, or what went wrong. */
static int rig_run(struct rig *g)
{
	int err = vcpu_enter(rig_cpu(g));

	if (err == -EINTR || err == -EAGAIN)
		return 0;
	return err ? err : rig_cpu(g)->run->exit_reason == KVM_EXIT_IO ? 0 : -EIO;
}

/* Through bytes, as between hosts. The place that is left is spoiled, so that nothing but the bytes can have brought anything over. */
static int rig_move(struct rig *g)
{
	struct kvm_regs spoiled = {.rip = 0xdead, .rflags = 2};
	struct kvm_lapic_state none = {.regs = {0}};
	uint32_t irr[VCPU_VECTOR_WORDS];
	struct vcpu *from = rig_cpu(g);
	size_t bytes;
	int err;

	err = vcpu_state_get(from, &g->shape, &g->image, &g->f);
	if (err)
		return err;
	bytes = vcpu_image_put(&g->image, g->bytes);
	memset(&g->image, 0xee, sizeof g->image);
	err = vcpu_image_get(&g->image, g->bytes, bytes);
	if (err || ioctl(from->fd, KVM_SET_LAPIC, &none) || ioctl(from->fd, KVM_SET_REGS, &spoiled))
		return err ? err : -EIO;
	vcpu_image_pending(&g->image.lapic, irr);
	g->halted += g->image.mp.mp_state == KVM_MP_STATE_HALTED;
	g->pending += irr[VECTOR_SENT / 32] != 0 || g->image.events.interrupt.injected;
	g->at = !g->at;
	return vcpu_state_set(rig_cpu(g), &g->shape, &g->image, g->offset, &g->f);
}

static int rig_send(struct rig *g)
{
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 1 << 14 | VECTOR_SENT};

	return ioctl(g->place[g->at].vm, KVM_SIGNAL_MSI, &msi) == 1 ? 0 : -EIO;
}

/* A kick every now and then, wherever the guest is. */
static void kicks(unsigned us)
{
	const struct itimerval each = {.it_interval = {.tv_usec = us}, .it_value = {.tv_usec = us}};

	setitimer(ITIMER_REAL, &each, NULL);
}

static void on_alarm(int sig) { (void)sig; }

/* Does this KVM run this guest at all? */
static bool rig_ticks(struct rig *g)
{
	for (unsigned i = 0; i < 100000 && link_get(g, LINK_TICKS) < 3; i++)
		if (rig_run(g))
			return false;
	return link_get(g, LINK_TICKS) >= 3;
}

/* What a guest must not see change, apart from what it changes itself. Returns what differs, or NULL. */
static const char *differs(const struct vcpu_image *a, const struct vcpu_image *b)
{
	if (memcmp(&a->regs, &b->regs, sizeof a->regs) != 0)
		return "registers";
	if (memcmp(&a->sregs, &b->sregs, sizeof a->sregs) != 0)
		return "segments and control registers";
	if (memcmp(&a->debug, &b->debug, sizeof a->debug) != 0)
		return "debug registers";
	if (a->xsave_bytes != b->xsave_bytes || memcmp(a->xsave, b->xsave, a->xsave_bytes) != 0)
		return "vector registers";
	if (memcmp(&a->xcrs, &b->xcrs, sizeof a->xcrs) != 0)
		return "XCR0";
	if (memcmp(&a->events, &b->events, sizeof a->events) != 0)
		return "pending events";
	if (memcmp(&a->lapic, &b->lapic, sizeof a->lapic) != 0)
		return "LAPIC";
	if (a->mp.mp_state != b->mp.mp_state)
		return "run state";
	if (a->msrs != b->msrs || memcmp(a->msr, b->msr, a->msrs * sizeof a->msr[0]) != 0)
		return "MSRs";
	return NULL;
}

static struct rig rig;

#define OPEN(g, lvt, initial, due_us) do { \
	if (access("/dev/kvm", R_OK | W_OK)) \
		SKIP("no usable /dev/kvm on this host"); \
	CHECK(rig_open(g, lvt, initial, due_us)); \
	signal(SIGALRM, on_alarm); \
} while (0)

static void wait_us(unsigned us)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000000 + (now.tv_nsec - begin.tv_nsec) / 1000 < us);
}

/* Moves 'times' times, at an OUT or at a kick, with an interrupt pending at every second one. */
static int journey(struct rig *g, unsigned times)
{
	uint32_t sent = 0;
	int err = 0;

	kicks(150);
	for (unsigned i = 0; i < times && !err; i++) {
		uint32_t ticks;

		link_put(g, LINK_HALTS, i / 4 & 1);
		for (unsigned n = 0; n < (i & 4 ? 3 : 0) && !err; n++) /* into the halt */
			err = rig_run(g);
		if (i % 8 == 2)
			wait_us(TIMER_US); /* so that the timer runs out while nobody is in KVM to see it */
		ticks = link_get(g, LINK_TICKS);
		if (i & 1 && !err && !(err = rig_send(g)))
			sent++;
		if (!err)
			err = rig_move(g);
		for (unsigned n = 0; !err && (link_get(g, LINK_TICKS) == ticks || link_get(g, LINK_SENT) != sent); n++)
			err = n > 20000 ? -ETIME : rig_run(g);
		if (link_get(g, LINK_SENT) > sent)
			err = -EALREADY;
	}
	kicks(0);
	if (err)
		printf("     after %u ticks, %u of %u interrupts: %s; %s\n", link_get(g, LINK_TICKS), link_get(g, LINK_SENT), sent, strerror(-err), g->f.what);
	return err;
}

static void travel(struct test *self, uint32_t lvt, uint32_t initial, uint32_t due_us, unsigned times)
{
	OPEN(&rig, lvt, initial, due_us);
	if (!rig_ticks(&rig)) {
		rig_close(&rig);
		SKIP("this KVM does not run a guest that takes timer interrupts in real mode");
	}
	CHECK_EQ(journey(&rig, times), 0);
	CHECK_EQ(link_get(&rig, LINK_ERRORS), 0);
	printf("     %u moves: %u halted, %u with an interrupt pending; %u ticks\n", times, rig.halted, rig.pending, link_get(&rig, LINK_TICKS));
	CHECK(rig.halted > 0 && rig.pending > times / 4);
	CHECK_EQ(rig.image.regs.rdi, 0x1111);
	CHECK_EQ(rig.image.regs.r15, 0xffffffff12345678);
	rig_close(&rig);
}

TEST(a_cpu_with_a_deadline_timer_moves_a_thousand_times)
{
	travel(self, LVT_DEADLINE, 0, TIMER_US, 1000);
}

TEST(a_cpu_with_a_oneshot_timer_moves_a_thousand_times)
{
	travel(self, LVT_ONESHOT, TIMER_US * 1000, TIMER_US, 1000);
}

TEST(a_cpu_with_a_periodic_timer_moves_a_thousand_times)
{
	travel(self, LVT_PERIODIC, TIMER_US * 1000, 0, 1000);
}

/* Values that a guest could have there. What this KVM does not have is left out, and said. */
static void fill_msrs(struct vcpu_image *s)
{
	static const struct vcpu_msr fill[] = {
		{0x174, 0x10}, {0x175, 0xffffc90000001000}, {0x176, 0xffffffff81234560}, {0x277, 0x0407050600070106}, {0xc0000081, 0x0023001000000000},
		{0xc0000082, 0xffffffff81000000}, {0xc0000083, 0xffffffff81001000}, {0xc0000084, 0x47700}, {0xc0000102, 0xffff888012345000}, {0x2ff, 0xc06},
	};

	for (unsigned i = 0; i < sizeof fill / sizeof fill[0]; i++) {
		unsigned n = 0;

		while (n < s->msrs && s->msr[n].index != fill[i].index)
			n++;
		if (n < s->msrs)
			s->msr[n].value = fill[i].value;
		else
			printf("     this KVM has no MSR 0x%x\n", fill[i].index);
	}
}

/* The upper halves of YMM registers, where this KVM lets the guest have them. */
static void fill_avx(struct vcpu *v, struct vcpu_image *s)
{
	enum { XSTATE_BV = 512, YMM = 576, YMM_END = 832 };
	struct kvm_xcrs avx = {.nr_xcrs = 1, .xcrs[0].value = 7};

	if (ioctl(v->fd, KVM_SET_XCRS, &avx)) {
		printf("     SKIP of AVX registers: this KVM's guest has none\n");
		return;
	}
	s->xcrs.xcrs[0].value = 7;
	for (unsigned i = YMM; i < YMM_END; i++)
		s->xsave[i] = (uint8_t)(i * 11);
	s->xsave[XSTATE_BV] |= 4;
}

static void fill_image(struct vcpu_image *s)
{
	enum { XMM = 160, XMM_END = 416, XSTATE_BV = 512 };

	s->regs = (struct kvm_regs){.rax = 1, .rbx = 2, .rcx = 3, .rdx = 4, .rsi = 5, .rdi = 6, .rsp = 7, .rbp = 8, .r8 = 9, .r9 = 10, .r10 = 11, .r11 = 12, .r12 = 13,
		.r13 = 14, .r14 = 15, .r15 = 0xfedcba9876543210, .rip = CODE, .rflags = 0x246};
	s->sregs.cr2 = 0x123456789000;
	s->sregs.fs.base = 0x7000;
	s->sregs.gs.base = 0x8000;
	s->sregs.ldt.base = 0x9000;
	for (unsigned i = 0; i < 4; i++)
		s->debug.db[i] = 0x1000 * (i + 1);
	for (unsigned i = XMM; i < XMM_END; i++)
		s->xsave[i] = (uint8_t)(i * 7);
	s->xsave[XSTATE_BV] |= 3;
	fill_msrs(s);
}

/* Set in one place, it reads the same in that and in the next. */
TEST(all_that_is_set_is_read_again)
{
	struct rig *g = &rig;
	const char *what;

	OPEN(g, LVT_DEADLINE, 0, TIMER_US);
	CHECK_EQ(vcpu_state_get(rig_cpu(g), &g->shape, &g->image, &g->f), 0);
	fill_image(&g->image);
	fill_avx(rig_cpu(g), &g->image);
	CHECK_EQ(vcpu_state_set(rig_cpu(g), &g->shape, &g->image, g->offset, &g->f), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct vcpu_image *want = &g->after;

		*want = g->image;
		CHECK_EQ(rig_move(g), 0);
		what = differs(want, &g->image);
		if (what)
			printf("     move %u: %s\n", i, what);
		CHECK(!what);
	}
	rig_close(g);
}

TEST(a_cpu_that_waits_for_its_start_moves)
{
	struct kvm_mp_state waits = {.mp_state = KVM_MP_STATE_UNINITIALIZED};
	struct rig *g = &rig;

	OPEN(g, LVT_DEADLINE, 0, TIMER_US);
	CHECK_EQ(ioctl(rig_cpu(g)->fd, KVM_SET_MP_STATE, &waits), 0);
	CHECK_EQ(rig_move(g), 0);
	CHECK_EQ(rig_move(g), 0);
	CHECK_EQ(g->image.mp.mp_state, KVM_MP_STATE_UNINITIALIZED);
	rig_close(g);
}

TEST(an_nmi_that_is_pending_moves)
{
	struct rig *g = &rig;

	OPEN(g, LVT_DEADLINE, 0, TIMER_US);
	CHECK_EQ(ioctl(rig_cpu(g)->fd, KVM_NMI, 0), 0);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(rig_move(g), 0);
		CHECK(g->image.events.nmi.pending || g->image.events.nmi.injected);
	}
	rig_close(g);
}

/* What waits in the LAPIC of the place that it comes to is pending in it as well. */
TEST(interrupts_that_wait_in_the_target_are_merged)
{
	uint32_t waiting[VCPU_VECTOR_WORDS], pending[VCPU_VECTOR_WORDS];
	struct rig *g = &rig;
	struct kvm_msi msi = {.address_lo = 0xfee00000, .data = 1 << 14 | 0x99};
	struct kvm_lapic_state l;
	uint32_t spiv = 0x1ff;

	OPEN(g, LVT_DEADLINE, 0, TIMER_US);
	CHECK_EQ(ioctl(g->place[1].cpu.fd, KVM_GET_LAPIC, &l), 0);
	memcpy(l.regs + 0xf0, &spiv, sizeof spiv);
	CHECK_EQ(ioctl(g->place[1].cpu.fd, KVM_SET_LAPIC, &l), 0);
	CHECK_EQ(ioctl(g->place[1].vm, KVM_SIGNAL_MSI, &msi), 1);
	CHECK_EQ(rig_send(g), 0);
	CHECK_EQ(vcpu_state_get(rig_cpu(g), &g->shape, &g->image, &g->f), 0);
	CHECK_EQ(vcpu_state_pending(&g->place[1].cpu, waiting), 0);
	vcpu_image_merge(&g->image, waiting);
	CHECK_EQ(vcpu_state_set(&g->place[1].cpu, &g->shape, &g->image, g->offset, &g->f), 0);
	CHECK_EQ(vcpu_state_pending(&g->place[1].cpu, pending), 0);
	CHECK_EQ(pending[VECTOR_SENT / 32], 1u << VECTOR_SENT % 32);
	CHECK_EQ(pending[0x99 / 32], 1u << 0x99 % 32);
	rig_close(g);
}

TEST(what_this_kvm_does_not_take_is_named)
{
	struct rig *g = &rig;

	OPEN(g, LVT_DEADLINE, 0, TIMER_US);
	CHECK_EQ(vcpu_state_get(rig_cpu(g), &g->shape, &g->image, &g->f), 0);
	g->image.msr[g->image.msrs - 1] = (struct vcpu_msr){0xfffffff0, 1};
	CHECK_EQ(vcpu_state_set(rig_cpu(g), &g->shape, &g->image, g->offset, &g->f), -EINVAL);
	CHECK(strstr(g->f.what, "0xfffffff0"));
	g->f = (struct failure){.err = 0};
	CHECK_EQ(vcpu_state_get(rig_cpu(g), &g->shape, &g->image, &g->f), 0);
	g->image.tsc += (uint64_t)g->khz * 1000;
	CHECK_EQ(vcpu_state_set(rig_cpu(g), &g->shape, &g->image, g->offset, &g->f), -ERANGE);
	rig_close(g);
}
