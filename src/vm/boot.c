/* What both kernel formats need: files, memory map, command line, initrd, ACPI tables. See boot.h. */
#include "vm/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <sys/mman.h>
#include <sys/stat.h>

#include "dev/addrmap.h"
#include "vm/acpi.h"
#include "vm/boot_image.h"
#include "vm/initrd.h"
#include "vm/memmap.h"

enum { E820_RAM = 1, E820_RESERVED = 2, CMDLINE_BYTES = 4096 };

/* What every guest gets unless the user's words, which come later, say otherwise: no clock but the TSC is here to be watched or calibrated
 * against, a virtual machine that cannot go on should end instead of hanging, nothing polls what nobody needs, and the kernel's self-tests of its
 * ciphers, half of a simulated boot, are left to those who ship the kernel. */
static const char default_options[] = "console=ttyS0 panic=-1 clocksource=tsc tsc=reliable no-kvmclock nowatchdog 8250.nr_uarts=1 cryptomgr.notests=1";

/* Besides, for a VM that spans nodes (doc/boot-options.md): let the kernel neither unmap pages to learn who uses them, nor pull a thread that wakes to
 * another node because that one idles, nor let all CPUs tick at the same moment, nor let any but the first keep the time, nor wake a CPU that
 * computes to tidy memory. A CPU without ticks looks at the state of its group's callbacks whenever it leaves the kernel: let each be a group. */
static const char spread_options[] = " numa_balancing=disable relax_domain_level=0 skew_tick=1 rcutree.rcu_nocb_gp_stride=1 sysctl.vm.compaction_proactiveness=0"
                                     " sysctl.vm.stat_interval=30";

int boot_open(const char *path, const char *what, int *fd, struct failure *f)
{
	struct stat st;
	int err = 0;

	*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		return failure_set(f, -errno, "check the path and its permissions", "cannot open %s %s: %s", what, path, strerror(errno));
	if (fstat(*fd, &st) < 0 || !S_ISREG(st.st_mode))
		err = failure_set(f, -EINVAL, "give the path of a file", "%s %s is no regular file", what, path);
	else if (st.st_size == 0)
		err = failure_set(f, -ENOEXEC, "give a complete file", "%s %s is empty", what, path);
	if (err)
		close(*fd);
	return err;
}

int boot_file_open(struct boot_file *file, const char *path, int fd, const char *what, struct failure *f)
{
	bool ours = fd == 0;
	int err = ours ? boot_open(path, what, &fd, f) : 0;
	struct stat st;
	void *at;

	*file = (struct boot_file){.path = path};
	if (err)
		return err;
	at = fstat(fd, &st) < 0 ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		err = failure_set(f, -errno, "free some memory", "cannot map %s %s: %s", what, path, strerror(errno));
	else
		*file = (struct boot_file){.path = path, .at = at, .bytes = (uint64_t)st.st_size};
	if (ours)
		close(fd);
	return err;
}

void boot_file_close(struct boot_file *file)
{
	if (file->at)
		munmap((void *)file->at, file->bytes);
	*file = (struct boot_file){.path = file->path};
}

int boot_put(const struct ram *ram, uint64_t gpa, const void *from, uint64_t bytes, const char *what, struct failure *f)
{
	int err = ram_write(ram, (gpa_t){gpa}, from, bytes);

	if (!err)
		return 0;
	return failure_set(f, -ENOMEM, "give the VM more memory", "%s (%llu KiB at 0x%llx) does not fit into the VM's memory", what,
	                   (unsigned long long)(bytes + 1023) / 1024, (unsigned long long)gpa);
}

