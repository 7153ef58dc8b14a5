#!/bin/sh
# Boots stock kernels on one node in the lab: usage onevm.sh SOURCE_ROOT ONEVM CASE... (the cases are functions of onevm_cases.sh)
# exit 77 where the lab cannot run. In TCG (GUEST_SIM=tcg) 64 vCPUs take twenty minutes.
set -u
root=$1 onevm=$2
shift 2
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
need_lab onevm 2
exec "$root/lab" --sim "$sim" --no-daemons --share "$assets" --share "$(dirname "$onevm")" -- "$root/tests/guest/onevm_cases.sh" "$onevm" "$assets" "$@"
