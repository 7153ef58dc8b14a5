/* What a fault costs, by kind, between fragments on this machine; beside it, in the same run, what it cannot be faster than. Compare ratios, not machines. */
#include "tests/bench/crew.h"
#include "tests/bench/floor.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
	const char *name;
	double p50_us, p99_us;
	char note[128];
};

struct bench {
	struct crew_options options;
	unsigned pages;
	bool json;
	struct row row[32];
	unsigned rows;
	double floor_us[2]; /* blocking, polling */
	double pages_per_trip;
};

static struct row *bench_row(struct bench *b, const char *name, const struct histogram *h)
{
	struct row *r = &b->row[b->rows++];

	r->name = name;
	r->p50_us = (double)histogram_permille(h, 500) / 1000;
	r->p99_us = (double)histogram_permille(h, 990) / 1000;
	return r;
}

static void bench_floor(struct bench *b, bool polling)
{
	static struct histogram tcp, uffd;

	memset(&tcp, 0, sizeof tcp);
	memset(&uffd, 0, sizeof uffd);
	if (floor_tcp(&tcp, b->pages, polling) || floor_uffd(&uffd, b->pages, polling)) {
		fprintf(stderr, "bench: no userfaultfd or no loopback TCP here\n");
		exit(77);
	}
	bench_row(b, polling ? "tcp 8 B -> 4 KiB, polling" : "tcp 8 B -> 4 KiB", &tcp);
	bench_row(b, polling ? "local userfaultfd, polling" : "local userfaultfd", &uffd);
	b->floor_us[polling] = b->row[b->rows - 2].p50_us + b->row[b->rows - 1].p50_us;
}

static struct crew_order order(enum crew_verb verb, uint64_t first, uint64_t count)
{
	return (struct crew_order){.verb = verb, .first = first, .count = count};
}

static struct row *bench_fault(struct bench *b, struct crew *c, const char *name, unsigned node, struct crew_order o)
{
	struct row *r;

	crew_do(c, node, o);
	r = bench_row(b, name, &c->report[node].ns);
	snprintf(r->note, sizeof r->note, "%.2f x floor (%.2f x polling floor)", r->p50_us / b->floor_us[0], r->p50_us / b->floor_us[1]);
	return r;
}

/* What one remote read costs each side, in turns of the loop and in system calls that move bytes. The pager's thread makes no others but its waits, the
 * ioctl or madvise of each deed, and the clock of the thread that waits. */
static void bench_effort(struct bench *b, struct crew *c, const char *name, unsigned node, const struct pager_stats *was, double faults)
{
	const struct pager_stats *is = &c->report[node].stats;
	const struct pager_peer *p = &is->peer[1 - node], *q = &was->peer[1 - node];
	struct row *r = &b->row[b->rows++];

	r->name = name;
	snprintf(r->note, sizeof r->note, "a fault: %.2f rounds, %.2f sends, %.2f receives, %.2f blocks, %.0f B out", (double)(is->rounds - was->rounds) / faults,
		(double)(p->sends - q->sends) / faults, (double)(p->receives - q->receives) / faults,
		(double)(is->blocks - was->blocks) / faults, (double)(p->bytes_sent - q->bytes_sent) / faults);
}

static void bench_read(struct bench *b, struct crew *c, uint64_t pages)
{
	struct pager_stats was[2];

	for (unsigned n = 0; n < 2; n++) {
		crew_do(c, n, order(CREW_STATS, 0, 0));
		was[n] = c->report[n].stats;
	}
	bench_fault(b, c, "remote read", 1, order(CREW_READ, 0, pages));
	crew_do(c, 0, order(CREW_STATS, 0, 0));
	bench_effort(b, c, "  the reader's pager", 1, &was[1], (double)pages);
	bench_effort(b, c, "  the home's pager", 0, &was[0], (double)pages);
}

static void bench_walk(struct bench *b, struct crew *c)
{
	uint64_t before, trips, pages = b->pages;

	crew_do(c, 0, order(CREW_FILL, 0, pages)); /* all of it back to its home */
	crew_do(c, 1, order(CREW_STATS, 0, 0));
	before = c->report[1].stats.reads + c->report[1].stats.prefetch_late;
	crew_do(c, 1, order(CREW_WALK, 0, pages));
	trips = c->report[1].stats.reads + c->report[1].stats.prefetch_late - before;
	b->pages_per_trip = (double)pages / (double)(trips ? trips : 1);
	struct row *r = bench_row(b, "sequential read, a page", &c->report[1].ns);
	r->p50_us = (double)c->report[1].all_ns / 1000 / (double)pages;
	r->p99_us = (double)histogram_permille(&c->report[1].ns, 990) / 1000;
	snprintf(r->note, sizeof r->note, "mean; %llu pages in %llu round trips: %.1f a trip", (unsigned long long)pages, (unsigned long long)trips,
		b->pages_per_trip);
}

