/* vm: kernels and initrds are judged before they are used; what is loaded is where the kernel looks for it. Files are made up here. */
#include "tests/test.h"
#include "vm/boot.h"
#include "vm/memmap.h"

#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <asm/bootparam.h>
#include <sys/mman.h>

enum { SETUP_BYTES = 1024, CODE_BYTES = 4096, ELF_BYTES = 8192, NOTE_AT = 0x200, LOAD_AT = 0x1000 };

static const struct topology one = {.nodes = 1, .vcpus = 1};

/* A file in memory with a path. */
struct file { int fd; char path[32]; };

static struct file file_of(const void *at, size_t bytes)
{
	struct file f = {.fd = memfd_create("image", 0)};

	if (f.fd < 0 || write(f.fd, at, bytes) != (ssize_t)bytes)
		abort();
	snprintf(f.path, sizeof f.path, "/proc/self/fd/%d", f.fd);
	return f;
}

static struct ram ram_of(uint64_t mib)
{
	uint64_t bytes[NODES_MAX] = {mib << 20};
	struct ram r;

	if (ram_layout(&r, bytes, 1) || ram_map(&r, NULL))
		abort();
	return r;
}

/* The smallest bzImage: one setup sector more than none, then code that is all 0xcc. */
static void make_bzimage(uint8_t to[SETUP_BYTES + CODE_BYTES])
{
	struct setup_header h = {.setup_sects = 1, .syssize = CODE_BYTES / 16, .boot_flag = 0xaa55, .jump = 0x66eb, .header = 0x53726448, .version = 0x20f,
		.loadflags = LOADED_HIGH, .xloadflags = XLF_KERNEL_64, .relocatable_kernel = 1, .initrd_addr_max = 0x7fffffff, .pref_address = 0x1000000,
		.init_size = 0x100000, .cmdline_size = 2047};

	memset(to, 0, SETUP_BYTES);
	memset(to + SETUP_BYTES, 0xcc, CODE_BYTES);
	memcpy(to + 0x1f1, &h, sizeof h);
}

/* An archive with nothing in it but its end, padded with zeros. */
static void make_cpio(uint8_t *to, size_t bytes)
{
	memset(to, 0, bytes);
	memset(to, '0', 110);
	memcpy(to, "070701", 6);
	memcpy(to + 94, "0000000b", 8);
	memcpy(to + 110, "TRAILER!!!", 11);
}

static void make_elf(uint8_t to[ELF_BYTES])
{
	Elf64_Ehdr e = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_EXEC, .e_machine = EM_X86_64, .e_phoff = sizeof e,
		.e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2};
	Elf64_Phdr p[2] = {
		{.p_type = PT_LOAD, .p_offset = LOAD_AT, .p_paddr = 0x1000000, .p_filesz = 0x1000, .p_memsz = 0x3000},
		{.p_type = PT_NOTE, .p_offset = NOTE_AT, .p_filesz = 20, .p_memsz = 20},
	};
	Elf64_Nhdr n = {.n_namesz = 4, .n_descsz = 4, .n_type = 18};

	memset(to, 0, ELF_BYTES);
	memcpy(to, &e, sizeof e);
	memcpy(to + sizeof e, p, sizeof p);
	memcpy(to + NOTE_AT, &n, sizeof n);
	memcpy(to + NOTE_AT + sizeof n, "Xen", 4);
	memcpy(to + NOTE_AT + sizeof n + 4, &(uint32_t){0x1000123}, 4);
	memset(to + LOAD_AT, 0xcc, 0x1000);
}

/* boot_load on 64 MiB with these bytes as kernel; frees all but what failed says. */
static int load(const void *kernel, size_t bytes, struct failure *f)
{
	struct file k = file_of(kernel, bytes);
	struct ram r = ram_of(64);
	struct boot_entry entry;
	int err = boot_load(&r, &one, &(struct boot_config){.kernel = k.path}, &entry, f);

	ram_unmap(&r);
	close(k.fd);
	return err;
}

TEST(what_is_no_kernel_is_refused_with_a_reason)
{
	static const uint8_t noise[8192] = {1, 2, 3};
	struct failure f = {0};

	CHECK_EQ(load(noise, sizeof noise, &f), -ENOEXEC);
	CHECK(strstr(f.what, "is no kernel") && f.todo[0]);
	f = (struct failure){0};
	CHECK_EQ(load(noise, 1, &f), -ENOEXEC);
	f = (struct failure){0};
	CHECK_EQ(load(noise, 0, &f), -ENOEXEC);
	CHECK(strstr(f.what, "is empty"));
}

