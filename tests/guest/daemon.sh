#!/bin/sh
# A stock guest through a daemon on one node of the lab: usage daemon.sh SOURCE_ROOT CASE... (the cases are functions of daemon_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1
shift
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
need_lab daemon
exec "$root/lab" --nodes 1 --lend cpus=2,memory=512M --share "$assets" -- "$root/tests/guest/daemon_cases.sh" "$assets" "$@"
