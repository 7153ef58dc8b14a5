#!/bin/sh
# What breaks under a stock guest that spans the nodes of the lab: usage failure.sh SOURCE_ROOT NODES CASE... (the cases are functions of failure_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1 nodes=$2
shift 2
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
need_lab failure
exec "$root/lab" --nodes "$nodes" --lend cpus=1,memory=512M --share "$assets" -- "$root/tests/guest/failure_cases.sh" "$assets" "$@"
