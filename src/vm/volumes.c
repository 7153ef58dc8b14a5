/* See volumes.h. UEFI 2.10, 5.3 (GPT); the MBR is what every PC's is. */
#include "vm/volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/fs.h>

#include "base/text.h"

enum {
	SECTOR = 512, GPT_ENTRY_BYTES = 128, GPT_ENTRIES_MAX = 128, MBR_ENTRIES = 4, MBR_TABLE = 446, MBR_EXTENDED = 5, MBR_EXTENDED_LBA = 15, MBR_PROTECTIVE = 0xee,
};

struct magic {
	const char *name;
	uint64_t at;
	uint8_t bytes;
	char text[12];
};

/* What a disk's file may be that is no raw disk. */
static const struct magic formats[] = {
	{"qcow2", 0, 4, "QFI\xfb"}, {"VMDK", 0, 4, "KDMV"}, {"VHDX", 0, 8, "vhdxfile"}, {"VDI", 64, 4, "\x7f\x10\xda\xbe"}, {"gzip", 0, 2, "\x1f\x8b"},
	{"xz", 0, 6, "\xfd" "7zXZ"}, {"zstd", 0, 4, "\x28\xb5\x2f\xfd"},
};

static const struct magic file_systems[] = {
	{"ext", 1080, 2, "\x53\xef"}, {"xfs", 0, 4, "XFSB"}, {"btrfs", 65600, 8, "_BHRfS_M"}, {"f2fs", 1024, 4, "\x10\x20\xf5\xf2"}, {"squashfs", 0, 4, "hsqs"},
	{"LUKS", 0, 6, "LUKS\xba\xbe"}, {"LVM", 512, 8, "LABELONE"}, {"iso9660", 32769, 5, "CD001"}, {"ntfs", 3, 4, "NTFS"}, {"vfat", 82, 5, "FAT32"},
	{"vfat", 54, 4, "FAT1"}, {"swap", 4086, 10, "SWAPSPACE2"},
};

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint64_t get64(const uint8_t *at)
{
	return get32(at) | (uint64_t)get32(at + 4) << 32;
}

/* All of it or nothing. */
static bool read_at(int fd, uint64_t at, void *to, size_t bytes)
{
	return at <= INT64_MAX && pread(fd, to, bytes, (off_t)at) == (ssize_t)bytes;
}

static const char *find_magic(int fd, const struct magic *m, size_t count, uint64_t at, uint64_t bytes)
{
	char seen[sizeof m->text];

	for (size_t k = 0; k < count; k++)
		if (m[k].at + m[k].bytes <= bytes && read_at(fd, at + m[k].at, seen, m[k].bytes) && memcmp(seen, m[k].text, m[k].bytes) == 0)
			return m[k].name;
	return "";
}

/* What reaches beyond the disk is cut off there. */
static void add(int fd, struct volumes *out, unsigned partition, uint64_t at, uint64_t bytes)
{
	struct volume *v = &out->volume[out->count];

	if (out->count == VOLUMES_MAX || at >= out->disk_bytes)
		return;
	if (bytes > out->disk_bytes - at)
		bytes = out->disk_bytes - at;
	*v = (struct volume){.partition = partition, .at = at, .bytes = bytes};
	TEXT_SET(v->fs, find_magic(fd, file_systems, ARRAY_LEN(file_systems), at, bytes));
	out->count += bytes > 0;
}

static bool read_gpt(int fd, struct volumes *out)
{
	uint8_t head[SECTOR], e[GPT_ENTRY_BYTES];
	static const uint8_t unused[16];
	uint64_t table;
	uint32_t entries, stride;

	if (!read_at(fd, SECTOR, head, sizeof head) || memcmp(head, "EFI PART", 8) != 0)
		return false;
	table = get64(head + 72);
	entries = get32(head + 80);
	stride = get32(head + 84);
	if (table > out->disk_bytes / SECTOR || stride < sizeof e || stride > SECTOR)
		return false;
	for (uint32_t k = 0; k < entries && k < GPT_ENTRIES_MAX; k++) {
		uint64_t first, last;

		if (!read_at(fd, table * SECTOR + (uint64_t)k * stride, e, sizeof e))
			break;
		first = get64(e + 32);
		last = get64(e + 40);
		if (memcmp(e, unused, sizeof unused) != 0 && first <= last && last < out->disk_bytes / SECTOR)
			add(fd, out, k + 1, first * SECTOR, (last - first + 1) * SECTOR);
	}
	return true;
}

/* Primary partitions only. */
static bool read_mbr(int fd, struct volumes *out)
{
	uint8_t sector[SECTOR];

	if (!read_at(fd, 0, sector, sizeof sector) || sector[510] != 0x55 || sector[511] != 0xaa)
		return false;
	for (unsigned k = 0; k < MBR_ENTRIES; k++) {
		const uint8_t *e = sector + MBR_TABLE + 16 * k;
		bool container = e[4] == MBR_EXTENDED || e[4] == MBR_EXTENDED_LBA || e[4] == MBR_PROTECTIVE;

		if (e[0] & 0x7f)
			return false; /* a boot sector without a table */
		if (e[4] && !container && get32(e + 12))
			add(fd, out, k + 1, (uint64_t)get32(e + 8) * SECTOR, (uint64_t)get32(e + 12) * SECTOR);
	}
	return out->count > 0;
}

static int disk_bytes(int fd, uint64_t *bytes, struct failure *f)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return failure_set(f, -errno, "check the path and its permissions", "cannot look at the disk: %s", strerror(errno));
	if (S_ISREG(st.st_mode))
		*bytes = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return failure_set(f, -EINVAL, "give the path of a raw disk image or a block device", "this is no disk");
	else if (ioctl(fd, BLKGETSIZE64, bytes) < 0)
		return failure_set(f, -errno, "check the device", "cannot learn the size of the disk: %s", strerror(errno));
	return 0;
}

int volumes_find(int fd, struct volumes *out, struct failure *f)
{
	const char *format, *whole;
	int err;

	*out = (struct volumes){0};
	err = disk_bytes(fd, &out->disk_bytes, f);
	if (err)
		return err;
	format = find_magic(fd, formats, ARRAY_LEN(formats), 0, out->disk_bytes);
	if (*format)
		return failure_set(f, -EINVAL, "convert it (qemu-img convert -O raw), or pass --kernel", "this is no raw disk but %s, which Tessera does not look into", format);
	if (read_gpt(fd, out) && out->count) {
		TEXT_SET(out->table, "gpt");
		return 0;
	}
	whole = find_magic(fd, file_systems, ARRAY_LEN(file_systems), 0, out->disk_bytes);
	if (!*whole && read_mbr(fd, out)) { /* the boot sector of a file system may look like one */
		TEXT_SET(out->table, "mbr");
		return 0;
	}
	TEXT_SET(out->table, "none");
	out->count = 0;
	add(fd, out, 0, 0, out->disk_bytes);
	return 0;
}
