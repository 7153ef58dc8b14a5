/* See diagnosis.h. */
#include "cli/diagnosis.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/ensure.h"
#include "cli/client.h"
#include "cli/report.h"
#include "cli/snapshot.h"
#include "vm/leaves.h"

enum { DIFFERENCES_SHOWN = 8, TSC_SLACK_PERCENT = 1 };

struct host_cpu {
	struct wire_name node;
	struct cpuid_table table;
};

struct diagnosis {
	struct control_check_line *line;
	struct host_cpu *cpu;
	unsigned lines, cpus;
	char text[512]; /* of differences, while comparing */
	unsigned shown;
};

static void add_line(struct diagnosis *d, const struct control_check_line *l)
{
	d->line = realloc(d->line, (d->lines + 1) * sizeof *d->line);
	ensure(d->line);
	d->line[d->lines++] = *l;
}

static void add_cpu(struct diagnosis *d, const char *node, struct wire_blob leaves)
{
	d->cpu = realloc(d->cpu, (d->cpus + 1) * sizeof *d->cpu);
	ensure(d->cpu);
	wire_set_name(&d->cpu[d->cpus].node, node);
	if (!leaves_unpack(&d->cpu[d->cpus].table, leaves.at, leaves.bytes))
		d->cpus++;
}

static void say(struct diagnosis *d, const char *node, const char *check, enum control_level level, const char *found, const char *why, const char *fix)
{
	struct control_check_line l = {.level = (uint8_t)level};

	wire_set_name(&l.node, node);
	wire_set_name(&l.check, check);
	wire_set_text(&l.found, found);
	wire_set_text(&l.why, why);
	wire_set_text(&l.fix, fix);
	add_line(d, &l);
}

static void here_line(void *to, const char *check, unsigned level, const char *found, const char *why, const char *fix)
{
	say(to, "", check, level, found, why, fix);
}

/* One node's checks; a node that does not answer is a finding, not the end. */
static void ask_node(struct diagnosis *d, const struct options *o, const char *node)
{
	struct control_check_line line;
	struct control_check_cpuid cpuid;
	struct failure f = {0};
	struct client c;
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], &f);

	if (!err)
		err = CLIENT_SEND(&c, &f, ask_doctor, .node = client_name(node));
	while (!err && id != CONTROL_end) {
		err = client_next(&c, &id, &body, &bytes, &f);
		if (!err && id == CONTROL_check_line && !control_get_check_line(body, bytes, &line)) {
			text_clean(line.found.s);
			text_clean(line.why.s);
			text_clean(line.fix.s);
			add_line(d, &line);
		} else if (!err && id == CONTROL_check_cpuid && !control_get_check_cpuid(body, bytes, &cpuid))
			add_cpu(d, cpuid.node.s, cpuid.leaves);
	}
	client_close(&c);
	if (err)
		say(d, node, "daemon", CONTROL_FAIL, f.what, "a node that cannot be reached lends nothing", f.todo);
}

static void difference(void *to, const char *text)
{
	struct diagnosis *d = to;
	size_t at = strlen(d->text);

	if (d->shown++ < DIFFERENCES_SHOWN)
		snprintf(d->text + at, sizeof d->text - at, "; %s", text);
}

