/* ELF kernels with a PVH entry note (Xen docs/misc/pvh.pandoc, public/arch-x86/hvm/start_info.h): segments where they ask to be, and a start info. */
#include "vm/boot_image.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#include "vm/memmap.h"

enum {
	NOTE_PHYS32_ENTRY = 18, /* XEN_ELFNOTE_PHYS32_ENTRY */
	SEGMENTS_MAX = 64,
	START_INFO_MAGIC = 0x336ec578,
	MAP_AT = MEMMAP_START_INFO + 0x100,
	MAP_ENTRIES_MAX = (MEMMAP_ZERO_PAGE - MAP_AT) / 24,
};

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t module_list, cmdline, rsdp, map;
	uint32_t map_entries, reserved;
};

struct start_module { uint64_t paddr, bytes, cmdline, reserved; };
struct start_map_entry { uint64_t addr, bytes; uint32_t type, reserved; };

bool pvh_claims(const struct boot_file *file)
{
	return file->bytes >= SELFMAG && memcmp(file->at, ELFMAG, SELFMAG) == 0;
}

static int refuse(const struct boot_file *file, struct failure *f, const char *why)
{
	return failure_set(f, -ENOEXEC, "give --kernel a bzImage, or a vmlinux built with CONFIG_PVH", "kernel %s %s", file->path, why);
}

static bool inside(const struct boot_file *file, uint64_t at, uint64_t bytes)
{
	return at <= file->bytes && bytes <= file->bytes - at;
}

/* Program header i, judged once. */
static bool segment_read(const struct boot_file *file, const Elf64_Ehdr *e, unsigned i, Elf64_Phdr *p)
{
	uint64_t at = e->e_phoff + (uint64_t)i * sizeof *p;

	if (e->e_phoff > file->bytes || !inside(file, at, sizeof *p))
		return false;
	memcpy(p, file->at + at, sizeof *p);
	return inside(file, p->p_offset, p->p_filesz) && p->p_filesz <= p->p_memsz;
}

static int header_read(const struct boot_file *file, Elf64_Ehdr *e, struct failure *f)
{
	if (file->bytes < sizeof *e)
		return refuse(file, f, "is cut short");
	memcpy(e, file->at, sizeof *e);
	if (e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_ident[EI_DATA] != ELFDATA2LSB || e->e_machine != EM_X86_64 || e->e_type != ET_EXEC)
		return refuse(file, f, "is no 64-bit x86 kernel image");
	if (e->e_phentsize != sizeof(Elf64_Phdr) || e->e_phnum == 0 || e->e_phnum > SEGMENTS_MAX)
		return refuse(file, f, "has a header that makes no sense");
	return 0;
}

static uint64_t align4(uint64_t v)
{
	return (v + 3) & ~(uint64_t)3;
}

/* Look through one note segment for the entry point; 0: not here. */
static uint32_t note_entry(const uint8_t *at, uint64_t bytes)
{
	while (bytes >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr n;
		uint64_t name, all;

		memcpy(&n, at, sizeof n);
		name = sizeof n + align4(n.n_namesz);
		all = name + align4(n.n_descsz);
		if (name + n.n_descsz > bytes)
			return 0;
		if (n.n_type == NOTE_PHYS32_ENTRY && n.n_namesz == 4 && memcmp(at + sizeof n, "Xen", 4) == 0 && n.n_descsz >= 4) {
			uint32_t entry;

			memcpy(&entry, at + name, sizeof entry);
			return entry;
		}
		if (all >= bytes)
			return 0;
		at += all;
		bytes -= all;
	}
	return 0;
}

static int find_entry(const struct boot_file *file, uint32_t *entry, struct failure *f)
{
	Elf64_Ehdr e;
	Elf64_Phdr p;
	int err = header_read(file, &e, f);

	*entry = 0;
	for (unsigned i = 0; !err && !*entry && i < e.e_phnum; i++) {
		if (!segment_read(file, &e, i, &p))
			return refuse(file, f, "is cut short");
		if (p.p_type == PT_NOTE)
			*entry = note_entry(file->at + p.p_offset, p.p_filesz);
	}
	return err ? err : *entry ? 0 : refuse(file, f, "has no PVH entry point");
}

int pvh_load(const struct ram *ram, const struct boot_file *file, struct boot_layout *l, struct failure *f)
{
	Elf64_Ehdr e;
	Elf64_Phdr p;
	uint32_t entry;
	int err = header_read(file, &e, f);

	if (!err)
		err = find_entry(file, &entry, f);
	*l = (struct boot_layout){.initrd_max = 0x80000000, .cmdline_max = 2047};
	for (unsigned i = 0; !err && i < e.e_phnum; i++) {
		if (!segment_read(file, &e, i, &p))
			return refuse(file, f, "is cut short");
		if (p.p_type != PT_LOAD || p.p_memsz == 0)
			continue;
		if (p.p_paddr < MEMMAP_KERNEL || p.p_paddr + p.p_memsz < p.p_paddr)
			return refuse(file, f, "wants to be loaded over low memory");
		if (!ram_at(ram, (gpa_t){p.p_paddr + p.p_memsz - 1}, 1))
			return failure_set(f, -ENOMEM, "give the VM more memory", "kernel %s needs memory up to %llu MiB", file->path,
			                   (unsigned long long)((p.p_paddr + p.p_memsz) >> 20) + 1);
		err = boot_put(ram, p.p_paddr, file->at + p.p_offset, p.p_filesz, "the kernel", f); /* the rest of RAM is zero already */
		if (p.p_paddr + p.p_memsz > l->kernel_end)
			l->kernel_end = p.p_paddr + p.p_memsz;
	}
	return err;
}

static int put_map(const struct ram *ram, const struct boot_map *map, struct failure *f)
{
	struct start_map_entry entries[MAP_ENTRIES_MAX];

	if (map->entries > MAP_ENTRIES_MAX)
		return failure_set(f, -ENOSPC, "report this", "the memory map has too many entries");
	for (unsigned i = 0; i < map->entries; i++)
		entries[i] = (struct start_map_entry){map->entry[i].addr, map->entry[i].bytes, map->entry[i].type, 0};
	return boot_put(ram, MAP_AT, entries, map->entries * sizeof entries[0], "the memory map", f);
}

int pvh_describe(const struct ram *ram, const struct boot_file *file, const struct boot_layout *l, const struct boot_map *map,
                 struct boot_entry *out, struct failure *f)
{
	struct start_module initrd = {.paddr = l->initrd, .bytes = l->initrd_bytes};
	struct start_info info = {.magic = START_INFO_MAGIC, .version = 1, .modules = l->initrd_bytes ? 1 : 0, .cmdline = MEMMAP_CMDLINE,
		.module_list = MEMMAP_START_INFO + sizeof info, .rsdp = l->rsdp, .map = MAP_AT, .map_entries = map->entries};
	int err;

	*out = (struct boot_entry){.ebx = MEMMAP_START_INFO};
	err = find_entry(file, &out->eip, f);
	if (!err)
		err = put_map(ram, map, f);
	if (!err)
		err = boot_put(ram, MEMMAP_START_INFO, &info, sizeof info, "the start info", f);
	return err ? err : boot_put(ram, MEMMAP_START_INFO + sizeof info, &initrd, sizeof initrd, "the start info", f);
}
