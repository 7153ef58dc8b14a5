/*
 * Keeps a booted Bochs and lets every run start from it. Preloaded into the simulator (LD_PRELOAD).
 *
 * Bochs simulates all CPUs in one thread, so fork() copies a whole running machine in milliseconds, pristine every time, its memory shared until
 * written. This library catches what Bochs prints for port 0xE9 (a putc to stdout). When the machine says 'ready' (see agent.c), the simulator
 * stops inside that putc and becomes a server: each request brings file descriptors for the run's disk, for its frames and for its
 * console; a fork takes them in place of the old ones and simulates on. Bochs' own save and restore is not used: it writes all of guest
 * memory to disk, and would have to be right about every device.
 *
 * Protocol (unix stream socket, one connection a run): the client sends one byte with three descriptors (disk, frames, console). The run is
 * killed when the client closes the connection, however that comes about; if the simulator ends first, the connection is closed.
 *
 * Environment: LAB_SOCKET (where to listen, relative to the working directory), LAB_FRAMES (descriptor for frames while booting),
 * LAB_DISK and LAB_CONSOLE (names of the files that Bochs has open and runs replace).
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FRAME_START = 0x1F, HEAD = 4, RUNS_MAX = 64, IDLE_MS = 2 * 3600 * 1000 };

static int frames_fd = -1;
static uint8_t frame[HEAD + 65536];
static size_t frame_len;

struct run {
	int connection, pidfd;
	pid_t pid;
};

static void die(const char *what)
{
	perror(what);
	_exit(125);
}

static void write_all(int fd, const uint8_t *p, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n <= 0)
			_exit(125); /* nobody listens any more */
		p += n;
		len -= (size_t)n;
	}
}

/* Makes every descriptor that is open on the file `name` (as it was when Bochs opened it) refer to fd's file instead. */
static void replace_file(const char *name, int fd)
{
	char wanted[4096], link[64], target[4096];
	if (!realpath(name, wanted))
		die("lab: realpath");
	for (int i = 3; i < 1024; i++) {
		snprintf(link, sizeof link, "/proc/self/fd/%d", i);
		ssize_t n = readlink(link, target, sizeof target - 1);
		if (n < 0)
			continue;
		target[n] = 0;
		if (!strcmp(target, wanted) && dup2(fd, i) < 0)
			die("lab: dup2");
	}
}

static void silence_terminal(void)
{
	int null = open("/dev/null", O_RDWR);
	if (null < 0)
		die("lab: /dev/null");
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	close(null);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 16))
		die("lab: listen");
	return fd;
}

/* Takes one request. Returns 0 and the three descriptors, or -1. */
static int receive(int connection, int fds[3])
{
	char byte;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} control;
	struct iovec iov = {&byte, 1};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	if (recvmsg(connection, &message, 0) != 1)
		return -1;
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(3 * sizeof(int)))
		return -1;
	memcpy(fds, CMSG_DATA(c), 3 * sizeof(int));
	return 0;
}

/* In the fork: become the run. */
static void take_over(const int fds[3], int listener, const struct run *runs)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setsid();
	signal(SIGPIPE, SIG_DFL);
	close(listener);
	for (int i = 0; i < RUNS_MAX; i++)
		if (runs[i].pid) {
			close(runs[i].connection);
			close(runs[i].pidfd);
		}
	replace_file(getenv("LAB_DISK"), fds[0]);
	replace_file(getenv("LAB_CONSOLE"), fds[2]);
	frames_fd = fds[1];
	close(fds[0]);
	close(fds[2]);
}

static void end_run(struct run *r)
{
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	close(r->pidfd);
	close(r->connection);
	r->pid = 0;
}

/* Returns 1 in a fork that is to simulate on, 0 in the server. */
static int start_run(int connection, int listener, struct run *runs)
{
	int fds[3];
	struct run *free_run = NULL;
	for (int i = 0; i < RUNS_MAX; i++)
		if (!runs[i].pid)
			free_run = &runs[i];
	if (receive(connection, fds)) {
		close(connection);
		return 0;
	}
	pid_t pid = free_run ? fork() : -1;
	if (pid == 0) {
		close(connection);
		take_over(fds, listener, runs);
		return 1;
	}
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	if (pid < 0)
		close(connection);
	else
		*free_run = (struct run){connection, (int)syscall(SYS_pidfd_open, pid, 0), pid};
	return 0;
}

/* Returns only in forks. Ends by itself when nobody has asked for anything for IDLE_MS. */
static void serve(void)
{
	static struct run runs[RUNS_MAX];
	int listener = listen_at(getenv("LAB_SOCKET"));
	prctl(PR_SET_PDEATHSIG, 0);
	silence_terminal();
	write_all(frames_fd, frame, frame_len);
	close(frames_fd);
	for (;;) {
		struct pollfd p[1 + 2 * RUNS_MAX] = {{listener, POLLIN, 0}};
		int busy = 0;
		for (int i = 0; i < RUNS_MAX; i++) {
			busy |= runs[i].pid != 0;
			p[1 + 2 * i] = (struct pollfd){runs[i].pid ? runs[i].connection : -1, POLLIN, 0};
			p[2 + 2 * i] = (struct pollfd){runs[i].pid ? runs[i].pidfd : -1, POLLIN, 0};
		}
		int events = poll(p, 1 + 2 * RUNS_MAX, IDLE_MS);
		if (events < 0)
			continue;
		if (events == 0 && !busy)
			_exit(0);
		for (int i = 0; i < RUNS_MAX; i++)
			if (runs[i].pid && (p[1 + 2 * i].revents || p[2 + 2 * i].revents))
				end_run(&runs[i]);
		if (!p[0].revents)
			continue;
		int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (connection >= 0 && start_run(connection, listener, runs))
			return;
	}
}

/* One byte from the machine. A frame is passed on when it is complete; what is outside frames is dropped. */
static void port_e9(uint8_t byte)
{
	if (frames_fd < 0)
		frames_fd = atoi(getenv("LAB_FRAMES"));
	if (frame_len == 0 && byte != FRAME_START)
		return;
	frame[frame_len++] = byte;
	if (frame_len < HEAD || frame_len < HEAD + (size_t)(frame[2] | frame[3] << 8))
		return;
	if (frame[1] == 'R')
		serve();
	else
		write_all(frames_fd, frame, frame_len);
	frame_len = 0;
}

/* Bochs' unmapped.cc calls this for port 0xE9, and nothing else in Bochs does. */
int putc(int c, FILE *stream)
{
	if (stream != stdout)
		return fputc(c, stream);
	port_e9((uint8_t)c);
	return c;
}
