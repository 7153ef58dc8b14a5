/* The guest-physical map: every address the guest finds something at, in one place.
 *
 * Macros, and plain hexadecimal without suffixes, because iasl's preprocessor reads this file too (dsdt.asl). RAM's own limits are
 * RAM_LOW_END_MIB in mem/ram.h: RAM lies below 3 GiB and from 4 GiB up; everything else is in between, or is an I/O port. */
#ifndef VM_MEMMAP_H
#define VM_MEMMAP_H

/* Low memory (RAM): what the loader leaves for the kernel. */
#define MEMMAP_GDT 0x500
#define MEMMAP_ZERO_PAGE 0x7000
#define MEMMAP_START_INFO 0x6000
#define MEMMAP_CMDLINE 0x20000
#define MEMMAP_CMDLINE_BYTES 0x10000
#define MEMMAP_LOW_END 0x9fc00
#define MEMMAP_ACPI 0xe0000
#define MEMMAP_ACPI_BYTES 0x20000
#define MEMMAP_KERNEL 0x100000

/* Between RAM below and RAM above. */
#define MEMMAP_PCI 0xc0000000
#define MEMMAP_PCI_BYTES 0x20000000
#define MEMMAP_ECAM 0xe0000000
#define MEMMAP_ECAM_BYTES 0x100000
#define MEMMAP_IOAPIC 0xfec00000
#define MEMMAP_LAPIC 0xfee00000
#define MEMMAP_PROXY_STUB 0xfef00000
#define MEMMAP_KVM_IDENTITY 0xfffbc000
#define MEMMAP_KVM_TSS 0xfffbd000

/* I/O ports. */
#define MEMMAP_PORT_PIT 0x40
#define MEMMAP_PORT_RTC 0x70
#define MEMMAP_PORT_COM1 0x3f8
#define MEMMAP_PORT_PVPANIC 0x505
#define MEMMAP_PORT_PM1 0x600
#define MEMMAP_PORT_PCI_CONFIG 0xcf8
#define MEMMAP_PORT_RESET 0xcf9

/* IOAPIC pins, which are also the global system interrupts. */
#define MEMMAP_GSI_COM1 4
#define MEMMAP_GSI_RTC 8
#define MEMMAP_GSI_SCI 9
#define MEMMAP_IOAPIC_PINS 24

/* Values the ACPI tables promise and the devices keep. */
#define MEMMAP_S5_SLEEP_TYPE 5
#define MEMMAP_RESET_VALUE 0x06

#endif
