/* One line to somebody, and what they answer, on standard output, until it holds UNTIL (exit 0) or ends (1). Static, so that guests can run it, too.
 *
 *     talk unix PATH LINE UNTIL                   connect to a Unix socket
 *     talk unix-listen PATH LINE UNTIL            wait for one to connect there; LINE is said then
 *     talk vsock-bulk PATH PORT LINE UNTIL        by vsock through the host's socket PATH
 *     talk vsock CID PORT LINE UNTIL              the same with vsock
 *     talk vsock-listen PORT LINE UNTIL
 *     talk pty ROWS COLUMNS LINE UNTIL CMD...     run CMD on a terminal of that size
 *
 * UNTIL "": until the other side ends, which is good then. LINE "": nothing is said. LINE "count:N": N bytes are said, a pattern; UNTIL "count:N": so many must come,
 * in that pattern, and are not shown; then our direction is shut, and the other must end. */
#include <errno.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum { HEARD = 1 << 16 };

static void die(const char *what)
{
	fprintf(stderr, "talk: %s: %s\n", what, strerror(errno));
	exit(2);
}

static unsigned char pattern(unsigned long i)
{
	return (unsigned char)(i ^ i >> 8 ^ i >> 16);
}

static int meet(int family, const struct sockaddr *a, socklen_t n, int listens)
{
	int s = socket(family, SOCK_STREAM, 0), c;

	if (s < 0)
		die("socket");
	if (!listens) {
		if (connect(s, a, n) < 0)
			die("connect");
		return s;
	}
	if (bind(s, a, n) < 0 || listen(s, 1) < 0)
		die("listen");
	printf("talk: listens\n");
	fflush(stdout);
	c = accept(s, NULL, NULL);
	if (c < 0)
		die("accept");
	close(s);
	return c;
}

static int meet_unix(const char *path, int listens)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	return meet(AF_UNIX, (struct sockaddr *)&a, sizeof a, listens);
}

static int meet_vsock(const char *cid, const char *port, int listens)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK, .svm_cid = cid ? (unsigned)strtoul(cid, NULL, 0) : VMADDR_CID_ANY, .svm_port = (unsigned)strtoul(port, NULL, 0)};

	return meet(AF_VSOCK, (struct sockaddr *)&a, sizeof a, listens);
}

static int meet_through(const char *path, const char *port)
{
	int s = meet_unix(path, 0);
	char byte = 0;

	dprintf(s, "CONNECT %s\n", port);
	while (byte != '\n' && read(s, &byte, 1) == 1)
		;
	return s;
}

static int meet_program(const char *rows, const char *columns, char **args)
{
	struct winsize w = {.ws_row = (unsigned short)atoi(rows), .ws_col = (unsigned short)atoi(columns)};
	int fd;
	pid_t pid = forkpty(&fd, NULL, NULL, &w);

	if (pid == 0) {
		execvp(args[0], args);
		_exit(127);
	}
	if (pid < 0)
		die("forkpty");
	return fd;
}

static void put(int fd, const void *bytes, size_t n)
{
	for (const char *at = bytes; n;) {
		ssize_t k = write(fd, at, n);

		if (k <= 0)
			die("write");
		at += k;
		n -= (size_t)k;
	}
}

static unsigned long counted(const char *text)
{
	return strncmp(text, "count:", 6) == 0 ? strtoul(text + 6, NULL, 0) : 0;
}

static void say(int fd, const char *line)
{
	unsigned char bytes[4096];
	unsigned long n = counted(line);

	if (*line && !n)
		dprintf(fd, "%s\n", line);
	for (unsigned long at = 0, k; at < n; at += k) {
		k = n - at < sizeof bytes ? n - at : sizeof bytes;
		for (unsigned long i = 0; i < k; i++)
			bytes[i] = pattern(at + i);
		put(fd, bytes, k);
	}
}

static int hear_count(int fd, unsigned long n)
{
	unsigned char bytes[4096];
	unsigned long at = 0;
	ssize_t k;

	while (at < n && (k = read(fd, bytes, sizeof bytes)) > 0)
		for (ssize_t i = 0; i < k; i++)
			if (at >= n || bytes[i] != pattern(at++)) {
				printf("talk: byte %lu is wrong\n", at);
				return 1;
			}
	wait(NULL); /* who says ours */
	shutdown(fd, SHUT_WR);
	if (at == n && read(fd, bytes, 1) == 0) {
		printf("talk: heard all %lu bytes\n", n);
		return 0;
	}
	printf("talk: heard %lu bytes, %s\n", at, strerror(errno));
	return 1;
}

static int hear(int fd, const char *until)
{
	static char heard[HEARD + 1];
	size_t had = 0;
	ssize_t n;

	if (counted(until))
		return hear_count(fd, counted(until));
	while (had < HEARD && (n = read(fd, heard + had, HEARD - had)) > 0) {
		put(1, heard + had, (size_t)n);
		had += (size_t)n;
		if (*until && strstr(heard, until))
			return 0;
	}
	return *until ? 1 : 0;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int fd, at = 3;

	if (strcmp(how, "unix") == 0 && argc == 5)
		fd = meet_unix(argv[2], 0);
	else if (strcmp(how, "unix-listen") == 0 && argc == 5)
		fd = meet_unix(argv[2], 1);
	else if (strcmp(how, "vsock-listen") == 0 && argc == 5)
		fd = meet_vsock(NULL, argv[2], 1);
	else if (strcmp(how, "vsock") == 0 && argc == 6)
		fd = meet_vsock(argv[2], argv[3], 0), at = 4;
	else if (strcmp(how, "vsock-bulk") == 0 && argc == 6)
		fd = meet_through(argv[2], argv[3]), at = 4;
	else if (strcmp(how, "pty") == 0 && argc > 6)
		fd = meet_program(argv[2], argv[3], argv + 6), at = 4;
	else
		return 2;
	if (counted(argv[at]) && counted(argv[at + 1])) { /* both ways at once, or both would wait */
		pid_t pid = fork();

		if (pid == 0) {
			say(fd, argv[at]);
			_exit(0);
		}
	} else {
		say(fd, argv[at]);
	}
	return hear(fd, argv[at + 1]);
}
