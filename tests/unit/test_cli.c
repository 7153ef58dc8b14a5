/* The command line: every option of the table is read, nonsense is refused, and the tables agree with themselves. */
#include "cli/options.h"
#include "cli/report.h"
#include "cli/table.h"
#include "proto/stop.h"
#include "tests/test.h"

#include <errno.h>
#include <string.h>

static int read_line(struct options *o, struct failure *f, const char *line)
{
	static char text[512];
	char *args[32], *save = NULL;
	int n = 0;

	snprintf(text, sizeof text, "%s", line);
	for (char *word = strtok_r(text, " ", &save); word && n < 31; word = strtok_r(NULL, " ", &save))
		args[n++] = word;
	args[n] = NULL;
	*f = (struct failure){0};
	return options_read(o, n, args, f);
}

TEST(every_option_of_every_verb_is_read)
{
	for (unsigned v = 0; v < VERBS; v++)
		for (unsigned k = 0; k < OPTIONS; k++) {
			const struct option_spec *s = options_spec(k);
			const struct verb_spec *verb = options_verb(v);
			struct options o;
			struct failure f;
			char line[256];

			snprintf(line, sizeof line, "tessera %s %s --%s%s", verb->name, verb->operand ? "X" : "", s->name, s->value ? " value" : "");
			if (s->verbs >> v & 1) {
				CHECK_EQ(read_line(&o, &f, line), 0);
				CHECK_EQ(o.verb, v);
				CHECK(o.value[k] && strcmp(o.value[k], s->value ? "value" : "") == 0);
			} else {
				CHECK_EQ(read_line(&o, &f, line), -EINVAL);
			}
		}
}

TEST(values_may_follow_an_equals_sign)
{
	struct options o;
	struct failure f;

	CHECK_EQ(read_line(&o, &f, "tessera run --append=a=b --name v1"), 0);
	CHECK(strcmp(o.value[OPTION_APPEND], "a=b") == 0);
	CHECK(strcmp(o.value[OPTION_NAME], "v1") == 0);
}

TEST(nonsense_is_refused_with_a_remedy)
{
	static const char *const lines[] = {
		"tessera", "tessera fly", "tessera ls vm1", "tessera info", "tessera info a b", "tessera run --cpus", "tessera run --cpus 1 --cpus 2",
		"tessera ls --json=yes", "tessera ls -j", "tessera ls --jso", "tessera run -name x",
		"tessera image", "tessera image fly", "tessera image info", "tessera image build -o", "tessera image build -ox", "tessera image build -o=x",
	};

	for (unsigned k = 0; k < ARRAY_LEN(lines); k++) {
		struct options o;
		struct failure f;

		CHECK_EQ(read_line(&o, &f, lines[k]), -EINVAL);
		CHECK(*f.what && *f.todo);
	}
}

TEST(repeatable_options_keep_their_order)
{
	struct options o;
	struct failure f;
	char line[512] = "tessera image build";

	CHECK_EQ(read_line(&o, &f, "tessera image build --package a,b --mirror x -o f --package=c"), 0);
	CHECK(strcmp(options_each(&o, OPTION_PACKAGE, 0), "a,b") == 0 && strcmp(options_each(&o, OPTION_PACKAGE, 1), "c") == 0);
	CHECK(!options_each(&o, OPTION_PACKAGE, 2) && strcmp(options_each(&o, OPTION_MIRROR, 0), "x") == 0);
	CHECK(strcmp(o.value[OPTION_PACKAGE], "a,b") == 0 && strcmp(o.value[OPTION_OUTPUT], "f") == 0);
	o = (struct options){.verb = VERB_IMAGE_BUILD};
	for (unsigned k = 0; k < OPTIONS_REPEATS_MAX; k++)
		CHECK_EQ(options_set(&o, OPTION_PACKAGE, line, &f), 0);
	CHECK_EQ(options_set(&o, OPTION_MIRROR, line, &f), -EINVAL);
}

TEST(help_is_found_the_usual_ways)
{
	struct options o;
	struct failure f;

	CHECK_EQ(read_line(&o, &f, "tessera run --help"), 0);
	CHECK(o.verb == VERB_HELP && strcmp(o.operand, "run") == 0);
	CHECK_EQ(read_line(&o, &f, "tessera --help"), 0);
	CHECK_EQ(o.verb, VERB_HELP);
	CHECK_EQ(read_line(&o, &f, "tessera --version"), 0);
	CHECK_EQ(o.verb, VERB_VERSION);
}

TEST(lend_is_read_in_any_order_and_nothing_else)
{
	static const char *const bad[] = {"", "cpus", "cpus=", "cpus=x", "cpus=1,", "cpus=1,cpus=2", "memory=1Q", "memory=-1", "cpus=1 memory=1", "disk=1", "cpus=5000"};
	uint64_t cpus, memory;

	CHECK_EQ(options_read_lend("cpus=2,memory=512M", &cpus, &memory, NULL), 0);
	CHECK(cpus == 2 && memory == 512 << 20);
	CHECK_EQ(options_read_lend("memory=1G", &cpus, &memory, NULL), 0);
	CHECK(cpus == 0 && memory == 1 << 30);
	for (unsigned k = 0; k < ARRAY_LEN(bad); k++) {
		struct failure f = {0};

		CHECK_EQ(options_read_lend(bad[k], &cpus, &memory, &f), -EINVAL);
		CHECK(*f.what);
	}
}

TEST(every_end_has_its_own_documented_exit_code)
{
	for (unsigned r = STOP_POWEROFF; r < STOP_REASONS; r++) {
		CHECK(report_exit_text(report_end(r)));
		for (unsigned s = STOP_POWEROFF; s < r; s++)
			CHECK(report_end(r) != report_end(s));
	}
	CHECK_EQ(report_end(STOP_POWEROFF), 0);
	CHECK_EQ(report_end(999), REPORT_FAILED);
}

TEST(tables_align)
{
	char text[256];
	FILE *out = fmemopen(text, sizeof text, "w");
	struct table t;

	CHECK(out);
	table_init(&t, "NAME|>SIZE|NOTE");
	table_cell(&t, "a");
	table_cell(&t, "%u", 12345u);
	table_cell(&t, "x");
	table_print(&t, out);
	table_fini(&t);
	fclose(out);
	CHECK(strcmp(text, "NAME   SIZE  NOTE\na     12345  x\n") == 0);
}
