#!/bin/sh
# Boots stock kernels on one node in the lab: usage onevm.sh SOURCE_ROOT ONEVM CASE... (the cases are functions of onevm_cases.sh)
# exit 77 where the lab cannot run. The case 'many' goes into Bochs: it is twenty times as fast there as in TCG.
set -u
root=$1 onevm=$2
shift 2
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
case $* in
many) need_lab onevm 2; sim='--sim bochs' ;;
*) need_lab onevm 1; sim='' ;;
esac
# shellcheck disable=SC2086 # a list
exec "$root/lab" $sim --no-daemons --share "$assets" --share "$(dirname "$onevm")" -- "$root/tests/guest/onevm_cases.sh" "$onevm" "$assets" "$@"
