/* TCP traffic whose outcome is known, both ways at once: each side sends a stream that the other computes as well, and compares what comes.
 * Static, because guests have no libraries.
 *
 * usage: nettalk serve PORT                    answer everybody, for ever
 *        nettalk talk CPU ADDRESS PORT MIB     so much in each direction, from that CPU (-1: any); prints 'nettalk: CPU: N MiB each way, ok'
 * exit: 0 right, 1 something was wrong, 2 it could not run */
#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHUNK = 32 * 1024, MIB = 1 << 20, TO_SERVER = 1, TO_CLIENT = 2 };

struct hello { uint32_t seed, mib; };

static uint64_t word(uint64_t seed)
{
	uint64_t z = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	return (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
}

static void fill(uint64_t *to, uint32_t seed, unsigned way, uint64_t at)
{
	for (unsigned i = 0; i < CHUNK / sizeof *to; i++)
		to[i] = word((uint64_t)seed << 32 ^ (uint64_t)way << 60 ^ (at + i));
}

static int all(int fd, void *at, size_t bytes, int out)
{
	uint8_t *p = at;

	while (bytes) {
		ssize_t n = out ? send(fd, p, bytes, MSG_NOSIGNAL) : recv(fd, p, bytes, 0);

		if (n <= 0)
			return -1;
		p += n;
		bytes -= (size_t)n;
	}
	return 0;
}

static int send_stream(int fd, const struct hello *h, unsigned way)
{
	static uint64_t chunk[CHUNK / 8];

	for (uint64_t at = 0; at < (uint64_t)h->mib * MIB; at += CHUNK) {
		fill(chunk, h->seed, way, at);
		if (all(fd, chunk, CHUNK, 1))
			return 1;
	}
	return 0;
}

static int check_stream(int fd, const struct hello *h, unsigned way)
{
	static uint64_t chunk[CHUNK / 8], expected[CHUNK / 8];

	for (uint64_t at = 0; at < (uint64_t)h->mib * MIB; at += CHUNK) {
		fill(expected, h->seed, way, at);
		if (all(fd, chunk, CHUNK, 0)) {
			fprintf(stderr, "nettalk: the connection ended at %llu\n", (unsigned long long)at);
			return 1;
		}
		if (memcmp(chunk, expected, CHUNK) != 0) {
			fprintf(stderr, "nettalk: wrong bytes after %llu\n", (unsigned long long)at);
			return 1;
		}
	}
	return 0;
}

/* A child sends while we receive. */
static int both(int fd, const struct hello *h, unsigned out, unsigned in)
{
	pid_t child = fork();
	int status = 0, wrong;

	if (child < 0)
		return 1;
	if (child == 0)
		_exit(send_stream(fd, h, out));
	wrong = check_stream(fd, h, in);
	waitpid(child, &status, 0);
	return wrong || status != 0;
}

static int answer(int fd)
{
	struct hello h;
	uint8_t right;

	if (all(fd, &h, sizeof h, 0))
		return 1;
	right = !both(fd, &h, TO_CLIENT, TO_SERVER);
	return all(fd, &right, 1, 1);
}

static int serve(unsigned port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) || bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 16)) {
		perror("nettalk");
		return 2;
	}
	for (;;) {
		int one = accept(fd, NULL, NULL);

		if (one < 0)
			return 2;
		if (fork() == 0) {
			close(fd);
			_exit(answer(one));
		}
		close(one);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
	}
}

static int talk(int cpu, const char *address, unsigned port, uint32_t mib)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct hello h = {.seed = (uint32_t)cpu + 7 * port, .mib = mib};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	uint8_t right = 0;
	cpu_set_t set;

	CPU_ZERO(&set);
	if (cpu >= 0)
		CPU_SET((unsigned)cpu, &set);
	if (fd < 0 || (cpu >= 0 && sched_setaffinity(0, sizeof set, &set)) || inet_pton(AF_INET, address, &a.sin_addr) != 1 ||
	    connect(fd, (struct sockaddr *)&a, sizeof a)) {
		perror("nettalk");
		return 2;
	}
	if (all(fd, &h, sizeof h, 1) || both(fd, &h, TO_SERVER, TO_CLIENT) || all(fd, &right, 1, 0) || !right) {
		printf("nettalk: %d: wrong\n", cpu);
		return 1;
	}
	printf("nettalk: %d: %u MiB each way, ok\n", cpu, mib);
	return 0;
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve((unsigned)atoi(argv[2]));
	if (argc == 6 && strcmp(argv[1], "talk") == 0)
		return talk(atoi(argv[2]), argv[3], (unsigned)atoi(argv[4]), (uint32_t)atoi(argv[5]));
	fprintf(stderr, "usage: nettalk serve PORT | nettalk talk CPU ADDRESS PORT MIB\n");
	return 2;
}