/* What a VM across these two nodes would lose. */
static void compare(struct diagnosis *d, const struct host_cpu *a, const struct host_cpu *b)
{
	static const char why[] = "a VM gets only what all its nodes have, and one TSC frequency";
	struct cpuid_table meet;
	struct failure f = {0};
	char check[NAME_BYTES], found[1024];
	uint32_t ka = a->table.tsc_khz, kb = b->table.tsc_khz;
	unsigned n;

	snprintf(check, sizeof check, "cpu %.27s/%.27s", a->node.s, b->node.s);
	*d->text = 0;
	d->shown = 0;
	n = cpuid_compare(&a->table, &b->table, difference, d);
	if (cpuid_meet(&a->table, &b->table, &meet, &f))
		say(d, "", check, CONTROL_FAIL, f.what, why, f.todo);
	else if (n) {
		snprintf(found, sizeof found, "%u difference%s (leaf: %s, %s)%s%s", n, n == 1 ? "" : "s", a->node.s, b->node.s, d->text,
			n > DIFFERENCES_SHOWN ? "; ..." : "");
		say(d, "", check, CONTROL_WARN, found, why, "nothing must be done; like nodes lose nothing");
	} else {
		say(d, "", check, CONTROL_OK, "no difference that a guest could see", why, "");
	}
	snprintf(check, sizeof check, "tsc %.27s/%.27s", a->node.s, b->node.s);
	if (ka && kb && (ka > kb ? ka - kb : kb - ka) > ka / 100 * TSC_SLACK_PERCENT) {
		snprintf(found, sizeof found, "%u kHz and %u kHz", ka, kb);
		say(d, "", check, CONTROL_WARN, found, why, "at least one of them must be able to scale its TSC ('tsc' above)");
	}
}

static void across_nodes(struct diagnosis *d)
{
	unsigned cpus = d->cpus;

	for (unsigned k = 1; k < cpus; k++)
		compare(d, &d->cpu[0], &d->cpu[k]);
}

static const char *level_name(unsigned level)
{
	static const char *const names[CONTROL_LEVELS] = {"OK", "WARN", "FAIL"};

	return level < CONTROL_LEVELS ? names[level] : "?";
}

static void print_text(const struct diagnosis *d)
{
	const char *node = NULL;

	for (unsigned k = 0; k < d->lines; k++) {
		const struct control_check_line *l = &d->line[k];

		if (!node || strcmp(node, l->node.s) != 0)
			printf("%s%s%s\n", node ? "\n" : "", *l->node.s ? "node " : node ? "across nodes" : "this host", l->node.s);
		node = l->node.s;
		printf("  %-4s  %-14s  %s\n", level_name(l->level), l->check.s, l->found.s);
		printf("        %-14s  (%s)\n", "", l->why.s);
		if (*l->fix.s)
			printf("        %-14s  -> %s\n", "", l->fix.s);
	}
}

static void print_json(const struct diagnosis *d)
{
	json_t *checks = json_array();

	for (unsigned k = 0; k < d->lines; k++) {
		const struct control_check_line *l = &d->line[k];

		json_array_append_new(checks, json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "node", l->node.s, "check", l->check.s, "level", level_name(l->level), "found",
			l->found.s, "why", l->why.s, "fix", l->fix.s));
	}
	report_json(json_pack("{s:o}", "checks", checks));
}

static int worst(const struct diagnosis *d)
{
	unsigned level = CONTROL_OK;

	for (unsigned k = 0; k < d->lines; k++)
		level = d->line[k].level > level ? d->line[k].level : level;
	return level >= CONTROL_FAIL ? REPORT_REFUSED : REPORT_OK;
}

int diagnosis_verb(const struct options *o, const struct verbs_host *host)
{
	struct diagnosis d = {0};
	struct snapshot s = {0};
	struct failure f = {0};
	struct client c;
	int code, err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], &f);

	if (err == -ECONNREFUSED && !o->value[OPTION_NODE]) {
		host->check_here(here_line, &d);
		err = 0;
	} else if (!err) {
		err = CLIENT_SEND(&c, &f, ask_list, );
		if (!err)
			err = snapshot_read(&s, &c, &f);
		client_close(&c);
		for (unsigned k = 0; k < s.nodes && !err; k++)
			ask_node(&d, o, s.node[k].node.s);
		across_nodes(&d);
	}
	if (err) {
		code = (int)report_failure(&f, o->value[OPTION_JSON]);
	} else {
		if (o->value[OPTION_JSON])
			print_json(&d);
		else
			print_text(&d);
		code = worst(&d);
	}
	snapshot_fini(&s);
	free(d.line);
	free(d.cpu);
	return code;
}
