#!/bin/sh
# What breaks under a stock guest that spans the nodes of the lab: usage failure.sh SOURCE_ROOT NODES CASE... (the cases are functions of failure_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1 nodes=$2
shift 2
skip() { echo "SKIP failure: $*"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || [ -e /dev/kvm ] || skip 'neither qemu-system-x86_64 nor /dev/kvm is here'
assets=$("$root/tools/lab/guest-assets") || skip 'no guest kernel: tools/lab/guest-assets failed'
exec "$root/lab" --nodes "$nodes" --lend cpus=1,memory=512M --share "$assets" -- "$root/tests/guest/failure_cases.sh" "$assets" "$@"
