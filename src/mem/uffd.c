/* The four system calls on which coherence stands, and nothing else. See uffd.h. */
#include "mem/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static const uint64_t features_needed = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_THREAD_ID;
static const uint64_t ioctls_needed = 1ull << _UFFDIO_COPY | 1ull << _UFFDIO_WAKE | 1ull << _UFFDIO_WRITEPROTECT;

/* The device first: it can be granted by a file mode; the system call wants a capability. Both give kernel-mode faults (KVM needs them). */
static int uffd_new(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	int fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
		close(dev);
	}
	if (fd < 0)
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static int uffd_handshake(struct uffd *u)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features_needed};

	if (ioctl(u->fd, UFFDIO_API, &api) < 0)
		return errno == EINVAL ? -EOPNOTSUPP : -errno;
	u->features = api.features;
	return 0;
}

static int uffd_register(struct uffd *u, const uint8_t *at, uint64_t bytes)
{
	struct uffdio_register reg = {
		.range = {.start = (uintptr_t)at, .len = bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};

	if (ioctl(u->fd, UFFDIO_REGISTER, &reg) < 0)
		return -errno;
	return (reg.ioctls & ioctls_needed) == ioctls_needed ? 0 : -EOPNOTSUPP;
}

int uffd_open(struct uffd *u, const struct ram *r, struct failure *f)
{
	int err;

	*u = (struct uffd){.ram = r};
	err = uffd_new();
	if (err < 0)
		return failure_set(f, err, "run the node as root, or give its user access to /dev/userfaultfd",
			"cannot open userfaultfd: %s", strerror(-err));
	u->fd = err;
	err = uffd_handshake(u);
	for (unsigned i = 0; !err && i < r->ranges; i++)
		err = uffd_register(u, r->hva[i], r->range[i].bytes);
	if (err) {
		uffd_close(u);
		return failure_set(f, err, "use Linux 6.1 or later, built with CONFIG_USERFAULTFD, on x86-64",
			"userfaultfd cannot watch guest memory (missing pages and write protection): %s", strerror(-err));
	}
	return 0;
}

void uffd_close(struct uffd *u)
{
	if (u->fd > 0)
		close(u->fd);
	*u = (struct uffd){0};
}

static uintptr_t uffd_address(const struct uffd *u, uint64_t page)
{
	unsigned i = 0;

	while (page >= u->ram->range[i].bytes >> PAGE_SHIFT)
		page -= u->ram->range[i++].bytes >> PAGE_SHIFT;
	return (uintptr_t)u->ram->hva[i] + (page << PAGE_SHIFT);
}

static int64_t uffd_page(const struct uffd *u, uintptr_t address)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < u->ram->ranges; i++) {
		uint64_t offset = address - (uintptr_t)u->ram->hva[i];

		if (offset < u->ram->range[i].bytes)
			return (int64_t)(before + (offset >> PAGE_SHIFT));
		before += u->ram->range[i].bytes >> PAGE_SHIFT;
	}
	return -1;
}

int uffd_faults(struct uffd *u, struct uffd_fault *at, unsigned room)
{
	struct uffd_msg msg[UFFD_BATCH];
	ssize_t got;
	int n = 0;

	if (room > UFFD_BATCH)
		room = UFFD_BATCH;
	got = read(u->fd, msg, room * sizeof msg[0]);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	for (size_t i = 0; i < (size_t)got / sizeof msg[0]; i++) {
		int64_t page = msg[i].event == UFFD_EVENT_PAGEFAULT ? uffd_page(u, msg[i].arg.pagefault.address) : -1;

		if (page < 0)
			return -EPROTO; /* the kernel sends no other event unless asked */
		at[n++] = (struct uffd_fault){
			.page = (uint64_t)page,
			.tid = msg[i].arg.pagefault.feat.ptid,
			.write = msg[i].arg.pagefault.flags & (UFFD_PAGEFAULT_FLAG_WRITE | UFFD_PAGEFAULT_FLAG_WP),
		};
	}
	return n;
}

int uffd_install(struct uffd *u, uint64_t page, const void *bytes, bool writable)
{
	struct uffdio_copy copy = {
		.dst = uffd_address(u, page),
		.src = (uintptr_t)bytes,
		.len = PAGE_BYTES,
		.mode = writable ? 0 : UFFDIO_COPY_MODE_WP,
	};

	/* EAGAIN: some thread is changing mappings of this process; nothing was copied. */
	while (ioctl(u->fd, UFFDIO_COPY, &copy) < 0) {
		if (errno != EAGAIN)
			return -errno;
		copy.copy = 0;
	}
	return 0;
}

static int uffd_set_protection(struct uffd *u, uint64_t page, uint64_t mode)
{
	struct uffdio_writeprotect wp = {.range = {.start = uffd_address(u, page), .len = PAGE_BYTES}, .mode = mode};

	while (ioctl(u->fd, UFFDIO_WRITEPROTECT, &wp) < 0)
		if (errno != EAGAIN)
			return -errno;
	return 0;
}

int uffd_protect(struct uffd *u, uint64_t page)
{
	return uffd_set_protection(u, page, UFFDIO_WRITEPROTECT_MODE_WP);
}

int uffd_upgrade(struct uffd *u, uint64_t page)
{
	return uffd_set_protection(u, page, 0);
}

int uffd_zap(struct uffd *u, uint64_t page)
{
	return madvise((void *)uffd_address(u, page), PAGE_BYTES, MADV_DONTNEED) < 0 ? -errno : 0;
}

int uffd_wake(struct uffd *u, uint64_t page)
{
	struct uffdio_range range = {.start = uffd_address(u, page), .len = PAGE_BYTES};

	return ioctl(u->fd, UFFDIO_WAKE, &range) < 0 ? -errno : 0;
}

/* Zero pages are common (a fresh guest is mostly zero), and others mostly differ from zero early. Neither function is instrumented by sanitizers: the
 * guest wrote these bytes before the kernel stopped its stores, an order that no sanitizer can see. */
__attribute__((no_sanitize("thread"))) static bool uffd_all_zero(const uint64_t *at)
{
	uint64_t any = at[0];

	for (unsigned i = 0; i < PAGE_BYTES / 8 && !any; i += 8)
		any = at[i] | at[i + 1] | at[i + 2] | at[i + 3] | at[i + 4] | at[i + 5] | at[i + 6] | at[i + 7];
	return !any;
}

static void uffd_copy_out(void *to, const void *frame)
{
	uint64_t n = PAGE_BYTES;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(frame), "+c"(n) : : "memory");
}

bool uffd_take(const struct uffd *u, uint64_t page, uint8_t to[PAGE_BYTES])
{
	const void *frame = (const void *)uffd_address(u, page);

	if (uffd_all_zero(frame))
		return true;
	uffd_copy_out(to, frame);
	return false;
}
