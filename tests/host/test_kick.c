/* Kernel and simulator assumption: a guest that spins comes out of KVM_RUN when its thread gets a signal, whether it takes interrupts or not. (A
 * hypervisor whose host gets no interrupt while a guest spins with interrupts off cannot serve that guest's pages from the same CPU.) */
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

struct spin {
	int kvm, vm, vcpu;
	uint8_t *ram;
};

static void on_alarm(int sig) { (void)sig; }

/* Real mode at 0: the given code, then jmp to itself. */
static bool spin_open(struct spin *s, const uint8_t *code, size_t bytes, uint64_t rflags)
{
	struct kvm_userspace_memory_region slot = {.memory_size = 0x1000};
	struct kvm_regs r = {.rflags = rflags};
	struct kvm_sregs sr;

	s->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	s->vm = ioctl(s->kvm, KVM_CREATE_VM, 0);
	s->ram = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(s->ram, code, bytes);
	slot.userspace_addr = (uintptr_t)s->ram;
	if (ioctl(s->vm, KVM_SET_TSS_ADDR, 0xfffbd000) || ioctl(s->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return false;
	s->vcpu = ioctl(s->vm, KVM_CREATE_VCPU, 0);
	if (s->vcpu < 0 || ioctl(s->vcpu, KVM_GET_SREGS, &sr))
		return false;
	sr.cs.base = 0;
	sr.cs.selector = 0;
	return ioctl(s->vcpu, KVM_SET_SREGS, &sr) == 0 && ioctl(s->vcpu, KVM_SET_REGS, &r) == 0;
}

/* Comes out with EINTR, which only a signal can cause; a guest that cannot be interrupted hangs here, and the test's time limit tells. */
static int spin_until_alarm(const uint8_t *code, size_t bytes, uint64_t rflags)
{
	const struct itimerval soon = {.it_value = {.tv_usec = 20000}};
	struct sigaction alarmed = {.sa_handler = on_alarm};
	struct spin s;
	int err;

	sigaction(SIGALRM, &alarmed, NULL);
	if (!spin_open(&s, code, bytes, rflags))
		return -1;
	setitimer(ITIMER_REAL, &soon, NULL);
	err = ioctl(s.vcpu, KVM_RUN, 0) < 0 ? errno : 0;
	close(s.vcpu);
	close(s.vm);
	close(s.kvm);
	munmap(s.ram, 0x1000);
	return err;
}

static const uint8_t bare[] = {0xeb, 0xfe};                     /* jmp . */
static const uint8_t pausing[] = {0xf3, 0x90, 0xeb, 0xfc};      /* pause; jmp */
static const uint8_t cleared[] = {0xfb, 0x90, 0xfa, 0xeb, 0xfe}; /* sti; nop; cli; jmp . */

TEST(spinning_guests_can_be_interrupted)
{
	static const struct { const char *name; const uint8_t *code; size_t bytes; uint64_t rflags; } cases[] = {
		{"interrupts on", bare, sizeof bare, 0x202}, {"on, then off", cleared, sizeof cleared, 2},
		{"off, with pause", pausing, sizeof pausing, 2}, {"interrupts off", bare, sizeof bare, 2},
	};

	if (access("/dev/kvm", R_OK | W_OK))
		SKIP("no usable /dev/kvm on this host");
	for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		printf("     %s\n", cases[i].name);
		CHECK_EQ(spin_until_alarm(cases[i].code, cases[i].bytes, cases[i].rflags), EINTR);
	}
}
