#!/bin/sh
# Runs inside the lab, on node A with two or more daemons up: ends, and breaks things under, a stock guest that has a vCPU and a share of its memory on each node,
# and judges what a user sees, what the fragments say, and what is left.
# usage: failure_cases.sh ASSETS CASE...
#
#      A -------- B (C ...)    each lends one CPU: a VM that left anything behind would keep the next one from starting
#      client, devices         seconds are the lab's own, from the break to the client's exit
set -u
assets=$1
shift
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"
place='' count=0
for n in $LAB_NODES; do place=$place${place:+,}$n:1 count=$((count + 1)); done

lines() { wc -l <"$1"; }
clock() { cut -d' ' -f1 /proc/uptime; }

# start_client PLACE [OPTION...]: the VM, in the foreground of a client of its own.
start_client() {
	where=$1
	shift
	: >"$tmp/log"
	for n in $LAB_NODES; do lines "/run/lab/$n.log" >"$tmp/$n.before"; done
	tessera run --name v1 --memory 128M --place "$where" --kernel "$assets/vmlinux" "$@" >"$tmp/log" 2>&1 </dev/null &
	client=$!
}

# start [PLACE]: until its kernel talks.
start() {
	start_client "${1:-$place}" --append earlyprintk=ttyS0
	await 'Linux version'
}

# boot: until its user space is up, which says again what is typed.
boot() {
	start_client "$place" --initrd "$assets/initrd" --append 'quiet guest.run="while read -r key; do echo heard:$key; done"'
	await "guest: up .* $count cpus"
}

# fragment NODE: its process.
fragment() { tessera info v1 --json | grep -A10 "\"node\": \"$1\"" | sed -n 's/.*"pid": \([0-9]*\),*/\1/p' | head -n 1; }

# finish: the client's end, and how long after broke=$(clock) it came.
finish() {
	wait "$client"
	code=$?
	took="$took $(clock | awk -v from="$broke" '{printf "%.2f s", $1 - from}')"
}

# within SECONDS: the last of 'took'. Only where time counts instructions: nothing this machine is busy with can make it longer.
within() {
	last=${took% s}
	[ "$LAB_SIM" != bochs ] || awk -v took="${last##* }" -v most="$1" 'BEGIN { exit !(took <= most) }' || note "took${took}, more than $1"
}

# ended_by NODE: the VM ended because that node was lost, and every fragment that could still speak says so.
ended_by() {
	exits 13
	says "v1 ended: lost-node, node $1"
	new_lines | grep -q 'the VM ended' || note 'no fragment says why it ended'
	new_lines | grep 'the VM ended' | grep -v "the VM ended: lost-node, node $1" >"$tmp/others" && note "not agreed: $(cat "$tmp/others")"
}

new_lines() { for n in $LAB_NODES; do tail -n "+$(($(cat "$tmp/$n.before") + 1))" "/run/lab/$n.log"; done; }

# Streams between fragments and their listeners: those that have nothing to do with the daemons' port 7700 = 1E14.
streams() {
	for n in $LAB_NODES; do
		awk '($4 == "01" || $4 == "0A") && $2 !~ /:1E14$/ && $3 !~ /:1E14$/' "/proc/$(cat /run/lab/$n.pid)/net/tcp"
	done
}

left() {
	find /run/tessera/*/vms /dev/shm -mindepth 1 | grep . && echo 'files'
	grep -ls 'tessera.fragment' /proc/[0-9]*/cmdline && echo 'processes'
	streams | grep . && echo 'streams'
	[ "$(tessera ls --json | grep -c '"cpus_used": 0')" = "$count" ] || echo 'reservations'
}

nothing_left() { left >"$tmp/left"; [ ! -s "$tmp/left" ] || note "left behind: $(tr '\n' ' ' <"$tmp/left")"; }
all_up() { [ "$(on "$1" tessera ls --json 2>/dev/null | grep -cE '"state": "(here|up)"')" = "$count" ]; }
meet() { for n in $LAB_NODES; do until_true "$n sees all" all_up "$n"; done; }

