#!/bin/sh
# Runs inside the lab, on node A with its daemon up: starts stock kernels with `tessera run` and judges what a user sees.
# usage: daemon_cases.sh ASSETS CASE...
set -u
assets=$1
shift
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"

# run ARGS...: in the foreground, console to $tmp/log, exit code to $code.
run() {
	timeout 300 tessera run --name v1 --initrd "$assets/initrd.gz" "$@" >"$tmp/log" 2>&1 </dev/null
	code=$?
}

# start ARGS...: in the background, until the console says $1.
start() {
	until_said=$1
	shift
	: >"$tmp/log"
	tessera run --name v1 --initrd "$assets/initrd.gz" "$@" >"$tmp/log" 2>&1 </dev/null &
	client=$!
	await "$until_said"
}

finish() {
	wait "$client"
	code=$?
}

nothing_left() {
	ls /run/tessera/A/vms/* >/dev/null 2>&1 && note 'sockets are left'
	grep -lqs 'tessera.fragment' /proc/[0-9]*/cmdline && note 'processes are left'
	tessera ls --json | grep -q '"cpus_used": 0' || note 'CPUs are still reserved'
}

kernel="--kernel $assets/vmlinuz --memory 256M"

case_runs() {
	run $kernel --cpus 2 --append 'quiet guest.run="nproc; cat /proc/interrupts | grep -c LOC"'
	exits 0
	says '^guest: up .* 2 cpus'
	says '^2.?$'
	says '^guest: exit 0'
	tessera info v1 --json >"$tmp/log"
	says '"reason": "power-off"'
	nothing_left
}

case_from_disk() {
	timeout 300 tessera run --name v1 --memory 256M --disk "$DISK,readonly" --hostname seeded --append 'quiet guest.run="cat /proc/cmdline"' >"$tmp/log" 2>&1 </dev/null
	code=$?
	exits 0
	says 'root=UUID=11111111-2222-3333-4444-555555555555 quiet'
	says '^guest: exit 0'
	timeout 300 tessera run --name v1 --memory 256M --disk "$DISK,readonly,format=qcow2" >"$tmp/log" 2>&1 </dev/null
	code=$?
	[ "$code" != 0 ] || note 'a disk that is not raw was booted from'
	truncate -s 4M "$tmp/empty.img"
	timeout 300 tessera run --name v1 --memory 256M --disk "$tmp/empty.img" >"$tmp/log" 2>&1 </dev/null
	code=$?
	exits 3
	says 'no file system in it is recognised'
	nothing_left
}

# at_hvc0 WORDS ROWS COLUMNS: say them on the guest's second console, from a terminal of that size, and wait for the answer.
at_hvc0() {
	timeout 60 "$MEET/talk" pty "$2" "$3" "$1" "heard $1" tessera console v1 --port hvc0 >"$tmp/hvc" 2>&1 || note "no answer of hvc0 to $1: $(cat "$tmp/hvc")"
}

case_meets() {
	: >"$tmp/log"
	tessera run --name v1 --initrd "$MEET/meet.gz" $kernel --append quiet >"$tmp/log" 2>&1 </dev/null &
	client=$!
	await 'job: agent at'
	says 'agent at /dev/vport'
	vsock=$(tessera info v1 --json | sed -n 's/.*"vsock_socket": "\([^"]*\)".*/\1/p')
	agent=$(tessera info v1 --json | sed -n 's/.*"agent_socket": "\([^"]*\)".*/\1/p')
	for word in one two; do
		timeout 60 "$MEET/talk" unix "$agent" "$word" "agent heard $word" >"$tmp/agent" 2>&1 || note "no answer of the agent: $(cat "$tmp/agent")"
	done
	tessera stats v1 | grep -q 'agent.guest_open *1' || note 'stats do not know that the port is open'
	at_hvc0 'size 33 101' 33 101
	at_hvc0 'size 20 70' 20 70
	timeout 60 "$MEET/talk" unix "$vsock" 'CONNECT 1234' 'guest says hello' >"$tmp/vsock" 2>&1 || note "the guest is not reached by vsock: $(cat "$tmp/vsock")"
	timeout 60 "$MEET/talk" unix "$vsock" 'CONNECT 4321' OK >"$tmp/vsock" 2>&1 && note 'a port of the guest where nobody listens was reached'
	timeout 60 "$MEET/talk" vsock-bulk "$vsock" 1235 count:300000 count:300000 >"$tmp/vsock" 2>&1 || note "bulk by vsock: $(cat "$tmp/vsock")"
	timeout 60 "$MEET/talk" unix-listen "${vsock}_77" 'host answers' 'guest calls' >"$tmp/called" 2>&1 &
	called=$!
	until_true 'listening for the guest' test -S "${vsock}_77"
	at_hvc0 call 24 80
	wait "$called" || note "the guest did not call: $(cat "$tmp/called")"
	rm -f "${vsock}_77"
	at_hvc0 call-nobody 24 80
	at_hvc0 the-end 24 80
	finish
	exits 0
	says '^guest: exit 0'
	nothing_left
}

