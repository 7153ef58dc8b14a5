/* Between nic.c, which has the thread, the queue and the counters, and the two ways to open a link: nic_passt.c, nic_tap.c. For these three only. */
#ifndef DEV_NIC_BACKEND_H
#define DEV_NIC_BACKEND_H

#include "dev/nic.h"

struct nic_backend {
	int fd;       /* nonblocking */
	bool stream;  /* frames on a byte stream, each behind its length (32 bits, big-endian); else a read or a write is a frame */
	unsigned head; /* as nic_head_bytes */
	char ifname[NIC_IFNAME_BYTES];
	const char *lost; /* what is said when it ends by itself */
	/* May this frame leave? at: its first bytes, at most NIC_PEEK of them. NULL: all may. */
	bool (*allowed)(const uint8_t *at, size_t bytes);
	void (*offload)(int fd, unsigned tun_flags); /* with a head only */
};

enum { NIC_PEEK = 64 };

/* Fill in *b. */
int nic_passt_open(struct nic_backend *b, const struct nic_config *c, struct failure *f) MUST_CHECK;
int nic_tap_open(struct nic_backend *b, const struct nic_config *c, struct failure *f) MUST_CHECK;

#endif
