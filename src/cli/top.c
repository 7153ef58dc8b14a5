/* See top.h. Two looks at the counters (cli/stats.h), some time apart, make a picture; a document or a screen is made of that.
 *
 * What fragments count for it: vcpu.N.cpu_ns, .faults, .p50_ns, .p99_ns on the vCPU's node; peer.N.bytes_sent, .messages_sent, .rtt_ns for the part of
 * that index; hot.gfn.G; disk.N.* and net.N.* on the node that has them (dev/depot.c); queue.DEVICE.N.requests, .bytes, .waits on the node that serves it
 * (dev/outfit.c). */
#include "cli/top.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/ends.h"
#include "base/quantity.h"
#include "cli/report.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "proto/stop.h"

enum { INTERVAL_MS = 1000, PAGES_SHOWN = 10, QUEUES_SHOWN = 12, DEVICES = 64 };

struct look {
	struct snapshot s;
	struct stats k;
	uint64_t at_ms;
};

struct page_row { char gfn[NAME_BYTES]; uint64_t faults; };
struct queue_row { char device[NAME_BYTES / 2]; unsigned queue; const char *node; double requests, bytes, waits; /* a second */ };

struct top {
	const struct options *o;
	struct look before, now;
	int signal_fd;
	bool screen;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void look_fini(struct look *l)
{
	snapshot_fini(&l->s);
	stats_fini(&l->k);
}

static int look(struct top *t, struct failure *f)
{
	struct look l = {.at_ms = now_ms()};
	int err = stats_gather(t->o, &l.s, &l.k, f);

	/* a VM that starts again has no counters for a moment */
	if (err && l.s.vms == 1 && (l.s.vm[0].state == CONTROL_VM_STARTING || l.s.vm[0].state == CONTROL_VM_STOPPING)) {
		*f = (struct failure){0};
		err = 0;
	}
	look_fini(&t->before);
	t->before = t->now;
	t->now = l;
	return err;
}

static uint64_t value(const struct look *l, const char *node, const char *what, unsigned n, const char *counter)
{
	char key[NAME_BYTES];
	const uint64_t *v;

	snprintf(key, sizeof key, "%s.%u.%s", what, n, counter);
	v = stats_find(&l->k, node, key);
	return v ? *v : 0;
}

static bool has(const struct top *t, const char *node, const char *what, unsigned n, const char *counter)
{
	char key[NAME_BYTES];

	snprintf(key, sizeof key, "%s.%u.%s", what, n, counter);
	return stats_find(&t->now.k, node, key);
}

/* A second; 0 for what has begun again. */
static double rate(const struct top *t, const char *node, const char *what, unsigned n, const char *counter)
{
	uint64_t was = value(&t->before, node, what, n, counter), is = value(&t->now, node, what, n, counter), ms = t->now.at_ms - t->before.at_ms;

	return is > was && ms ? (double)(is - was) * 1000 / (double)ms : 0;
}

static int by_faults(const void *a, const void *b)
{
	const struct page_row *p = a, *q = b;

	return p->faults != q->faults ? (p->faults < q->faults) - (p->faults > q->faults) : strcmp(p->gfn, q->gfn);
}

/* The hottest pages of all nodes together, most first; how many. */
static unsigned gather_pages(const struct stats *k, struct page_row **out)
{
	static const char prefix[] = "hot.gfn.";
	struct page_row *row = calloc(k->lines + 1, sizeof *row);
	unsigned rows = 0;

	for (unsigned n = 0; row && n < k->lines; n++) {
		const char *gfn = k->line[n].key.s + sizeof prefix - 1;
		unsigned at = 0;

		if (strncmp(k->line[n].key.s, prefix, sizeof prefix - 1) != 0)
			continue;
		while (at < rows && strcmp(row[at].gfn, gfn) != 0)
			at++;
		snprintf(row[at].gfn, sizeof row[at].gfn, "%s", gfn);
		row[at].faults += k->line[n].value;
		rows += at == rows;
	}
	if (row)
		qsort(row, rows, sizeof *row, by_faults);
	*out = row;
	return rows < PAGES_SHOWN ? rows : PAGES_SHOWN;
}

static int by_requests(const void *a, const void *b)
{
	const struct queue_row *p = a, *q = b;

	return (p->requests < q->requests) - (p->requests > q->requests);
}

/* The queues of all nodes, in the order in which the nodes name them; how many. */
static unsigned gather_queues(const struct top *t, struct queue_row **out)
{
	struct queue_row *row = calloc(t->now.k.lines + 1, sizeof *row);
	unsigned rows = 0;

	for (unsigned n = 0; row && n < t->now.k.lines; n++) {
		const struct control_stat_line *l = &t->now.k.line[n];
		struct queue_row r = {.node = l->node.s};
		char what[NAME_BYTES];
		int end = 0;

		if (sscanf(l->key.s, "queue.%31[a-z0-9].%u.requests%n", r.device, &r.queue, &end) < 2 || !end || l->key.s[end])
			continue;
		snprintf(what, sizeof what, "queue.%s", r.device);
		r.requests = rate(t, r.node, what, r.queue, "requests");
		r.bytes = rate(t, r.node, what, r.queue, "bytes");
		r.waits = rate(t, r.node, what, r.queue, "waits");
		row[rows++] = r;
	}
	*out = row;
	return rows;
}

static bool is_busy(const struct queue_row *q)
{
	return q->requests + q->waits > 0;
}

static unsigned busy_queues(const struct top *t)
{
	struct queue_row *row;
	unsigned rows = gather_queues(t, &row), busy = 0;

	for (unsigned n = 0; n < rows; n++)
		busy += is_busy(&row[n]);
	free(row);
	return busy;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* As a document. */

static json_t *json_vcpus(const struct top *t)
{
	json_t *all = json_array();

	for (unsigned v = 0; v < VCPUS_MAX; v++)
		for (unsigned p = 0; p < t->now.s.parts; p++) {
			const char *node = t->now.s.part[p].node.s;

			if (t->now.s.part[p].vcpus >> v & 1)
				json_array_append_new(all, json_pack("{s:i,s:s,s:f,s:f,s:I,s:I}", "vcpu", (int)v, "node", node, "use",
					rate(t, node, "vcpu", v, "cpu_ns") / 1e9, "faults_per_s", rate(t, node, "vcpu", v, "faults"), "p50_ns",
					(json_int_t)value(&t->now, node, "vcpu", v, "p50_ns"), "p99_ns", (json_int_t)value(&t->now, node, "vcpu", v, "p99_ns")));
		}
	return all;
}

static json_t *json_pairs(const struct top *t)
{
	json_t *all = json_array();

	for (unsigned p = 0; p < t->now.s.parts; p++)
		for (unsigned q = 0; q < t->now.s.parts; q++) {
			const char *node = t->now.s.part[p].node.s;

			if (p != q)
				json_array_append_new(all, json_pack("{s:s,s:s,s:f,s:f,s:I}", "from", node, "to", t->now.s.part[q].node.s, "bytes_per_s",
					rate(t, node, "peer", q, "bytes_sent"), "messages_per_s", rate(t, node, "peer", q, "messages_sent"), "rtt_ns",
					(json_int_t)value(&t->now, node, "peer", q, "rtt_ns")));
		}
	return all;
}

/* A disk or network card is where something is counted for it. */
static json_t *json_disks(const struct top *t)
{
	json_t *all = json_array();

	for (unsigned d = 0; d < DEVICES; d++)
		for (unsigned p = 0; p < t->now.s.parts; p++) {
			const char *node = t->now.s.part[p].node.s;

			if (has(t, node, "disk", d, "reads"))
				json_array_append_new(all, json_pack("{s:i,s:s,s:f,s:f,s:f,s:f,s:I,s:I}", "disk", (int)d, "node", node,
					"reads_per_s", rate(t, node, "disk", d, "reads"), "writes_per_s", rate(t, node, "disk", d, "writes"),
					"bytes_read_per_s", rate(t, node, "disk", d, "bytes_read"), "bytes_written_per_s", rate(t, node, "disk", d, "bytes_written"),
					"p50_us", (json_int_t)value(&t->now, node, "disk", d, "p50_us"), "p99_us",
					(json_int_t)value(&t->now, node, "disk", d, "p99_us")));
		}
	return all;
}

static json_t *json_nets(const struct top *t)
{
	json_t *all = json_array();

	for (unsigned d = 0; d < DEVICES; d++)
		for (unsigned p = 0; p < t->now.s.parts; p++) {
			const char *node = t->now.s.part[p].node.s;

			if (has(t, node, "net", d, "frames_sent"))
				json_array_append_new(all, json_pack("{s:i,s:s,s:f,s:f,s:f,s:f}", "net", (int)d, "node", node, "frames_sent_per_s",
					rate(t, node, "net", d, "frames_sent"), "bytes_sent_per_s", rate(t, node, "net", d, "bytes_sent"), "frames_received_per_s",
					rate(t, node, "net", d, "frames_received"), "bytes_received_per_s", rate(t, node, "net", d, "bytes_received")));
		}
	return all;
}

static json_t *json_queues(const struct top *t)
{
	json_t *all = json_array();
	struct queue_row *row;
	unsigned rows = gather_queues(t, &row);

	for (unsigned n = 0; n < rows; n++)
		json_array_append_new(all, json_pack("{s:s,s:i,s:s,s:f,s:f,s:f}", "device", row[n].device, "queue", (int)row[n].queue, "node", row[n].node,
			"requests_per_s", row[n].requests, "bytes_per_s", row[n].bytes, "waits_per_s", row[n].waits));
	free(row);
	return all;
}

static const char *state_of(const struct top *t)
{
	static const char *const names[CONTROL_VM_STATES] = {"starting", "running", "stopping", "ended"};

	return t->now.s.vms == 1 ? names[t->now.s.vm[0].state] : "unknown";
}

static void print_document(const struct top *t)
{
	json_t *pages = json_array();
	struct page_row *row;
	unsigned rows = gather_pages(&t->now.k, &row);

	for (unsigned n = 0; n < rows; n++)
		json_array_append_new(pages, json_pack("{s:s,s:I}", "gfn", row[n].gfn, "faults", (json_int_t)row[n].faults));
	free(row);
	report_json(json_pack("{s:s,s:s,s:I,s:o,s:o,s:o,s:o,s:o,s:o}", "vm", t->o->operand, "state", state_of(t), "interval_ms",
		(json_int_t)(t->now.at_ms - t->before.at_ms), "vcpus", json_vcpus(t), "pairs", json_pairs(t), "pages", pages, "disks",
		json_disks(t), "nets", json_nets(t), "queues", json_queues(t)));
}

/* For people. */

static void print_vcpus(const struct top *t, FILE *to)
{
	struct table table;

	table_init(&table, ">VCPU|NODE|>USE|>FAULTS/S|>P50 US|>P99 US");
	for (unsigned v = 0; v < VCPUS_MAX; v++)
		for (unsigned p = 0; p < t->now.s.parts; p++) {
			const char *node = t->now.s.part[p].node.s;

			if (!(t->now.s.part[p].vcpus >> v & 1))
				continue;
			table_cell(&table, "%u", v);
			table_cell(&table, "%s", node);
			table_cell(&table, "%.0f%%", rate(t, node, "vcpu", v, "cpu_ns") / 1e7);
			table_cell(&table, "%.0f", rate(t, node, "vcpu", v, "faults"));
			table_cell(&table, "%.1f", (double)value(&t->now, node, "vcpu", v, "p50_ns") / 1e3);
			table_cell(&table, "%.1f", (double)value(&t->now, node, "vcpu", v, "p99_ns") / 1e3);
		}
	table_print(&table, to);
	table_fini(&table);
}

static void print_pairs(const struct top *t, FILE *to)
{
	struct table table;

	table_init(&table, "FROM|TO|>KIB/S|>MESSAGES/S|>ROUND TRIP US");
	for (unsigned p = 0; p < t->now.s.parts; p++)
		for (unsigned q = 0; q < t->now.s.parts; q++) {
			const char *node = t->now.s.part[p].node.s;

			if (p == q)
				continue;
			table_cell(&table, "%s", node);
			table_cell(&table, "%s", t->now.s.part[q].node.s);
			table_cell(&table, "%.1f", rate(t, node, "peer", q, "bytes_sent") / 1024);
			table_cell(&table, "%.0f", rate(t, node, "peer", q, "messages_sent"));
			table_cell(&table, "%.1f", (double)value(&t->now, node, "peer", q, "rtt_ns") / 1e3);
		}
	if (t->now.s.parts > 1) {
		fputc('\n', to);
		table_print(&table, to);
	}
	table_fini(&table);
}

static void print_devices(const struct top *t, FILE *to)
{
	struct table table;

	table_init(&table, "DEVICE|NODE|>IN/S|>OUT/S|>KIB IN/S|>KIB OUT/S|>P50 US|>P99 US");
	for (unsigned d = 0; d < 2 * DEVICES; d++)
		for (unsigned p = 0; p < t->now.s.parts; p++) {
			const char *node = t->now.s.part[p].node.s;
			bool disk = d < DEVICES;
			const char *what = disk ? "disk" : "net";
			unsigned n = d % DEVICES;

			if (!has(t, node, what, n, disk ? "reads" : "frames_received"))
				continue;
			table_cell(&table, "%s%u", what, n);
			table_cell(&table, "%s", node);
			table_cell(&table, "%.0f", rate(t, node, what, n, disk ? "reads" : "frames_received"));
			table_cell(&table, "%.0f", rate(t, node, what, n, disk ? "writes" : "frames_sent"));
			table_cell(&table, "%.1f", rate(t, node, what, n, disk ? "bytes_read" : "bytes_received") / 1024);
			table_cell(&table, "%.1f", rate(t, node, what, n, disk ? "bytes_written" : "bytes_sent") / 1024);
			for (unsigned k = 0; k < 2; k++)
				if (disk)
					table_cell(&table, "%" PRIu64, value(&t->now, node, what, n, k ? "p99_us" : "p50_us"));
				else
					table_cell(&table, "-");
		}
	if (table.at > table.columns) {
		fputc('\n', to);
		table_print(&table, to);
	}
	table_fini(&table);
}

/* The busiest; all of them are in the document. */
static void print_queues(const struct top *t, FILE *to, unsigned most)
{
	struct queue_row *row;
	unsigned rows = gather_queues(t, &row), n;
	struct table table;

	if (row)
		qsort(row, rows, sizeof *row, by_requests);
	table_init(&table, "QUEUE|SERVED ON|>REQUESTS/S|>KIB/S|>WAITS/S");
	for (n = 0; n < rows && n < most && is_busy(&row[n]); n++) {
		table_cell(&table, "%s.%u", row[n].device, row[n].queue);
		table_cell(&table, "%s", row[n].node);
		table_cell(&table, "%.0f", row[n].requests);
		table_cell(&table, "%.1f", row[n].bytes / 1024);
		table_cell(&table, "%.0f", row[n].waits);
	}
	if (n) {
		fputc('\n', to);
		table_print(&table, to);
	}
	if (n < rows)
		fprintf(to, "%s%u queue%s idle or less busy\n", n ? "" : "\n", rows - n, rows - n == 1 ? "" : "s");
	table_fini(&table);
	free(row);
}

static void print_pages(const struct top *t, FILE *to, unsigned most)
{
	struct page_row *row;
	unsigned rows = gather_pages(&t->now.k, &row);
	struct table table;

	table_init(&table, "HOTTEST PAGE|>FAULTS SINCE START");
	for (unsigned n = 0; n < rows && n < most; n++) {
		table_cell(&table, "%s", row[n].gfn);
		table_cell(&table, "%" PRIu64, row[n].faults);
	}
	if (rows) {
		fputc('\n', to);
		table_print(&table, to);
	}
	table_fini(&table);
	free(row);
}

/* All but what is cut to what fits. */
static void print_head(const struct top *t, FILE *to)
{
	char memory[QUANTITY_TEXT_BYTES];
	const struct control_vm_line *vm = t->now.s.vms == 1 ? &t->now.s.vm[0] : NULL;

	if (vm)
		fprintf(to, "%s  %s  %u vCPUs and %s on %u node%s\n\n", vm->vm.s, state_of(t), vm->cpus, quantity_print_bytes(vm->memory, memory), t->now.s.parts,
			t->now.s.parts == 1 ? "" : "s");
	print_vcpus(t, to);
	print_pairs(t, to);
	print_devices(t, to);
}

/* lines: that a screen has, of which there is to be some of all; 0: as many as it takes. */
static void print_picture(const struct top *t, FILE *to, unsigned lines)
{
	enum { TITLES = 5 }; /* of queues and pages, with what is between */
	unsigned queues = QUEUES_SHOWN, pages = PAGES_SHOWN, room, head = 0;
	char *text = NULL;
	size_t bytes;
	FILE *first = open_memstream(&text, &bytes);

	if (!first)
		return;
	print_head(t, first);
	fclose(first);
	fputs(text, to);
	for (const char *at = text; (at = strchr(at, '\n')); at++)
		head++;
	free(text);
	if (lines) {
		room = lines > head + TITLES + 2 ? lines - head - TITLES : 2;
		queues = least(least(queues, busy_queues(t)), room - room / 2);
		pages = least(pages, room - queues);
	}
	print_queues(t, to, queues);
	print_pages(t, to, pages);
}

/* As many lines as there are, each cleared to its end before, and what is below. */
static void draw(const struct top *t)
{
	struct winsize size = {0};
	char *text = NULL, *line, *rest;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);
	unsigned rows;

	if (!to)
		return;
	rows = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row ? size.ws_row : 24;
	print_picture(t, to, rows - 1);
	fclose(to);
	fputs("\033[H", stdout);
	for (rest = text; (line = strsep(&rest, "\n")) && rest && --rows; )
		printf("%.*s\033[K\n", size.ws_col ? (int)size.ws_col : 80, line);
	fputs("\033[J", stdout);
	free(text);
}

/* Another screen, without a cursor, until we leave. */
static void open_screen(struct top *t)
{
	t->signal_fd = ends_watch(0, NULL);
	t->screen = isatty(STDOUT_FILENO) && !t->o->value[OPTION_JSON] && !t->o->value[OPTION_ONCE];
	if (t->screen)
		fputs("\033[?1049h\033[?25l", stdout);
}

static void close_screen(struct top *t)
{
	if (t->screen)
		fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	if (t->signal_fd >= 0)
		close(t->signal_fd);
}

/* False: a signal came. */
static bool wait_a_while(const struct top *t)
{
	struct pollfd p = {.fd = t->signal_fd, .events = POLLIN};

	return poll(&p, 1, INTERVAL_MS) == 0; /* a person's pace */
}

static void show(const struct top *t)
{
	if (t->o->value[OPTION_JSON])
		print_document(t);
	else if (t->screen)
		draw(t);
	else
		print_picture(t, stdout, 0);
	fflush(stdout);
}

int top_verb(const struct options *o)
{
	struct top t = {.o = o};
	struct failure f = {0};
	int err;

	open_screen(&t);
	err = look(&t, &f);
	while (!err && wait_a_while(&t)) {
		err = look(&t, &f);
		if (!err)
			show(&t);
		if (o->value[OPTION_ONCE])
			break;
		if (!err && !t.screen && !o->value[OPTION_JSON])
			putchar('\n');
	}
	close_screen(&t);
	look_fini(&t.before);
	look_fini(&t.now);
	return err ? (int)report_failure(&f, o->value[OPTION_JSON]) : REPORT_OK;
}