# The guest goes on: it says more than it had said.
grown() { [ "$(lines "$tmp/log")" -gt "$1" ] || ! kill -0 "$client" 2>/dev/null; }
runs_on() {
	until_true 'more of the guest' grown "$(($(lines "$tmp/log") + 2))"
	kill -0 "$client" 2>/dev/null || note "the client is gone: $(tail -n 3 "$tmp/log")"
}

end_it() {
	broke=$(clock)
	tessera kill v1 || note 'kill failed'
	finish
	exits 14
	nothing_left
}

start_daemon() {
	case $1 in A) at=1 join= ;; *) at=2 join=10.77.0.1:7700 ;; esac
	on "$1" tessera node --name "$1" --listen "10.77.0.$at:7700" --insecure --lend cpus=1,memory=512M ${join:+--join "$join"} \
		>>"/run/lab/$1.log" 2>&1 </dev/null &
	echo $! >"/run/lab/$1.pid"
}

# break_fragment SIGNAL SECONDS: each in turn.
break_fragment() {
	for node in $LAB_NODES; do
		start
		victim=$(fragment "$node")
		broke=$(clock)
		kill -"$1" "$victim"
		finish
		ended_by "$node"
		within "$2"
		nothing_left
	done
}

# What is to break, first: both CPUs, each on its node, through two daemons. And whether what is looked for afterwards would be found.
case_comes_up() {
	start
	await "smp: Brought up $count nodes, $count CPUs"
	left >"$tmp/left"
	for what in files processes streams reservations; do grep -qx $what "$tmp/left" || note "would not see $what that are left"; done
	end_it
}

# parts NODE VERB...: what that node's daemon says of the VM's parts.
parts() { on "$@" --json | tr -d ' \n' | sed 's/.*"parts":\[//; s/"}\].*/"}/'; }

