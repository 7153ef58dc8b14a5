/* A tap interface of ours, put into a bridge: frames go to the host's network as they are. It lives as long as its descriptor. */
#include "dev/nic_backend.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

_Static_assert(NIC_IFNAME_BYTES == IFNAMSIZ, "names of interfaces are the kernel's");

static int enter_bridge(int control, struct ifreq *tap, const char *bridge, struct failure *f)
{
	struct ifreq r = {0};
	int index, err;

	if (ioctl(control, SIOCGIFINDEX, tap) < 0)
		return failure_set(f, -errno, "look at the node's network", "the tap interface %s is not there", tap->ifr_name);
	index = tap->ifr_ifindex;
	TEXT_SET(r.ifr_name, bridge);
	if (ioctl(control, SIOCGIFMTU, &r) == 0) {
		tap->ifr_mtu = r.ifr_mtu;
		if (ioctl(control, SIOCSIFMTU, tap) < 0)
			log_warn("%s: cannot have the bridge's MTU %d: %s", tap->ifr_name, r.ifr_mtu, strerror(errno));
	}
	r.ifr_ifindex = index;
	if (ioctl(control, SIOCBRADDIF, &r) == 0)
		return 0;
	err = errno;
	if (err == ENODEV)
		return failure_set(f, -ENOENT, "make it there: ip link add NAME type bridge, ip link set NAME up", "there is no bridge %s on the node", bridge);
	if (err == EOPNOTSUPP || err == ENOTTY)
		return failure_set(f, -EINVAL, "name a bridge: bridge=br0", "%s is not a bridge", bridge);
	return failure_set(f, -err, "see 'ip link' on that node", "cannot put %s into the bridge %s: %s", tap->ifr_name, bridge, strerror(err));
}

static int bring_up(int control, struct ifreq *tap, struct failure *f)
{
	if (ioctl(control, SIOCGIFFLAGS, tap) < 0)
		return failure_set(f, -errno, "see 'ip link' on that node", "cannot examine %s: %s", tap->ifr_name, strerror(errno));
	tap->ifr_flags = (short)(tap->ifr_flags | IFF_UP);
	if (ioctl(control, SIOCSIFFLAGS, tap) < 0)
		return failure_set(f, -errno, "run the daemon as root, or give it CAP_NET_ADMIN", "cannot bring %s up: %s", tap->ifr_name, strerror(errno));
	return 0;
}

static int make_tap(const struct nic_config *c, struct ifreq *tap, struct failure *f)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), err = errno;

	if (fd < 0)
		return failure_set(f, -err, "load it (modprobe tun), and let the daemon open it", "cannot open /dev/net/tun: %s", strerror(err));
	tap->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	TEXT_SET(tap->ifr_name, c->ifname);
	if (ioctl(fd, TUNSETIFF, tap) == 0)
		return fd;
	err = errno;
	close(fd);
	if (err == EPERM)
		return failure_set(f, -EPERM, "run the daemon as root, or give it CAP_NET_ADMIN", "may not make a tap interface");
	return failure_set(f, -err, "choose another name", "cannot make the tap interface %s: %s", c->ifname, strerror(err));
}

static void offload(int fd, unsigned tun_flags)
{
	if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)tun_flags) < 0)
		log_warn("a tap interface does not take the offloads %#x: %s", tun_flags, strerror(errno));
}

int nic_tap_open(struct nic_backend *b, const struct nic_config *c, struct failure *f)
{
	struct ifreq tap = {0};
	int control, err = 0, fd = make_tap(c, &tap, f);

	if (fd < 0)
		return fd;
	TEXT_SET(b->ifname, tap.ifr_name);
	control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (control < 0)
		err = failure_set(f, -errno, "see that the node has descriptors left", "no socket to be had for a tap interface");
	if (!err && *c->bridge)
		err = enter_bridge(control, &tap, c->bridge, f);
	if (!err)
		err = bring_up(control, &tap, f);
	if (control >= 0)
		close(control);
	if (err) {
		close(fd);
		return err;
	}
	b->fd = fd;
	b->head = NIC_HEAD_MAX; /* the kernel's default is the header without its last field */
	b->offload = offload;
	b->lost = "the tap interface of a network card was taken away: its link is down until the VM is started again";
	return 0;
}
