/* Where the standard machine's devices are, once: the devices register themselves here and vm's ACPI tables say the same.
 *
 * Macros, and plain hexadecimal without suffixes, so that an ASL compiler's preprocessor can read this file too. */
#ifndef DEV_ADDRMAP_H
#define DEV_ADDRMAP_H

/* Guest-physical addresses. */
#define ADDRMAP_PCI_MMIO 0xc0000000
#define ADDRMAP_PCI_MMIO_BYTES 0x20000000
#define ADDRMAP_ECAM 0xe0000000
#define ADDRMAP_ECAM_BYTES 0x100000
#define ADDRMAP_IOAPIC 0xfec00000

/* I/O ports. */
#define ADDRMAP_PORT_I8042_COMMAND 0x64
#define ADDRMAP_PORT_RTC 0x70
#define ADDRMAP_PORT_COM1 0x3f8
#define ADDRMAP_PORT_PVPANIC 0x505
#define ADDRMAP_PORT_PM1 0x600
#define ADDRMAP_PORT_PM1_CONTROL 0x604
#define ADDRMAP_PORT_PCI_CONFIG 0xcf8
#define ADDRMAP_PORT_RESET 0xcf9

/* IOAPIC pins, which are also the global system interrupts. */
#define ADDRMAP_GSI_COM1 4
#define ADDRMAP_GSI_SCI 9
#define ADDRMAP_IOAPIC_PINS 24

/* Values that ACPI tables promise and the devices keep. */
#define ADDRMAP_S5_SLEEP_TYPE 5
#define ADDRMAP_RESET_VALUE 0x06

#endif
