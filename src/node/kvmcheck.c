/* See kvmcheck.h. What cannot be read from the host is found by running small guests (privileged.c, vm/mmu.c). */
#include "node/kvmcheck.h"

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "node/privileged.h"
#include "vm/leaves.h"
#include "vm/machine.h"
#include "vm/mmu.h"
#include "vm/trial.h"
#include "vm/vcpu.h"

static bool loaded(const char *module)
{
	char path[128];

	snprintf(path, sizeof path, "/sys/module/%s", module);
	return access(path, F_OK) == 0;
}

static const char *kind(void)
{
	return loaded("kvm_intel") ? "Intel VMX" : loaded("kvm_amd") ? "AMD-V" : loaded("kvm_pvm") ? "PVM (no hardware virtualisation)" : "unknown kind";
}

bool kvmcheck_device(const struct doctor *d)
{
	static const char why[] = "guests run in KVM";
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), version;

	if (fd < 0 && errno == ENOENT)
		doctor_say(d, "kvm", CONTROL_FAIL, why, "switch virtualisation on in the firmware (or nesting in the host's hypervisor), then: modprobe kvm_intel  (or kvm_amd)",
			"there is no /dev/kvm");
	else if (fd < 0)
		doctor_say(d, "kvm", CONTROL_FAIL, why, "run the daemon as root, or: usermod -aG kvm USER", "cannot open /dev/kvm: %s", strerror(errno));
	if (fd < 0)
		return false;
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	close(fd);
	if (version != KVM_API_VERSION)
		doctor_say(d, "kvm", CONTROL_FAIL, why, "run a Linux kernel of 6.1 or later", "KVM speaks version %d of its API", version);
	else
		doctor_say(d, "kvm", CONTROL_OK, why, "", "/dev/kvm works: %s", kind());
	return version == KVM_API_VERSION;
}

void kvmcheck_abilities(const struct doctor *d)
{
	static const struct { int cap; const char *name; } wanted[] = {
		{KVM_CAP_SPLIT_IRQCHIP, "SPLIT_IRQCHIP"}, {KVM_CAP_X2APIC_API, "X2APIC_API"}, {KVM_CAP_IMMEDIATE_EXIT, "IMMEDIATE_EXIT"},
		{KVM_CAP_SIGNAL_MSI, "SIGNAL_MSI"}, {KVM_CAP_MP_STATE, "MP_STATE"}, {KVM_CAP_VCPU_EVENTS, "VCPU_EVENTS"},
		{KVM_CAP_SET_GUEST_DEBUG, "SET_GUEST_DEBUG"}, {KVM_CAP_VCPU_ATTRIBUTES, "VCPU_ATTRIBUTES"}, {KVM_CAP_SYNC_MMU, "SYNC_MMU"},
	};
	char missing[256] = "";
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), vcpus;
	size_t at = 0;

	if (fd < 0)
		return;
	for (unsigned k = 0; k < ARRAY_LEN(wanted); k++)
		if (ioctl(fd, KVM_CHECK_EXTENSION, wanted[k].cap) <= 0 && at < sizeof missing)
			at += (size_t)snprintf(missing + at, sizeof missing - at, " %s", wanted[k].name);
	vcpus = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	close(fd);
	if (at)
		doctor_say(d, "kvm abilities", CONTROL_FAIL, "interrupts and clocks are shared between nodes with them", "run a Linux kernel of 6.1 or later",
			"KVM lacks%s", missing);
	else
		doctor_say(d, "kvm abilities", CONTROL_OK, "interrupts and clocks are shared between nodes with them", "", "all there; up to %d vCPUs a VM", vcpus);
}

static const char stock_fix[] = "use a host whose KVM has hardware virtualisation (VT-x or AMD-V); inside a VM, have its hypervisor pass it on (nested virtualisation)";

int kvmcheck_stock(const char *node, struct failure *f)
{
	const char *stuck;
	int err = privileged_try(&stuck, f);

	return err == -ENOTSUP ? failure_set(f, err, stock_fix, "node %s cannot run a stock kernel: a small privileged guest stops %s", node, stuck) : err;
}

void kvmcheck_stock_kernel(const struct doctor *d)
{
	static const char why[] = "an unmodified kernel runs at CPL 0 from real mode on";
	const char *stuck = NULL;
	struct failure f = {0};
	int err = privileged_try(&stuck, &f);

	if (!err)
		doctor_say(d, "stock kernel", CONTROL_OK, why, "", "a small privileged guest runs through");
	else if (err == -ENOTSUP)
		doctor_say(d, "stock kernel", CONTROL_FAIL, why, stock_fix, "a small privileged guest stops %s", stuck);
	else
		doctor_say(d, "stock kernel", CONTROL_FAIL, why, f.todo, "%s", f.what);
}

static const char *shadow_fix(void)
{
	if (loaded("kvm_intel"))
		return "load KVM with EPT: modprobe -r kvm_intel && modprobe kvm_intel ept=1 eptad=0  (a CPU without EPT cannot)";
	if (loaded("kvm_amd"))
		return "load KVM with NPT: modprobe -r kvm_amd && modprobe kvm_amd npt=1";
	return "use a host with hardware virtualisation (VT-x or AMD-V)";
}

