#!/bin/sh
# What a guest frees returns to the hosts: a stock guest over two nodes fills a good part of its memory from both CPUs and frees it again, while its fragments'
# memory is read from /proc. usage: memory.sh SOURCE_ROOT MANYVM; exit 77 where the lab cannot run
set -u
root=$1 manyvm=$2
# shellcheck source=tests/guest/lab.sh
. "$(dirname "$0")/lab.sh"
fail() { echo "memory.sh: $*"; exit 1; }
need_lab memory
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

cat >"$work/job" <<'E'
#!/bin/sh
mount -t tmpfs -o size=150m tmpfs /tmp
for c in 1 2; do taskset $c dd if=/dev/zero of=/tmp/$c bs=1M count=48 2>/dev/null; done
echo 'memory: filled'
sleep 1
rm /tmp/1 /tmp/2
sleep 8
echo 'memory: freed'
sleep 1
for i in $(seq 20); do taskset $((1 + i % 2)) cp /bin/busybox /tmp/copy$i; done
echo "memory: copies: $(md5sum /tmp/copy* | cut -d' ' -f1 | sort -u | wc -l)"
dmesg | grep -E "BUG:|WARNING:|balloon" | sed 's/^/dmesg: /'
E
# Both fragments are one process there: its memory at either line, which holds for a second.
cat >"$work/inside" <<'E'
#!/bin/sh
out=$1
shift
"$@" >$out 2>&1 &
vm=$!
for word in filled freed; do
	until grep -q "memory: $word" $out; do
		kill -0 $vm 2>/dev/null || { cat $out; exit 1; }
		sleep 0.1
	done
	echo "resident $word $(awk '/^VmRSS/ { print int($2 / 1024) }' /proc/$vm/status)"
done
wait $vm
code=$?
cat $out
exit $code
E
chmod 755 "$work/inside"
"$root/tools/lab/guest-initrd" -o "$work/initrd.gz" --job "$work/job" || fail 'cannot make an initrd'
gzip -dc "$work/initrd.gz" >"$work/initrd" # unpacking is simulated too

"$root/lab" --nodes 2 --no-daemons --share "$assets" --share "$work" --share "$(dirname "$manyvm")" --timeout 800 -- "$work/inside" /run/out \
	"$manyvm" --stats --nodes 2 --cpus 1 --memory 192 --kernel "$assets/vmlinux" --initrd "$work/initrd" --append quiet >"$work/out" 2>&1
status=$?
tr -d '\r' <"$work/out" >"$work/text"
[ $status -eq 0 ] || { tail -n 40 "$work/text"; fail "the guest ended with $status"; }
grep -qx 'memory: copies: 1' "$work/text" || fail 'memory that was freed and used again is not what was written'
! grep '^dmesg: ' "$work/text" || fail 'the guest complains'
resident() { sed -n "s/^resident $1 //p" "$work/text"; }
filled=$(resident filled) freed=$(resident freed)
for node in A B; do
	grep -qE "^$node pager.discards [1-9]" "$work/text" || { tail -n 60 "$work/text"; fail "node $node was told of no free pages"; }
done
[ "$((filled - freed))" -ge 70 ] || fail "of 96 MiB freed the fragments gave back $((filled - freed)): $filled MiB resident before, $freed after"
echo "memory.sh: ok, resident $filled MiB with 96 MiB of files in the guest, $freed MiB without"