static void bench_turns(struct bench *b, struct crew *c)
{
	struct crew_order o = order(CREW_TURNS, b->pages * 2 - 1, b->pages / 2); /* the last page of node 1 */

	o.turns = 2;
	crew_tell(c, 0, o);
	o.turn = 1;
	crew_tell(c, 1, o);
	crew_wait(c, 0);
	crew_wait(c, 1);
	snprintf(bench_row(b, "ping-pong, a turn of two", &c->report[0].ns)->note, 128, "hold %u us",
		b->options.hold_us ? b->options.hold_us : PAGER_HOLD_US);
}

static void bench_two(struct bench *b)
{
	struct crew_options o = b->options;
	struct crew c;
	uint64_t n = b->pages;

	o.nodes = 2;
	o.pages = n;
	if (crew_start(&c, &o))
		exit(1);
	crew_do(&c, 0, order(CREW_WRITE, 0, n - 1));
	snprintf(bench_row(b, "first touch, local", &c.report[0].ns)->note, 128, "%.1f us a page", (double)c.report[0].all_ns / 1000 / (double)n);
	bench_read(b, &c, n - 1);
	bench_fault(b, &c, "remote upgrade", 1, order(CREW_WRITE, 0, n - 1));
	bench_fault(b, &c, "recall by the home, read", 0, order(CREW_READ, 0, n - 1));
	crew_do(&c, 0, order(CREW_WRITE, 0, n - 1));
	bench_fault(b, &c, "remote write", 1, order(CREW_WRITE, 0, n - 1));
	bench_walk(b, &c);
	bench_turns(b, &c);
	crew_stop(&c);
}

static void bench_four(struct bench *b)
{
	struct crew_options o = b->options;
	struct crew c;
	uint64_t n = b->pages - 1;

	o.nodes = 4;
	o.pages = b->pages;
	if (crew_start(&c, &o))
		exit(1);
	crew_do(&c, 0, order(CREW_WRITE, 0, n));
	for (unsigned i = 1; i < 4; i++)
		crew_do(&c, i, order(CREW_READ, 0, n));
	bench_fault(b, &c, "upgrade that invalidates 3", 1, order(CREW_WRITE, 0, n));
	crew_stop(&c);
}

static void bench_print(const struct bench *b)
{
	if (b->json)
		printf("{\"floor_us\":%.2f,\"floor_polling_us\":%.2f,\"pages_per_trip\":%.1f,\"rows\":[", b->floor_us[0], b->floor_us[1], b->pages_per_trip);
	else
		printf("%-28s %10s %10s\n", "fault, us", "p50", "p99");
	for (unsigned i = 0; i < b->rows; i++) {
		const struct row *r = &b->row[i];

		if (b->json)
			printf("%s{\"name\":\"%s\",\"p50_us\":%.2f,\"p99_us\":%.2f,\"note\":\"%s\"}", i ? "," : "", r->name, r->p50_us, r->p99_us, r->note);
		else if (r->p50_us > 0)
			printf("%-28s %10.1f %10.1f   %s\n", r->name, r->p50_us, r->p99_us, r->note);
		else
			printf("%-28s %21s   %s\n", r->name, "", r->note);
	}
	if (b->json)
		printf("]}\n");
}

static int bench_usage(const char *name)
{
	fprintf(stderr, "usage: %s [--json] [--pin] [--pages N] [--spin-us N] [--hold-us N]\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"pin", no_argument, NULL, 'p'}, {"pages", required_argument, NULL, 'n'},
		{"spin-us", required_argument, NULL, 's'}, {"hold-us", required_argument, NULL, 'h'}, {0}};
	struct bench b = {.pages = 2048};

	for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;)
		if (c == 'j')
			b.json = true;
		else if (c == 'p')
			b.options.pin = true;
		else if (c == 'n')
			b.pages = (unsigned)strtoul(optarg, NULL, 0);
		else if (c == 's')
			b.options.spin_us = (int32_t)strtol(optarg, NULL, 0);
		else if (c == 'h')
			b.options.hold_us = (uint32_t)strtoul(optarg, NULL, 0);
		else
			return bench_usage(argv[0]);
	if (b.pages < PAGER_CACHE_PAGES_MIN)
		return bench_usage(argv[0]);
	bench_floor(&b, false);
	bench_floor(&b, true);
	bench_two(&b);
	bench_four(&b);
	bench_print(&b);
	return 0;
}
