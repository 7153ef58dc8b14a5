#!/bin/sh
# What guests wrote to disks is there: usage kept.sh SOURCE_ROOT CASE... (the cases are functions of kept_cases.sh); exit 77 where the lab cannot run.
set -u
root=$1
shift
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
need_lab kept 2
for program in fio mke2fs e2fsck; do
	command -v $program >/dev/null || skip kept "no $program; run tools/install-deps"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
mkdir "$work/lib"
gcc -std=gnu17 -D_GNU_SOURCE -O2 -static -o "$work/recorder" "$root/tests/guest/recorder.c" || exit 1
words=$("$root/tools/lab/guest-fio" "$work/lib") || exit 1
cat >"$work/verify.fio" <<-'END'
	[global]
	filename=/dev/vda
	ioengine=libaio
	direct=1
	rw=randwrite
	bsrange=4k-64k
	iodepth=8
	verify=crc32c
	verify_fatal=1
	verify_backlog=64
	size=3M
	[near]
	cpus_allowed=0
	offset=0
	[far]
	cpus_allowed=1
	offset=3M
END
# shellcheck disable=SC2086 # a list
"$root/tools/lab/guest-initrd" -o "$work/packed" --job "$root/tests/guest/kept_job" --add "$work/recorder" --add "$work/verify.fio:verify.fio" $words || exit 1
gzip -dc "$work/packed" >"$work/initrd" # unpacking is simulated too
loop=$(find "$assets/modules/kernel" -name loop.ko)
"$root/lab" --nodes 2 --mips 2000 --lend cpus=1,memory=512M --share "$loop" --share "$work" --with mke2fs --with e2fsck --share /etc/mke2fs.conf --env LOOP="$loop" -- \
	"$root/tests/guest/kept_cases.sh" "$assets" "$work" "$@"
