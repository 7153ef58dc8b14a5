/* See addr.h. */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HOST_BYTES = 256, BACKLOG = 64 };

/* Cut "HOST:PORT" or "[HOST]:PORT" in two. A bare IPv6 address is ambiguous and refused. */
static int addr_split(const char *text, char host[HOST_BYTES], const char **port)
{
	const char *from = text, *end = strrchr(text, ':'), *last;
	unsigned long value;
	char *rest;

	if (!end)
		return -EINVAL;
	*port = end + 1;
	if (*from == '[') {
		from++;
		if (end == text || *--end != ']')
			return -EINVAL;
	} else if (memchr(from, ':', (size_t)(end - from))) {
		return -EINVAL;
	}
	last = *port + strlen(*port);
	if (end <= from || end - from >= HOST_BYTES || **port < '0' || **port > '9')
		return -EINVAL;
	value = strtoul(*port, &rest, 10);
	if (rest != last || value > UINT16_MAX)
		return -EINVAL;
	memcpy(host, from, (size_t)(end - from));
	host[end - from] = 0;
	return 0;
}

static int addr_look_up(struct addr *a, const char *text, int flags, struct failure *f)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV}, *found;
	char host[HOST_BYTES];
	const char *port;
	int r;

	memset(a, 0, sizeof *a);
	if (addr_split(text, host, &port))
		return failure_set(f, -EINVAL, "write ADDR:PORT, e.g. 127.0.0.1:7100 or [::1]:7100", "'%.100s' is no address with a port", text);
	r = getaddrinfo(strcmp(host, "*") == 0 ? "0.0.0.0" : host, port, &hints, &found);
	if (r)
		return failure_set(f, -EINVAL, "check the address", "'%.100s': %s", text, gai_strerror(r));
	memcpy(&a->sa, found->ai_addr, found->ai_addrlen);
	a->bytes = found->ai_addrlen;
	freeaddrinfo(found);
	return 0;
}

int addr_parse(struct addr *a, const char *text, struct failure *f)
{
	return addr_look_up(a, text, AI_NUMERICHOST, f);
}

int addr_resolve(struct addr *a, const char *text, struct failure *f)
{
	return addr_look_up(a, text, 0, f);
}

void addr_print(const struct addr *a, char text[ADDR_TEXT_BYTES])
{
	const void *at = &((const struct sockaddr_in *)&a->sa)->sin_addr;
	char host[INET6_ADDRSTRLEN] = "?";

	if (a->sa.ss_family == AF_INET6)
		at = &((const struct sockaddr_in6 *)&a->sa)->sin6_addr;
	if (a->sa.ss_family == AF_INET6 || a->sa.ss_family == AF_INET)
		inet_ntop(a->sa.ss_family, at, host, sizeof host);
	snprintf(text, ADDR_TEXT_BYTES, a->sa.ss_family == AF_INET6 ? "[%s]:%u" : "%s:%u", host, addr_port(a));
}

bool addr_is_loopback(const struct addr *a)
{
	const struct in6_addr *six = &((const struct sockaddr_in6 *)&a->sa)->sin6_addr;
	uint32_t four;

	if (a->sa.ss_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(six))
		return IN6_IS_ADDR_LOOPBACK(six);
	if (a->sa.ss_family == AF_INET6)
		memcpy(&four, six->s6_addr + 12, sizeof four);
	else if (a->sa.ss_family == AF_INET)
		four = ((const struct sockaddr_in *)&a->sa)->sin_addr.s_addr;
	else
		return false;
	return ntohl(four) >> 24 == 127;
}

uint16_t addr_port(const struct addr *a)
{
	if (a->sa.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)&a->sa)->sin6_port);
	return ntohs(((const struct sockaddr_in *)&a->sa)->sin_port);
}

static int addr_socket(const struct addr *a)
{
	int fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

static int addr_bind(struct addr *a, int fd)
{
	const int on = 1;

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) || bind(fd, (const struct sockaddr *)&a->sa, a->bytes) || listen(fd, BACKLOG))
		return -errno;
	a->bytes = sizeof a->sa;
	return getsockname(fd, (struct sockaddr *)&a->sa, &a->bytes) ? -errno : 0;
}

int addr_listen(struct addr *a, int *fd, struct failure *f)
{
	char text[ADDR_TEXT_BYTES];
	int r = addr_socket(a);

	*fd = r;
	if (r >= 0)
		r = addr_bind(a, *fd);
	if (r == 0)
		return 0;
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	addr_print(a, text);
	return failure_set(f, r, r == -EADDRINUSE ? "choose another port, or stop what listens there" : "choose an address of this host",
			   "cannot listen on %s: %s", text, strerror(-r));
}

int addr_connect(const struct addr *a, int *fd)
{
	int r = addr_socket(a);

	*fd = r;
	if (r < 0)
		return r;
	if (connect(*fd, (const struct sockaddr *)&a->sa, a->bytes) == 0 || errno == EINPROGRESS)
		return 0;
	r = -errno;
	close(*fd);
	*fd = -1;
	return r;
}

int addr_connected(int fd)
{
	socklen_t bytes = sizeof(int);
	int err = 0;

	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &bytes))
		return -errno;
	return -err;
}
