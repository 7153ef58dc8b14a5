/* The ioctls of one vCPU. See vcpu.h. */
#include "vm/vcpu.h"

#include <cpuid.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <x86intrin.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/log.h"
#include "vm/memmap.h"

enum {
	MSR_IA32_TSC = 0x10,
	MSR_IA32_ARCH_CAPABILITIES = 0x10a,
	MSR_IA32_MISC_ENABLE = 0x1a0,
	MISC_ENABLE_FAST_STRING = 1,
	MSR_MTRR_DEF_TYPE = 0x2ff,
	MTRR_ENABLED_WRITE_BACK = 0x806,
	APIC_BASE_BSP = 1 << 8,
	APIC_BASE_X2APIC = 1 << 10,
	APIC_BASE_ENABLED = 1 << 11,
	SEL_BOOT_CS = 0x10, /* boot.rst: __BOOT_CS and __BOOT_DS */
	SEL_BOOT_DS = 0x18,
};

int vcpu_open(struct vcpu *v, int vm_fd, size_t run_bytes, vcpu_t id, struct failure *f)
{
	void *run;

	*v = (struct vcpu){.id = id, .fd = -1, .run_bytes = run_bytes};
	v->fd = ioctl(vm_fd, KVM_CREATE_VCPU, (unsigned long)id.v);
	if (v->fd < 0)
		return failure_set(f, -errno, "use fewer vCPUs or raise the limit on open files", "KVM does not create vCPU %u: %s", id.v, strerror(errno));
	run = mmap(NULL, run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (run == MAP_FAILED) {
		int err = -errno;

		vcpu_close(v);
		return failure_set(f, err, "free some memory", "cannot map the run page of vCPU %u: %s", id.v, strerror(-err));
	}
	v->run = run;
	return 0;
}

void vcpu_close(struct vcpu *v)
{
	if (v->run)
		munmap(v->run, v->run_bytes);
	if (v->run_bytes && v->fd >= 0) /* a zeroed vcpu owns no descriptor 0 */
		close(v->fd);
	*v = (struct vcpu){.fd = -1};
}

static int vcpu_failed(const struct vcpu *v, struct failure *f, const char *what)
{
	int err = -errno;

	return failure_set(f, err, "look at the kernel log", "vCPU %u: KVM refused %s: %s", v->id.v, what, strerror(-err));
}

static int vcpu_set_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	union { struct kvm_msrs head; uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)]; } m = {.room = {0}};
	int set;

	m.head.nmsrs = 1;
	m.head.entries[0] = (struct kvm_msr_entry){.index = index, .data = value};
	set = ioctl(v->fd, KVM_SET_MSRS, &m);
	return set == 1 ? 0 : set < 0 ? -errno : -EINVAL;
}

int vcpu_set_cpuid(struct vcpu *v, const struct cpuid_table *table, struct failure *f)
{
	const struct cpuid_leaf *features = cpuid_find(table, 7, 0);
	struct kvm_cpuid2 *c = calloc(1, sizeof *c + table->leaves * sizeof c->entries[0]);
	int err;

	if (!c)
		return failure_set(f, -ENOMEM, "free some memory", "no memory for CPUID");
	c->nent = table->leaves;
	for (unsigned i = 0; i < table->leaves; i++) {
		const struct cpuid_leaf *l = &table->leaf[i];

		c->entries[i] = (struct kvm_cpuid_entry2){.function = l->leaf, .index = l->index, .flags = l->indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
			.eax = l->reg[CPUID_EAX], .ebx = l->reg[CPUID_EBX], .ecx = l->reg[CPUID_ECX], .edx = l->reg[CPUID_EDX]};
	}
	err = ioctl(v->fd, KVM_SET_CPUID2, c) < 0 ? vcpu_failed(v, f, "CPUID") : 0;
	free(c);
	if (!err && features && (features->reg[CPUID_EDX] & 1u << 29) && vcpu_set_msr(v, MSR_IA32_ARCH_CAPABILITIES, table->arch_capabilities))
		err = vcpu_failed(v, f, "the architecture capabilities");
	return err;
}

