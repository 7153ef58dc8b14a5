/* Read files of an ext2, ext3 or ext4 file system inside a disk, by libext2fs: nothing is mounted, nothing is written, a journal is not replayed.
 * The bytes are a stranger's; call in a process that may be lost (vm/bootdisk.h). */
#ifndef VM_EXTFS_H
#define VM_EXTFS_H

#include "base/failure.h"
#include "base/types.h"

struct extfs;

/* The file system that lies at 'at' of the disk fd, and has that many bytes. */
int extfs_open(struct extfs **out, int fd, uint64_t at, uint64_t bytes, struct failure *f) MUST_CHECK;
void extfs_close(struct extfs *x);

/* As people know it. kind: "ext4"; label: "" none. */
void extfs_describe(const struct extfs *x, char kind[5], char uuid[37], char label[17], uint64_t *bytes, uint64_t *free_bytes);

/* Is there such a file or directory? Symbolic links are followed. */
bool extfs_exists(struct extfs *x, const char *path);

/* Call name() for each name in a directory; none if there is no such directory. */
void extfs_list(struct extfs *x, const char *path, void (*name)(void *to, const char *name), void *to);

/* The size of a regular file. */
int extfs_size(struct extfs *x, const char *path, uint64_t *bytes) MUST_CHECK;

/* Copy a regular file of at most max bytes to the beginning of to_fd. */
int extfs_copy(struct extfs *x, const char *path, int to_fd, uint64_t max, struct failure *f) MUST_CHECK;

#endif
