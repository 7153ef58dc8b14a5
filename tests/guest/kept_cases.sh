#!/bin/sh
# Runs inside the lab, on node A with two daemons up: stock guests with a vCPU on each node and their disks on B. Judges what is in the disks' files afterwards.
# usage: kept_cases.sh ASSETS WORK CASE...
set -u
assets=$1 work=$2
shift 2
# shellcheck source=tests/guest/cases.sh
. "$(dirname "$0")/cases.sh"
disks=/run/disks
mkdir -p $disks
mkfifo "$tmp/keys"
exec 3<>"$tmp/keys"

# start WHAT OPTION...
start() {
	what=$1
	shift
	: >"$tmp/log"
	tessera run --name v1 --memory 192M --place A:1,B:1 --kernel "$assets/vmlinux" --initrd "$work/initrd" --append "quiet kept=$what" "$@" <&3 >"$tmp/log" 2>&1 &
	client=$!
}

finish() {
	wait "$client"
	code=$?
}

clean() { e2fsck -fn "$1" >"$tmp/fsck" 2>&1 || note "e2fsck -fn $1: $(cat "$tmp/fsck")"; }
allocated() { echo $(($(stat -c %b "$1") / 2)); } # KiB

# new_file_system FILE: sparse
new_file_system() {
	rm -f "$1"
	truncate -s 40M "$1"
	mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -J size=4 "$1" >"$tmp/mke2fs" 2>&1 || note "mke2fs: $(cat "$tmp/mke2fs")"
}

# fio with verification from both CPUs at once; discards leave holes, whoever makes them.
case_verified() {
	rm -f $disks/raw
	truncate -s 6M $disks/raw
	new_file_system $disks/fs
	start verified --disk $disks/raw,node=B --disk $disks/fs,node=B
	await 'job: ask verified'
	says 'job: jobs of fio without an error: 2'
	sum=$(md5sum <$disks/raw | cut -c1-32)
	says "job: sum $sum"
	[ "$(allocated $disks/raw)" -ge 6000 ] || note "only $(allocated $disks/raw) KiB were written"
	head -c 2097152 $disks/raw >"$tmp/head"
	echo >&3
	await 'job: ask filled'
	full=$(allocated $disks/fs)
	[ "$full" -ge 15000 ] || note "a file of 16 MB takes $full KiB"
	echo >&3
	finish
	exits 0
	never_says 'job: no '
	[ "$(allocated $disks/raw)" -le 2100 ] || note "after a discard of 4 of 6 MiB there are $(allocated $disks/raw) KiB"
	head -c 2097152 $disks/raw | cmp - "$tmp/head" || note 'the discard took what was not its'
	[ "$(allocated $disks/fs)" -le $((full - 15000)) ] || note "after fstrim there are $(allocated $disks/fs) KiB of $full"
	clean $disks/fs
	took=" (fs $full KiB, trimmed $(allocated $disks/fs))"
}

in_mid_write() {
	start written --disk $disks/raw,node=B --disk $disks/fs,node=B
	await 'job: 0 wrote'
	await 'job: 1 wrote'
	await 'recorder: 0 kept 20'
}

kept() { sed -n "s/^recorder: $1 kept \([0-9]*\).*/\1/p" "$tmp/log" | tail -n 1; }

# check_records FILE: in it is all that was said to be kept.
check_records() {
	for region in 0 1; do
		[ -n "$(kept $region)" ] || continue
		"$work/recorder" check "$1" $region "$(kept $region)" >"$tmp/records" 2>&1 || note "$(cat "$tmp/records")"
		took="$took $(kept $region) records kept"
	done
}

case_stopped() {
	new_file_system $disks/fs
	truncate -s 1M $disks/raw
	in_mid_write
	tessera stop v1 || note 'stop failed'
	finish
	exits 0
	says 'job: unmounted'
	clean $disks/fs
}

case_killed() {
	new_file_system $disks/fs
	truncate -s 1M $disks/raw
	in_mid_write
	tessera kill v1 || note 'kill failed'
	finish
	exits 14
	e2fsck -fn $disks/fs >"$tmp/fsck" 2>&1
	grep -q 'skipping journal recovery' "$tmp/fsck" || note 'the file system was not in use'
	e2fsck -p $disks/fs >"$tmp/fsck" 2>&1
	[ $? -le 1 ] || note "e2fsck -p: $(cat "$tmp/fsck")"
	clean $disks/fs
	mkdir -p /run/mnt
	mount -t ext4 -o loop,ro $disks/fs /run/mnt || note 'cannot mount it'
	check_records /run/mnt/records
	umount /run/mnt
}

# Of $victims none lives; nobody may have waited for them yet.
all_ended() {
	for pid in $victims; do
		case $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null) in
		'' | Z* | X*) ;;
		*) return 1 ;;
		esac
	done
}

# Every process of Tessera is killed at once; then, what B's kernel had not been asked to make durable is lost as well. The disk is a loop device, whose pages reach
# its file by flushes only: the kernel is told to wait for an hour, and that somebody else has it open keeps its last close from being a flush.
# Nothing can be started afterwards: the last case.
case_flushed() {
	echo 360000 >/proc/sys/vm/dirty_expire_centisecs
	echo 0 >/proc/sys/vm/dirty_writeback_centisecs
	rm -f /run/store
	truncate -s 16M /run/store
	losetup /dev/loop5 /run/store || note 'no loop device'
	exec 4</dev/loop5
	start flushed --disk /dev/loop5,node=B
	await 'recorder: 0 kept 100'
	await 'recorder: 1 kept 100'
	victims=$(grep -ls '^tessera' /proc/[0-9]*/cmdline | sed 's|/proc/\([0-9]*\)/.*|\1|' | tr '\n' ' ')
	# shellcheck disable=SC2086 # a list
	kill -9 $victims
	finish
	until_true 'the end of all processes' all_ended
	cp /run/store /run/copy
	check_records /dev/loop5
	check_records /run/copy
}

[ -e /sys/module/loop ] || insmod "$LOOP" || exit 1
judge "$@"
