#!/bin/sh
# A stock guest through a daemon on one node of the lab: usage daemon.sh SOURCE_ROOT CASE... (the cases are functions of daemon_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1
shift
skip() { echo "SKIP daemon: $*"; exit 77; }
command -v qemu-system-x86_64 >/dev/null || [ -e /dev/kvm ] || skip 'neither qemu-system-x86_64 nor /dev/kvm is here'
assets=$("$root/tools/lab/guest-assets") || skip 'no guest kernel: tools/lab/guest-assets failed'
exec "$root/lab" --nodes 1 --lend cpus=2,memory=512M --share "$assets" -- "$root/tests/guest/daemon_cases.sh" "$assets" "$@"
