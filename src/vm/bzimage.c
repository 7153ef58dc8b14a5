/* Linux bzImage by the 32-bit boot protocol (Linux Documentation/arch/x86/boot.rst): protected-mode code to 1 MiB, a zero page that says the rest. */
#include "vm/boot_image.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include <asm/bootparam.h>

#include "vm/memmap.h"

enum {
	HEADER_AT = 0x1f1,
	JUMP_AT = 0x200,          /* the byte at 0x201 says where the header ends */
	PROTOCOL_OLDEST = 0x20c,  /* Linux 3.8: xloadflags */
	LOADER_UNKNOWN = 0xff,
	SECTOR = 512,
};

static bool header_read(const struct boot_file *file, struct setup_header *h)
{
	if (file->bytes < HEADER_AT + sizeof *h)
		return false;
	memcpy(h, file->at + HEADER_AT, sizeof *h);
	return h->boot_flag == 0xaa55 && memcmp(file->at + JUMP_AT + 2, "HdrS", 4) == 0;
}

bool bzimage_claims(const struct boot_file *file)
{
	struct setup_header h;

	return header_read(file, &h);
}

static uint64_t setup_bytes(const struct setup_header *h)
{
	return (uint64_t)SECTOR * ((h->setup_sects ? h->setup_sects : 4) + 1u);
}

static int refuse(const struct boot_file *file, struct failure *f, const char *why)
{
	return failure_set(f, -ENOEXEC, "give --kernel a complete 64-bit Linux bzImage", "kernel %s %s", file->path, why);
}

int bzimage_load(const struct ram *ram, const struct boot_file *file, struct boot_layout *l, struct failure *f)
{
	struct setup_header h;
	uint64_t setup, code;

	if (!header_read(file, &h))
		return refuse(file, f, "is no bzImage");
	setup = setup_bytes(&h);
	code = (uint64_t)h.syssize * 16;
	if (h.version < PROTOCOL_OLDEST || !(h.loadflags & LOADED_HIGH))
		return refuse(file, f, "is too old: its boot protocol is before 2.12");
	if (!(h.xloadflags & XLF_KERNEL_64) || !h.relocatable_kernel)
		return refuse(file, f, "is not a relocatable 64-bit kernel");
	if (setup > file->bytes || code == 0 || file->bytes - setup + 15 < code)
		return refuse(file, f, "is cut short");
	if (h.pref_address < MEMMAP_KERNEL || h.pref_address > UINT32_MAX || h.init_size < code)
		return refuse(file, f, "has a header that makes no sense");
	if (code > file->bytes - setup)
		code = file->bytes - setup;
	*l = (struct boot_layout){.kernel_end = h.pref_address + h.init_size, .initrd_max = (uint64_t)h.initrd_addr_max + 1, .cmdline_max = h.cmdline_size};
	if (!ram_at(ram, (gpa_t){h.pref_address + h.init_size - 1}, 1))
		return failure_set(f, -ENOMEM, "give the VM more memory", "kernel %s needs memory up to %llu MiB", file->path, (unsigned long long)(l->kernel_end >> 20) + 1);
	return boot_put(ram, MEMMAP_KERNEL, file->at + setup, code, "the kernel", f);
}

static void fill_header(struct setup_header *h, const struct boot_layout *l)
{
	h->type_of_loader = LOADER_UNKNOWN;
	h->code32_start = MEMMAP_KERNEL;
	h->cmd_line_ptr = MEMMAP_CMDLINE;
	h->ramdisk_image = (uint32_t)l->initrd;
	h->ramdisk_size = (uint32_t)l->initrd_bytes;
	h->vid_mode = 0xffff; /* normal */
	h->loadflags &= (uint8_t)~(QUIET_FLAG | KEEP_SEGMENTS);
}

static int fill_map(struct boot_params *zero, const struct boot_map *map)
{
	if (map->entries > ARRAY_LEN(zero->e820_table))
		return -ENOSPC;
	zero->e820_entries = (uint8_t)map->entries;
	for (unsigned i = 0; i < map->entries; i++) {
		zero->e820_table[i].addr = map->entry[i].addr;
		zero->e820_table[i].size = map->entry[i].bytes;
		zero->e820_table[i].type = map->entry[i].type;
	}
	return 0;
}

int bzimage_describe(const struct ram *ram, const struct boot_file *file, const struct boot_layout *l, const struct boot_map *map,
                     struct boot_entry *out, struct failure *f)
{
	struct boot_params zero = {0};
	size_t header_end = 0x202 + (size_t)file->at[0x201]; /* boot.rst: copy 0x1f1 up to there */

	if (header_end < HEADER_AT + offsetof(struct setup_header, handover_offset) || header_end > sizeof zero || header_end > file->bytes)
		return refuse(file, f, "has a header of impossible length");
	memcpy((uint8_t *)&zero + HEADER_AT, file->at + HEADER_AT, header_end - HEADER_AT);
	fill_header(&zero.hdr, l);
	zero.acpi_rsdp_addr = l->rsdp;
	if (fill_map(&zero, map))
		return failure_set(f, -ENOSPC, "report this", "the memory map has too many entries");
	*out = (struct boot_entry){.eip = MEMMAP_KERNEL, .esi = MEMMAP_ZERO_PAGE};
	return boot_put(ram, MEMMAP_ZERO_PAGE, &zero, sizeof zero, "the zero page", f);
}
