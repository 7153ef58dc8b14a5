/* Kernel assumption and our use of it: on this host's KVM a proxy vCPU catches every fixed vector, NMI, INIT and SIPI that a local vCPU
 * sends through its x2APIC, and can be reused afterwards. */
#include "vm/proxy.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RAM_BYTES = 1 << 20, SENDER_CODE = 0x7000, STUB = 0x10000, TRAMPOLINE = 0x9 };

struct rig {
	int kvm, vm, fd[2], out[2];
	struct kvm_run *run[2];
	uint8_t *ram;
	struct proxy proxy;
	pthread_t thread;
	_Atomic bool stop;
	int error;
};

static void on_kick(int sig) { (void)sig; }

static void *rig_proxy_thread(void *arg)
{
	struct rig *g = arg;
	struct proxy_irq irq;

	while (!g->stop) {
		int got = proxy_run(&g->proxy, &irq);

		__atomic_store_n(&g->run[1]->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (got < 0) {
			g->error = got;
			break;
		}
		if (got == 1 && write(g->out[1], &irq, sizeof irq) != sizeof irq)
			break;
	}
	return NULL;
}

static bool rig_set_cpuid(struct rig *g, int fd)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + 256 * sizeof c->entries[0]);
	bool ok;

	c->nent = 256;
	ok = ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, c) == 0 && ioctl(fd, KVM_SET_CPUID2, c) == 0;
	free(c);
	return ok;
}

/* Loop: out 0xe7 (the host sets edx:eax), wrmsr ICR. */
static bool rig_build_sender(struct rig *g)
{
	static const uint8_t code[] = {0xe6, 0xe7, 0xb9, 0x30, 0x08, 0, 0, 0x89, 0xd8, 0x89, 0xf2, 0x0f, 0x30, 0xeb, 0xf1};
	struct proxy sender = {.vcpu = {0}, .fd = g->fd[0], .run = g->run[0], .stub = {STUB}};
	struct kvm_regs r;

	memcpy(g->ram + SENDER_CODE, code, sizeof code);
	if (proxy_enter(&sender) || ioctl(g->fd[0], KVM_GET_REGS, &r))
		return false;
	r.rip = SENDER_CODE;
	return ioctl(g->fd[0], KVM_SET_REGS, &r) == 0;
}

static bool rig_open(struct rig *g)
{
	struct kvm_enable_cap x2 = {.cap = KVM_CAP_X2APIC_API, .args = {KVM_X2APIC_API_USE_32BIT_IDS | KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK}};
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct sigaction kick = {.sa_handler = on_kick};
	struct kvm_userspace_memory_region slot;

	sigaction(SIGUSR1, &kick, NULL);
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		return false;
	g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	g->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	slot = (struct kvm_userspace_memory_region){.memory_size = RAM_BYTES, .userspace_addr = (uintptr_t)g->ram};
	if (g->vm < 0 || ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000) || ioctl(g->vm, KVM_ENABLE_CAP, &split) ||
	    ioctl(g->vm, KVM_ENABLE_CAP, &x2) || ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot) || pipe(g->out))
		return false;
	for (int i = 0; i < 2; i++) {
		g->fd[i] = ioctl(g->vm, KVM_CREATE_VCPU, i);
		if (g->fd[i] < 0 || !rig_set_cpuid(g, g->fd[i]))
			return false;
		g->run[i] = mmap(NULL, (size_t)ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, g->fd[i], 0);
	}
	proxy_stub_build(g->ram + STUB, (gpa_t){STUB});
	g->proxy = (struct proxy){.vcpu = {1}, .fd = g->fd[1], .run = g->run[1], .stub = {STUB}};
	return rig_build_sender(g) && proxy_park(&g->proxy) == 0 && ioctl(g->fd[0], KVM_RUN, 0) == 0 &&
	       pthread_create(&g->thread, NULL, rig_proxy_thread, g) == 0;
}

