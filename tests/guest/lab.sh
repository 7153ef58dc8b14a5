#!/bin/sh
# What the scripts that start a lab with guests share; sourced by them, from where they lie.
# need_lab TEST: sets $assets, the directory of what guests start from; exit 77 where the lab cannot run.
need_lab() {
	command -v g++ >/dev/null || [ -n "${TESSERA_BOCHS:-}" ] || [ -e /dev/kvm ] ||
		skip "$1" 'neither a compiler for the simulator nor /dev/kvm is here, and $TESSERA_BOCHS names none'
	# shellcheck disable=SC2034 # for who sources this
	assets=$("$(dirname "$0")/../../tools/lab/guest-assets") || skip "$1" 'no guest kernel: tools/lab/guest-assets failed'
}

skip() { echo "SKIP $1: $2"; exit 77; }
