/* Where the file systems of a disk are: the whole disk, or the partitions of a GPT or MBR table, and by their magic numbers what they are. Reads the
 * disk with pread(2) and believes nothing; what is in a file system is for others to read (vm/extfs.h). */
#ifndef VM_VOLUMES_H
#define VM_VOLUMES_H

#include "base/failure.h"
#include "base/types.h"

enum { VOLUMES_MAX = 16 };

struct volume {
	unsigned partition;    /* its number in the table; 0: the whole disk */
	uint64_t at, bytes;    /* all of it lies on the disk */
	char fs[12];           /* "ext", "xfs", ...; "": not known */
};

struct volumes {
	uint64_t disk_bytes;
	char table[8];         /* "none", "gpt", "mbr" */
	unsigned count;
	struct volume volume[VOLUMES_MAX]; /* in the table's order; more than fit are left out */
};

/* Look at the disk that fd is: a regular file or block device, raw. -EINVAL: it is none, or of another format; -errno. */
int volumes_find(int fd, struct volumes *out, struct failure *f) MUST_CHECK;

#endif
