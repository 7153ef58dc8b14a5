/* See stats.h. Each node's daemon is asked for its own part, so a VM's statistics do not pass through its coordinator. */
#include "cli/stats.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/ensure.h"
#include "cli/client.h"
#include "cli/report.h"
#include "cli/snapshot.h"
#include "cli/table.h"

static int ask_node(const struct options *o, const char *node, struct stats *k, struct failure *f)
{
	struct control_stat_line in;
	struct client c;
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], f);

	if (!err)
		err = CLIENT_SEND(&c, f, ask_stats, .vm = client_name(o->operand), .node = client_name(node));
	while (!err && id != CONTROL_end) {
		err = client_next(&c, &id, &body, &bytes, f);
		if (err || id != CONTROL_stat_line || control_get_stat_line(body, bytes, &in))
			continue;
		k->line = realloc(k->line, (k->lines + 1) * sizeof *k->line);
		ensure(k->line);
		k->line[k->lines++] = in;
	}
	client_close(&c);
	return err;
}

int stats_gather(const struct options *o, struct snapshot *s, struct stats *k, struct failure *f)
{
	char here[NAME_BYTES];
	int err = snapshot_ask(s, o, here, f);

	for (unsigned p = 0; p < s->parts && !err; p++)
		err = ask_node(o, s->part[p].node.s, k, f);
	return err;
}

void stats_fini(struct stats *k)
{
	free(k->line);
	*k = (struct stats){0};
}

const uint64_t *stats_find(const struct stats *k, const char *node, const char *key)
{
	for (unsigned n = 0; n < k->lines; n++)
		if (strcmp(k->line[n].node.s, node) == 0 && strcmp(k->line[n].key.s, key) == 0)
			return &k->line[n].value;
	return NULL;
}

/* Is this the first line with its key? */
static bool first(const struct stats *k, unsigned n)
{
	for (unsigned m = 0; m < n; m++)
		if (strcmp(k->line[m].key.s, k->line[n].key.s) == 0)
			return false;
	return true;
}

static void print_text(const struct snapshot *s, const struct stats *k)
{
	char titles[TABLE_COLUMNS * (NAME_BYTES + 2)] = "COUNTER";
	size_t at = strlen(titles);
	struct table t;

	for (unsigned p = 0; p < s->parts && p + 1 < TABLE_COLUMNS; p++)
		at += (size_t)snprintf(titles + at, sizeof titles - at, "|>%s", s->part[p].node.s);
	table_init(&t, titles);
	for (unsigned n = 0; n < k->lines; n++) {
		if (!first(k, n))
			continue;
		table_cell(&t, "%s", k->line[n].key.s);
		for (unsigned p = 0; p < s->parts && p + 1 < TABLE_COLUMNS; p++) {
			const uint64_t *v = stats_find(k, s->part[p].node.s, k->line[n].key.s);

			if (v)
				table_cell(&t, "%" PRIu64, *v);
			else
				table_cell(&t, "-");
		}
	}
	table_print(&t, stdout);
	table_fini(&t);
}

static void print_json(const struct options *o, const struct snapshot *s, const struct stats *k)
{
	json_t *nodes = json_object();

	for (unsigned p = 0; p < s->parts; p++) {
		json_t *one = json_object();

		for (unsigned n = 0; n < k->lines; n++)
			if (strcmp(k->line[n].node.s, s->part[p].node.s) == 0)
				json_object_set_new(one, k->line[n].key.s, json_integer((json_int_t)k->line[n].value));
		json_object_set_new(nodes, s->part[p].node.s, one);
	}
	report_json(json_pack("{s:s,s:o}", "vm", o->operand, "nodes", nodes));
}

int stats_verb(const struct options *o)
{
	bool json = o->value[OPTION_JSON], watch = o->value[OPTION_WATCH];

	for (;;) {
		struct snapshot s = {0};
		struct stats k = {0};
		struct failure f = {0};
		int err = stats_gather(o, &s, &k, &f);

		if (!err && json)
			print_json(o, &s, &k);
		else if (!err)
			print_text(&s, &k);
		fflush(stdout);
		snapshot_fini(&s);
		stats_fini(&k);
		if (err)
			return (int)report_failure(&f, json);
		if (!watch)
			return REPORT_OK;
		sleep(1); /* --watch: a person's pace */
		putchar('\n');
	}
}
