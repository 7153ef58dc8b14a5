/* What boot.c shares with the two image formats: the file in memory, and where a loaded kernel ends. Internal to booting. */
#ifndef VM_BOOT_IMAGE_H
#define VM_BOOT_IMAGE_H

#include "base/failure.h"
#include "mem/ram.h"
#include "vm/boot.h"

/* A user's file, mapped read-only. */
struct boot_file {
	const char *path;
	const uint8_t *at;
	uint64_t bytes;
};

/* Map path, which is open already as fd (0: not yet). -errno with a reason; an empty file is refused. */
int boot_file_open(struct boot_file *file, const char *path, int fd, const char *what, struct failure *f) MUST_CHECK;
void boot_file_close(struct boot_file *file);

/* Guest-physical pieces a loaded kernel must be told about. */
struct boot_layout {
	uint64_t kernel_end;  /* no initrd below this */
	uint64_t initrd_max;  /* nor above this (exclusive) */
	uint64_t initrd, initrd_bytes;
	uint64_t cmdline_max; /* longest command line without its 0 */
	uint64_t rsdp;
};

/* One stretch of the memory map handed to the kernel: an e820 type (ACPI 6.5, table 15.10). */
struct boot_map {
	unsigned entries;
	struct boot_map_entry { uint64_t addr, bytes; uint32_t type; } entry[RAM_RANGES_MAX + 8];
};

/* Each format: does the file look like mine; place the kernel; describe the rest to it. */
bool bzimage_claims(const struct boot_file *file);
int bzimage_load(const struct ram *ram, const struct boot_file *file, struct boot_layout *l, struct failure *f) MUST_CHECK;
int bzimage_describe(const struct ram *ram, const struct boot_file *file, const struct boot_layout *l, const struct boot_map *map,
                     struct boot_entry *out, struct failure *f) MUST_CHECK;

bool pvh_claims(const struct boot_file *file);
int pvh_load(const struct ram *ram, const struct boot_file *file, struct boot_layout *l, struct failure *f) MUST_CHECK;
int pvh_describe(const struct ram *ram, const struct boot_file *file, const struct boot_layout *l, const struct boot_map *map,
                 struct boot_entry *out, struct failure *f) MUST_CHECK;

/* Write to guest RAM on behalf of an image, or say that it does not fit. */
int boot_put(const struct ram *ram, uint64_t gpa, const void *from, uint64_t bytes, const char *what, struct failure *f) MUST_CHECK;

#endif
