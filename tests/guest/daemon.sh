#!/bin/sh
# A stock guest through a daemon on one node of the lab: usage daemon.sh SOURCE_ROOT CASE... (the cases are functions of daemon_cases.sh)
# exit 77 where the lab cannot run.
set -u
root=$1
shift
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
need_lab daemon
command -v mke2fs >/dev/null || skip daemon 'no mke2fs; run tools/install-deps'
disk=$(mktemp -d)
trap 'rm -rf "$disk"' EXIT
# A disk that the guest's kernel and initrd are inside; what looks like a root is never mounted.
mkdir -p "$disk/tree/boot" "$disk/tree/sbin"
cp "$assets/vmlinuz" "$disk/tree/boot/vmlinuz-$(cat "$assets/release")"
cp "$assets/initrd.gz" "$disk/tree/boot/initrd.img-$(cat "$assets/release")"
: >"$disk/tree/sbin/init"
mke2fs -q -F -t ext4 -d "$disk/tree" -U 11111111-2222-3333-4444-555555555555 "$disk/boot.img" 64M || exit 1
rm -rf "$disk/tree"
# A guest whose job is to be met, and the program that meets it.
talk=${TALK:-$root/build/tests/guest/talk}
if [ -x "$talk" ]; then
	cp "$talk" "$disk/talk"
	modules=
	for m in virtio_console vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport; do
		modules="$modules --add $(find "$assets/modules/kernel" -name "$m.ko"):modules/$m.ko"
	done
	"$root/tools/lab/guest-initrd" -o "$disk/meet.gz" --job "$root/tests/guest/meet_job" --add "$talk" $modules || exit 1
fi
"$root/lab" --nodes 1 --lend cpus=2,memory=512M --share "$assets" --share "$disk" --env DISK="$disk/boot.img" --env MEET="$disk" -- "$root/tests/guest/daemon_cases.sh" "$assets" "$@"
