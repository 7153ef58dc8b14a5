/* See absent.h. */
#include "tests/unit/absent.h"

#include "base/types.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int absent_page(void *page)
{
	struct uffdio_register reg = {.range = {(uintptr_t)page, PAGE_BYTES}, .mode = UFFDIO_REGISTER_MODE_MISSING};
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0 && madvise(page, PAGE_BYTES, MADV_DONTNEED) == 0 && ioctl(fd, UFFDIO_REGISTER, &reg) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

bool absent_wanted(int absent)
{
	struct uffd_msg msg;

	return read(absent, &msg, sizeof msg) == sizeof msg;
}

void absent_give_up(int absent)
{
	close(absent);
}
