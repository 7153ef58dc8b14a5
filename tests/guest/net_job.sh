#!/bin/sh
# The job of the guests of net.sh and of ./bench net: eth0 up, by DHCP or with the kernel parameter net.address=ADDRESS/BITS, then it does what the console tells it,
# a line at a time, and says when that is done.
say() { echo "job: $*"; }
script=/tmp/dhcp.script
cat >$script <<'SCRIPT'
#!/bin/sh
[ "$1" != bound ] || { ip addr add "$ip/$mask" dev "$interface"; ip route add default via "${router%% *}"; }
SCRIPT
chmod 755 $script
ip link set lo up
ip link set eth0 up
address=$(xargs -n1 </proc/cmdline | sed -n 's/^net.address=//p')
if [ -n "$address" ]; then
	ip addr add "$address" dev eth0
else
	udhcpc -s $script -i eth0 -q -n -t 20 >/tmp/dhcp 2>&1 || cat /tmp/dhcp
fi
say "address $(ip -4 addr show eth0 | sed -n 's/.*inet \([0-9.]*\).*/\1/p'), mac $(cat /sys/class/net/eth0/address), mtu $(cat /sys/class/net/eth0/mtu), queues $(echo /sys/class/net/eth0/queues/rx-* | wc -w)"
say ready
while read -r line; do
	eval "$line"
	say "done $?"
done