uint64_t vcpu_apic_base(vcpu_t id)
{
	return MEMMAP_LAPIC | APIC_BASE_ENABLED | APIC_BASE_X2APIC | (id.v == 0 ? APIC_BASE_BSP : 0);
}

int vcpu_reset(struct vcpu *v, struct failure *f)
{
	struct kvm_mp_state state = {.mp_state = v->id.v == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED};
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return vcpu_failed(v, f, "reading registers");
	s.apic_base = vcpu_apic_base(v->id);
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return vcpu_failed(v, f, "an x2APIC");
	if (ioctl(v->fd, KVM_SET_MP_STATE, &state) < 0)
		return vcpu_failed(v, f, "its run state");
	if (vcpu_set_msr(v, MSR_IA32_MISC_ENABLE, MISC_ENABLE_FAST_STRING))
		log_debug("vCPU %u: KVM has no IA32_MISC_ENABLE", v->id.v);
	if (vcpu_set_msr(v, MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK)) /* without MTRRs Linux leaves the PAT alone */
		log_debug("vCPU %u: KVM has no MTRRs", v->id.v);
	return 0;
}

static struct kvm_segment flat_segment(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .db = 1, .s = 1, .g = 1};
}

/* TSS of the kind a CPU has after reset; VMX insists on a busy one in protected mode (SDM 3C 27.3.1.2). */
static struct kvm_segment idle_task(void)
{
	return (struct kvm_segment){.limit = 0x67, .type = 11, .present = 1};
}

int vcpu_set_entry(struct vcpu *v, const struct boot_entry *e, struct failure *f)
{
	struct kvm_regs r = {.rip = e->eip, .rsi = e->esi, .rbx = e->ebx, .rflags = 2};
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0)
		return vcpu_failed(v, f, "reading registers");
	s.cs = flat_segment(SEL_BOOT_CS, 11);
	s.ds = s.es = s.fs = s.gs = s.ss = flat_segment(SEL_BOOT_DS, 3);
	s.tr = idle_task();
	s.gdt.base = MEMMAP_GDT;
	s.gdt.limit = 4 * 8 - 1;
	s.idt.base = s.idt.limit = 0;
	s.cr0 = 0x11; /* PE | ET */
	s.cr3 = s.cr4 = s.efer = 0;
	if (ioctl(v->fd, KVM_SET_SREGS, &s) < 0)
		return vcpu_failed(v, f, "protected mode");
	if (ioctl(v->fd, KVM_SET_REGS, &r) < 0)
		return vcpu_failed(v, f, "its entry point");
	return 0;
}

/* Binary places of KVM's TSC ratios: AMD-V's or VMX's. */
static unsigned tsc_ratio_bits(void)
{
	unsigned a, b, c = 0, d;

	return __get_cpuid(0x80000001, &a, &b, &c, &d) && c & 1 << 2 ? 32 : 48;
}

/* Without the capability KVM would take a faster rate, and then make every exit catch up. */
int vcpu_set_tsc_khz(struct vcpu *v, int vm_fd, uint32_t khz, struct clock_scale *scale)
{
	int now = ioctl(v->fd, KVM_GET_TSC_KHZ, 0);

	if (now <= 0)
		return -ENOTSUP;
	*scale = clock_scale_between((uint32_t)now, khz, tsc_ratio_bits());
	if (scale->ratio && ioctl(vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) <= 0)
		return -ENOTSUP;
	return (uint32_t)now != khz && ioctl(v->fd, KVM_SET_TSC_KHZ, (unsigned long)khz) < 0 ? -ENOTSUP : 0;
}

