/* The experiment of mmu.h. The guest reads one byte through a page table and reports it, again and again; between two rounds it gets another CR3
 * (a second top table that leads to the same lower ones), which flushes its translations. In one pause the host replaces the page table as the DSM would: zap
 * the frame, install one with other bytes. In another it makes the tables read-only to KVM, to see whether a walk insists on writing. */
#include "vm/mmu.h"
#include "vm/trial.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

/* Guest-physical layout; 4 KiB pages throughout. */
enum {
	PROBE_BYTES = 2 << 20,
	PROBE_PML4 = 0x1000,
	PROBE_PDPT = 0x2000,
	PROBE_PD = 0x3000,
	PROBE_PT = 0x4000,
	PROBE_PML4_TWIN = 0x5000,
	PROBE_TABLES_END = 0x6000,
	PROBE_CODE = 0x8000,
	PROBE_OLD = 0x10000,  /* where the probed address leads at first */
	PROBE_NEW = 0x11000,  /* and after the store from elsewhere */
	PROBE_VA = 0x100000,
	PROBE_PORT = 0x10,
	PTE_BITS = 0x67,      /* present, writable, user, accessed, dirty: a walk has nothing to set */
};

static void probe_put64(struct trial *p, uint64_t at, uint64_t v)
{
	memcpy(p->ram + at, &v, sizeof v);
}

static void probe_fill(struct trial *p)
{
	/* mov al, [PROBE_VA]; out PROBE_PORT, al; jmp start */
	static const uint8_t code[] = {0x8a, 0x04, 0x25, 0x00, 0x00, 0x10, 0x00, 0xe6, PROBE_PORT, 0xeb, 0xf5};

	probe_put64(p, PROBE_PML4, PROBE_PDPT | PTE_BITS);
	probe_put64(p, PROBE_PML4_TWIN, PROBE_PDPT | PTE_BITS);
	probe_put64(p, PROBE_PDPT, PROBE_PD | PTE_BITS);
	probe_put64(p, PROBE_PD, PROBE_PT | PTE_BITS);
	for (uint64_t page = 0; page < 512; page++)
		probe_put64(p, PROBE_PT + page * 8, page << 12 | PTE_BITS);
	probe_put64(p, PROBE_PT + (PROBE_VA >> 12) * 8, PROBE_OLD | PTE_BITS);
	memcpy(p->ram + PROBE_CODE, code, sizeof code);
	p->ram[PROBE_OLD] = 'o';
	p->ram[PROBE_NEW] = 'n';
}

/* One round of the guest: the byte it read, or -errno. -EFAULT: KVM wanted to write where it may only read. */
static int probe_round(struct trial *p)
{
	struct kvm_sregs s;

	if (ioctl(p->vcpu, KVM_GET_SREGS, &s) < 0)
		return -errno;
	s.cr3 = s.cr3 == PROBE_PML4 ? PROBE_PML4_TWIN : PROBE_PML4;
	if (ioctl(p->vcpu, KVM_SET_SREGS, &s) < 0)
		return -errno;
	return trial_run(p, PROBE_PORT);
}

/* As if another node had stored to the page table: the frame here goes, and comes back with other bytes. */
static int probe_replace_table(struct trial *p)
{
	uint8_t table[PAGE_BYTES];
	uint64_t entry = PROBE_NEW | PTE_BITS;

	memcpy(table, p->ram + PROBE_PT, sizeof table);
	memcpy(table + (PROBE_VA >> 12) * 8, &entry, sizeof entry);
	if (madvise(p->ram + PROBE_PT, PAGE_BYTES, MADV_DONTNEED) < 0)
		return -errno;
	memcpy(p->ram + PROBE_PT, table, sizeof table);
	return 0;
}

static int probe_experiment(struct trial *p, enum mmu_mode *mode)
{
	uint8_t *tables = p->ram + PROBE_PML4;
	size_t bytes = PROBE_TABLES_END - PROBE_PML4;
	bool writes;
	int got = probe_round(p);

	if (got != 'o')
		return got < 0 ? got : -EIO;
	got = probe_replace_table(p);
	if (got)
		return got;
	got = probe_round(p);
	if (got != 'n') {
		*mode = MMU_SHADOW;
		return got == 'o' ? 0 : got < 0 ? got : -EIO;
	}
	if (mprotect(tables, bytes, PROT_READ) < 0)
		return -errno;
	got = probe_round(p);
	writes = got == -EFAULT;
	if (mprotect(tables, bytes, PROT_READ | PROT_WRITE) < 0)
		return -errno;
	*mode = writes ? MMU_WRITING : MMU_READING;
	return writes || got == 'n' ? 0 : got < 0 ? got : -EIO;
}

int mmu_probe(enum mmu_mode *mode, struct failure *f)
{
	struct trial p;
	int err = trial_open(&p, PROBE_BYTES);

	if (!err) {
		probe_fill(&p);
		err = trial_enter_user(&p, PROBE_PML4, PROBE_CODE);
		if (!err)
			err = probe_experiment(&p, mode);
		trial_close(&p);
	}
	if (err)
		return failure_set(f, err, "check that /dev/kvm exists, may be opened, and runs guests", "a small test guest does not run: %s", strerror(-err));
	return 0;
}

const char *mmu_mode_name(enum mmu_mode mode)
{
	static const char *const names[] = {"walks read", "walks write", "shadow paging"};

	return names[mode];
}
