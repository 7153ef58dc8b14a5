/* What a VM boots when nobody named a kernel: the newest one inside its disk, with the initial RAM disk of the same version, and the file system that is
 * to be the root. The disk is a stranger's: it is read by a short-lived process that has it, a pipe and two empty files, and may call little else. */
#ifndef VM_BOOTDISK_H
#define VM_BOOTDISK_H

#include "base/failure.h"
#include "base/types.h"
#include "vm/volumes.h"

enum {
	BOOTDISK_PATH_BYTES = 300,
	BOOTDISK_KERNEL_MAX = 256 << 20,
	BOOTDISK_INITRD_MAX = 1 << 30,
	BOOTDISK_SECONDS_MAX = 60,
	BOOTDISK_FD = 3, /* the child's; then the pipe, and the two files where they are wanted */
};

struct bootdisk_volume {
	struct volume where;
	char uuid[37], label[17];          /* of file systems we can read; label "": none */
	uint64_t bytes, free_bytes;
};

struct bootdisk {
	char table[8];                     /* "none", "gpt", "mbr" */
	uint64_t disk_bytes;
	unsigned volumes;
	struct bootdisk_volume volume[VOLUMES_MAX];
	int boot, root;                    /* the volumes that hold kernel and root; -1: none found */
	char kernel[BOOTDISK_PATH_BYTES];  /* path inside; "": none */
	char initrd[BOOTDISK_PATH_BYTES];  /* "": none of that version */
	uint64_t kernel_bytes, initrd_bytes;
};

/* Look into a disk without protection: the child's work, and the tests'. kernel_fd, initrd_fd: where to copy what was found; -1: only look.
 * -ENOEXEC: nothing in it can be read, or it has no kernel (*out tells what there is). */
int bootdisk_look(int fd, struct bootdisk *out, int kernel_fd, int initrd_fd, struct failure *f) MUST_CHECK;

/* The same in a process of its own, which ends within BOOTDISK_SECONDS_MAX. name: the disk, for messages. Both descriptors NULL: only look. Else, when 0
 * is returned, they are the caller's to close; *initrd_fd is -1 where there is none. Any thread; waits for the child. */
int bootdisk_find(int fd, const char *name, struct bootdisk *out, int *kernel_fd, int *initrd_fd, struct failure *f) MUST_CHECK;

/* "root=UUID=..." for the kernel's command line; "" where no root was found. */
const char *bootdisk_root(const struct bootdisk *b, char to[64]);

/* That process: `tessera bootdisk`, which only bootdisk_find starts. copies: the two files are there. Returns the exit status. */
int bootdisk_child(bool copies);

#endif