TEST(a_missing_kernel_is_named)
{
	struct ram r = ram_of(64);
	struct boot_entry entry;
	struct failure f = {0};

	CHECK_EQ(boot_load(&r, &one, &(struct boot_config){.kernel = "/nowhere/bzImage"}, &entry, &f), -ENOENT);
	CHECK(strstr(f.what, "/nowhere/bzImage"));
	f = (struct failure){0};
	CHECK_EQ(boot_load(&r, &one, &(struct boot_config){.kernel = "/tmp"}, &entry, &f), -EINVAL);
	ram_unmap(&r);
}

TEST(a_bzimage_cut_anywhere_is_refused)
{
	static uint8_t image[SETUP_BYTES + CODE_BYTES];
	size_t whole = sizeof image;

	make_bzimage(image);
	CHECK_EQ(load(image, whole, NULL), 0);
	for (size_t bytes = 0; bytes < whole - 15; bytes += 7) /* its length is counted in units of 16 */
		CHECK_EQ(load(image, bytes, NULL), -ENOEXEC);
}

TEST(a_bzimage_lies_where_its_zero_page_says)
{
	static uint8_t image[SETUP_BYTES + CODE_BYTES], initrd[5000];
	struct ram r = ram_of(64);
	struct boot_entry entry;
	struct boot_params zero;
	struct file k, i;
	char cmdline[256];

	make_bzimage(image);
	make_cpio(initrd, sizeof initrd);
	k = file_of(image, sizeof image);
	i = file_of(initrd, sizeof initrd);
	CHECK_EQ(boot_load(&r, &one, &(struct boot_config){.kernel = k.path, .initrd = i.path, .cmdline = "mine=1", .tsc_khz = 77}, &entry, NULL), 0);
	CHECK(entry.eip == MEMMAP_KERNEL && entry.esi == MEMMAP_ZERO_PAGE);
	CHECK(*(uint8_t *)ram_at(&r, (gpa_t){entry.eip}, 1) == 0xcc);
	memcpy(&zero, ram_at(&r, (gpa_t){entry.esi}, sizeof zero), sizeof zero);
	CHECK_EQ(zero.hdr.header, 0x53726448);
	CHECK_EQ(zero.hdr.ramdisk_size, sizeof initrd);
	CHECK_EQ(zero.hdr.ramdisk_image, (64 << 20) - 8192);
	CHECK(memcmp(ram_at(&r, (gpa_t){zero.hdr.ramdisk_image}, sizeof initrd), initrd, sizeof initrd) == 0);
	CHECK(memcmp(ram_at(&r, (gpa_t){zero.acpi_rsdp_addr}, 8), "RSD PTR ", 8) == 0);
	snprintf(cmdline, sizeof cmdline, "%s", (char *)ram_at(&r, (gpa_t){zero.hdr.cmd_line_ptr}, sizeof cmdline));
	CHECK(strstr(cmdline, "tsc_early_khz=77 ") && strcmp(cmdline + strlen(cmdline) - 7, " mine=1") == 0);
	CHECK(zero.e820_table[0].addr == 0 && zero.e820_table[0].size == MEMMAP_LOW_END);
	CHECK(zero.e820_table[3].addr == MEMMAP_KERNEL && zero.e820_table[3].size == (63 << 20) && zero.e820_table[3].type == 1);
	ram_unmap(&r);
}

TEST(a_kernel_too_big_for_the_memory_is_refused)
{
	static uint8_t image[SETUP_BYTES + CODE_BYTES];
	struct setup_header *h = (struct setup_header *)(image + 0x1f1);
	struct failure f = {0};

	make_bzimage(image);
	h->init_size = 64 << 20;
	CHECK_EQ(load(image, sizeof image, &f), -ENOMEM);
	CHECK(strstr(f.what, "needs memory up to 81 MiB"));
}