# Every node tells the same of the VM while it runs, and each fragment is where they say.
shown() {
	all=$(parts A tessera info v1)
	[ "$(echo "$all" | grep -o '"state":"running","vcpus":\[[0-9]*\],"memory_bytes":[0-9]*' | wc -l)" = "$count" ] || note "info shows no $count parts: $all"
	for n in $LAB_NODES; do
		[ "$(parts "$n" tessera info v1)" = "$all" ] || note "$n tells something else than A in info: $(parts "$n" tessera info v1), $all"
		[ "$(parts "$n" tessera ls)" = "$all" ] || note "$n tells something else in ls: $(parts "$n" tessera ls), $all"
		on "$n" tessera ls --json | grep -c '"cpus_used": 1' | grep -qx "$count" || note "$n does not see $count CPUs in use"
		tr '\0' ' ' <"/proc/$(fragment "$n")/cmdline" | grep -q "fragment $n v1 " || note "no fragment where info shows $n's"
		! grep -L 'Seccomp:.2' "/proc/$(fragment "$n")"/task/*/status | grep . || note "threads of $n's fragment are outside its sandbox"
	done
}

# ended_as REASON: by what all nodes say of it afterwards, as soon as they have heard.
ended_as() { for n in $LAB_NODES; do until_true "that $n says $1" says_end "$n" "$1"; done; }
says_end() { on "$1" tessera info v1 --json | grep -q "\"reason\": \"$2\""; }

# A guest in user space is switched off by its button, pressed from the node that does not have it.
ups() { [ "$(grep -cE "guest: up .* $count cpus" "$tmp/log")" -ge "$1" ] || ! kill -0 "$client" 2>/dev/null; }

# The guest asks for a reset, comes up again under the same client, and powers off.
case_reboots() {
	start_client "$place" --initrd "$assets/initrd" --append 'quiet guest.run="read -r key; echo heard:$key; [ $key = off ] || reboot -f"'
	await "guest: up .* $count cpus"
	old=$(fragment A)
	echo again | timeout 60 tessera console v1 >/dev/null 2>&1 &
	await 'heard:again'
	until_true 'the guest to be up again' ups 2
	says 'v1 was reset by its guest and starts again'
	[ "$(fragment A)" != "$old" ] || note 'the old fragment is still there'
	tessera info v1 | grep -q '^resets *1$' || note 'info does not tell of it'
	echo off | timeout 60 tessera console v1 >/dev/null 2>&1 &
	broke=$(clock)
	finish
	exits 0
	says 'heard:off'
	nothing_left
}

# A second of a guest: both vCPUs where they are, and the nodes hear each other.
topped() {
	on B tessera top v1 --once --json | tr -d ' \n' >"$tmp/top"
	for n in $LAB_NODES; do
		grep -q "\"node\":\"$n\",\"use\":" "$tmp/top" || note "top shows no vCPU on $n: $(cat "$tmp/top")"
		grep -q "\"from\":\"$n\",\"to\":\"[A-Z]\",\"bytes_per_s\":[0-9.]*[1-9][0-9.]*,\"messages_per_s\":[0-9.]*,\"rtt_ns\":[1-9]" "$tmp/top" ||
			note "top shows nothing that $n sends: $(cat "$tmp/top")"
	done
	grep -q '"gfn":"0x[0-9a-f]*","faults":[1-9]' "$tmp/top" || note "top shows no hot page: $(cat "$tmp/top")"
}

case_stopped() {
	boot
	shown
	topped
	echo key-one | on B timeout 60 tessera console v1 >/dev/null 2>&1 &
	await 'heard:key-one'
	broke=$(clock)
	on B tessera stop v1 || note 'stop failed'
	finish
	exits 0
	says 'guest: power button'
	ended_as power-off
	nothing_left
}

# A disk on another node than the devices: both vCPUs write to it, and what they wrote is there afterwards.
case_disk() {
	rm -f "$tmp/disk" "$tmp/expected"
	truncate -s 8M "$tmp/disk" "$tmp/expected"
	start_client "$place" --initrd "$assets/initrd" --disk "$tmp/disk,node=B" --append 'quiet guest.run="for c in 1 2; do taskset $c dd if=/bin/busybox of=/dev/vda bs=64k count=4 seek=$((8*c)) conv=fsync,notrunc; done; md5sum </dev/vda"'
	broke=$(clock)
	finish
	exits 0
	for c in 1 2; do dd if="$assets/busybox" of="$tmp/expected" bs=64k count=4 seek=$((8 * c)) conv=notrunc 2>/dev/null; done
	cmp "$tmp/disk" "$tmp/expected" >"$tmp/differs" 2>&1 || note "the disk is not what was written: $(cat "$tmp/differs")"
	says "^$(md5sum <"$tmp/expected" | cut -c1-32)"
	nothing_left
}

# The node that has the disk is lost in the middle of its work; then the other, whose requests are under way there.
case_disk_lost() {
	for node in B A; do
		rm -f "$tmp/disk"
		truncate -s 8M "$tmp/disk"
		start_client "$place" --initrd "$assets/initrd" --disk "$tmp/disk,node=B" --append 'quiet guest.run="while dd if=/dev/zero of=/dev/vda bs=64k count=64 conv=fsync,notrunc 2>/dev/null; do echo round; done"'
		await '^round'
		runs_on
		victim=$(fragment "$node")
		broke=$(clock)
		kill -9 "$victim"
		finish
		ended_by "$node"
		within 2
		nothing_left
	done
}

case_killed() {
	boot
	broke=$(clock)
	on B tessera kill v1 || note 'kill failed'
	finish
	exits 14
	within 2
	ended_as killed
	nothing_left
}

# Started from a node that has no part in it.
case_elsewhere() {
	start B:1
	[ "$(fragment A)" ] && note 'A has a part in it'
	end_it
}

case_fragment_killed() {
	break_fragment KILL 2
	says 'killed by signal 9'
}

# As soon as there is something to kill; whoever is started is rolled back, whoever runs stops.
case_fragment_killed_in_birth() {
	for node in $LAB_NODES; do
		start_client "$place"
		until_true "a fragment on $node" newborn "$node"
		broke=$(clock)
		kill -9 "$victim"
		finish
		case $code in 1 | 13) ;; *) note "exit code $code" ;; esac
		says "killed by signal 9|lost-node, node $node"
		within 2
		nothing_left
	done
}

newborn() {
	for cmdline in /proc/[0-9]*/cmdline; do
		case $(tr '\0' ' ' <"$cmdline" 2>/dev/null) in
		"tessera fragment $1 v1 "*) victim=${cmdline#/proc/} victim=${victim%/cmdline}; return 0 ;;
		esac
	done
	return 1
}

