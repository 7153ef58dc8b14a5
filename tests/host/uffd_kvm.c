/* KVM obeys the frame view with no code of ours in between: its mappings follow userfaultfd through the MMU notifiers. A guest that starts at CPL 3 in
 * long mode, with page tables that never change, so that it runs natively on every kind of KVM (shadow paging included). */
#include "mem/uffd.h"
#include "tests/test.h"
#include "vm/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

/* Guest-physical pages. Those below DATA are installed at once and stay. */
enum { PML4 = 1, PDPT, PD, CODE = 4, DATA = 8, PAGES = 16 };

/* incq (%rbx); in a loop; leaves through OUT only when the word at (%rcx) is not 0. */
static const uint8_t count_code[] = {0x48, 0xff, 0x03, 0x48, 0x83, 0x39, 0x00, 0x74, 0xf7, 0xe6, 0x10, 0xeb, 0xf3};
/* movq (%rbx),%rax; out %al,$0x10; loop */
static const uint8_t load_code[] = {0x48, 0x8b, 0x03, 0xe6, 0x10, 0xeb, 0xf9};
/* hlt; loop */
static const uint8_t halt_code[] = {0xf4, 0xeb, 0xfd};

struct bed {
	struct ram ram;
	struct uffd u;
	int kvm, vm, vcpu;
	struct kvm_run *run;
	pthread_t thread;
	pid_t tid; /* of that thread, once it runs */
	_Atomic int exits, may; /* exits so far; how many it may make */
	_Atomic uint64_t loaded;
	int rounds;
	bool broken;
};

static void put_page(struct bed *b, unsigned page, const void *bytes, size_t n, bool writable)
{
	uint8_t image[PAGE_BYTES] = {0};

	memcpy(image, bytes, n);
	b->broken |= uffd_install(&b->u, page, image, writable) != 0;
}

/* Identity map of the first 2 MiB, user, writable, accessed and dirty beforehand. */
static void put_tables(struct bed *b)
{
	uint64_t pml4 = PDPT << PAGE_SHIFT | 0x27, pdpt = PD << PAGE_SHIFT | 0x27, pd = 0xe7;

	put_page(b, 0, "", 0, true);
	put_page(b, PML4, &pml4, 8, true);
	put_page(b, PDPT, &pdpt, 8, true);
	put_page(b, PD, &pd, 8, true);
}

static int vcpu_start_at(struct bed *b, uint8_t cpl)
{
	struct kvm_segment code = {.limit = 0xffffffff, .selector = 0x30 | cpl, .type = 11, .present = 1, .dpl = cpl, .s = 1, .l = 1, .g = 1};
	struct kvm_segment data = {.limit = 0xffffffff, .selector = 0x28 | cpl, .type = 3, .present = 1, .dpl = cpl, .db = 1, .s = 1, .g = 1};
	struct kvm_regs regs = {.rip = CODE << PAGE_SHIFT, .rbx = DATA << PAGE_SHIFT, .rcx = (DATA + 1) << PAGE_SHIFT, .rflags = 2 | 1 << 9 | 3 << 12};
	struct kvm_sregs s;

	if (ioctl(b->vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cr0 = 1u << 31 | 1u << 16 | 1u << 5 | 1u << 4 | 1;
	s.cr3 = PML4 << PAGE_SHIFT;
	s.cr4 = 1u << 5;
	s.efer = 1u << 8 | 1u << 10;
	return ioctl(b->vcpu, KVM_SET_SREGS, &s) < 0 || ioctl(b->vcpu, KVM_SET_REGS, &regs) < 0 ? -errno : 0;
}

static int bed_kvm(struct bed *b, bool apic)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {24}};
	struct kvm_userspace_memory_region slot = {.memory_size = PAGES * PAGE_BYTES, .userspace_addr = (uintptr_t)b->ram.hva[0]};
	int size;

	b->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (b->kvm < 0)
		return -errno;
	b->vm = ioctl(b->kvm, KVM_CREATE_VM, 0);
	if (b->vm < 0 || ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &slot) < 0)
		return -errno;
	ioctl(b->vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	if (apic && ioctl(b->vm, KVM_ENABLE_CAP, &split) < 0)
		return -errno;
	b->vcpu = ioctl(b->vm, KVM_CREATE_VCPU, 0);
	size = ioctl(b->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (b->vcpu < 0 || size < 0)
		return -errno;
	b->run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, b->vcpu, 0);
	return b->run == MAP_FAILED ? -errno : vcpu_start_at(b, 3);
}

static int bed_make(struct bed *b, const uint8_t *code, size_t n, bool apic)
{
	uint64_t bytes[NODES_MAX] = {PAGES * PAGE_BYTES};
	int err;

	memset(b, 0, sizeof *b);
	err = ram_layout(&b->ram, bytes, 1);
	if (!err)
		err = ram_map(&b->ram, NULL);
	if (!err)
		err = uffd_open(&b->u, &b->ram, NULL);
	if (err)
		return err;
	put_tables(b);
	put_page(b, CODE, code, n, false);
	return bed_kvm(b, apic);
}

