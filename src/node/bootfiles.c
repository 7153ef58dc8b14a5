/* See bootfiles.h. */
#include "node/bootfiles.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "vm/boot.h"
#include "vm/bootdisk.h"

/* Does the command line say where the root is? */
static bool names_root(const char *append)
{
	const char *at = append;

	while ((at = strstr(at, "root="))) {
		if (at == append || at[-1] == ' ')
			return true;
		at++;
	}
	return false;
}

static int open_disk(const struct fragment_config *c, const struct gear_disk *d, int *fd, struct failure *f)
{
	if (strcmp(d->node, c->node[c->self.v].name) != 0)
		return failure_set(f, -EINVAL, "pass --kernel, or let the disk be on that node", "the first disk, %.100s, is on node %s, and the kernel is loaded on node %s",
			d->path, d->node, c->node[c->self.v].name);
	if (d->format != DISK_RAW)
		return failure_set(f, -EINVAL, "pass --kernel, or convert it (qemu-img convert -O raw)", "the first disk, %.120s, is not raw; kernels are found in raw ones only",
			d->path);
	*fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return *fd < 0 ? failure_set(f, -errno, "check the path and its permissions", "cannot open the disk %.120s: %s", d->path, strerror(errno)) : 0;
}

static int find_in_disk(struct bootfiles *b, const struct fragment_config *c, struct failure *f)
{
	const struct gear_disk *d = &c->gear.disk[0];
	struct bootdisk found;
	char root[64] = "";
	int fd = -1, initrd = -1, err;

	if (!c->gear.disks || strcmp(d->path, GEAR_SEED) == 0)
		return failure_set(f, -EINVAL, "pass --kernel, or a --disk with one inside", "there is nothing to boot from");
	err = open_disk(c, d, &fd, f);
	if (!err)
		err = bootdisk_find(fd, d->path, &found, &b->kernel_fd, &initrd, f);
	if (fd >= 0)
		close(fd);
	if (err)
		return err;
	b->initrd_fd = initrd > 0 ? initrd : 0;
	snprintf(b->kernel, sizeof b->kernel, "%.290s of %s", found.kernel, d->path);
	if (!names_root(c->append) && !*bootdisk_root(&found, root))
		return failure_set(f, -ENOEXEC, "pass --append root=...", "the disk %.120s holds a kernel, but no file system that looks like its root", d->path);
	snprintf(b->append, sizeof b->append, "%s%s%s", names_root(c->append) ? "" : root, *root && *c->append ? " " : "", c->append);
	return 0;
}

int bootfiles_open(struct bootfiles *b, const struct fragment_config *c, struct failure *f)
{
	int err;

	*b = (struct bootfiles){0};
	if (!*c->kernel) {
		err = find_in_disk(b, c, f);
	} else {
		snprintf(b->kernel, sizeof b->kernel, "%s", c->kernel);
		snprintf(b->append, sizeof b->append, "%s", c->append);
		err = boot_open(c->kernel, "kernel", &b->kernel_fd, f);
	}
	if (!err && *c->initrd) {
		if (b->initrd_fd > 0)
			close(b->initrd_fd);
		b->initrd_fd = 0;
		err = boot_open(c->initrd, "initrd", &b->initrd_fd, f);
	}
	if (err)
		bootfiles_close(b);
	return err;
}

void bootfiles_close(struct bootfiles *b)
{
	if (b->kernel_fd > 0)
		close(b->kernel_fd);
	if (b->initrd_fd > 0)
		close(b->initrd_fd);
	b->kernel_fd = b->initrd_fd = 0;
}
