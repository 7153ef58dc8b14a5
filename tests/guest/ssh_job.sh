#!/bin/sh
# The job of the guest of ssh.sh: the network by DHCP, and an SSH server that lets in whose key the initrd brought along.
script=/tmp/dhcp.script
cat >$script <<'SCRIPT'
#!/bin/sh
[ "$1" != bound ] || { ip addr add "$ip/$mask" dev "$interface"; ip route add default via "${router%% *}"; }
SCRIPT
chmod 755 $script
mkdir -p /etc /root/.ssh
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group
echo 'root:*:1::::::' >/etc/shadow
echo /bin/sh >/etc/shells
hostname web
mv /keys/authorized_keys /root/.ssh/
chown -R root:root /root
chmod 700 /root /root/.ssh
chmod 600 /root/.ssh/authorized_keys /keys/host
ip link set lo up
ip link set eth0 up
udhcpc -s $script -i eth0 -q -n -t 20 >/tmp/dhcp 2>&1 || cat /tmp/dhcp
dropbear -F -E -s -r /keys/host &
echo 'job: ready'
while :; do sleep 1000; done
