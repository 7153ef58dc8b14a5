#!/bin/sh
# What the scripts that start a lab with guests share; sourced by them, from where they lie.
# need_lab TEST NODES: sets $assets, the directory of what guests start from; exit 77 where a lab of so many nodes cannot run.
# $sim: where one-node guests run. Not in TCG, which now and then forgets an interrupt while a guest spins (CAVEATS.md).
# shellcheck disable=SC2034 # for who sources this
sim=${GUEST_SIM:-bochs}
need_lab() {
	if [ "$2" = 1 ]; then
		command -v qemu-system-x86_64 >/dev/null || [ -e /dev/kvm ] || skip "$1" 'neither qemu-system-x86_64 nor /dev/kvm is here'
	else
		command -v g++ >/dev/null || [ -n "${TESSERA_BOCHS:-}" ] || [ -e /dev/kvm ] ||
			skip "$1" 'neither a compiler for the simulator nor /dev/kvm is here, and $TESSERA_BOCHS names none'
	fi
	# shellcheck disable=SC2034 # for who sources this
	assets=$("$(dirname "$0")/../../tools/lab/guest-assets") || skip "$1" 'no guest kernel: tools/lab/guest-assets failed'
}

skip() { echo "SKIP $1: $2"; exit 77; }
