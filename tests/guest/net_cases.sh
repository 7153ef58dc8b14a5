#!/bin/sh
# Runs inside the lab, on node A with its daemons up: a guest with a vCPU on each node and a network card whose link is on one of them.
# usage: net_cases.sh ASSETS WORK LINK_NODE CASE...
set -u
assets=$1 work=$2 link=$3
shift 3
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"
place='' count=0
for n in $LAB_NODES; do place=$place${place:+,}$n:1 count=$((count + 1)); done
case $link in A) peer=10.77.0.1 ;; *) peer=10.77.0.2 ;; esac
mkfifo "$tmp/keys"

boot() { # boot NET APPEND
	: >"$tmp/log"
	tessera run --name v1 --memory $((128 * count))M --place "$place" --kernel "$assets/vmlinux" --initrd "$work/initrd" --append "quiet $2" \
		--net "$1,node=$link" >"$tmp/log" 2>&1 <"$tmp/keys" &
	client=$!
	exec 3>"$tmp/keys"
	await 'job: ready'
	asked=0
}

# ask COMMANDS: the guest does it; its exit code to $code.
ask() {
	asked=$((asked + 1))
	echo "$*" >&3
	until_true "'$*' in the guest" asked_done
	code=$(sed -n 's/.*job: done \([0-9]*\).*/\1/p' "$tmp/log" | tail -n 1)
}
asked_done() { [ "$(grep -c 'job: done' "$tmp/log")" -ge "$asked" ] || ! kill -0 "$client" 2>/dev/null; }

finish() {
	echo 'exit 0' >&3
	wait "$client"
	code=$?
	exec 3>&-
}

# sum KEY: over all nodes
sum() { tessera stats v1 | awk -v key="$1" '$1 ~ key { for (i = 2; i <= NF; i++) total += $i } END { print total + 0 }'; }

serve_peer() {
	on "$link" "$work/nettalk" serve 7000 >/dev/null 2>&1 &
	peer_pid=$!
	on "$link" iperf3 -s >/dev/null 2>&1 &
	iperf_pid=$!
}

# iperf3 from each CPU, both ways.
measure() { # measure AMOUNT
	for cpu in $(seq 0 $((count - 1))); do
		for way in '' -R; do
			ask "iperf3 -c $peer -A $cpu -n $1 -i 0 -f k $way >/tmp/said 2>&1; awk '/receiver/ { print \"received \", \$5 \$6, \$7 } /error/' /tmp/said"
			exits 0
		done
	done
	[ "$(grep -c '^received' "$tmp/log")" -eq $((2 * count)) ] || note 'iperf3 did not work both ways from all CPUs'
	never_says 'iperf3: error'
}

# As the other case, and large packets: the guest's kernel leaves checksums and segmentation to the node's.
case_bridged() {
	peer=10.78.0.1
	on "$link" sh -c 'ip link add br0 type bridge && ip addr add 10.78.0.1/24 dev br0 && ip link set br0 up' || note 'no bridge'
	serve_peer
	boot tap,bridge=br0 net.address=10.78.0.15/24
	says "job: address 10.78.0.15, mac 02:.*, mtu 1500, queues $count"
	for cpu in $(seq 0 $((count - 1))); do
		ask "nettalk talk $cpu $peer 7000 1"
		exits 0
		says "nettalk: $cpu: 1 MiB each way, ok"
	done
	frames=$(sum '^vnet.0.[rt]x[0-9]*.frames$') bytes=$(sum '^vnet.0.[rt]x[0-9]*.bytes$')
	measure 2M
	frames=$(($(sum '^vnet.0.[rt]x[0-9]*.frames$') - frames)) bytes=$(($(sum '^vnet.0.[rt]x[0-9]*.bytes$') - bytes))
	echo "net: $frames frames of $bytes bytes"
	[ "$bytes" -ge $((3 * count * 1024 * 1024)) ] || note 'fewer bytes than were sent' # iperf3 does not wait for its last ones
	[ $((bytes / frames)) -ge 2000 ] || note 'frames are small: nothing was left to the link'
	ask 'dmesg | grep -E "eth0.*(error|hung|timed out)|BUG:|WARNING:|csum" | sed "s/^/dmesg: /"'
	never_says '^dmesg:'
	finish
	exits 0
	kill "$peer_pid" "$iperf_pid"
}

case_talks() {
	serve_peer
	boot user,forward=tcp:7001:7002 ''
	says "job: address 10.0.2.15, mac 02:.*, mtu 65520, queues $count"
	faults=$(sum '^fault.(read|write|upgrade).count$') frames=$(sum '^vnet.0.[rt]x[0-9]*.frames$')
	for cpu in $(seq 0 $((count - 1))); do
		ask "nettalk talk $cpu $peer 7000 1"
		exits 0
		says "nettalk: $cpu: 1 MiB each way, ok"
	done
	faults=$(($(sum '^fault.(read|write|upgrade).count$') - faults)) frames=$(($(sum '^vnet.0.[rt]x[0-9]*.frames$') - frames))
	tessera stats v1 | grep -E '^(vnet|net|queue|io)[.]' >"$tmp/stats"
	cat "$tmp/stats"
	echo "net: $frames frames, $faults remote faults of all the VM meanwhile"
	[ "$frames" -ge $((2 * 1024 * 1024 / 65520 * count)) ] || note 'fewer frames than were sent'
	measure 1M
	ask "for i in \$(seq 0 $((count - 1))); do nettalk talk \$i $peer 7000 1 & done; wait"
	[ "$(grep -c 'MiB each way, ok' "$tmp/log")" -eq $((2 * count)) ] || note 'not all talked at the same time'
	ask 'nettalk serve 7002 & sleep 1'
	on "$link" "$work/nettalk" talk -1 127.0.0.1 7001 1 >"$tmp/in" 2>&1 || note "nothing came through the forwarded port: $(cat "$tmp/in")"
	for p in /proc/[0-9]*; do # the VM lives when passt dies, and its guest hears of it
		case $(cat "$p/comm" 2>/dev/null) in passt*) kill -9 "${p#/proc/}" ;; esac
	done
	ask 'i=0; until [ "$(cat /sys/class/net/eth0/carrier)" = 0 ] || [ $i = 50 ]; do sleep 0.1; i=$((i + 1)); done; echo "carrier $(cat /sys/class/net/eth0/carrier)"'
	says '^carrier 0'
	ask 'dmesg | grep -E "eth0.*(error|hung|timed out)|BUG:|WARNING:" | sed "s/^/dmesg: /"'
	never_says '^dmesg:'
	finish
	exits 0
	kill "$peer_pid" "$iperf_pid"
}

judge "$@"
