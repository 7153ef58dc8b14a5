#!/bin/sh
# `tessera ssh` with a real client goes through passt into a guest over nodes of the lab, where a real server lets it in; the judgement: ssh_cases.sh.
# usage: ssh.sh SOURCE_ROOT TESSERA NODES LINK_NODE CASE...; exit 77 where the lab cannot run
set -u
root=$1 tessera=$2 nodes=$3 link=$4
shift 4
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
for p in passt ssh ssh-keygen dropbear dropbearkey; do
	command -v "$p" >/dev/null || skip ssh "$p is not installed; run tools/install-deps"
done
need_lab ssh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

ssh-keygen -q -t ed25519 -N '' -C test -f "$work/key" || exit 1
dropbearkey -t ed25519 -f "$work/host" >/dev/null 2>&1 || exit 1
"$root/tools/lab/guest-initrd" -o "$work/initrd.gz" --job "$root/tests/guest/ssh_job.sh" --with dropbear --add "$work/host:keys/host" --add "$work/key.pub:keys/authorized_keys" || exit 1
gzip -dc "$work/initrd.gz" >"$work/initrd" # unpacking is simulated too
"$root/lab" --build "$(dirname "$tessera")" --nodes "$nodes" --lend cpus=1,memory=384M --share "$assets" --share "$work" --with passt --with ssh --timeout 1700 -- \
	"$root/tests/guest/ssh_cases.sh" "$assets" "$work" "$link" "$@"