# has BYTES: the guest has come to that.
has() {
	tessera balloon v1 --json | grep -q "\"now_bytes\": $1,"
}

case_balloon() {
	start 'guest: up' $kernel --append 'quiet guest.run="read -r key; grep MemFree /proc/meminfo; read -r key"'
	has 268435456 || note "something is in its balloon: $(tessera balloon v1)"
	tessera balloon v1 128M || note 'balloon failed'
	until_true 'half of the memory to be given up' has 134217728
	echo | timeout 60 tessera console v1 >/dev/null 2>&1 &
	await 'MemFree'
	free=$(sed -n 's/^MemFree: *\([0-9]*\) kB.*/\1/p' "$tmp/log")
	[ "${free:-999999}" -lt 131072 ] || note "the guest has $free KiB free of 128M"
	tessera stats v1 --json | grep -q '"balloon.driver": 1' || note 'no driver'
	tessera balloon v1 256M || note 'balloon failed'
	until_true 'all of it to be taken back' has 268435456
	tessera stop v1 || note 'stop failed'
	finish
	exits 0
	nothing_left
}

case_daemon_restarts() {
	start 'guest: up' $kernel --append 'quiet guest.run="for i in 1 2 3 4 5 6; do read -r key; echo key:$key; done"'
	kill -9 "$(cat /run/lab/A.pid)"
	tessera ls >/dev/null 2>&1 && note 'the daemon is still there'
	tessera node --name A --listen 10.77.0.1:7700 --insecure --lend cpus=2,memory=512M >>/run/lab/A.log 2>&1 </dev/null &
	echo $! >/run/lab/A.pid
	until_true 'finding v1 again' sh -c "tessera info v1 >'$tmp/info' 2>&1"
	grep -q running "$tmp/info" || note "not found running: $(cat "$tmp/info")"
	tessera ls --json | grep -q '"cpus_used": 1' || note 'its CPU is not reserved'
	tessera stats v1 >"$tmp/stats" || note 'no statistics'
	echo key-one | timeout 60 tessera console v1 >/dev/null 2>&1 &
	await 'key:key-one'
	tessera stop v1 || note 'stop failed'
	finish
	exits 0
	says 'guest: power button'
	nothing_left
}

case_ends() {
	run $kernel --no-reboot --append 'quiet guest.reboot=1 guest.run=true'
	exits 10
	run $kernel --append 'quiet guest.run="echo c > /proc/sysrq-trigger"'
	exits 11
	says 'v1 ended: panic'
	nothing_left
}

case_killed() {
	start 'Linux version' $kernel --append 'earlyprintk=ttyS0'
	kill -9 "$(tessera info v1 --json | sed -n 's/.*"pid": \([0-9]*\),*/\1/p')"
	finish
	exits 13
	says 'killed by signal 9'
	nothing_left
	start 'Linux version' $kernel --append 'earlyprintk=ttyS0'
	kill "$client"
	finish
	exits 14
	nothing_left
	start 'Linux version' $kernel --append 'earlyprintk=ttyS0'
	tessera kill v1 || note 'kill failed'
	finish
	exits 14
	nothing_left
}

case_refused() {
	run --memory 64M --kernel /etc/passwd
	exits 3
	says 'is no kernel'
	says '->'
	nothing_left
	head -c 100000 "$assets/initrd.gz" >"$tmp/cut.gz"
	timeout 300 tessera run --name v1 $kernel --initrd "$tmp/cut.gz" >"$tmp/log" 2>&1 </dev/null
	code=$?
	exits 3
	says 'initrd'
	nothing_left
	timeout 300 tessera run --name v1 --kernel "$assets/vmlinuz" --memory 8M >"$tmp/log" 2>&1 </dev/null
	code=$?
	exits 3
	says '->'
	nothing_left
}

judge "$@"