static bool rig_send(struct rig *g, uint32_t icr)
{
	struct kvm_regs r;

	if (ioctl(g->fd[0], KVM_GET_REGS, &r))
		return false;
	r.rbx = icr;
	r.rsi = 1; /* x2APIC id of the proxy */
	return ioctl(g->fd[0], KVM_SET_REGS, &r) == 0 && ioctl(g->fd[0], KVM_RUN, 0) == 0 && g->run[0]->exit_reason == KVM_EXIT_IO;
}

static bool rig_expect(struct rig *g, enum irq_mode mode, unsigned vector)
{
	struct pollfd p = {.fd = g->out[0], .events = POLLIN};
	struct proxy_irq irq;

	if (poll(&p, 1, 20000) != 1 || read(g->out[0], &irq, sizeof irq) != sizeof irq)
		return false;
	if (irq.mode != mode || irq.vector != vector)
		printf("     got mode %d vector %u\n", irq.mode, irq.vector);
	return irq.mode == mode && irq.vector == vector;
}

static void rig_kick(struct rig *g)
{
	__atomic_store_n(&g->run[1]->immediate_exit, 1, __ATOMIC_SEQ_CST);
	pthread_kill(g->thread, SIGUSR1);
}

static void rig_close(struct rig *g)
{
	g->stop = true;
	rig_kick(g);
	pthread_join(g->thread, NULL);
	close(g->fd[0]);
	close(g->fd[1]);
	close(g->vm);
	close(g->kvm);
}

TEST(a_proxy_catches_vectors_nmi_init_and_sipi)
{
	struct rig g = {0};

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	CHECK(rig_open(&g));
	for (unsigned round = 0; round < 3; round++) { /* the first start, then two as CPU hotplug does them */
		CHECK(rig_send(&g, 0x4500));
		if (round == 0)
			CHECK(rig_expect(&g, IRQ_INIT, 0));
		CHECK(rig_send(&g, 0x4600 | TRAMPOLINE));
		if (round != 0)
			CHECK(rig_expect(&g, IRQ_INIT, 0));
		CHECK(rig_expect(&g, IRQ_SIPI, TRAMPOLINE));
		CHECK(rig_send(&g, 0x4600 | TRAMPOLINE)); /* Linux sends two; the second changes nothing */
		for (unsigned v = 16; v < 256; v++) {
			CHECK(rig_send(&g, 0x4000 | v));
			CHECK(rig_expect(&g, IRQ_FIXED, v));
		}
		for (unsigned i = 0; i < 3; i++) { /* the second shows that NMIs are not left blocked */
			CHECK(rig_send(&g, 0x4400));
			CHECK(rig_expect(&g, IRQ_NMI, 0));
		}
	}
	CHECK_EQ(g.error, 0);
	CHECK_EQ(g.proxy.repairs, 0);
	rig_close(&g);
}

/* As on a third node: INIT and SIPI never come by. What came before the news of the start is kept; a later start is caught. */
TEST(a_proxy_of_a_cpu_started_elsewhere_catches_all_that_comes)
{
	struct rig g = {0};

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	CHECK(rig_open(&g));
	CHECK(rig_send(&g, 0x4000 | 77));
	for (unsigned round = 0; round < 3; round++) {
		proxy_started(&g.proxy, TRAMPOLINE); /* told twice: nothing changes */
		rig_kick(&g);
		if (round == 0)
			CHECK(rig_expect(&g, IRQ_FIXED, 77));
		CHECK(rig_send(&g, 0x4000 | 99));
		CHECK(rig_expect(&g, IRQ_FIXED, 99));
		CHECK(rig_send(&g, 0x4400));
		CHECK(rig_expect(&g, IRQ_NMI, 0));
	}
	CHECK(rig_send(&g, 0x4500));
	CHECK(rig_send(&g, 0x4600 | TRAMPOLINE));
	CHECK(rig_expect(&g, IRQ_INIT, 0));
	CHECK(rig_expect(&g, IRQ_SIPI, TRAMPOLINE));
	CHECK_EQ(g.error, 0);
	CHECK_EQ(g.proxy.repairs, 0);
	rig_close(&g);
}
