/* Asks the web guest (tools/demo/lemp.py) for pages, so many at a time, and says how fast they came. Every answer must be the page that page.php computes.
 *
 *	load ADDRESS PORT wait SECONDS              until one page came
 *	load ADDRESS PORT warm WORKER               a page by this worker
 *	load ADDRESS PORT calibrate                 how many steps page.php does in a millisecond: 'load: N steps a ms', the quicker of two pages by the first worker
 *	load ADDRESS PORT pages STEPS COUNT AT_ONCE 'load: COUNT pages, R requests/s, E s, P50 ms, MAX ms, N0 N1 ... by each worker'
 *
 * requests/s: what each worker did between its first and its last answer, added up, so that neither the start nor the end, where not all of them
 * have something to do, counts. The last AT_ONCE answers are not counted for the same reason. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ROWS = 64, SEED = 7919, AT_ONCE_MAX = 16, WORKERS_MAX = 16, COUNT_MAX = 1000, CALIBRATION_STEPS = 400000 };

struct fetch {
	int fd; // 0: none
	unsigned row;
	uint64_t begun_ns;
	size_t got;
	char text[2048];
};

struct worker {
	unsigned pages;
	uint64_t first_ns, last_ns;
};

static struct sockaddr_in server;
static char what[32] = ""; // "0/" asks the first worker
static unsigned long steps;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static _Noreturn void fail(const char *why)
{
	printf("load: %s\n", why);
	exit(1);
}

/* What page.php computes. */
static uint32_t expected(unsigned row)
{
	uint64_t x = (uint64_t)row * SEED, table[1024] = {0};
	uint32_t sum = 0;

	for (unsigned long i = 0; i < steps; i++) {
		x = (x * 1103515245u + 12345u) & 0x7fffffffu;
		table[(x >> 8) & 1023u] ^= x + i;
	}
	for (unsigned i = 0; i < 1024; i++)
		sum = (uint32_t)((uint64_t)sum * 31u + table[i]);
	return sum;
}

static int ask(struct fetch *f, unsigned row)
{
	char request[160];
	int length = snprintf(request, sizeof(request), "GET /%s?row=%u&steps=%lu HTTP/1.0\r\nHost: tessera\r\n\r\n", what, row, steps);

	*f = (struct fetch){.row = row, .begun_ns = now_ns(), .fd = socket(AF_INET, SOCK_STREAM, 0)};
	if (f->fd > 0 && connect(f->fd, (struct sockaddr *)&server, sizeof(server)) == 0 && write(f->fd, request, (size_t)length) == length)
		return 0;
	close(f->fd);
	f->fd = 0;
	return -errno;
}

/* Read on; true when the answer is whole. */
static bool advance(struct fetch *f)
{
	ssize_t n = read(f->fd, f->text + f->got, sizeof(f->text) - 1 - f->got);

	if (n > 0) {
		f->got += (size_t)n;
		return false;
	}
	close(f->fd);
	f->fd = 0;
	return true;
}

/* The answer's worker and microseconds; false and a word when it is not the page that was asked for. */
static bool good(const struct fetch *f, unsigned *worker, unsigned *us)
{
	const char *sum = strstr(f->text, "<p>sum=");
	char title[32];
	unsigned long did;
	uint32_t said;

	snprintf(title, sizeof(title), "<h1>Page %u</h1>", f->row);
	return strstr(f->text, " 200 ") && strstr(f->text, title) && sum && sscanf(sum, "<p>sum=%u steps=%lu worker=%u us=%u</p>", &said, &did, worker, us) == 4 &&
	       did == steps && said == expected(f->row) && *worker < WORKERS_MAX;
}

static int one_page(struct fetch *f, unsigned *us)
{
	unsigned worker;
	int e = ask(f, 1);

	if (e < 0)
		return e;
	while (!advance(f))
		;
	return good(f, &worker, us) ? 0 : -EBADMSG;
}

static void wait_for_page(double seconds)
{
	struct fetch f;
	unsigned us;
	uint64_t until = now_ns() + (uint64_t)(seconds * 1e9);

	steps = 10;
	while (one_page(&f, &us) < 0) {
		if (now_ns() > until) {
			printf("%s\n", f.text);
			fail("no page came");
		}
		usleep(50000);
	}
	printf("load: a page came\n");
}

