/* User-mode networking: passt speaks the guest's TCP and UDP through ordinary sockets of the node. The guest's side of it is the same on every node (10.0.2.15, gateway
 * 10.0.2.2), whatever the node's own addresses are, so that a VM does not see which node its network is on.
 *
 * passt goes into the background by itself once it is ready, so the end of the process we started says that it listens on the forwarded ports; the daemon that it leaves
 * ends when our side of its socket is closed, by us or by our death. It gives up root and all of the file system by itself. */
#include "dev/helper.h"
#include "dev/nic_backend.h"

#include "base/log.h"
#include "base/text.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SOCKET_BYTES = 16 << 20, READY_MS = 15000, SPEC_BYTES = 80, ARGS_FIXED = 24, BUSY_TRIES = 20, BUSY_MS = 50 };

/* passt takes the interface of the default route, as a template; without one it must be told. "": leave it to passt. */
static void choose_interface(char to[IF_NAMESIZE])
{
	struct ifaddrs *all = NULL;
	char line[256];
	bool found = false;
	FILE *routes = fopen("/proc/net/route", "re");

	*to = 0;
	while (routes && !found && fgets(line, sizeof line, routes)) {
		unsigned long destination = 1, gateway, flags, mask = 1;

		found = sscanf(line, "%*s %lx %lx %lx %*d %*d %*d %lx", &destination, &gateway, &flags, &mask) == 4 && !destination && !mask;
	}
	if (routes)
		fclose(routes);
	if (found || getifaddrs(&all) < 0)
		return;
	for (struct ifaddrs *i = all; i && !*to; i = i->ifa_next)
		if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET && (i->ifa_flags & IFF_UP) && !(i->ifa_flags & IFF_LOOPBACK))
			text_copy(to, IF_NAMESIZE, i->ifa_name);
	freeifaddrs(all);
}

/* passt hands the guest's packets to sockets of the node, so one for 127.0.0.1 would reach what listens for the node itself only: our own daemon, for one. */
static bool passt_allowed(const uint8_t *at, size_t bytes)
{
	bool ipv4 = bytes >= 14 && at[12] == 0x08 && at[13] == 0x00, arp = bytes >= 14 && at[12] == 0x08 && at[13] == 0x06;

	return arp || (ipv4 && bytes >= 34 && at[30] != 127 && at[30] != 0);
}

static int complain(struct helper *h, int status, struct failure *f)
{
	char words[200];

	if (status == -ETIMEDOUT) {
		helper_kill(h);
		return failure_set(f, -EIO, "look at the node's log", "passt does not get ready");
	}
	helper_last_words(h, words, sizeof words);
	if (strstr(words, "bind"))
		return failure_set(f, -EADDRINUSE, "choose other ports for forward=, or end what listens there (ss -ltnup)", "passt: %s", words);
	if (strstr(words, "interface"))
		return failure_set(f, -ENETDOWN, "give the node a network interface with an IPv4 address", "passt: %s", words);
	return failure_set(f, -EIO, "try it by hand on that node: passt -f", "passt has failed (status %d): %s", status, words);
}

static int run_passt(int theirs, const struct nic_config *c, struct failure *f)
{
	char spec[NIC_FORWARDS_MAX][SPEC_BYTES], interface[IF_NAMESIZE], mtu[8];
	const char *args[ARGS_FIXED + 2 * NIC_FORWARDS_MAX + 4] = {"passt", "-F", "3", "-4", "-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2",
		"-M", "52:55:0a:00:02:02", "-m", mtu, "--no-map-gw"};
	struct helper h;
	unsigned n = 15, udp = 0, tcp = 0;
	int status, err;

	_Static_assert(HELPER_FD == 3, "as in the arguments");
	snprintf(mtu, sizeof mtu, "%u", (unsigned)NIC_USER_MTU);
	for (unsigned i = 0; i < c->forwards; i++) {
		const struct nic_forward *w = &c->forward[i];

		snprintf(spec[i], SPEC_BYTES, "%s%s%u:%u", w->address, *w->address ? "/" : "", w->host, w->guest);
		*(w->udp ? &udp : &tcp) += 1;
		args[n++] = w->udp ? "-u" : "-t";
		args[n++] = spec[i];
	}
	if (!tcp) {
		args[n++] = "-t";
		args[n++] = "none";
	}
	if (!udp) { /* else the ports of TCP are forwarded for UDP, too */
		args[n++] = "-u";
		args[n++] = "none";
	}
	choose_interface(interface);
	if (*interface) {
		args[n++] = "-i";
		args[n++] = interface;
	}
	err = helper_start(&h, args, theirs, false, "passt", f);
	if (err)
		return err;
	status = helper_wait(&h, READY_MS);
	err = status ? complain(&h, status, f) : 0;
	helper_end(&h, 0);
	return err;
}

/* passt drops frames that its socket has no room for, and then waits for its clock; for a socket that it does not accept itself it leaves that to us. Without
 * CAP_NET_ADMIN we get what net.core.wmem_max allows. */
static void make_room(int fd)
{
	int bytes = SOCKET_BYTES;

	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes) < 0 && setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) < 0)
		log_debug("net: a socket keeps its size: %s", strerror(errno));
}

/* One try: *fd is the stream to a passt that is ready. */
static int try_passt(int *fd, const struct nic_config *c, struct failure *f)
{
	int pair[2], err;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return failure_set(f, -errno, "see that the node has descriptors left", "no socket to be had for a network card");
	make_room(pair[1]); /* not ours: what passt finds at once it hands to a socket at once, and drops, too, what has no room there */
	err = run_passt(pair[1], c, f);
	close(pair[1]);
	if (!err && fcntl(pair[0], F_SETFL, O_NONBLOCK) < 0)
		err = failure_set(f, -errno, "", "cannot use a socket: %s", strerror(errno));
	if (err)
		close(pair[0]);
	*fd = err ? -1 : pair[0];
	return err;
}

int nic_passt_open(struct nic_backend *b, const struct nic_config *c, struct failure *f)
{
	struct failure now;
	unsigned tries = 0;
	int fd, err;

	if (c->forwards > NIC_FORWARDS_MAX)
		return failure_set(f, -EINVAL, "forward less", "too many forwarded ports");
	do { /* the passt of a VM that has just ended, this one before its reset for one, ends a moment after it */
		now = (struct failure){0};
		err = try_passt(&fd, c, &now);
	} while (err == -EADDRINUSE && tries++ < BUSY_TRIES && poll(NULL, 0, BUSY_MS) == 0);
	if (err)
		return failure_set(f, err, now.todo, "%s", now.what);
	b->fd = fd;
	b->stream = true;
	b->allowed = passt_allowed;
	b->lost = "passt has ended: the network card's link is down until the VM is started again";
	return 0;
}
