#!/bin/sh
# Boots stock kernels on one node in the lab: usage onevm.sh SOURCE_ROOT ONEVM CASE... (the cases are functions of onevm_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1 onevm=$2
shift 2
skip() { echo "SKIP onevm: $*"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || [ -e /dev/kvm ] || skip 'neither qemu-system-x86_64 nor /dev/kvm is here'
assets=$("$root/tools/lab/guest-assets") || skip 'no guest kernel: tools/lab/guest-assets failed'
exec "$root/lab" --no-daemons --share "$assets" --share "$(dirname "$onevm")" -- "$root/tests/guest/onevm_cases.sh" "$onevm" "$assets" "$@"
