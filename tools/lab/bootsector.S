/*
 * The boot sector of the lab's disk in Bochs: reads the kernel's segments, the initrd and the start information from the disk (port I/O,
 * LBA28) straight to where they belong in memory and enters the kernel the PVH way: 32-bit protected mode, no paging, flat segments, EBX at
 * the start information (Xen docs/misc/pvh.pandoc). No BIOS reads, no boot loader, no decompression: each would be simulated.
 *
 * bochs.py fills in `table` (first sector, sector count, address; a zero count ends it) and `entry`, found by their offsets from the end.
 */
	.code16
	.globl _start
_start:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	inb $0x92, %al          /* address line 20 on */
	orb $2, %al
	outb %al, $0x92
	lgdt gdtr
	movl %cr0, %eax
	orb $1, %al
	movl %eax, %cr0
	ljmp $8, $protected

	.code32
protected:
	movw $16, %ax
	movw %ax, %ds
	movw %ax, %es
	movw %ax, %ss
	movl $0x7000, %esp
	movb $2, %al            /* no interrupts from the disk */
	movw $0x3f6, %dx
	outb %al, %dx
	movl $table, %ebp
	cld
next_extent:
	movl 0(%ebp), %ebx      /* sector */
	movl 4(%ebp), %esi      /* sectors left */
	movl 8(%ebp), %edi      /* address */
	addl $12, %ebp
	testl %esi, %esi
	jz enter
next_command:
	call await_idle
	movl %ebx, %eax
	movw $0x1f3, %dx        /* sector number, 28 bits over four registers */
	outb %al, %dx
	incw %dx
	shrl $8, %eax
	outb %al, %dx
	incw %dx
	shrl $8, %eax
	outb %al, %dx
	incw %dx
	shrl $8, %eax
	orb $0xe0, %al
	outb %al, %dx
	movl $128, %eax         /* at most so many sectors a command */
	cmpl %eax, %esi
	jae 1f
	movl %esi, %eax
1:	addl %eax, %ebx
	subl %eax, %esi
	pushl %eax
	movw $0x1f2, %dx
	outb %al, %dx
	movb $0x20, %al         /* READ SECTORS */
	movw $0x1f7, %dx
	outb %al, %dx
next_sector:
	call await_idle
	testb $8, %al           /* data? */
	jz next_sector
	movl $128, %ecx
	movw $0x1f0, %dx
	rep insl
	decl (%esp)
	jnz next_sector
	popl %eax
	testl %esi, %esi
	jnz next_command
	jmp next_extent

await_idle:
	movw $0x1f7, %dx
1:	inb %dx, %al
	testb $0x80, %al
	jnz 1b
	ret

enter:
	movl info, %ebx
	jmp *entry

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* code, 4 GiB */
	.quad 0x00cf93000000ffff /* data, 4 GiB */
gdtr:
	.word . - gdt - 1
	.long gdt

	.org 510 - 8 - 12 * 10
table:	.fill 12 * 10
info:	.long 0                  /* the last extent is the start information: its address */
entry:	.long 0
	.word 0xaa55
