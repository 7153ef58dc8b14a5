#!/bin/sh
# A stock guest over several nodes of the lab works on a raw disk from all its CPUs, each through its own queue, and powers off; then the disk's file must be
# what the same work makes of a file here. Says how many pages the queues' servers had to wait for.
# usage: disk.sh SOURCE_ROOT MANYVM NODES DISK_NODE [ROUNDS]; exit 77 where the lab cannot run
set -u
root=$1 manyvm=$2 nodes=$3 disk_node=$4 rounds=${5:-150}
last=$((nodes - 1)) mib=$((4 * nodes)) alone=$((nodes - 1))
[ "$disk_node" != "$(printf 'ABCDEFGH' | cut -c$((last + 1)))" ] || alone=$((last - 1)) # the CPU that works alone is not on the disk's node
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
fail() { echo "disk.sh: $*"; exit 1; }
need_lab disk "$nodes"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -o "$work/diskwork" "$root/tests/guest/diskwork.c" || fail 'cannot compile diskwork.c'
truncate -s ${mib}M "$work/expected"
here() { "$work/diskwork" "$work/expected" "$1" "$2" file >/dev/null || fail 'the work does not even work here'; }
for c in $(seq 0 "$last"); do here "$c" "$rounds"; done
for c in 0 "$last" 0; do here "$c" 8; done
here "$alone" "$rounds"
expected=$(md5sum <"$work/expected" | cut -c1-32)
{
	echo '#!/bin/sh'
	echo 'echo "queues: $(ls /sys/block/vda/mq | wc -l), size: $(cat /sys/block/vda/size), cache: $(cat /sys/block/vda/queue/write_cache), id: $(cat /sys/block/vda/serial)"'
	for c in $(seq 0 "$last"); do
		echo "diskwork /dev/vda $c $rounds &"
	done
	echo 'wait'
	# The driver goes and comes, from another node each time: the device is reset, and its queues start anew everywhere. Once in the middle of work.
	echo 'device=$(basename "$(readlink /sys/block/vda/device)") driver=/sys/bus/virtio/drivers/virtio_blk'
	for c in 0 "$last" 0; do
		echo "taskset $(printf %x $((1 << c))) sh -c 'echo '\$device' >'\$driver'/unbind'; taskset $(printf %x $((1 << (last - c)))) sh -c 'echo '\$device' >'\$driver'/bind'"
		echo "diskwork /dev/vda $c 8 >/tmp/rebound; cat /tmp/rebound | sed s/^/rebound:/"
	done
	echo "dd if=/dev/vda of=/dev/null bs=64k iflag=direct 2>/dev/null & sleep 0.1; echo \$device >\$driver/unbind; wait; echo \$device >\$driver/bind; echo rebound in the middle"
	# Then one alone, which is counted: what is far from it is the disk.
	echo "diskwork /dev/vda $alone $rounds marked"
	echo 'dmesg | grep -E "I/O error|virtio_blk.*(fail|error)|BUG:|WARNING:" | sed "s/^/dmesg: /"'
} >"$work/job"
"$root/tools/lab/guest-initrd" -o "$work/initrd.gz" --job "$work/job" --add "$work/diskwork" || fail 'cannot make an initrd'
gzip -dc "$work/initrd.gz" >"$work/initrd" # unpacking is simulated too

"$root/lab" --nodes "$nodes" --no-daemons --share "$assets" --share "$work" --share "$(dirname "$manyvm")" --timeout 1700 -- \
	sh -c "truncate -s ${mib}M /run/disk; $manyvm --stats --nodes $nodes --cpus 1 --memory $((384 / nodes)) --disk /run/disk,node=$disk_node \
		--kernel $assets/vmlinux --initrd $work/initrd --append quiet; code=\$?; echo sum \$(md5sum </run/disk | cut -c1-32); exit \$code" >"$work/out" 2>&1
status=$?
tr -d '\r' <"$work/out" >"$work/text"
[ -z "${VERBOSE:-}" ] || cat "$work/text"
[ $status -eq 0 ] || { tail -n 40 "$work/text"; fail "the guest ended with $status"; }
for c in $(seq 0 "$last"); do
	grep -qx "diskwork: $c: $((2 * rounds)) requests, ok" "$work/text" || { tail -n 60 "$work/text"; fail "CPU $c did not get its work done"; }
done
[ "$(grep -c '^rebound:diskwork: .*, ok$' "$work/text")" = 3 ] && grep -qx 'rebound in the middle' "$work/text" || fail 'the driver could not come back'
grep -qx "queues: $nodes, size: $((2048 * mib)), cache: write back, id: tessera-disk-0" "$work/text" || fail "not the disk it should be: $(grep ^queues: "$work/text")"
! grep '^dmesg: ' "$work/text" || fail 'the guest complains'
grep -qx "sum $expected" "$work/text" || fail "the disk is not what it should be: $(grep '^sum ' "$work/text"), not $expected"

# delta KEY...: what the counters whose names match grew by between the two lines, over all nodes
delta() {
	awk -v key="$1" '/^stats: before/ { sign = -1 } /^stats: after/ { sign = 1; seen++ } /^manyvm:/ { sign = 0 }
		sign && $1 ~ /^[A-P]$/ && $2 ~ key { sum += sign * $3 } END { print sum + 0 }' "$work/text"
}
requests=$(delta '^blk.0.requests$') waits=$(delta '^queue.waits$') away=$(delta '^blk.0.pieces_away$') bells=$(delta '^queue.bells$') irqs=$(delta '^queue.irqs$')
raised=$(delta '^queue.raised$') faults=$(delta '^fault\.(read|write|upgrade)\.count$') data=$(delta '^blk.0.bytes_(read|written)$') sent=$(delta '^io.bytes_sent$')
echo "disk.sh: one CPU alone, $(sed -n "s/^diskwork: $alone: \(.* us a request\)$/\1/p" "$work/text"): $requests requests, $away pieces to another node, $data bytes of data, $sent bytes sent for them"
echo "disk.sh: $bells doorbells rung where they were heard, $irqs interrupts sent by servers, $raised by the function"
echo "disk.sh: $waits waits for memory by the servers, $faults remote faults of all the VM meanwhile"
[ "$requests" -ge $((2 * (rounds - 16) - 10)) ] || fail 'fewer requests than were made' # the counters are read while the work goes on
[ "$away" -gt 0 ] || fail 'no data went to another node'
[ $((100 * sent)) -le $((105 * data)) ] || fail 'the data travelled more than once'
[ $((10 * bells)) -ge $((9 * requests)) ] || fail 'doorbells were delegated'
[ $((20 * waits)) -le "$requests" ] || fail 'more than one request in twenty waited for a page'
# CPU 0 keeps the guest's time, in pages that any other CPU looks at: only alone it has nothing to share.
[ "$alone" != 0 ] || [ "$faults" -le "$requests" ] || fail 'more than one remote fault a request'
echo "disk.sh: ok, $nodes nodes, the disk on $disk_node"
