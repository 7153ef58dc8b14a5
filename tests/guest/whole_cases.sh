#!/bin/sh
# Runs inside the lab, on node A with its daemons up: a Debian image as `tessera image build` made it, with a vCPU on each node, used as people use it.
# usage: whole_cases.sh WORK DISK_NODE CASE...; WORK has the key that is let in. The image is $LAB_DISK, which is written to.
set -u
work=$1 disk_node=$2
shift 2
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"
place='' count=0
for n in $LAB_NODES; do place=$place${place:+,}$n:1 count=$((count + 1)); done
mkdir -p "$HOME/.ssh"
cp "$work/key" "$HOME/.ssh/id_ed25519"
chmod 600 "$HOME/.ssh/id_ed25519"
boots=0
: >"$tmp/log"
shown=''
[ -z "${TESSERA_TEST_SHOW:-}" ] || { tail -f "$tmp/log" & shown=$!; }
trap '[ -z "$shown" ] || kill "$shown"; rm -rf "$tmp"' EXIT
mkfifo "$tmp/keys" "$tmp/hvc_keys"

# step WHAT: a run takes long, and the lab may be ended in the middle of it
step() { echo "whole: $1 ($(cut -d. -f1 /proc/uptime) s)${why:+; has failed: $why}"; }

# A simulated machine is slower than systemd's patience.
boot() {
	: >"$tmp/log"
	boots=0
	tessera run --name web --memory 512M --place "$place" --disk "$LAB_DISK,node=$disk_node" --net user,forward=tcp:2222:22 --ssh-key "$work/key.pub" \
		--user-data "$work/user-data.yaml" --append systemd.default_timeout_start_sec=1800 >"$tmp/log" 2>&1 <"$tmp/keys" &
	client=$!
	exec 3>"$tmp/keys"
	log_in
}

# in_guest COMMANDS: over ssh; what they say to $tmp/said, their exit code to $code
in_guest() {
	timeout "$SSH_S" tessera ssh web -- -o ConnectTimeout="$SSH_S" "$1" >"$tmp/said" 2>"$tmp/ssh.err"
	code=$?
}
SSH_S=600
guest_says() { grep -qE -- "$1" "$tmp/said" || note "'$1' not said over ssh: $(head -c 400 "$tmp/said" "$tmp/ssh.err")"; }

# prompted COUNT: so many login prompts on the serial console
prompted() { [ "$(grep -c 'web login:' "$tmp/log")" -ge "$1" ] || ! kill -0 "$client" 2>/dev/null; }

# Until sshd answers in a boot that is not $boot_id. A try costs a second of simulation, so first comes the prompt.
boot_id=none
answers() {
	in_guest 'cat /proc/sys/kernel/random/boot_id'
	{ [ "$code" = 0 ] && [ "$(cat "$tmp/said")" != "$boot_id" ]; } || ! kill -0 "$client" 2>/dev/null || { sleep 2; false; }
}
log_in() {
	boots=$((boots + 1))
	until_true "login prompt $boots" prompted "$boots"
	step "prompt $boots"
	until_true "a login over ssh" answers
	[ "$code" = 0 ] || note "no login over ssh: $(cat "$tmp/ssh.err")"
	boot_id=$(cat "$tmp/said")
	step 'logged in'
}

shut_down() {
	timeout "$SSH_S" tessera stop web --timeout 300 || note 'stop failed'
	wait "$client"
	code=$?
	exec 3>&-
	exits 0
	step 'stopped'
	e2fsck -fn "$LAB_DISK" >"$tmp/fsck" 2>&1 || note "the file system is not clean: $(tail -n 5 "$tmp/fsck")"
}

# A dialogue with the second console: until it says $2, say $1 again.
hvc_said() {
	tries_hvc=$((tries_hvc + 1))
	[ $((tries_hvc % 200)) != 1 ] || printf '%s\r' "$hvc_line" >&4
	grep -qE -- "$hvc_until" "$tmp/hvc"
}
hvc() {
	hvc_line=$1 hvc_until=$2 tries_hvc=0
	until_true "'$2' on hvc0" hvc_said
}

case_first() {
	boot
	in_guest 'hostname; uname -s; nproc; ls -d /sys/devices/system/node/node* | wc -l; cloud-init status --wait; systemctl is-system-running --wait; systemctl --failed --plain --no-legend'
	guest_says '^web$'
	guest_says '^Linux$'
	[ "$(sed -n 3,4p "$tmp/said" | tr '\n' ' ')" = "$count $count " ] || note "not $count CPUs and NUMA nodes: $(cat "$tmp/said")"
	guest_says 'status: done'
	guest_says '^running$'
	step 'is up'
	in_guest 'cat /var/tmp/told; sudo dmesg | grep -cE "BUG:|WARNING:|I/O error|EXT4-fs error|soft lockup|rcu.*stall"'
	guest_says '^user data$'
	guest_says '^0$'
	# shellcheck disable=SC2016 # the guest's shell
	in_guest 'for i in $(seq 200); do echo "line $i"; done >kept; sha256sum kept | cut -c1-64; sync'
	sum=$(cat "$tmp/said")
	agent=$(tessera info web --json | sed -n 's/.*"agent_socket": "\([^"]*\)".*/\1/p')
	timeout 120 "$work/talk" unix "$agent" '{"execute":"guest-get-host-name"}' '"host-name": "web"' >"$tmp/agent" 2>&1 || note "no answer of the agent: $(cat "$tmp/agent")"
	step 'agent has answered'
	timeout 600 tessera console web --port hvc0 <"$tmp/hvc_keys" >"$tmp/hvc" 2>&1 &
	console=$!
	exec 4>"$tmp/hvc_keys"
	hvc '' 'web login:'
	hvc debian 'Password:'
	hvc tessera 'debian@web'
	# shellcheck disable=SC2016
	hvc 'echo "on $(tty) "$((6 * 7))' 'on /dev/hvc0 42'
	step 'logged in on hvc0'
	exec 4>&-
	kill "$console" 2>/dev/null
	tessera stats web | grep -E '^(fault|blk|vnet)[.].*(count|requests|frames|pieces_away)' >"$tmp/stats"
	cat "$tmp/stats"
}

case_reboots() {
	step 'reboots'
	in_guest 'sudo systemctl reboot'
	log_in
	in_guest 'hostname; sha256sum kept | cut -c1-64; cut -d. -f1 /proc/uptime'
	guest_says '^web$'
	guest_says "^$sum$"
	shut_down
}

case_again() {
	boot
	in_guest 'hostname; sha256sum kept | cut -c1-64; grep -c . .ssh/authorized_keys; cat /var/tmp/told'
	guest_says '^web$'
	guest_says "^$sum$"
	guest_says '^1$'
	[ "$(grep -c '^user data$' "$tmp/said")" = 1 ] || note 'the user data was carried out again'
	shut_down
}

judge "$@"
