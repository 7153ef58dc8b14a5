/* What a virtual network card is plugged into on the node that has it: passt (a program that speaks for the guest through ordinary sockets), or a tap interface
 * in a bridge. Ethernet frames without checksum field in both directions; through a tap interface with a struct virtio_net_hdr in front (nic_head_bytes), which leaves
 * checksums and the segmentation of TCP to whom they are easier for. Knows nothing of virtio or guests otherwise.
 *
 *     nic_open -> nic_start -> link(up) ... nic_send, receive ... [link(down) for good] ... nic_close
 *
 * Losing frames is allowed, blocking is not: what the other side does not take at once waits in NIC_QUEUE_BYTES (nic_busy); what has no room is dropped, and counted.
 * In the other direction nothing is dropped here: while receive() says "not now" the kernel holds frames, and TCP slows down.
 *
 * When passt dies, or the tap interface is taken away, the link goes down and stays down: frames sent are dropped and counted, the VM lives, trouble() says so once.
 * Nothing is restarted by itself (what passt knew of the guest's connections is lost anyway); a new nic_open of the same configuration is a new link.
 *
 * Threads: open, start and close belong to one owner. nic_send and nic_resume from any thread once it was started, also from receive(); the callbacks come on the
 * nic's own
 * thread, with no lock held, the first link() within nic_start. nic_close from none of them; when it returns none runs. Memory given to nic_send is ours, never the
 * guest's view of RAM: nothing may wait here. */
#ifndef DEV_NIC_H
#define DEV_NIC_H

#include "base/failure.h"
#include "base/types.h"

#include <sys/uio.h>

enum {
	NIC_MAC_BYTES = 6,
	NIC_FRAME_MIN = 14,           /* shorter ones are dropped */
	NIC_FRAME_MAX = 65535 + 18,   /* with its Ethernet header and a VLAN tag; a guest of MTU 1500 sends and gets 1514, or TCP that is segmented later */
	NIC_HEAD_MAX = 10,
	NIC_BATCH_MAX = 64,           /* frames sent at once */
	NIC_USER_MTU = 65520,         /* of user-mode networks: passt ends the guest's connections itself, so nothing beyond it limits a packet's size */
	NIC_QUEUE_BYTES = 512 * 1024,
	NIC_RETRY_MS = 100,
	NIC_FORWARDS_MAX = 16,
	NIC_IFNAME_BYTES = 16,        /* IFNAMSIZ */
};

enum nic_kind {
	NIC_USER, /* passt: the guest gets 10.0.2.15/24 by DHCP, gateway 10.0.2.2, the node's resolvers; it reaches what the node reaches */
	NIC_TAP,  /* a tap interface made here (root, /dev/net/tun), put into a bridge */
	NIC_KINDS
};

/* Connections to the node's port go to the guest's port. */
struct nic_forward {
	bool udp;
	char address[46];      /* of the node; "": all of them */
	uint16_t host, guest;
};

struct nic_config {
	enum nic_kind kind;
	char bridge[NIC_IFNAME_BYTES]; /* NIC_TAP; "": in none */
	char ifname[NIC_IFNAME_BYTES]; /* NIC_TAP: the interface's name; "": the kernel's choice, tapN */
	unsigned forwards;             /* NIC_USER */
	struct nic_forward forward[NIC_FORWARDS_MAX];
	/* One line for a person, where nic_calls has none of its own. May be NULL: it is logged. */
	void (*trouble)(void *user, const char *what);
	void *user;
};

struct nic_calls {
	/* A frame for the guest, its memory good until return. false: cannot take it now; it comes again after nic_resume, or after NIC_RETRY_MS. */
	bool (*receive)(void *user, const uint8_t *frame, size_t bytes);
	void (*flush)(void *user); /* after one or more receive(): nothing more for the moment. May be NULL */
	void (*drained)(void *user); /* nic_busy() is no longer true. May be NULL */
	void (*link)(void *user, bool up);
	void (*trouble)(void *user, int err, const char *what); /* one line for a person; NULL: nic_config's */
	void *user;
};

struct nic;

/* -ENOENT (no such bridge, or no program: says which package), -EPERM (tap without CAP_NET_ADMIN), -EADDRINUSE (a port to forward), -EINVAL, -ENETDOWN (passt finds no
 * network on the node), -EIO (passt says no; its words are in f), -EBUSY (the interface's name), -ENOMEM, -EAGAIN. Waits until forwarded ports listen. */
int nic_open(struct nic **out, const struct nic_config *c, struct failure *f) MUST_CHECK;

/* Begin to deliver; until then frames wait in the kernel. Once. Opens nothing but an event's descriptor. */
int nic_start(struct nic *n, const struct nic_calls *calls) MUST_CHECK;

/* No callback runs any more, nor will. Not from a callback. Nothing if it was not started. */
void nic_stop(struct nic *n);

/* Ends passt, removes the tap interface. Started or not. */
void nic_close(struct nic *n);

/* Up to NIC_BATCH_MAX frames in their order, each in one piece. 0, also when some were dropped for want of room or because the link is down (nic_count tells); -EINVAL:
 * too many, or one too short or too long; the others went. */
int nic_send(struct nic *n, const struct iovec *frame, unsigned frames) MUST_CHECK;

/* How many bytes of a struct virtio_net_hdr stand in front of each frame: 0 or NIC_HEAD_MAX. */
unsigned nic_head_bytes(const struct nic *n);

/* From now on frames for the guest may come unfinished in these ways (TUN_F_*; none at first). Where there are heads. Any thread; takes effect soon. */
void nic_offload(struct nic *n, unsigned tun_flags);

/* The other side takes frames more slowly than they come: some wait here, and who can wait with more should. Any thread. */
bool nic_busy(struct nic *n);

/* receive() would take frames again. */
void nic_resume(struct nic *n);

struct nic_counts { uint64_t sent, sent_bytes, received, received_bytes, dropped, refused; };

/* dropped: no room, or no link. refused: frames that must not leave (nic_passt.c: for the node's own loopback) or have no sense. */
void nic_count(const struct nic *n, struct nic_counts *to);

/* The name of the tap interface, "" for passt. */
const char *nic_interface(const struct nic *n);

#endif