static void bed_drop(struct bed *b)
{
	close(b->vcpu);
	close(b->vm);
	close(b->kvm);
	uffd_close(&b->u);
	ram_unmap(&b->ram);
}

#define BED(b, code, apic) \
	struct bed b; \
	do { \
		int err_ = bed_make(&b, code, sizeof code, apic); \
		if (err_ == -EPERM || err_ == -EACCES || err_ == -ENOENT || err_ == -ENOSYS || err_ == -EOPNOTSUPP) \
			SKIP("no /dev/kvm or no userfaultfd for kernel-mode faults here"); \
		CHECK_EQ(err_, 0); \
		CHECK(!b.broken); \
	} while (0)

static void *vcpu_run(void *arg)
{
	struct bed *b = arg;

	b->tid = gettid();
	for (int i = 0; i < b->rounds; i++) {
		struct kvm_regs regs;

		while (b->may <= i)
			;
		if (ioctl(b->vcpu, KVM_RUN, 0) < 0 || b->run->exit_reason != KVM_EXIT_IO || ioctl(b->vcpu, KVM_GET_REGS, &regs) < 0) {
			printf("guest stopped: exit %u errno %d\n", b->run->exit_reason, errno);
			b->broken = true;
			return NULL;
		}
		b->loaded = regs.rax;
		b->exits++;
	}
	return NULL;
}

/* Wait for a fault on 'page', letting others (none are expected) try again. */
static int wait_fault(struct bed *b, unsigned page, bool write)
{
	struct pollfd p = {.fd = b->u.fd, .events = POLLIN};
	struct uffd_fault f;

	for (;;) {
		if (poll(&p, 1, 10000) != 1)
			return -ETIME;
		if (uffd_faults(&b->u, &f, 1) != 1)
			continue;
		if (f.page == page && f.write == write)
			return 0;
		if (uffd_wake(&b->u, f.page))
			return -EIO;
	}
}

TEST(a_guest_load_of_a_zapped_page_faults_and_sees_the_new_bytes)
{
	BED(b, load_code, false);
	b.rounds = 100;
	pthread_create(&b.thread, NULL, vcpu_run, &b);
	for (int i = 1; i <= b.rounds; i++) {
		uint64_t value = (uint64_t)i * 0x0101;

		b.may = i;
		CHECK_EQ(wait_fault(&b, DATA, false), 0);
		put_page(&b, DATA, &value, 8, false);
		while (b.exits < i)
			;
		CHECK_EQ(b.loaded, value);
		CHECK_EQ(uffd_zap(&b.u, DATA), 0);
	}
	pthread_join(b.thread, NULL);
	CHECK(!b.broken);
	bed_drop(&b);
}

/* Let the guest count, take its page away, and give it back elsewhere in time: no increment lost, none after the protect. */
TEST(protect_stops_a_running_guest_and_no_store_is_lost)
{
	uint8_t image[PAGE_BYTES] = {0};
	uint64_t before = 0, seen, one = 1;

	BED(b, count_code, false);
	_Atomic uint64_t *word = (_Atomic uint64_t *)(b.ram.hva[0] + DATA * PAGE_BYTES);
	b.may = 1;
	b.rounds = 1;
	put_page(&b, DATA + 1, "", 0, true);
	pthread_create(&b.thread, NULL, vcpu_run, &b);
	CHECK_EQ(wait_fault(&b, DATA, true), 0);
	for (int i = 0; i < 300; i++) {
		put_page(&b, DATA, image, PAGE_BYTES, true);
		while (*word < before + 3)
			if (uffd_wake(&b.u, DATA))
				break;
		CHECK_EQ(uffd_protect(&b.u, DATA), 0);
		seen = *word;
		CHECK_EQ(wait_fault(&b, DATA, true), 0);
		CHECK_EQ(*word, seen);
		CHECK(!uffd_take(&b.u, DATA, image));
		CHECK_EQ(uffd_zap(&b.u, DATA), 0);
		memcpy(&before, image, 8);
		CHECK_EQ(before, seen);
	}
	memcpy(b.ram.hva[0] + (DATA + 1) * PAGE_BYTES, &one, 8);
	put_page(&b, DATA, image, PAGE_BYTES, true);
	pthread_join(b.thread, NULL);
	CHECK(!b.broken);
	CHECK(*word > before);
	bed_drop(&b);
}

