/* See trial.h. */
#include "vm/trial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static int set_cpuid(struct trial *t)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } c = {.head.nent = 256};

	return ioctl(t->kvm, KVM_GET_SUPPORTED_CPUID, &c) < 0 || ioctl(t->vcpu, KVM_SET_CPUID2, &c) < 0 ? -errno : 0;
}

static int open_vm(struct trial *t)
{
	struct kvm_userspace_memory_region slot = {.memory_size = t->ram_bytes, .userspace_addr = (uintptr_t)t->ram};
	int size;

	t->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (t->kvm < 0)
		return -errno;
	t->vm = ioctl(t->kvm, KVM_CREATE_VM, 0);
	if (t->vm < 0 || ioctl(t->vm, KVM_SET_TSS_ADDR, 0xfffbd000) < 0 || ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return -errno;
	t->vcpu = ioctl(t->vm, KVM_CREATE_VCPU, 0);
	if (t->vcpu < 0)
		return -errno;
	size = ioctl(t->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < 0)
		return -errno;
	t->run_bytes = (size_t)size;
	t->run = mmap(NULL, t->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, t->vcpu, 0);
	return t->run == MAP_FAILED ? -errno : set_cpuid(t);
}

int trial_open(struct trial *t, size_t ram_bytes)
{
	int err;

	*t = (struct trial){.kvm = -1, .vm = -1, .vcpu = -1, .run = MAP_FAILED, .ram_bytes = ram_bytes};
	t->ram = mmap(NULL, ram_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (t->ram == MAP_FAILED)
		return -errno;
	err = madvise(t->ram, ram_bytes, MADV_NOHUGEPAGE) < 0 && errno != EINVAL ? -errno : open_vm(t);
	if (err)
		trial_close(t);
	return err;
}

void trial_close(struct trial *t)
{
	if (t->run != MAP_FAILED)
		munmap(t->run, t->run_bytes);
	if (t->vcpu >= 0)
		close(t->vcpu);
	if (t->vm >= 0)
		close(t->vm);
	if (t->kvm >= 0)
		close(t->kvm);
	munmap(t->ram, t->ram_bytes);
}

static int enter(struct trial *t, const struct kvm_sregs *s, uint64_t rip, uint64_t rflags)
{
	struct kvm_regs r = {.rip = rip, .rflags = rflags | 2};

	return ioctl(t->vcpu, KVM_SET_SREGS, s) < 0 || ioctl(t->vcpu, KVM_SET_REGS, &r) < 0 ? -errno : 0;
}

int trial_enter_real(struct trial *t, uint64_t rip, uint64_t rflags)
{
	struct kvm_sregs s;

	if (ioctl(t->vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cs.base = 0;
	s.cs.selector = 0;
	return enter(t, &s, rip, rflags);
}

static struct kvm_segment user_segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .dpl = 3, .db = !code, .s = 1, .l = code, .g = 1};
}

int trial_enter_user(struct trial *t, uint64_t cr3, uint64_t rip)
{
	struct kvm_sregs s;

	if (ioctl(t->vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cr0 = 0x80000031; /* PG NE ET PE */
	s.cr3 = cr3;
	s.cr4 = 0x20; /* PAE */
	s.efer = 0x500; /* LME LMA */
	s.cs = user_segment(0x33, 11, true);
	s.ds = s.es = s.fs = s.gs = s.ss = user_segment(0x2b, 3, false);
	return enter(t, &s, rip, 0x3000); /* IOPL 3 */
}

int trial_run(struct trial *t, uint16_t port)
{
	while (ioctl(t->vcpu, KVM_RUN, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (t->run->exit_reason != KVM_EXIT_IO || t->run->io.direction != KVM_EXIT_IO_OUT || t->run->io.port != port)
		return -EIO;
	return *((const uint8_t *)t->run + t->run->io.data_offset);
}
