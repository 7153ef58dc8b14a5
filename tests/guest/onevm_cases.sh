#!/bin/sh
# Runs inside the lab, on one node: boots stock Debian kernels with onevm and judges what they say.
# usage: onevm_cases.sh ONEVM ASSETS CASE...
#
# In the simulated lab everything is pinned to one CPU: QEMU's emulated SVM corrupts guests whose vCPUs wander between its CPUs.
set -u
onevm=$1 assets=$2
shift 2
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"

# boot ARGS...: run onevm with the console to $tmp/log; its exit code to $code.
boot() {
	taskset 1 timeout "${ONEVM_TIMEOUT:-300}" "$onevm" --initrd "$assets/initrd.gz" "$@" >"$tmp/raw" 2>&1 </dev/null
	code=$?
	tr -d '\r' <"$tmp/raw" >"$tmp/log"
}

# What no guest may ever see.
healthy() {
	never_says 'unstable|rcu.*stall|soft lockup|hard lockup|call trace|kernel bug|time.*backward|hung task|ACPI (error|bios error)|firmware bug|topology.*insane'
}

case_bzimage() {
	boot --kernel "$assets/vmlinuz" --append 'guest.run="cat /sys/devices/system/clocksource/clocksource0/current_clocksource; cat /proc/interrupts"'
	exits 0
	healthy
	says '^guest: up .* 1 cpus'
	says '^tsc$'
	says '^ *4:.*IO-APIC.*ttyS0'
	says 'x2apic: enabled by BIOS'
	says 'TSC deadline timer available'
	says '^guest: exit 0'
}

case_pvh_numa() {
	boot --kernel "$assets/vmlinux" --cpus 4 --nodes 2 --memory 400 --append \
		'guest.run="cat /sys/devices/system/node/node*/cpulist /sys/devices/system/node/node*/distance; cat /sys/devices/system/cpu/cpu*/topology/package_cpus_list; grep MemTotal /sys/devices/system/node/node*/meminfo"'
	exits 0
	healthy
	says '^guest: up .* 4 cpus'
	[ "$(grep -xE '0-1|2-3' "$tmp/log" | tr '\n' ' ')" = '0-1 2-3 0-1 0-1 2-3 2-3 ' ] || note 'wrong CPUs on the nodes or in the packages'
	says '^10 40$'
	says '^40 10$'
	says 'Node 1 MemTotal: *(19|20)[0-9]{4} kB'
}

case_two() {
	boot --kernel "$assets/vmlinuz" --cpus 2 --nodes 2 --memory 300 --append \
		'quiet guest.run="taskset 1 md5sum /bin/busybox & taskset 2 md5sum /bin/busybox; wait; cat /proc/interrupts"'
	exits 0
	healthy
	says '^guest: up .* 2 cpus'
	[ "$(grep -cE '^[0-9a-f]{32}  /bin/busybox' "$tmp/log")" = 2 ] || note 'both CPUs did not work'
}

case_many() {
	ONEVM_TIMEOUT=1500
	boot --kernel "$assets/vmlinuz" --cpus 64 --nodes 4 --memory 1024 --append 'guest.run="cat /sys/devices/system/node/node*/cpulist"'
	exits 0
	healthy
	says '^guest: up .* 64 cpus'
	says '^48-63$'
}

case_reboot() {
	boot --kernel "$assets/vmlinuz" --append 'quiet guest.reboot=1 guest.run=true'
	exits 10
	healthy
	says '^guest: exit 0'
}

case_panic() {
	boot --kernel "$assets/vmlinuz" --append 'quiet guest.run="echo c > /proc/sysrq-trigger"'
	exits 11
	says 'sysrq triggered crash'
	says 'onevm: the guest.s kernel panicked'
}

case_triple_fault() {
	boot --kernel "$assets/vmlinuz" --append 'quiet reboot=t,force guest.reboot=1 guest.run=true'
	exits 12
	says 'triple fault'
}

case_power_button() {
	boot --press-at 'now press' --kernel "$assets/vmlinuz" --append 'quiet guest.run="echo now press; sleep 1000"'
	exits 0
	healthy
	says '^guest: power button'
	never_says '^guest: exit'
}

case_random() {
	boot --kernel "$assets/vmlinuz" --append \
		'quiet guest.run="cat /sys/class/misc/hw_random/rng_current; dd if=/dev/hwrng bs=64 count=4 2>/dev/null | hexdump -C; grep virtio /proc/interrupts"'
	exits 0
	healthy
	says '^virtio_rng'
	says '^00000100$'
	says 'PCI-MSI.*virtio'
}

case_no_kernel() {
	boot --kernel /etc/passwd
	exits 1
	says 'is no kernel'
}

judge "$@"
