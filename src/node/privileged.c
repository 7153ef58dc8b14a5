/* See privileged.h. The guest is written for load address 0x8000 and starts in real mode; tables are made by the host. */
#include "node/privileged.h"
#include "vm/trial.h"

#include <errno.h>
#include <string.h>

/* Guest-physical layout; the code below knows these numbers. */
enum {
	RAM_BYTES = 2 << 20,
	AT_PML4 = 0x1000,
	AT_GDT = 0x2000,
	AT_IDT = 0x3000,
	AT_PDPT = 0x4000,
	AT_PD = 0x5000,
	AT_SCRATCH = 0x6000,
	AT_CODE = 0x8000,
	STEP_PORT = 0x10,
	STEP_DONE = 9,
};

extern const uint8_t privileged_code[], privileged_breakpoint[], privileged_code_end[];

__asm__(
	".pushsection .rodata\n"
	".globl privileged_code, privileged_breakpoint, privileged_code_end\n"
	"privileged_code:\n"
	".code16\n"
	"	cli\n"
	"	movb $1, %al\n"
	"	outb %al, $0x10\n"
	"	lgdtl 0x2100\n"
	"	movl %cr0, %eax\n"
	"	orb $1, %al\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $0x08, $(1f - privileged_code + 0x8000)\n"
	".code32\n"
	"1:	movw $0x10, %ax\n"
	"	movw %ax, %ds\n"
	"	movw %ax, %es\n"
	"	movw %ax, %ss\n"
	"	movl $0x7000, %esp\n"
	"	movb $2, %al\n"
	"	outb %al, $0x10\n"
	"	pushfl\n"
	"	pushl $0x08\n"
	"	pushl $(2f - privileged_code + 0x8000)\n"
	"	iretl\n"
	"2:	movb $3, %al\n"
	"	outb %al, $0x10\n"
	"	movl %cr4, %eax\n"
	"	orl $0x620, %eax\n" /* PAE OSFXSR OSXMMEXCPT */
	"	movl %eax, %cr4\n"
	"	movl $0x1000, %eax\n"
	"	movl %eax, %cr3\n"
	"	movl $0xc0000080, %ecx\n" /* EFER */
	"	rdmsr\n"
	"	orl $0x100, %eax\n" /* LME */
	"	wrmsr\n"
	"	movb $4, %al\n"
	"	outb %al, $0x10\n"
	"	movl %cr0, %eax\n"
	"	orl $0x80000000, %eax\n"
	"	movl %eax, %cr0\n"
	"	ljmpl $0x18, $(3f - privileged_code + 0x8000)\n"
	".code64\n"
	"3:	movw $0x10, %ax\n"
	"	movw %ax, %ds\n"
	"	movw %ax, %ss\n"
	"	movl $0x7000, %esp\n"
	"	movb $5, %al\n"
	"	outb %al, $0x10\n"
	"	lidt 0x2110\n"
	"	int3\n"
	"	movb $6, %al\n"
	"	outb %al, $0x10\n"
	"	xorl %eax, %eax\n"
	"	xorl %edx, %edx\n"
	"	lock cmpxchg16b 0x6000\n"
	"	movb $7, %al\n"
	"	outb %al, $0x10\n"
	"	swapgs\n"
	"	invlpg 0x5000\n"
	"	movq %dr7, %rax\n"
	"	movq %rax, %dr7\n"
	"	movq %cr3, %rax\n"
	"	movq %rax, %cr3\n"
	"	wbinvd\n"
	"	movb $8, %al\n"
	"	outb %al, $0x10\n"
	"	fxsave 0x6000\n"
	"	fxrstor 0x6000\n"
	"	movb $9, %al\n"
	"	outb %al, $0x10\n"
	"	hlt\n"
	"privileged_breakpoint:\n"
	"	iretq\n"
	"privileged_code_end:\n"
	".popsection\n");

static void put64(struct trial *t, unsigned at, uint64_t v)
{
	memcpy(t->ram + at, &v, sizeof v);
}

/* SDM 3A 3.4.5, 6.14.1, 4.5. */
static void fill(struct trial *t)
{
	uint64_t handler = AT_CODE + (uint64_t)(privileged_breakpoint - privileged_code);

	memcpy(t->ram + AT_CODE, privileged_code, (size_t)(privileged_code_end - privileged_code));
	put64(t, AT_GDT + 0x08, 0x00cf9b000000ffff); /* 32-bit code */
	put64(t, AT_GDT + 0x10, 0x00cf93000000ffff); /* data */
	put64(t, AT_GDT + 0x18, 0x00af9b000000ffff); /* 64-bit code */
	put64(t, AT_GDT + 0x100, 0x1f | AT_GDT << 16);
	put64(t, AT_IDT + 3 * 16, (handler & 0xffff) | 0x18ull << 16 | 0x8e00ull << 32 | (handler >> 16) << 48);
	put64(t, AT_GDT + 0x110, 0xfff | (uint64_t)AT_IDT << 16);
	put64(t, AT_PML4, AT_PDPT | 3);
	put64(t, AT_PDPT, AT_PD | 3);
	put64(t, AT_PD, 0x83); /* one 2 MiB page */
}

/* The last step that was reported. */
static int run_steps(struct trial *t)
{
	int step = 0;

	while (step < STEP_DONE) {
		int got = trial_run(t, STEP_PORT);

		if (got < 0)
			break;
		step = got;
	}
	return step;
}

static int try_in(struct trial *t, const char **stuck)
{
	static const char *const next[STEP_DONE] = {
		"in real mode", "entering protected mode", "at IRET in protected mode", "at RDMSR or WRMSR", "entering long mode", "at INT3 or its IRETQ",
		"at CMPXCHG16B", "at SWAPGS, INVLPG, debug registers or WBINVD", "at FXSAVE or FXRSTOR",
	};
	int step, err;

	fill(t);
	err = trial_enter_real(t, AT_CODE, 0);
	if (err)
		return err;
	step = run_steps(t);
	if (step >= STEP_DONE)
		return 0;
	*stuck = next[step];
	return -ENOTSUP;
}

int privileged_try(const char **stuck, struct failure *f)
{
	struct trial t;
	int err = trial_open(&t, RAM_BYTES);

	*stuck = NULL;
	if (!err) {
		err = try_in(&t, stuck);
		trial_close(&t);
	}
	if (err && !*stuck)
		failure_set(f, err, "see that /dev/kvm exists and may be opened", "cannot make a small guest: %s", strerror(-err));
	return err;
}
