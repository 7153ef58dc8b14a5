/* Where a node listens: "ADDR:PORT" or "[V6]:PORT", and sockets made from it. Any thread; nothing here is kept. */
#ifndef NET_ADDR_H
#define NET_ADDR_H

#include "base/failure.h"
#include "base/types.h"

#include <sys/socket.h>

enum { ADDR_TEXT_BYTES = 64 };

struct addr {
	struct sockaddr_storage sa;
	socklen_t bytes;
};

/* Numeric addresses and port 0 .. 65535 only: -EINVAL for anything else. An IPv4 or bracketed IPv6 address; "*" for every IPv4 address. */
int addr_parse(struct addr *a, const char *text, struct failure *f) MUST_CHECK;

/* Like addr_parse but also accepts a host name; may wait for DNS. For what people type. */
int addr_resolve(struct addr *a, const char *text, struct failure *f) MUST_CHECK;

/* "127.0.0.1:7100" or "[::1]:7100". */
void addr_print(const struct addr *a, char text[ADDR_TEXT_BYTES]);

bool addr_is_loopback(const struct addr *a);
uint16_t addr_port(const struct addr *a);

/* Nonblocking, close-on-exec listener in *fd; *a is updated with the port chosen when it was 0. -errno, told in f. */
int addr_listen(struct addr *a, int *fd, struct failure *f) MUST_CHECK;

/* Nonblocking, close-on-exec socket whose connection to a is made or under way (then poll for POLLOUT and ask addr_connected). -errno. */
int addr_connect(const struct addr *a, int *fd) MUST_CHECK;

/* After POLLOUT: 0 when the connection stands, else why not. */
int addr_connected(int fd) MUST_CHECK;

#endif
