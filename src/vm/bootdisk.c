/* See bootdisk.h. */
#include "vm/bootdisk.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "vm/extfs.h"

static const char kernel_prefix[] = "vmlinuz-";

/* The newest kernel of a directory, by the version in its name. */
struct newest {
	char version[256];
	bool plain; /* there is one without a version */
};

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

static void look_at_name(void *to, const char *name)
{
	static const char *const not[] = {"~", ".old", ".bak", ".dpkg-tmp", ".dpkg-new", ".dpkg-bak"};
	struct newest *newest = to;
	const char *version = name + sizeof kernel_prefix - 1;

	newest->plain |= strcmp(name, "vmlinuz") == 0;
	if (strncmp(name, kernel_prefix, sizeof kernel_prefix - 1) != 0)
		return;
	for (size_t k = 0; k < ARRAY_LEN(not); k++)
		if (ends_with(name, not[k]))
			return;
	if (*version && (!*newest->version || strverscmp(version, newest->version) > 0))
		TEXT_SET(newest->version, version);
}

static bool is_file(struct extfs *x, const char *path, uint64_t *bytes)
{
	return !extfs_size(x, path, bytes) && *bytes;
}

/* As Debian, SUSE and Fedora call it. */
static void find_initrd(struct extfs *x, const char *folder, const char *version, struct bootdisk *out)
{
	static const char *const names[][2] = {{"initrd.img-", ""}, {"initrd-", ""}, {"initramfs-", ".img"}, {"initramfs-", ""}};

	for (size_t k = 0; k < ARRAY_LEN(names) && !*out->initrd; k++) {
		char path[BOOTDISK_PATH_BYTES];

		snprintf(path, sizeof path, "%s/%s%s%s", folder, names[k][0], version, names[k][1]);
		if (is_file(x, path, &out->initrd_bytes))
			TEXT_SET(out->initrd, path);
	}
}

static bool find_kernel_in(struct extfs *x, const char *folder, struct bootdisk *out)
{
	struct newest newest = {0};
	char path[BOOTDISK_PATH_BYTES];

	extfs_list(x, *folder ? folder : "/", look_at_name, &newest);
	snprintf(path, sizeof path, "%s/%s%s", folder, kernel_prefix, newest.version);
	if (*newest.version && is_file(x, path, &out->kernel_bytes)) {
		TEXT_SET(out->kernel, path);
		find_initrd(x, folder, newest.version, out);
		return true;
	}
	snprintf(path, sizeof path, "%s/vmlinuz", folder);
	if (!newest.plain || !is_file(x, path, &out->kernel_bytes))
		return false;
	TEXT_SET(out->kernel, path);
	snprintf(path, sizeof path, "%s/initrd.img", folder);
	if (is_file(x, path, &out->initrd_bytes))
		TEXT_SET(out->initrd, path);
	return true;
}

static bool is_root(struct extfs *x)
{
	return extfs_exists(x, "/usr/lib/systemd/systemd") || extfs_exists(x, "/sbin/init") || extfs_exists(x, "/usr/sbin/init") || extfs_exists(x, "/etc/os-release");
}

static int copy_out(struct extfs *x, const struct bootdisk *b, int kernel_fd, int initrd_fd, struct failure *f)
{
	int err = kernel_fd < 0 ? 0 : extfs_copy(x, b->kernel, kernel_fd, BOOTDISK_KERNEL_MAX, f);

	if (!err && initrd_fd >= 0 && *b->initrd)
		err = extfs_copy(x, b->initrd, initrd_fd, BOOTDISK_INITRD_MAX, f);
	return err;
}

/* One file system: what it is called, and whether it is the root, or holds a kernel. */
static int look_at_volume(int fd, unsigned index, struct bootdisk *out, int kernel_fd, int initrd_fd, struct failure *f)
{
	struct bootdisk_volume *v = &out->volume[index];
	struct extfs *x;
	int err = extfs_open(&x, fd, v->where.at, v->where.bytes, f);

	if (err)
		return err;
	extfs_describe(x, v->where.fs, v->uuid, v->label, &v->bytes, &v->free_bytes);
	if (out->root < 0 && is_root(x))
		out->root = (int)index;
	if (out->boot < 0 && (find_kernel_in(x, "/boot", out) || find_kernel_in(x, "", out))) {
		out->boot = (int)index;
		err = copy_out(x, out, kernel_fd, initrd_fd, f);
	}
	extfs_close(x);
	return err;
}

static int nothing_found(const struct bootdisk *b, bool readable, const struct failure *why, struct failure *f)
{
	char seen[80] = "";

	if (readable)
		return failure_set(f, -ENOEXEC, "pass --kernel", "there is no kernel inside (no vmlinuz-* in /boot or /)");
	if (why->err)
		return failure_set(f, why->err, why->todo, "%s", why->what);
	for (unsigned k = 0; k < b->volumes; k++)
		if (*b->volume[k].where.fs)
			snprintf(seen, sizeof seen, ", only %s", b->volume[k].where.fs);
	return failure_set(f, -ENOEXEC, "pass --kernel", "no file system in it is recognised that kernels can be read from (ext2, ext3, ext4)%s", seen);
}

int bootdisk_look(int fd, struct bootdisk *out, int kernel_fd, int initrd_fd, struct failure *f)
{
	struct failure why = {0};
	struct volumes volumes;
	bool readable = false;
	int err = volumes_find(fd, &volumes, f);

	*out = (struct bootdisk){.boot = -1, .root = -1, .disk_bytes = volumes.disk_bytes, .volumes = volumes.count};
	if (err)
		return err;
	TEXT_SET(out->table, volumes.table);
	for (unsigned k = 0; k < volumes.count; k++) {
		out->volume[k].where = volumes.volume[k];
		if (strcmp(volumes.volume[k].fs, "ext") != 0)
			continue;
		err = look_at_volume(fd, k, out, kernel_fd, initrd_fd, &why);
		if (err && out->boot >= 0)
			return failure_set(f, err, why.todo, "%s", why.what); /* the kernel is there and cannot be had */
		readable |= !err;
	}
	return out->boot >= 0 ? 0 : nothing_found(out, readable, &why, f);
}

const char *bootdisk_root(const struct bootdisk *b, char to[64])
{
	to[0] = 0;
	if (b->root >= 0)
		snprintf(to, 64, "root=UUID=%s", b->volume[b->root].uuid);
	return to;
}
