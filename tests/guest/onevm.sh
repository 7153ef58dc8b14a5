#!/bin/sh
# Boots stock kernels on one node in the lab: usage onevm.sh SOURCE_ROOT ONEVM CASE... (the cases are functions of onevm_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1 onevm=$2
shift 2
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
need_lab onevm
exec "$root/lab" --no-daemons --share "$assets" --share "$(dirname "$onevm")" -- "$root/tests/guest/onevm_cases.sh" "$onevm" "$assets" "$@"
