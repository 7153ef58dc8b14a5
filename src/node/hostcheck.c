/* See hostcheck.h. */
#include "node/hostcheck.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/quantity.h"
#include "dev/helper.h"
#include "node/sandbox.h"

void hostcheck_kernel(const struct doctor *d)
{
	static const char why[] = "Tessera needs KVM and userfaultfd as they are since 6.1";
	struct utsname u;
	unsigned major = 0, minor = 0;

	uname(&u);
	if (sscanf(u.release, "%u.%u", &major, &minor) == 2 && (major > 6 || (major == 6 && minor >= 1)))
		doctor_say(d, "kernel", CONTROL_OK, why, "", "Linux %s", u.release);
	else
		doctor_say(d, "kernel", CONTROL_FAIL, why, "install a Linux kernel of 6.1 or later (Debian 12 has one)", "Linux %s", u.release);
}

static int open_userfaultfd(void)
{
	int dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC), fd = -1;

	if (dev >= 0) {
		fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC);
		close(dev);
	}
	return fd >= 0 ? fd : (int)syscall(SYS_userfaultfd, O_CLOEXEC);
}

void hostcheck_userfaultfd(const struct doctor *d)
{
	static const char why[] = "guest memory that lies on other nodes is fetched by it, also when KVM touches it";
	struct uffdio_api api = {.api = UFFD_API};
	int err, fd = open_userfaultfd();

	if (fd < 0) {
		err = errno;
		doctor_say(d, "userfaultfd", CONTROL_FAIL, why,
			err == ENOSYS ? "use a kernel with CONFIG_USERFAULTFD=y" :
			"run the daemon as root, or: chown USER /dev/userfaultfd, or: sysctl vm.unprivileged_userfaultfd=1",
			"cannot be used: %s", strerror(err));
		return;
	}
	err = ioctl(fd, UFFDIO_API, &api) < 0 ? errno : 0;
	close(fd);
	if (err)
		doctor_say(d, "userfaultfd", CONTROL_FAIL, why, "run a Linux kernel of 6.1 or later", "its API does not answer: %s", strerror(err));
	else if (!(api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		doctor_say(d, "userfaultfd", CONTROL_FAIL, why, "use a kernel with CONFIG_HAVE_ARCH_USERFAULTFD_WP (x86-64 since 5.7)", "it cannot write-protect");
	else
		doctor_say(d, "userfaultfd", CONTROL_OK, why, "", "can be used, with write protection (features %#llx)", (unsigned long long)api.features);
}

/* A number in /proc/meminfo, in bytes; 0 when there is none. */
static uint64_t meminfo(const char *key)
{
	FILE *in = fopen("/proc/meminfo", "re");
	char line[128];
	uint64_t kib = 0;

	while (in && fgets(line, sizeof line, in))
		if (strncmp(line, key, strlen(key)) == 0)
			kib = strtoull(line + strlen(key) + 1, NULL, 10);
	if (in)
		fclose(in);
	return kib << 10;
}

static void check_overcommit(const struct doctor *d)
{
	static const char why[] = "each fragment maps all of its VM's memory, though it holds only its part";
	char mode[16] = "0";

	doctor_read("/proc/sys/vm/overcommit_memory", mode, sizeof mode);
	if (*mode == '2')
		doctor_say(d, "overcommit", CONTROL_WARN, why, "sysctl vm.overcommit_memory=0", "strict accounting (vm.overcommit_memory=2): large VMs may be refused");
	else
		doctor_say(d, "overcommit", CONTROL_OK, why, "", "vm.overcommit_memory=%s", mode);
}

void hostcheck_memory(const struct doctor *d)
{
	static const char why[] = "what a node lends must be there when a guest fills it";
	uint64_t total = meminfo("MemTotal"), available = meminfo("MemAvailable");
	char a[QUANTITY_TEXT_BYTES], b[QUANTITY_TEXT_BYTES], c[QUANTITY_TEXT_BYTES];

	quantity_print_bytes(total, a);
	quantity_print_bytes(available, b);
	if (d->memory > total)
		doctor_say(d, "memory", CONTROL_FAIL, why, "lend less (tessera node --lend memory=...)", "%s in all, but %s are to be lent", a,
			quantity_print_bytes(d->memory, c));
	else if (d->memory > available)
		doctor_say(d, "memory", CONTROL_WARN, why, "lend less, or end what uses it", "%s free of %s, but %s are to be lent", b, a, quantity_print_bytes(d->memory, c));
	else
		doctor_say(d, "memory", CONTROL_OK, why, "", "%s free of %s", b, a);
	check_overcommit(d);
}

static void check_files(const struct doctor *d)
{
	static const char why[] = "a fragment holds a descriptor for each vCPU and two for each other node";
	struct rlimit r;

	getrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_cur < 1024)
		doctor_say(d, "open files", CONTROL_WARN, why, "ulimit -n 1024 (in a systemd unit: LimitNOFILE=1024)", "at most %llu", (unsigned long long)r.rlim_cur);
	else
		doctor_say(d, "open files", CONTROL_OK, why, "", "at most %llu", (unsigned long long)r.rlim_cur);
}

static void check_memlock(const struct doctor *d)
{
	static const char why[] = "Tessera locks no memory, but a node that swaps makes guests on all nodes wait";
	struct rlimit r;
	uint64_t swap = meminfo("SwapTotal"), in_use = swap - meminfo("SwapFree");
	char a[QUANTITY_TEXT_BYTES];

	getrlimit(RLIMIT_MEMLOCK, &r);
	if (in_use > meminfo("MemTotal") / 4)
		doctor_say(d, "swap", CONTROL_WARN, why, "end what uses the memory, or lend less", "%s of swap are in use", quantity_print_bytes(in_use, a));
	else
		doctor_say(d, "swap", CONTROL_OK, why, "", swap ? "%s of swap in use" : "none", quantity_print_bytes(in_use, a));
}

static void check_maps(const struct doctor *d)
{
	static const char why[] = "write protection may split a fragment's mappings";
	char text[32] = "0";

	doctor_read("/proc/sys/vm/max_map_count", text, sizeof text);
	if (strtoull(text, NULL, 10) < 65530)
		doctor_say(d, "mappings", CONTROL_WARN, why, "sysctl vm.max_map_count=65530", "vm.max_map_count=%s", text);
	else
		doctor_say(d, "mappings", CONTROL_OK, why, "", "vm.max_map_count=%s", text);
}

static void check_huge_pages(const struct doctor *d)
{
	static const char why[] = "guest memory is shared between nodes in 4 KiB pages; other programs' huge pages may leave too few";
	uint64_t reserved = meminfo("HugePages_Total") >> 10, bytes = reserved * meminfo("Hugepagesize");
	char a[QUANTITY_TEXT_BYTES];

	if (bytes > meminfo("MemTotal") / 2)
		doctor_say(d, "huge pages", CONTROL_WARN, why, "sysctl vm.nr_hugepages=0, if nothing else needs them", "%s are reserved as huge pages and cannot be lent",
			quantity_print_bytes(bytes, a));
	else
		doctor_say(d, "huge pages", CONTROL_OK, why, "", "%s reserved", quantity_print_bytes(bytes, a));
}

void hostcheck_sandbox(const struct doctor *d)
{
	static const char why[] = "the process that holds a guest is locked up, so that a guest that takes it over has nothing else";
	struct failure f = {0};

	if (!sandbox_locks())
		doctor_say(d, "sandbox", CONTROL_WARN, why, "run a build without sanitizers", "this build has none");
	else if (sandbox_try(&f))
		doctor_say(d, "sandbox", CONTROL_FAIL, why,
			"run the daemon as root, or: sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000; the kernel needs seccomp filters", "%s", f.what);
	else
		doctor_say(d, "sandbox", CONTROL_OK, why, "", "can be built");
}

void hostcheck_limits(const struct doctor *d)
{
	check_files(d);
	check_memlock(d);
	check_maps(d);
	check_huge_pages(d);
}

static void check_program(const struct doctor *d, const char *name, const char *why, const char *fix)
{
	if (helper_there(name))
		doctor_say(d, name, CONTROL_OK, why, "", "is there");
	else
		doctor_say(d, name, CONTROL_WARN, why, fix, "is not there");
}

void hostcheck_devices(const struct doctor *d)
{
	static const char tap[] = "guests join this host's bridges (run --net tap) by it", nbd[] = "disks that are not raw files or block devices are reached by it";
	void *library = dlopen("libnbd.so.0", RTLD_LAZY | RTLD_LOCAL);

	check_program(d, "passt", "guests' networks without privileges (run --net user) go through it", "apt install passt");
	check_program(d, "qemu-nbd", "disks of other formats than raw are read by it", "apt install qemu-utils");
	if (library)
		doctor_say(d, "libnbd", CONTROL_OK, nbd, "", "is there");
	else
		doctor_say(d, "libnbd", CONTROL_WARN, nbd, "apt install libnbd0", "is not there");
	if (library)
		dlclose(library);
	if (access("/dev/net/tun", R_OK | W_OK) == 0)
		doctor_say(d, "tap", CONTROL_OK, tap, "", "/dev/net/tun can be opened");
	else
		doctor_say(d, "tap", CONTROL_WARN, tap, "modprobe tun; run the daemon as root", "/dev/net/tun: %s", strerror(errno));
}