static void warm(const char *worker)
{
	struct fetch f;
	unsigned us;

	snprintf(what, sizeof(what), "%s/", worker);
	steps = 1000;
	if (one_page(&f, &us) < 0) {
		printf("%s\n", f.text);
		fail("a worker does not answer");
	}
}

static void calibrate(void)
{
	struct fetch f;
	unsigned us, best = UINT32_MAX;

	snprintf(what, sizeof(what), "0/");
	for (unsigned i = 0; i < 2; i++) {
		steps = CALIBRATION_STEPS;
		if (one_page(&f, &us) < 0) {
			printf("%s\n", f.text);
			fail("no page to calibrate by");
		}
		best = us < best ? us : best;
	}
	printf("load: %lu steps a ms\n", best ? CALIBRATION_STEPS * 1000ul / best : 0);
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void tell(const struct worker *workers, unsigned count, uint64_t *took_ns, uint64_t elapsed_ns)
{
	double rate = 0;

	qsort(took_ns, count, sizeof(*took_ns), by_size);
	for (unsigned w = 0; w < WORKERS_MAX; w++)
		if (workers[w].pages > 1)
			rate += (workers[w].pages - 1) / ((double)(workers[w].last_ns - workers[w].first_ns) / 1e9);
	printf("load: %u pages, %.3f requests/s, %.3f s, %.1f ms, %.1f ms,", count, rate, (double)elapsed_ns / 1e9, (double)took_ns[count / 2] / 1e6,
	       (double)took_ns[count - 1] / 1e6);
	for (unsigned w = 0; w < WORKERS_MAX && workers[w].pages; w++)
		printf(" %u", workers[w].pages);
	printf(" by each worker\n");
}

static void pages(unsigned count, unsigned at_once)
{
	static uint64_t took_ns[COUNT_MAX];
	struct fetch fetches[AT_ONCE_MAX] = {0};
	struct pollfd polled[AT_ONCE_MAX];
	struct worker workers[WORKERS_MAX] = {0};
	unsigned asked = 0, done = 0, w = 0, us = 0;
	uint64_t begun_ns = now_ns();

	while (done < count) {
		for (unsigned i = 0; i < at_once; i++) {
			if (!fetches[i].fd && asked < count && ask(&fetches[i], 1 + asked++ % ROWS) < 0)
				fail("the server does not take a connection");
			polled[i] = (struct pollfd){.fd = fetches[i].fd ? fetches[i].fd : -1, .events = POLLIN};
		}
		poll(polled, at_once, -1);
		for (unsigned i = 0; i < at_once; i++) {
			if (!polled[i].revents || !advance(&fetches[i]))
				continue;
			uint64_t now = now_ns();
			if (!good(&fetches[i], &w, &us)) {
				printf("%s\n", fetches[i].text);
				fail("an answer is not the page that was asked for");
			}
			took_ns[done++] = now - fetches[i].begun_ns;
			if (done + at_once > count)
				continue;
			if (!workers[w].pages++)
				workers[w].first_ns = now;
			workers[w].last_ns = now;
		}
	}
	tell(workers, count, took_ns, now_ns() - begun_ns);
}

int main(int argc, char **argv)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc < 4)
		return 2;
	server = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &server.sin_addr);
	if (argc == 5 && !strcmp(argv[3], "wait"))
		wait_for_page(atof(argv[4]));
	else if (argc == 5 && !strcmp(argv[3], "warm"))
		warm(argv[4]);
	else if (argc == 4 && !strcmp(argv[3], "calibrate"))
		calibrate();
	else if (argc == 7 && !strcmp(argv[3], "pages") && atoi(argv[5]) <= COUNT_MAX && atoi(argv[6]) <= AT_ONCE_MAX) {
		steps = strtoul(argv[4], NULL, 10);
		pages((unsigned)atoi(argv[5]), (unsigned)atoi(argv[6]));
	} else
		return 2;
	return 0;
}
