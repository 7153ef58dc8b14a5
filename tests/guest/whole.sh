#!/bin/sh
# An image of Debian as `tessera image build` makes it boots over nodes of the lab and is used as people use it: cloud-init, ssh, consoles, the agent, a
# reboot, stop and start again; the judgement: whole_cases.sh. Not part of ./check: simulators take an hour or more (doc/plan.md); it is for hosts with a KVM that
# can do it (TESSERA_TEST_LAB='--sim host'), and for patience.
# usage: whole.sh SOURCE_ROOT TESSERA NODES DISK_NODE CASE...; exit 77 where it cannot run
# $TESSERA_TEST_LAB: options of the lab instead of "--sim bochs --mips 2000".
# $TESSERA_TEST_IMAGE: such an image made before, instead of a new one. $TESSERA_TEST_SHOW: show the serial console meanwhile.
set -u
root=$1 tessera=$2 nodes=$3 disk_node=$4
shift 4
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
for p in passt ssh ssh-keygen e2fsck mmdebstrap; do
	command -v "$p" >/dev/null || skip whole "$p is not installed; run tools/install-deps"
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

image=${TESSERA_TEST_IMAGE:-}
if [ -z "$image" ]; then
	image=$work/web.img
	"$tessera" image build --size 1G -o "$image" >"$work/built" 2>&1 || {
		grep -q 'no mirror answers' "$work/built" && skip whole 'no mirror of Debian answers'
		cat "$work/built"
		exit 1
	}
fi
mkdir "$work/in"
ssh-keygen -q -t ed25519 -N '' -C whole -f "$work/in/key" || exit 1
printf '#cloud-config\npassword: tessera\nchpasswd: {expire: false}\nruncmd:\n  - echo user data >>/var/tmp/told\n' >"$work/in/user-data.yaml"
cp "${TALK:-$root/build/tests/guest/talk}" "$work/in/talk"
# shellcheck disable=SC2086 # options
"$root/lab" --build "$(dirname "$tessera")" ${TESSERA_TEST_LAB:---sim bochs --mips 2000} --nodes "$nodes" --lend cpus=1,memory=$((512 / nodes + 64))M --disk "$image" --share "$work/in" --env TESSERA_TEST_SHOW --with ssh --with passt --with e2fsck --timeout 3500 -- \
	"$root/tests/guest/whole_cases.sh" "$work/in" "$disk_node" "$@"
