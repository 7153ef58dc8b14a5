/* What the VM's first node boots, opened while there is still no lock (node/sandbox.h): the kernel and initial RAM disk that were named, or those inside
 * the VM's first disk. Thread: the fragment's steps. */
#ifndef NODE_BOOTFILES_H
#define NODE_BOOTFILES_H

#include "node/fragment_machine.h"

struct bootfiles {
	int kernel_fd, initrd_fd; /* 0: none */
	char kernel[1400];        /* for messages */
	char append[2200];        /* the kernel's command line behind our defaults */
};

/* On the coordinator's node. -errno with the reason; nothing is open then. */
int bootfiles_open(struct bootfiles *b, const struct fragment_config *c, struct failure *f) MUST_CHECK;
void bootfiles_close(struct bootfiles *b);

#endif
