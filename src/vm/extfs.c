/* See extfs.h. The library gets its blocks by an I/O manager of our own, so that it opens no files and stays within its part of the disk. */
#include "vm/extfs.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "base/text.h"

enum { COPY_BYTES = 1 << 20, BLOCKS_AT_ONCE_MAX = 1 << 16 };

struct window {
	int fd;
	uint64_t at, bytes;
};

struct extfs {
	ext2_filsys fs;
};

static errcode_t io_close(io_channel c)
{
	free(c->private_data);
	free(c->name);
	free(c);
	return 0;
}

static errcode_t io_set_blksize(io_channel c, int bytes)
{
	if (bytes < 1024 || bytes > 65536)
		return EXT2_ET_BAD_DEVICE_NAME;
	c->block_size = bytes;
	return 0;
}

/* Blocks, or bytes where count is negative. What lies beyond the window cannot be read. */
static errcode_t io_read64(io_channel c, unsigned long long block, int count, void *to)
{
	const struct window *w = c->private_data;
	uint64_t block_bytes = (uint64_t)c->block_size, bytes = count < 0 ? (uint64_t)-(int64_t)count : (uint64_t)count * block_bytes;
	uint64_t at;

	if (count > BLOCKS_AT_ONCE_MAX || __builtin_mul_overflow(block, block_bytes, &at) || at > w->bytes || bytes > w->bytes - at)
		return EXT2_ET_SHORT_READ;
	for (uint64_t done = 0; done < bytes;) {
		ssize_t n = pread(w->fd, (char *)to + done, bytes - done, (off_t)(w->at + at + done));

		if (n <= 0)
			return n < 0 ? (errcode_t)errno : EXT2_ET_SHORT_READ;
		done += (uint64_t)n;
	}
	return 0;
}

static errcode_t io_read(io_channel c, unsigned long block, int count, void *to)
{
	return io_read64(c, block, count, to);
}

static errcode_t io_write64(io_channel c, unsigned long long block, int count, const void *from)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_write(io_channel c, unsigned long block, int count, const void *from)
{
	return EXT2_ET_RO_FILSYS;
}

static errcode_t io_flush(io_channel c)
{
	return 0;
}

static errcode_t io_open(const char *name, int flags, io_channel *out);

static const struct struct_io_manager manager = {.magic = EXT2_ET_MAGIC_IO_MANAGER, .name = "a part of a disk", .open = io_open, .close = io_close,
	.set_blksize = io_set_blksize, .read_blk = io_read, .write_blk = io_write, .flush = io_flush, .read_blk64 = io_read64, .write_blk64 = io_write64};

static errcode_t io_open(const char *name, int flags, io_channel *out)
{
	io_channel c = calloc(1, sizeof *c);
	struct window *w = malloc(sizeof *w);
	char *copy = strdup(name);

	if (!c || !w || !copy || sscanf(name, "%d:%" SCNu64 ":%" SCNu64, &w->fd, &w->at, &w->bytes) != 3) {
		free(c);
		free(w);
		free(copy);
		return EXT2_ET_BAD_DEVICE_NAME;
	}
	*c = (struct struct_io_channel){.magic = EXT2_ET_MAGIC_IO_CHANNEL, .manager = (io_manager)&manager, .name = copy, .block_size = 1024, .private_data = w,
		.refcount = 1};
	*out = c;
	return 0;
}

int extfs_open(struct extfs **out, int fd, uint64_t at, uint64_t bytes, struct failure *f)
{
	struct extfs *x = calloc(1, sizeof *x);
	char name[80];
	errcode_t err;

	if (!x)
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	snprintf(name, sizeof name, "%d:%" PRIu64 ":%" PRIu64, fd, at, bytes);
	err = ext2fs_open(name, EXT2_FLAG_64BITS | EXT2_FLAG_IGNORE_CSUM_ERRORS, 0, 0, (io_manager)&manager, &x->fs);
	if (err) {
		free(x);
		return failure_set(f, -ENOEXEC, "check it with e2fsck, or pass --kernel", "its ext file system is damaged or of a newer kind (libext2fs error %ld)",
			(long)err);
	}
	*out = x;
	return 0;
}

void extfs_close(struct extfs *x)
{
	if (!x)
		return;
	ext2fs_free(x->fs);
	free(x);
}