/* The read path must not leave KVM a writable mapping of a protected frame. */
TEST(a_shared_page_mapped_by_a_guest_read_still_faults_on_write)
{
	uint8_t image[PAGE_BYTES] = {0};

	BED(b, count_code, false);
	b.may = 1;
	b.rounds = 1;
	image[0] = 1;
	put_page(&b, DATA, "", 0, false);
	put_page(&b, DATA + 1, image, 8, false);
	pthread_create(&b.thread, NULL, vcpu_run, &b);
	CHECK_EQ(wait_fault(&b, DATA, true), 0);
	CHECK_EQ(*(volatile uint64_t *)(b.ram.hva[0] + DATA * PAGE_BYTES), 0);
	CHECK_EQ(b.exits, 0);
	CHECK_EQ(uffd_upgrade(&b.u, DATA), 0);
	pthread_join(b.thread, NULL);
	CHECK(!b.broken);
	CHECK_EQ(*(volatile uint64_t *)(b.ram.hva[0] + DATA * PAGE_BYTES), 1);
	bed_drop(&b);
}

/* A walk that has to set an accessed bit stores to the page table, so it asks for the page as any store does: none is set in a Shared copy behind the
 * protocol's back (SDM 3C 29.3.3.2: such an update is a data write). */
TEST(an_accessed_bit_set_by_a_walk_is_a_write_to_the_page_table)
{
	uint64_t large = 0x83 | 1u << 2; /* present, writable, user, 2 MiB; neither accessed nor dirty */

	BED(b, load_code, false);
	b.may = 1;
	b.rounds = 1;
	CHECK_EQ(uffd_zap(&b.u, PD), 0);
	put_page(&b, PD, &large, 8, false);
	put_page(&b, DATA, "", 0, false);
	pthread_create(&b.thread, NULL, vcpu_run, &b);
	CHECK_EQ(wait_fault(&b, PD, true), 0);
	CHECK_EQ(*(volatile uint64_t *)(b.ram.hva[0] + PD * PAGE_BYTES), large);
	CHECK_EQ(b.exits, 0);
	CHECK_EQ(uffd_upgrade(&b.u, PD), 0);
	pthread_join(b.thread, NULL);
	CHECK(!b.broken);
	CHECK_EQ(*(volatile uint64_t *)(b.ram.hva[0] + PD * PAGE_BYTES), large | 1u << 5);
	bed_drop(&b);
}

/* The first fault of a guest that reads an absent page once. */
static int read_absent_page(struct bed *b, struct uffd_fault *f)
{
	struct pollfd p = {.fd = b->u.fd, .events = POLLIN};
	int err;

	b->may = b->rounds = 1;
	pthread_create(&b->thread, NULL, vcpu_run, b);
	err = poll(&p, 1, 10000) == 1 && uffd_faults(&b->u, f, 1) == 1 && f->page == DATA ? 0 : -ETIME;
	put_page(b, DATA, "", 0, true);
	pthread_join(b->thread, NULL);
	return b->broken ? -EIO : err;
}

/* Why vcpu_bar_async_faults() is there. When this fails on a new kernel, it may have become needless. */
TEST(a_read_with_interrupts_on_is_a_write_by_a_stranger)
{
	BED(b, load_code, true);
	struct uffd_fault f = {0};

	CHECK_EQ(read_absent_page(&b, &f), 0);
	CHECK(f.write);
	CHECK(f.tid != (uint32_t)b.tid);
	bed_drop(&b);
}

TEST(with_async_faults_barred_a_read_is_a_read_by_the_vcpu)
{
	BED(b, load_code, true);
	struct uffd_fault f = {0};

	if (vcpu_bar_async_faults(b.vm) == -EINVAL)
		SKIP("this KVM does not let HLT exits be switched off after the first vCPU (Linux 6.14 on)");
	CHECK_EQ(read_absent_page(&b, &f), 0);
	CHECK(!f.write);
	CHECK_EQ(f.tid, b.tid);
	bed_drop(&b);
}

static void on_alarm(int sig) { (void)sig; }

/* The other half: KVM goes on to halt the vCPU itself. A HLT that no longer left the guest would show as a runnable vCPU for ever. */
TEST(with_async_faults_barred_hlt_still_halts_in_kvm)
{
	const struct itimerval often = {.it_value = {.tv_usec = 20000}, .it_interval = {.tv_usec = 20000}}, never = {0};
	struct sigaction alarmed = {.sa_handler = on_alarm};
	struct kvm_mp_state state = {0};
	BED(b, halt_code, true);

	if (vcpu_bar_async_faults(b.vm) == -EINVAL)
		SKIP("this KVM does not let HLT exits be switched off after the first vCPU (Linux 6.14 on)");
	CHECK_EQ(vcpu_start_at(&b, 0), 0);
	sigaction(SIGALRM, &alarmed, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < 100 && state.mp_state != KVM_MP_STATE_HALTED; i++) {
		CHECK(ioctl(b.vcpu, KVM_RUN, 0) < 0);
		CHECK_EQ(errno, EINTR);
		CHECK_EQ(ioctl(b.vcpu, KVM_GET_MP_STATE, &state), 0);
	}
	setitimer(ITIMER_REAL, &never, NULL);
	CHECK_EQ(state.mp_state, KVM_MP_STATE_HALTED);
	bed_drop(&b);
}
