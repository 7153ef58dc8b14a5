/* See rig.h. The guest starts at CPL 3 in long mode with IOPL 3 and page tables that never change, so it runs natively even on hosts whose KVM
 * emulates kernel mode, and is right even under shadow paging. */
#include "tests/litmus/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PTE_PRESENT_USER = 0x67, PTE_LARGE = 0x80 }; /* present, writable, user, accessed, dirty: walks have nothing to write */

static bool rig_put64(struct rig *g, uint64_t at, uint64_t v)
{
	return ram_write(g->ram[0], (gpa_t){at}, &v, sizeof v) == 0;
}

static bool rig_load(struct rig *g)
{
	size_t bytes = (size_t)(litmus_code_end - litmus_code);
	bool good = bytes <= LITMUS_CODE_MAX;

	good = good && rig_put64(g, LITMUS_TABLES, (LITMUS_TABLES + 0x1000) | PTE_PRESENT_USER);
	good = good && rig_put64(g, LITMUS_TABLES + 0x1000, (LITMUS_TABLES + 0x2000) | PTE_PRESENT_USER);
	for (uint64_t i = 0; i < LITMUS_RAM_BYTES >> 21 && good; i++)
		good = rig_put64(g, LITMUS_TABLES + 0x2000 + i * 8, i << 21 | PTE_PRESENT_USER | PTE_LARGE);
	return good && ram_write(g->ram[0], (gpa_t){LITMUS_CODE}, litmus_code, bytes) == 0;
}

static bool vcpu_set_cpuid(struct rig *g, int fd)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entry[256]; } c = {.head.nent = 256};

	return ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, &c) == 0 && ioctl(fd, KVM_SET_CPUID2, &c) == 0;
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .dpl = 3, .db = !code, .s = 1, .l = code, .g = 1};
}

static bool vcpu_set_state(int fd, unsigned v)
{
	struct kvm_regs r = {
		.rip = LITMUS_CODE + litmus_entry_offset(),
		.rsp = LITMUS_STACK + (uint64_t)v * 4096 + 4096 - 8, /* as after a call */
		.rdi = LITMUS_WORK + (uint64_t)v * 4096,
		.rflags = 0x3002, /* IOPL 3 */
	};
	struct kvm_sregs s;

	if (ioctl(fd, KVM_GET_SREGS, &s))
		return false;
	s.cr0 = 0x80000033; /* PG NE ET MP PE */
	s.cr3 = LITMUS_TABLES;
	s.cr4 = 0x620; /* PAE OSFXSR OSXMMEXCPT */
	s.efer = 0xd00; /* LME LMA NXE */
	s.cs = segment(0x33, 11, true);
	s.ds = s.es = s.fs = s.gs = s.ss = segment(0x2b, 3, false);
	return ioctl(fd, KVM_SET_SREGS, &s) == 0 && ioctl(fd, KVM_SET_REGS, &r) == 0;
}

static bool rig_add_vcpu(struct rig *g, unsigned v)
{
	struct rig_vcpu *c = &g->vcpu[v];
	int size = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);

	c->rig = g;
	c->fd = ioctl(g->vm[v % g->fragments], KVM_CREATE_VCPU, v);
	if (c->fd < 0 || size < 0)
		return false;
	c->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	return c->run != MAP_FAILED && vcpu_set_cpuid(g, c->fd) && vcpu_set_state(c->fd, v);
}

static bool rig_add_vm(struct rig *g, unsigned f)
{
	g->vm[f] = ioctl(g->kvm, KVM_CREATE_VM, 0);
	if (g->vm[f] < 0 || ioctl(g->vm[f], KVM_SET_TSS_ADDR, 0xfffbd000))
		return false;
	for (unsigned r = 0; r < g->ram[f]->ranges; r++) {
		const struct ram_range *range = &g->ram[f]->range[r];
		struct kvm_userspace_memory_region slot = {.slot = r, .guest_phys_addr = range->gpa.v, .memory_size = range->bytes,
			.userspace_addr = (uintptr_t)g->ram[f]->hva[r]};

		if (ioctl(g->vm[f], KVM_SET_USER_MEMORY_REGION, &slot))
			return false;
	}
	return true;
}

static bool rig_make(struct rig *g)
{
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0 || !rig_load(g))
		return false;
	for (unsigned f = 0; f < g->fragments; f++)
		if (!rig_add_vm(g, f))
			return false;
	for (unsigned v = 0; v < LITMUS_VCPUS; v++)
		if (!rig_add_vcpu(g, v))
			return false;
	return true;
}

bool rig_open(struct rig *g, unsigned fragments, const struct ram *const ram[])
{
	memset(g, 0, sizeof *g);
	g->fragments = fragments;
	for (unsigned f = 0; f < fragments; f++)
		g->ram[f] = ram[f];
	if (rig_make(g))
		return true;
	printf("litmus: cannot make the guest: %s\n", strerror(errno));
	return false;
}

static void *vcpu_thread(void *arg)
{
	struct rig_vcpu *c = arg;

	for (;;) {
		if (ioctl(c->fd, KVM_RUN, 0) < 0) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			snprintf(c->error, sizeof c->error, "KVM_RUN: %s", strerror(errno));
			return NULL;
		}
		if (c->run->exit_reason != KVM_EXIT_IO) {
			struct kvm_regs r = {0};

			ioctl(c->fd, KVM_GET_REGS, &r);
			snprintf(c->error, sizeof c->error, "exit %u at rip 0x%llx", c->run->exit_reason, r.rip);
			return NULL;
		}
		if (c->run->io.port == LITMUS_PORT_DONE)
			return NULL;
		sched_yield();
	}
}

bool rig_run(struct rig *g, enum litmus_test test, unsigned threads, uint64_t batches, uint64_t delay)
{
	bool good = true;

	for (unsigned v = 0; v < threads; v++) {
		struct litmus_work w = {.test = test, .thread = v, .threads = threads, .batches = batches, .random = v * 7919 + test, .delay = delay};

		if (ram_write(g->ram[0], (gpa_t){LITMUS_WORK + v * 4096}, &w, sizeof w))
			return false;
	}
	for (unsigned v = 0; v < threads; v++)
		g->vcpu[v].started = pthread_create(&g->vcpu[v].thread, NULL, vcpu_thread, &g->vcpu[v]) == 0;
	for (unsigned v = 0; v < threads; v++) {
		if (!g->vcpu[v].started)
			return false;
		pthread_join(g->vcpu[v].thread, NULL);
		if (g->vcpu[v].error[0]) {
			printf("litmus: vCPU %u: %s\n", v, g->vcpu[v].error);
			good = false;
		}
	}
	return good;
}

void rig_close(struct rig *g)
{
	for (unsigned v = 0; v < LITMUS_VCPUS; v++)
		if (g->vcpu[v].fd > 0)
			close(g->vcpu[v].fd);
	for (unsigned f = 0; f < g->fragments; f++)
		if (g->vm[f] > 0)
			close(g->vm[f]);
	if (g->kvm > 0)
		close(g->kvm);
}
