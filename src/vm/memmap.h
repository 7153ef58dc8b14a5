/* The guest-physical map: together with dev/addrmap.h (where the devices are) every address the guest finds something at.
 *
 * Macros, and plain hexadecimal without suffixes, as in dev/addrmap.h. RAM's own limits are RAM_LOW_END_MIB in mem/ram.h: RAM lies below 3 GiB
 * and from 4 GiB up; everything else is in between, or is an I/O port. */
#ifndef VM_MEMMAP_H
#define VM_MEMMAP_H

/* Low memory (RAM): what the loader leaves for the kernel. */
#define MEMMAP_GDT 0x500
#define MEMMAP_START_INFO 0x6000
#define MEMMAP_ZERO_PAGE 0x7000
#define MEMMAP_CMDLINE 0x20000
#define MEMMAP_LOW_END 0x9fc00
#define MEMMAP_ACPI 0xe0000
#define MEMMAP_ACPI_BYTES 0x20000
#define MEMMAP_KERNEL 0x100000

/* Between RAM below and RAM above, besides the devices. */
#define MEMMAP_HOLE 0xc0000000
#define MEMMAP_LAPIC 0xfee00000
#define MEMMAP_PROXY_STUB 0xfef00000
#define MEMMAP_KVM_IDENTITY 0xfffbc000
#define MEMMAP_KVM_TSS 0xfffbd000
#define MEMMAP_HIGH 0x100000000

/* Ports of hardware this machine does not have but kernels search for (vm/absent.h). */
#define MEMMAP_PORT_PIT 0x40
#define MEMMAP_PORT_PIT_GATE 0x61

#endif