static void map_add(struct boot_map *map, uint64_t from, uint64_t to, uint32_t type)
{
	if (from < to)
		map->entry[map->entries++] = (struct boot_map_entry){from, to - from, type};
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void build_map(const struct ram *ram, struct boot_map *map)
{
	*map = (struct boot_map){0};
	map_add(map, 0, MEMMAP_LOW_END, E820_RAM);
	map_add(map, MEMMAP_LOW_END, 0xa0000, E820_RESERVED);
	map_add(map, MEMMAP_ACPI, MEMMAP_KERNEL, E820_RESERVED);
	for (unsigned i = 0; i < ram->ranges; i++) {
		const struct ram_range *r = &ram->range[i];

		map_add(map, max_u64(r->gpa.v, MEMMAP_KERNEL), r->gpa.v + r->bytes, E820_RAM);
	}
	map_add(map, ADDRMAP_ECAM, ADDRMAP_ECAM + ADDRMAP_ECAM_BYTES, E820_RESERVED);
	map_add(map, MEMMAP_PROXY_STUB, MEMMAP_HIGH, E820_RESERVED);
}

/* Join defaults and the user's words. */
static int build_cmdline(const struct boot_config *c, const struct topology *topo, uint64_t longest, char text[CMDLINE_BYTES], struct failure *f)
{
	char tsc[48] = "", ticks[32] = "";
	int n;

	if (c->tsc_khz)
		snprintf(tsc, sizeof tsc, " tsc_early_khz=%u", c->tsc_khz);
	if (topo->nodes > 1 && topo->vcpus > 1)
		snprintf(ticks, sizeof ticks, " nohz_full=1-%u", topo->vcpus - 1);
	n = snprintf(text, CMDLINE_BYTES, "%s%s%s%s%s%s", default_options, topo->nodes > 1 ? spread_options : "", ticks, tsc, c->cmdline && c->cmdline[0] ? " " : "",
	             c->cmdline ? c->cmdline : "");
	if (n < 0 || n >= CMDLINE_BYTES || (uint64_t)n > longest)
		return failure_set(f, -E2BIG, "shorten --append", "the kernel command line has %d bytes; this kernel takes %llu", n, (unsigned long long)longest);
	return 0;
}

/* As high as it may be in the range the kernel lies in, so that it comes from one node; else as high as low memory allows. */
static uint64_t place_initrd(const struct ram *ram, const struct boot_layout *l, uint64_t bytes)
{
	uint64_t low_end = 0;

	for (unsigned i = 0; i < ram->ranges && ram->range[i].gpa.v < MEMMAP_HOLE; i++) {
		uint64_t top = min_u64(ram->range[i].gpa.v + ram->range[i].bytes, l->initrd_max);
		uint64_t at = top < bytes ? 0 : (top - bytes) & ~(uint64_t)(PAGE_BYTES - 1);

		if (ram->range[i].gpa.v <= MEMMAP_KERNEL && at >= l->kernel_end)
			return at;
		low_end = max_u64(low_end, top);
	}
	if (low_end < bytes || ((low_end - bytes) & ~(uint64_t)(PAGE_BYTES - 1)) < l->kernel_end)
		return 0;
	return (low_end - bytes) & ~(uint64_t)(PAGE_BYTES - 1);
}

static int judge_initrd(const struct boot_file *file, struct failure *f)
{
	switch (initrd_judge(file->at, file->bytes)) {
	case INITRD_WHOLE: return 0;
	case INITRD_CUT: return failure_set(f, -ENOEXEC, "copy it again: part of it is missing", "initrd %s is cut short", file->path);
	case INITRD_NO_ARCHIVE: break;
	}
	return failure_set(f, -ENOEXEC, "give --initrd a cpio archive (newc), plain or compressed", "initrd %s is no archive Linux can unpack", file->path);
}

static int load_initrd(const struct ram *ram, const char *path, int fd, struct boot_layout *l, struct failure *f)
{
	struct boot_file file;
	int err;

	if (!path)
		return 0;
	err = boot_file_open(&file, path, fd, "initrd", f);
	if (!err)
		err = judge_initrd(&file, f);
	if (!err) {
		l->initrd = place_initrd(ram, l, file.bytes);
		l->initrd_bytes = file.bytes;
		if (!l->initrd)
			err = failure_set(f, -ENOMEM, "give the VM more memory", "initrd %s (%llu MiB) does not fit beside the kernel", path,
			                  (unsigned long long)(file.bytes >> 20) + 1);
	}
	if (!err)
		err = boot_put(ram, l->initrd, file.at, file.bytes, "the initrd", f);
	boot_file_close(&file);
	return err;
}

static int load_acpi(const struct ram *ram, const struct topology *topo, const struct boot_config *c, struct boot_layout *l, struct failure *f)
{
	struct acpi_config a = {.topology = topo, .ram = ram, .remote_distance = c->numa_distance};
	uint8_t *image = malloc(MEMMAP_ACPI_BYTES);
	size_t bytes = 0;
	int err = image ? acpi_build(&a, image, MEMMAP_ACPI_BYTES, &bytes) : -ENOMEM;

	if (err)
		err = failure_set(f, err, "report this", "the ACPI tables cannot be built: %s", strerror(-err));
	else
		err = boot_put(ram, MEMMAP_ACPI, image, bytes, "ACPI", f);
	l->rsdp = MEMMAP_ACPI;
	free(image);
	return err;
}

static int load_common(const struct ram *ram, const struct topology *topo, const struct boot_config *c, struct boot_layout *l, struct failure *f)
{
	static const uint64_t gdt[4] = {0, 0, 0x00cf9b000000ffff, 0x00cf93000000ffff};
	char cmdline[CMDLINE_BYTES];
	int err = build_cmdline(c, topo, l->cmdline_max, cmdline, f);

	if (!err)
		err = load_initrd(ram, c->initrd, c->initrd_fd, l, f);
	if (!err)
		err = load_acpi(ram, topo, c, l, f);
	if (!err)
		err = boot_put(ram, MEMMAP_GDT, gdt, sizeof gdt, "the boot descriptors", f);
	return err ? err : boot_put(ram, MEMMAP_CMDLINE, cmdline, strlen(cmdline) + 1, "the command line", f);
}

int boot_load(const struct ram *ram, const struct topology *topo, const struct boot_config *c, struct boot_entry *out, struct failure *f)
{
	struct boot_layout l = {0};
	struct boot_map map;
	struct boot_file file;
	bool pvh, bzimage;
	int err = boot_file_open(&file, c->kernel, c->kernel_fd, "kernel", f);

	if (err)
		return err;
	pvh = pvh_claims(&file);
	bzimage = !pvh && bzimage_claims(&file);
	build_map(ram, &map);
	if (!pvh && !bzimage)
		err = failure_set(f, -ENOEXEC, "give --kernel a Linux bzImage, or a vmlinux built with CONFIG_PVH", "kernel %s is no kernel", c->kernel);
	if (!err)
		err = pvh ? pvh_load(ram, &file, &l, f) : bzimage_load(ram, &file, &l, f);
	if (!err)
		err = load_common(ram, topo, c, &l, f);
	if (!err)
		err = pvh ? pvh_describe(ram, &file, &l, &map, out, f) : bzimage_describe(ram, &file, &l, &map, out, f);
	boot_file_close(&file);
	return err;
}