void kvmcheck_mmu(const struct doctor *d)
{
	static const char why[] = "a guest's page tables are shared between nodes, so how this host walks them decides";
	struct failure f = {0};
	enum mmu_mode mode;

	if (mmu_probe(&mode, &f))
		doctor_say(d, "mmu", CONTROL_FAIL, why, f.todo, "%s", f.what);
	else if (mode == MMU_READING)
		doctor_say(d, "mmu", CONTROL_OK, why, "", "walks of guest page tables only read");
	else if (mode == MMU_WRITING && loaded("kvm_intel"))
		doctor_say(d, "mmu", CONTROL_WARN, why, "echo 'options kvm_intel eptad=0' > /etc/modprobe.d/tessera.conf; modprobe -r kvm_intel && modprobe kvm_intel",
			"walks write (EPT with accessed/dirty bits): correct, but page tables move between nodes all the time");
	else if (mode == MMU_WRITING)
		doctor_say(d, "mmu", CONTROL_WARN, why, "use Intel nodes for VMs that span nodes, where speed matters",
			"walks write (AMD nested paging): correct, but page tables move between nodes all the time");
	else
		doctor_say(d, "mmu", CONTROL_FAIL, why, shadow_fix(),
			"shadow paging: stores to page tables made on another node go unnoticed, which corrupts the guest; VMs that "
			"span nodes are refused");
}

int kvmcheck_span(const char *node, struct failure *f)
{
	enum mmu_mode mode;
	int err = mmu_probe(&mode, f);

	if (!err && mode == MMU_WRITING)
		log_warn("page-table walks write to guest page tables here: correct, but slow; 'tessera doctor' tells what to do");
	if (err || mode != MMU_SHADOW)
		return err;
	return failure_set(f, -ENOTSUP, shadow_fix(), "node %s uses shadow paging, which misses stores to page tables made on other nodes and so corrupts the guest", node);
}

void kvmcheck_faults(const struct doctor *d)
{
	static const char why[] = "a page that a vCPU reads is fetched to be shared, not to be owned";
	struct trial t;
	int err = trial_open(&t, PAGE_BYTES);

	if (err) {
		doctor_say(d, "page faults", CONTROL_FAIL, why, "see the lines above", "a small VM cannot be made: %s", strerror(-err));
		return;
	}
	err = vcpu_bar_async_faults(t.vm);
	trial_close(&t);
	if (!err)
		doctor_say(d, "page faults", CONTROL_OK, why, "", "vCPUs wait for pages themselves");
	else
		doctor_say(d, "page faults", CONTROL_WARN, why, "for VMs that span nodes, where speed matters: boot this host with a Linux before 6.14",
			"KVM fetches absent pages behind vCPUs' backs, always for writing: correct, but pages that are only read move between nodes");
}

void kvmcheck_cpuid(const struct doctor *d)
{
	struct cpuid_table t;
	uint32_t brand[13] = {0};
	uint8_t leaves[LEAVES_BYTES_MAX];
	struct failure f = {0};
	size_t bytes;
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), err = fd < 0 ? -errno : cpuid_host(fd, &t, &f);

	if (fd >= 0)
		close(fd);
	for (unsigned k = 0; k < 3; k++)
		__get_cpuid(0x80000002 + k, &brand[4 * k], &brand[4 * k + 1], &brand[4 * k + 2], &brand[4 * k + 3]);
	if (err) {
		doctor_say(d, "cpu", CONTROL_FAIL, "guests are told of a CPU that all their nodes have", f.todo, "%s", f.what);
		return;
	}
	doctor_say(d, "cpu", CONTROL_OK, "guests are told of a CPU that all their nodes have", "", "%s", (const char *)brand + strspn((const char *)brand, " "));
	bytes = leaves_pack(&t, leaves, sizeof leaves);
	if (d->cpuid && bytes)
		d->cpuid(d->to, leaves, bytes);
}

void kvmcheck_tsc(const struct doctor *d)
{
	static const char why[] = "all vCPUs of a VM share one TSC across nodes";
	unsigned a, b, c, edx = 0;
	char source[64] = "?";
	uint32_t khz = 0;
	bool scaling;
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	scaling = fd >= 0 && ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0;
	if (fd >= 0)
		close(fd);
	__get_cpuid(0x80000007, &a, &b, &c, &edx);
	doctor_read("/sys/devices/system/clocksource/clocksource0/current_clocksource", source, sizeof source);
	if (machine_host_tsc_khz(&khz, NULL))
		khz = 0;
	if (!(edx & 1u << 8))
		doctor_say(d, "tsc", CONTROL_FAIL, why, "use a CPU with an invariant TSC; inside a VM, have its hypervisor pass it on", "the TSC is not invariant");
	else if (strcmp(source, "tsc") != 0)
		doctor_say(d, "tsc", CONTROL_WARN, why, "see why in: dmesg | grep -i -e tsc -e clocksource; if its CPUs agree, boot with tsc=reliable",
			"invariant, %u kHz, but this host itself does not use it (clocksource %s)", khz, source);
	else
		doctor_say(d, "tsc", CONTROL_OK, why, "", "invariant, %u kHz, %s", khz, scaling ? "can be scaled" : "cannot be scaled");
}