int vcpu_check_tsc(struct vcpu *v, const struct clock_scale *scale, uint64_t offset, uint32_t khz)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry entry; } m = {.head.nmsrs = 1, .entry.index = MSR_IA32_TSC};
	uint64_t before = clock_scaled(scale, __rdtsc()) + offset;

	if (ioctl(v->fd, KVM_GET_MSRS, &m) != 1)
		return -EIO;
	return m.entry.data - before > (uint64_t)khz * 1000 ? -ENOTSUP : 0;
}

static struct kvm_device_attr tsc_offset_attr(uint64_t *offset)
{
	return (struct kvm_device_attr){.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset};
}

int vcpu_set_tsc_offset(struct vcpu *v, uint64_t offset)
{
	struct kvm_device_attr a = tsc_offset_attr(&offset);

	return ioctl(v->fd, KVM_SET_DEVICE_ATTR, &a) < 0 ? -errno : 0;
}

int vcpu_get_tsc_offset(struct vcpu *v, uint64_t *offset)
{
	struct kvm_device_attr a = tsc_offset_attr(offset);

	return ioctl(v->fd, KVM_GET_DEVICE_ATTR, &a) < 0 ? -errno : 0;
}

int vcpu_enter(struct vcpu *v)
{
	int err = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;

	if (err != -EINTR && err != -EAGAIN)
		return err;
	/* Clear before the caller looks for the kick's reason: a later kick sets it again. */
	__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
	return err;
}

int vcpu_watch_start(struct vcpu *v)
{
	struct kvm_guest_debug d = {.control = KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP};

	return ioctl(v->fd, KVM_SET_GUEST_DEBUG, &d) < 0 ? -errno : 0;
}

int vcpu_started(struct vcpu *v, uint8_t *vector)
{
	struct kvm_guest_debug none = {.control = 0};
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_SREGS, &s) < 0 || ioctl(v->fd, KVM_SET_GUEST_DEBUG, &none) < 0)
		return -errno;
	*vector = (uint8_t)(s.cs.base >> PAGE_SHIFT); /* SDM 3A 9.4.4: CS base = vector << 12 */
	return 0;
}

void vcpu_kick(struct vcpu *v)
{
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	if (v->threaded)
		pthread_kill(v->thread, VCPU_KICK_SIGNAL);
}

static void kick_arrived(int signal)
{
}

int vcpu_kick_init(void)
{
	struct sigaction act = {.sa_handler = kick_arrived};

	return sigaction(VCPU_KICK_SIGNAL, &act, NULL) < 0 ? -errno : 0;
}

int vcpu_bar_async_faults(int vm_fd)
{
	struct kvm_enable_cap e = {.cap = KVM_CAP_X86_DISABLE_EXITS, .args = {KVM_X86_DISABLE_EXITS_HLT}};

	return ioctl(vm_fd, KVM_ENABLE_CAP, &e) < 0 ? -errno : 0;
}

void vcpu_dump(struct vcpu *v)
{
	struct kvm_regs r;
	struct kvm_sregs s;

	if (ioctl(v->fd, KVM_GET_REGS, &r) < 0 || ioctl(v->fd, KVM_GET_SREGS, &s) < 0) {
		log_error("vCPU %u: registers cannot be read: %s", v->id.v, strerror(errno));
		return;
	}
	log_error("vCPU %u: rip %04x:%016llx rflags %08llx rsp %016llx", v->id.v, s.cs.selector, r.rip, r.rflags, r.rsp);
	log_error("vCPU %u: rax %016llx rbx %016llx rcx %016llx rdx %016llx", v->id.v, r.rax, r.rbx, r.rcx, r.rdx);
	log_error("vCPU %u: rsi %016llx rdi %016llx rbp %016llx", v->id.v, r.rsi, r.rdi, r.rbp);
	log_error("vCPU %u: cr0 %llx cr2 %llx cr3 %llx cr4 %llx efer %llx apic %llx", v->id.v, s.cr0, s.cr2, s.cr3, s.cr4, s.efer, s.apic_base);
}
