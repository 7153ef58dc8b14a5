#!/bin/sh
# Runs inside the lab, on node A with its daemons up: a guest with a vCPU on each node is reached by `tessera ssh`, through a network card on one of the nodes.
# usage: ssh_cases.sh ASSETS WORK LINK_NODE CASE...
set -u
assets=$1 work=$2 link=$3
shift 3
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"
place='' count=0
for n in $LAB_NODES; do place=$place${place:+,}$n:1 count=$((count + 1)); done
mkdir -p "$HOME/.ssh"
cp "$work/key" "$HOME/.ssh/id_ed25519"
chmod 600 "$HOME/.ssh/id_ed25519"
address=0.0.0.0 # the link's node is asked from another one, too
[ "$link" != A ] || address=127.0.0.1

# in_guest COMMANDS: over ssh; what they say to $tmp/said
in_guest() {
	timeout 300 tessera ssh web --user root -- "$1" >"$tmp/said" 2>"$tmp/ssh.err" || note "'$1' over ssh: exit $?, $(cat "$tmp/ssh.err")"
}
guest_says() { grep -qE -- "$1" "$tmp/said" || note "'$1' not said over ssh: $(head -c 400 "$tmp/said" "$tmp/ssh.err")"; }

case_talks() {
	: >"$tmp/log"
	tessera run --name web --memory $((128 * count))M --place "$place" --kernel "$assets/vmlinux" --initrd "$work/initrd" --append quiet \
		--net "user,node=$link,forward=tcp:$address:2222:22" >"$tmp/log" 2>&1 </dev/null &
	client=$!
	await 'job: ready'
	in_guest 'hostname; nproc; uname -s'
	guest_says '^web$'
	guest_says "^$count$"
	guest_says '^Linux$'
	grep -q '^tessera-web ' "$HOME/.ssh/known_hosts" || note "ssh does not know the guest by its VM's name: $(cat "$HOME/.ssh/known_hosts")"
	for cpu in $(seq 0 $((count - 1))); do
		head -c 300000 "$assets/vmlinux" >"$tmp/sent"
		timeout 300 tessera ssh web --user root -- "taskset $((1 << cpu)) sh -c 'cat >/tmp/kept$cpu; sync; cat /tmp/kept$cpu'" <"$tmp/sent" >"$tmp/back" 2>"$tmp/ssh.err" ||
			note "CPU $cpu does not give back what it got: exit $?, $(cat "$tmp/ssh.err")"
		cmp -s "$tmp/sent" "$tmp/back" || note "CPU $cpu gives back other bytes than it got"
	done
	timeout 300 tessera ssh web --user root -- 'exit 9' >/dev/null 2>&1
	code=$?
	exits 9
	timeout 60 tessera stop web || note 'stop failed'
	wait "$client"
	code=$?
	exits 0
	timeout 60 tessera ssh web -- true >"$tmp/said" 2>&1 && note 'a VM that has ended was reached'
}

judge "$@"
