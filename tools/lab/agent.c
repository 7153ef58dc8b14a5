/*
 * The lab's mouth: runs inside the lab's machine and tells the host what happens there, through port 0xE9, which Bochs (port_e9_hack) and QEMU
 * (isa-debugcon) both hand to the host byte by byte, with no baud rate to simulate.
 *
 *   agent stage TEXT       tell a person how far the boot is
 *   agent ready            the machine is booted: the host may keep this state and start runs from it
 *   agent run CMD ARG...   run CMD; its stdout and stderr stream to the host; exits with CMD's status (128 + signal if one killed it)
 *   agent send             copy stdin (a tar archive) to the host
 *   agent exit STATUS      the run is over
 *   agent on NODE CMD ...  run CMD on a node: in its network namespace, on its CPUs, with TESSERA_NODE set (also as a program called `on`). What
 *                          `ip netns exec` and taskset do, without loading their libraries, which is simulated too
 *
 * A frame is 0x1F, a type, a 16-bit little-endian length, and that many bytes: frames.py reads them. One writer at a time: a file lock sees to it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PORT = 0xE9, FRAME_START = 0x1F, FRAME_MAX = 8192 };

static int lock_fd = -1;

static void die(const char *what)
{
	perror(what);
	exit(125);
}

/* outsb: one instruction for a whole frame; the simulators charge little for it. */
static void put(const void *bytes, size_t len)
{
	__asm__ volatile("rep outsb" : "+S"(bytes), "+c"(len) : "d"(PORT) : "memory");
}

static void frame(char type, const void *bytes, size_t len)
{
	const uint8_t head[4] = {FRAME_START, (uint8_t)type, (uint8_t)(len & 0xFF), (uint8_t)(len >> 8)};
	flock(lock_fd, LOCK_EX);
	put(head, sizeof head);
	put(bytes, len);
	flock(lock_fd, LOCK_UN);
}

/* Forwards what fd has to say, at most one frame of it. Returns the bytes read, 0 at the end or when there is nothing now. */
static size_t forward(int fd, char type)
{
	static char buffer[FRAME_MAX];
	ssize_t n = read(fd, buffer, sizeof buffer);
	if (n <= 0)
		return 0;
	frame(type, buffer, (size_t)n);
	return (size_t)n;
}

static void send_stdin(void)
{
	while (forward(0, 'F') > 0)
		continue;
	frame('Z', "", 0);
}

static pid_t start(char **argv, const int out[2], const int err[2])
{
	pid_t pid = fork();
	if (pid < 0)
		die("agent: fork");
	if (pid > 0)
		return pid;
	setsid();
	int null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out[1], 1) < 0 || dup2(err[1], 2) < 0)
		_exit(125);
	close(null);
	execvp(argv[0], argv);
	dprintf(2, "lab: cannot run %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

static int status_of(int wstatus)
{
	return WIFSIGNALED(wstatus) ? 128 + WTERMSIG(wstatus) : WEXITSTATUS(wstatus);
}

/* The self-pipe that makes a child's death wake poll(). */
static int death_pipe[2];

static void on_child(int sig)
{
	(void)sig;
	int saved = errno;
	ssize_t n = write(death_pipe[1], "", 1);
	(void)n;
	errno = saved;
}

/* Ends when the command has exited and what it wrote has been passed on, even if something it left behind keeps the pipes open. */
static int run(char **argv)
{
	int out[2], err[2];
	if (pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC) || pipe2(death_pipe, O_CLOEXEC | O_NONBLOCK))
		die("agent: pipe");
	signal(SIGCHLD, on_child);
	pid_t pid = start(argv, out, err);
	close(out[1]);
	close(err[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	fcntl(err[0], F_SETFL, O_NONBLOCK);
	struct pollfd fds[3] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}, {death_pipe[0], POLLIN, 0}};
	for (;;) {
		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			die("agent: poll");
		int wstatus = 0;
		int dead = (fds[2].revents & POLLIN) && waitpid(pid, &wstatus, WNOHANG) == pid;
		do { /* after a death: all that is left */
			for (int i = 0; i < 2; i++)
				if (fds[i].fd >= 0 && (fds[i].revents || dead) && forward(fds[i].fd, "OE"[i]) == 0 && (fds[i].revents & POLLHUP))
					fds[i].fd = -1;
		} while (dead && poll(fds, 2, 0) > 0 && ((fds[0].revents | fds[1].revents) & POLLIN));
		if (dead)
			return status_of(wstatus);
	}
}

/* Reads the node's CPUs, "2,3", as the run's script left them. */
static void cpus_of(const char *node, cpu_set_t *cpus)
{
	char path[64], list[256] = "";
	snprintf(path, sizeof path, "/run/lab/%.16s.cpus", node);
	FILE *f = fopen(path, "r");
	if (!f || !fgets(list, sizeof list, f))
		die("on: no such node");
	fclose(f);
	CPU_ZERO(cpus);
	for (char *word = strtok(list, ",\n"); word; word = strtok(NULL, ",\n"))
		CPU_SET((unsigned)atoi(word), cpus);
}

/* Joins the node's network, if it has one of its own (machines of their own have not). /sys shows the network it was mounted in. */
static void join_network(const char *node)
{
	char path[64];
	snprintf(path, sizeof path, "/run/netns/node%.16s", node);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return;
	if (fd < 0 || setns(fd, CLONE_NEWNET) || unshare(CLONE_NEWNS))
		die("on: setns");
	if (mount("", "/", NULL, MS_SLAVE | MS_REC, NULL) || umount2("/sys", MNT_DETACH) || mount("sys", "/sys", "sysfs", 0, NULL))
		die("on: mount");
	close(fd);
}

static int on(int argc, char **argv)
{
	cpu_set_t cpus;
	if (argc < 3) {
		fprintf(stderr, "usage: on NODE CMD ARG...\n");
		return 125;
	}
	cpus_of(argv[1], &cpus);
	join_network(argv[1]);
	if (sched_setaffinity(0, sizeof cpus, &cpus) || setenv("TESSERA_NODE", argv[1], 1))
		die("on: sched_setaffinity");
	execvp(argv[2], argv + 2);
	fprintf(stderr, "lab: cannot run %s: %s\n", argv[2], strerror(errno));
	return errno == ENOENT ? 127 : 126;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/'), *verb = argc > 1 ? argv[1] : "";
	if (!strcmp(name ? name + 1 : argv[0], "on"))
		return on(argc, argv);
	if (!strcmp(verb, "on"))
		return on(argc - 1, argv + 1);
	if (ioperm(PORT, 1, 1))
		die("agent: ioperm");
	lock_fd = open("/run/agent.lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (!strcmp(verb, "stage") && argc == 3)
		frame('S', argv[2], strlen(argv[2]));
	else if (!strcmp(verb, "ready") && argc == 2)
		frame('R', "", 0);
	else if (!strcmp(verb, "run") && argc > 2)
		return run(argv + 2);
	else if (!strcmp(verb, "send") && argc == 2)
		send_stdin();
	else if (!strcmp(verb, "exit") && argc == 3)
		frame('X', argv[2], strlen(argv[2]));
	else {
		fprintf(stderr, "agent: bad arguments; see the top of agent.c\n");
		return 2;
	}
	return 0;
}