case_fragment_terminated() {
	break_fragment TERM 2
	says 'killed by signal 15'
}

case_fragment_stopped() { break_fragment STOP 3.7; } # silent for 1.5 and a beat, then two

# break_daemon SIGNAL: each in turn, replaced while the guest runs.
break_daemon() {
	for node in A B; do
		start
		daemon=$(cat /run/lab/$node.pid)
		kill -"$1" "$daemon"
		until_true "the end of $node's daemon" sh -c "! kill -0 $daemon 2>/dev/null"
		start_daemon $node
		meet
		runs_on
		end_it
	done
}

case_daemon_killed() { break_daemon KILL; }
case_daemon_terminated() { break_daemon TERM; }

# Given up by the others while it is silent, taken back when it speaks again; the VM does not notice.
case_daemon_stopped() {
	start
	kill -STOP "$(cat /run/lab/B.pid)"
	until_true 'B is lost' sh -c "tessera ls --json | grep -q '\"state\": \"lost\"'"
	runs_on
	kill -CONT "$(cat /run/lab/B.pid)"
	meet
	end_it
}

# The fragment dies while nobody is there to notice on its node.
case_daemon_and_fragment_killed() {
	start
	victim=$(fragment B)
	kill -9 "$(cat /run/lab/B.pid)"
	broke=$(clock)
	kill -9 "$victim"
	finish
	ended_by B
	start_daemon B
	meet
	nothing_left
}

# Neither side can tell the other: each says that it lost the other, and each cleans up alone.
alone() {
	finish
	exits 13
	says 'v1 ended: lost-node, node B'
	within 3.7
}

apart() {
	alone
	until_true 'B forgets its part' sh -c '! ls /run/tessera/B/vms/* 2>/dev/null'
	kill -0 "$victim" 2>/dev/null && note 'a fragment is left on B'
}

case_link_cut() {
	start
	victim=$(fragment B)
	broke=$(clock)
	on B ip link set eth0 down
	apart
	on B ip link set eth0 up
	meet
	nothing_left
}

# One direction only: A's words reach B, B's answers do not come back.
case_link_one_way() {
	start
	victim=$(fragment B)
	broke=$(clock)
	on B ip route add blackhole 10.77.0.1/32
	apart
	on B ip route del blackhole 10.77.0.1/32
	meet
	nothing_left
}

# Three nodes, of which A and C have lost each other while B hears both: whom they blame is open, not that all end.
case_link_between_two() {
	start
	broke=$(clock)
	on C ip route add blackhole 10.77.0.1/32
	finish
	exits 13
	says 'v1 ended: lost-node'
	within 3.7
	until_true 'C forgets its part' sh -c '! ls /run/tessera/C/vms/* 2>/dev/null'
	on C ip route del blackhole 10.77.0.1/32
	meet
	nothing_left
}

# A whole node is silent for a while, and finds out when it wakes.
case_node_stopped() {
	start
	victim=$(fragment B)
	broke=$(clock)
	kill -STOP "$(cat /run/lab/B.pid)" "$victim"
	alone
	kill -CONT "$(cat /run/lab/B.pid)" "$victim"
	meet
	until_true 'B forgets its part' sh -c '! ls /run/tessera/B/vms/* 2>/dev/null'
	nothing_left
}

# The node's memory runs out: B's fragment gets no more than a few pages beyond what it has. What it finds out about that is the kernel's to choose: a
# copy is refused (node-error), or the kernel kills it (lost-node); either way it is about B.
case_out_of_memory() {
	mkdir "$tmp/cg"
	mount -t cgroup2 none "$tmp/cg" || { note 'no cgroups'; return; }
	echo +memory >"$tmp/cg/cgroup.subtree_control"
	mkdir "$tmp/cg/poor"
	echo 64K >"$tmp/cg/poor/memory.max"
	start
	victim=$(fragment B)
	broke=$(clock)
	echo "$victim" >"$tmp/cg/poor/cgroup.procs"
	finish
	case $code in
	15) says 'v1 ended: node-error, node B' ;;
	*)
		exits 13
		says 'v1 ended: lost-node, node B'
		;;
	esac
	nothing_left
	rmdir "$tmp/cg/poor"
	umount "$tmp/cg"
}

judge "$@"
