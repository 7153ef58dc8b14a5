#!/bin/sh
# A stock guest over nodes of the lab talks TCP from all its CPUs, each through its own queues, through passt (case talks) or a tap interface in a bridge (case bridged); the job and the judgement: net_cases.sh.
# usage: net.sh SOURCE_ROOT NODES LINK_NODE CASE...; exit 77 where the lab cannot run
set -u
root=$1 nodes=$2 link=$3
shift 3
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
command -v passt >/dev/null || skip net 'passt is not installed'
command -v iperf3 >/dev/null || skip net 'iperf3 is not installed'
need_lab net "$nodes"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -o "$work/nettalk" "$root/tests/guest/nettalk.c" || { echo 'net.sh: cannot compile nettalk.c'; exit 1; }
"$root/tools/lab/guest-initrd" -o "$work/initrd.gz" --job "$root/tests/guest/net_job.sh" --add "$work/nettalk" --with iperf3 || { echo 'net.sh: cannot make an initrd'; exit 1; }
gzip -dc "$work/initrd.gz" >"$work/initrd" # unpacking is simulated too
"$root/lab" --nodes "$nodes" --lend cpus=1,memory=512M --share "$assets" --share "$work" --with passt --with iperf3 --timeout 1700 -- \
	"$root/tests/guest/net_cases.sh" "$assets" "$work" "$link" "$@"
