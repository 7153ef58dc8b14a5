/* A process that connects to Unix sockets for a fragment, which cannot do so itself any more (node/sandbox.h): `tessera dial STEM`, this program again, without anything
 * of the VM. It connects to STEM.vsock_PORT and to nothing else, and ends with the fragment.
 *
 * Threads: open and close belong to one owner; ask from any thread; hear from one. */
#ifndef DEV_DIALER_H
#define DEV_DIALER_H

#include "base/types.h"

enum { DIALER_FD = 3 };

struct dialer {
	int pid; /* 0: none */
	int fd;  /* readable when there is an answer; -1: none */
};

/* Start it: program is this program's file; number: the descriptor gets this number if it can be had, 0: any. -errno. */
int dialer_open(struct dialer *d, const char *program, const char *stem, int number) MUST_CHECK;
/* It ends by itself when this is closed. */
void dialer_close(struct dialer *d);

/* Connect to that port; the answer names the id. -errno: it will not be answered. Never waits. */
int dialer_ask(struct dialer *d, uint32_t id, uint32_t port) MUST_CHECK;

/* 1: *fd is a connected socket, nonblocking, or -1: it could not be; 0: nothing has come; -EPIPE: it is gone. */
int dialer_hear(struct dialer *d, uint32_t *id, int *fd) MUST_CHECK;

/* The process itself, speaking on fd. Returns when the other side is gone. */
void dialer_serve(int fd, const char *stem);

#endif