static int load_with(const void *initrd, size_t bytes, const char *cmdline, uint64_t ram_mib, struct failure *f)
{
	static uint8_t image[SETUP_BYTES + CODE_BYTES];
	struct ram r = ram_of(ram_mib);
	struct boot_entry entry;
	struct file k, i;
	int err;

	make_bzimage(image);
	k = file_of(image, sizeof image);
	i = file_of(initrd, bytes);
	err = boot_load(&r, &one, &(struct boot_config){.kernel = k.path, .initrd = i.path, .cmdline = cmdline}, &entry, f);
	close(k.fd);
	close(i.fd);
	ram_unmap(&r);
	return err;
}

TEST(what_is_no_initrd_is_refused_with_a_reason)
{
	static uint8_t big[16 << 20];
	struct failure f = {0};

	make_cpio(big, sizeof big);
	CHECK_EQ(load_with("hello, world", 12, NULL, 64, &f), -ENOEXEC);
	CHECK(strstr(f.what, "initrd") && f.todo[0]);
	CHECK_EQ(load_with("", 0, NULL, 64, NULL), -ENOEXEC);
	f = (struct failure){0};
	CHECK_EQ(load_with(big, 120, NULL, 64, &f), -ENOEXEC);
	CHECK(strstr(f.what, "cut short"));
	f = (struct failure){0};
	CHECK_EQ(load_with(big, sizeof big, NULL, 32, &f), -ENOMEM);
	CHECK(strstr(f.what, "does not fit"));
	CHECK_EQ(load_with(big, sizeof big, NULL, 64, NULL), 0);
}

TEST(a_command_line_too_long_for_the_kernel_is_refused)
{
	char *line = calloc(1, 3000);
	uint8_t archive[128];
	struct failure f = {0};

	memset(line, 'x', 2047);
	make_cpio(archive, sizeof archive);
	CHECK_EQ(load_with(archive, sizeof archive, line, 64, &f), -E2BIG);
	CHECK(strstr(f.what, "2047"));
	free(line);
}

TEST(a_pvh_kernel_starts_at_its_note)
{
	static uint8_t image[ELF_BYTES];
	struct ram r = ram_of(64);
	struct boot_entry entry;
	struct file k;
	uint32_t info[14];

	make_elf(image);
	k = file_of(image, sizeof image);
	CHECK_EQ(boot_load(&r, &one, &(struct boot_config){.kernel = k.path}, &entry, NULL), 0);
	CHECK_EQ(entry.eip, 0x1000123);
	CHECK_EQ(*(uint8_t *)ram_at(&r, (gpa_t){0x1000000}, 1), 0xcc);
	memcpy(info, ram_at(&r, (gpa_t){entry.ebx}, sizeof info), sizeof info);
	CHECK_EQ(info[0], 0x336ec578);
	CHECK_EQ(info[1], 1);
	CHECK_EQ(info[3], 0); /* no modules */
	CHECK_EQ(info[8], MEMMAP_ACPI);
	CHECK(info[12] >= 5);
	ram_unmap(&r);
}

TEST(an_elf_that_lies_is_refused)
{
	static uint8_t image[ELF_BYTES];
	Elf64_Phdr *p = (Elf64_Phdr *)(image + sizeof(Elf64_Ehdr));

	for (size_t bytes = 4; bytes < sizeof image; bytes += 13) {
		make_elf(image);
		CHECK_EQ(load(image, bytes, NULL), -ENOEXEC);
	}
	make_elf(image);
	CHECK_EQ(load(image, sizeof image, NULL), 0);
	p[0].p_paddr = 0x7000;
	CHECK_EQ(load(image, sizeof image, NULL), -ENOEXEC);
	p[0].p_paddr = UINT64_MAX - 0xfff;
	CHECK_EQ(load(image, sizeof image, NULL), -ENOEXEC);
	p[0].p_paddr = 0x1000000;
	p[0].p_memsz = 64 << 20;
	CHECK_EQ(load(image, sizeof image, NULL), -ENOMEM);
	p[0].p_memsz = 1; /* less than the file has */
	CHECK_EQ(load(image, sizeof image, NULL), -ENOEXEC);
	make_elf(image);
	image[NOTE_AT + 8] = 17; /* another note */
	CHECK_EQ(load(image, sizeof image, NULL), -ENOEXEC);
	make_elf(image);
	memset(image + NOTE_AT, 0xff, 8); /* a note of absurd size */
	CHECK_EQ(load(image, sizeof image, NULL), -ENOEXEC);
	make_elf(image);
	p[1].p_offset = UINT64_MAX - 4;
	CHECK_EQ(load(image, sizeof image, NULL), -ENOEXEC);
}
