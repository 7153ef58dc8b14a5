/* Puts a kernel into guest RAM the way firmware or a boot loader would, and says where the first vCPU starts.
 *
 * Linux bzImage (Documentation/arch/x86/boot.rst, 32-bit protocol) or a PVH ELF image (Xen docs/misc/pvh.pandoc). Everything goes through the
 * guest view of RAM, so it travels to its homes by the coherence protocol. Files are a user's: all of them are judged before a byte is used. */
#ifndef VM_BOOT_H
#define VM_BOOT_H

#include "base/failure.h"
#include "mem/ram.h"
#include "vm/topology.h"

/* The state of the first vCPU: flat 32-bit protected mode, paging off, interrupts off. */
struct boot_entry {
	uint32_t eip;
	uint32_t esi; /* bzImage: the zero page */
	uint32_t ebx; /* PVH: the start info */
};

struct boot_config {
	const char *kernel;  /* path */
	const char *initrd;  /* path, or NULL */
	int kernel_fd, initrd_fd; /* from boot_open, for whom cannot open them any more; stay the caller's. 0: open the paths */
	const char *cmdline; /* what the user appends; comes last so that it wins over our defaults */
	uint32_t tsc_khz;    /* the guest's TSC frequency, put on the command line because nothing else can tell it */
	unsigned numa_distance; /* SLIT distance between nodes, 0: default */
};

/* Open such a file to read, *fd; what: "kernel", "initrd". -errno with the reason: not a regular file, empty. */
int boot_open(const char *path, const char *what, int *fd, struct failure *f) MUST_CHECK;

/* Load kernel, initrd, command line, memory map and ACPI tables. Blocks as long as guest RAM does; call on one node only. -errno with the reason. */
int boot_load(const struct ram *ram, const struct topology *topo, const struct boot_config *c, struct boot_entry *out, struct failure *f) MUST_CHECK;

#endif
