/* One image, one VM: the lock on a disk's file. An open file description lock (fcntl(2)) on all of it, which ends with its descriptor, whoever dies.
 * QEMU's own locks are of the same kind on some bytes of the file, so that either side sees the other's exclusive use. */
#ifndef DEV_IMAGELOCK_H
#define DEV_IMAGELOCK_H

#include "base/failure.h"

/* Shared, or exclusive (fd must be open for writing). -EBUSY, naming the holder where /proc shows it. File systems without locks: 0, and a line in the log. */
int imagelock_take(int fd, bool shared, const char *path, struct failure *f) MUST_CHECK;

#endif
