#!/bin/sh
# Work inside ONE stock guest over several nodes of the lab, whose outcome is known: shared memory under threads, messages between processes, and
# compression on every CPU with the host's own result. usage: torture.sh SOURCE_ROOT MANYVM NODES [CPUS_PER_NODE [drift | soak MINUTES]]; exit 77
# where the lab cannot run. drift: the second node's clock is moved all the time; its CPUs alone do the work. soak: some work every minute for so long.
set -u
root=$1 manyvm=$2 nodes=$3 cpus=${4:-1} drift='' soak=0
case ${5:-} in drift) drift=1 ;; soak) soak=$6 ;; esac
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
fail() { echo "torture.sh: $*"; exit 1; }
need_lab torture
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -pthread -o "$work/torture" "$root/tests/guest/torture.c" || fail 'cannot compile torture.c'
last=$((nodes * cpus - 1))
compress() { # compress CPU: what that CPU's share of the work comes to; the same commands here and in the guest
	echo "dd if=/bin/busybox bs=64k skip=$1 count=2 2>/dev/null | gzip -9 -n | md5sum | cut -c1-32"
}
{
	echo '#!/bin/sh'
	# shellcheck disable=SC2046 # a list
	if [ -z "$drift" ]; then echo 'torture 100'; else echo torture 1000 $(seq "$cpus" $((2 * cpus - 1))) "$cpus"; fi
	for minute in $(seq "$soak"); do
		echo "while read -r up idle </proc/uptime && [ \${up%.*} -lt $((60 * minute)) ]; do sleep 5; done; torture 10 | sed 's/^/$minute: /' | tail -n 1"
	done
	for c in $(seq 0 "$last"); do
		echo "taskset $(printf %x $((1 << c))) sh -c '$(compress "$c")' >/tmp/sum$c &"
	done
	echo 'wait'
	for c in $(seq 0 "$last"); do
		echo "echo sum $c \$(cat /tmp/sum$c)"
	done
	echo 'dmesg | grep -E "stall|lockup|unstable|backwards|BUG:|WARNING:" | sed "s/^/dmesg: /"'
	# shellcheck disable=SC2016 # the guest expands it
	echo 'echo clock $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)'
} >"$work/job"
"$root/tools/lab/guest-initrd" -o "$work/initrd.gz" --job "$work/job" --add "$work/torture" || fail 'cannot make an initrd'
gzip -dc "$work/initrd.gz" >"$work/initrd" # unpacking is simulated too

"$root/lab" --nodes "$nodes" --cpus-per-node 1 --no-daemons --share "$assets" --share "$work" --share "$(dirname "$manyvm")" --timeout $((1700 + 120 * soak)) -- \
	"$manyvm" ${drift:+--stats --silence 8000 --drift 100} --nodes "$nodes" --cpus "$cpus" --memory $((384 / nodes)) --kernel "$assets/vmlinux" --initrd "$work/initrd" --append quiet >"$work/out" 2>&1
status=$?
tr -d '\r' <"$work/out" | tee "$work/text"
[ $status -eq 0 ] || fail "the guest ended with $status"
grep -q "^guest: up .* $((last + 1)) cpus" "$work/text" || fail "not $((last + 1)) CPUs"
grep -qx 'torture: ok' "$work/text" || fail 'wrong outcome inside the guest'
[ "$soak" -eq "$(grep -cE '^[0-9]+: torture: ok$' "$work/text")" ] || fail 'wrong outcome inside the guest, in some minute'
grep -q '^dmesg: ' "$work/text" && fail 'the guest saw what no guest may see'
[ -z "$drift" ] || grep -q '^B clock.moves [1-9]' "$work/text" || fail 'no clock was moved'
grep -qx 'clock tsc' "$work/text" || fail 'the guest left its clock source'
for c in $(seq 0 "$last"); do
	sum=$(PATH=$assets:$PATH busybox sh -c "$(compress "$c" | sed 's/\(dd\|gzip\|md5sum\|cut\) /busybox &/g')")
	grep -qx "sum $c $sum" "$work/text" || fail "CPU $c compressed to something else than the host's $sum"
done
echo "torture.sh: ok, $nodes nodes, $((last + 1)) CPUs"