void extfs_describe(const struct extfs *x, char kind[5], char uuid[37], char label[17], uint64_t *bytes, uint64_t *free_bytes)
{
	struct ext2_super_block *s = x->fs->super;
	const uint8_t *u = s->s_uuid;

	snprintf(kind, 5, "ext%c", ext2fs_has_feature_extents(s) ? '4' : ext2fs_has_feature_journal(s) ? '3' : '2');
	snprintf(uuid, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9],
		u[10], u[11], u[12], u[13], u[14], u[15]);
	snprintf(label, 17, "%.16s", (const char *)s->s_volume_name);
	*bytes = ext2fs_blocks_count(s) * x->fs->blocksize;
	*free_bytes = ext2fs_free_blocks_count(s) * x->fs->blocksize;
}

static int find(struct extfs *x, const char *path, ext2_ino_t *inode)
{
	return ext2fs_namei_follow(x->fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, inode) ? -ENOENT : 0;
}

bool extfs_exists(struct extfs *x, const char *path)
{
	ext2_ino_t inode;

	return !find(x, path, &inode);
}

struct listing {
	void (*name)(void *to, const char *name);
	void *to;
};

static int on_entry(ext2_ino_t dir, int entry, struct ext2_dir_entry *e, int offset, int blocksize, char *buf, void *arg)
{
	struct listing *l = arg;
	char name[EXT2_NAME_LEN + 1];
	size_t n = (size_t)ext2fs_dirent_name_len(e);

	if (e->inode == 0 || n > EXT2_NAME_LEN || (int)n > blocksize - offset - 8)
		return 0;
	memcpy(name, e->name, n);
	name[n] = 0;
	l->name(l->to, name);
	return 0;
}

void extfs_list(struct extfs *x, const char *path, void (*name)(void *to, const char *name), void *to)
{
	struct listing l = {.name = name, .to = to};
	ext2_ino_t inode;

	if (!find(x, path, &inode))
		(void)ext2fs_dir_iterate2(x->fs, inode, 0, NULL, on_entry, &l);
}

static int open_file(struct extfs *x, const char *path, ext2_file_t *out, uint64_t *bytes)
{
	struct ext2_inode inode;
	ext2_ino_t number;
	__u64 size = 0;

	if (find(x, path, &number) || ext2fs_read_inode(x->fs, number, &inode))
		return -ENOENT;
	if (!LINUX_S_ISREG(inode.i_mode))
		return -EINVAL;
	if (ext2fs_file_open(x->fs, number, 0, out))
		return -EIO;
	if (ext2fs_file_get_lsize(*out, &size)) {
		ext2fs_file_close(*out);
		return -EIO;
	}
	*bytes = size;
	return 0;
}

int extfs_size(struct extfs *x, const char *path, uint64_t *bytes)
{
	ext2_file_t file;
	int err = open_file(x, path, &file, bytes);

	if (!err)
		ext2fs_file_close(file);
	return err;
}

static int copy_bytes(ext2_file_t file, const char *path, uint64_t bytes, int to_fd, struct failure *f)
{
	char *buf = malloc(COPY_BYTES);
	uint64_t done = 0;
	int err = buf ? 0 : failure_set(f, -ENOMEM, "free some memory", "out of memory");

	while (!err && done < bytes) {
		unsigned got = 0;
		errcode_t bad = ext2fs_file_read(file, buf, COPY_BYTES, &got);

		if (bad || !got || got > bytes - done)
			err = failure_set(f, -EIO, "check the file system with e2fsck, or pass --kernel", "cannot read %.150s in it (libext2fs error %ld)", path, (long)bad);
		else if (pwrite(to_fd, buf, got, (off_t)done) != (ssize_t)got)
			err = failure_set(f, -errno, "free some memory on the VM's first node", "cannot copy %.150s out of it: %s", path, strerror(errno));
		done += got;
	}
	free(buf);
	return err;
}

int extfs_copy(struct extfs *x, const char *path, int to_fd, uint64_t max, struct failure *f)
{
	uint64_t bytes = 0;
	ext2_file_t file;
	int err = open_file(x, path, &file, &bytes);

	if (err)
		return failure_set(f, err, "pass --kernel", "%.150s in it is no file that can be read", path);
	if (bytes == 0 || bytes > max)
		err = failure_set(f, -ENOEXEC, "pass --kernel", "%.150s in it has %" PRIu64 " bytes; at most %" PRIu64 " are believed", path, bytes, max);
	else
		err = copy_bytes(file, path, bytes, to_fd, f);
	ext2fs_file_close(file);
	return err;
}
