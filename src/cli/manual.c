/* See manual.h. */
#include "cli/manual.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cli/report.h"

enum { WIDTH = 100 };

static bool has(enum option_verb v, unsigned option)
{
	const struct option_spec *o = options_spec(option);

	return o->verbs >> v & 1 && !o->hidden;
}

/* Words of text, filled into lines that begin at 'column'. */
static void print_filled(const char *text, int column)
{
	int at = column;

	while (*text) {
		int n = (int)strcspn(text, " ");

		if (at > column && at + 1 + n > WIDTH) {
			printf("\n%*s", column, "");
			at = column;
		} else if (at > column) {
			putchar(' ');
			at++;
		}
		printf("%.*s", n, text);
		at += n;
		text += n + (text[n] == ' ');
	}
	putchar('\n');
}

static void print_option(const struct option_spec *o)
{
	char letter[8] = "";
	int n;

	if (o->letter)
		snprintf(letter, sizeof letter, "-%c, ", o->letter);
	n = printf("  %s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");

	if (n > 24)
		printf("\n%*s", 26, "");
	else
		printf("%*s", 26 - n, "");
	print_filled(o->help, 26);
}

static void print_exits(void)
{
	printf("\nExit codes:\n");
	for (unsigned code = 0; code < 32; code++)
		if (report_exit_text(code)) {
			printf("  %2u  ", code);
			print_filled(report_exit_text(code), 6);
		}
}

static void print_verb(enum option_verb v)
{
	const struct verb_spec *s = options_verb(v);

	printf("tessera %s%s%s [OPTION...]%s: %s\n\n", s->name, s->operand ? " " : "", s->operand ? s->operand : "", s->passes ? " [-- WORD...]" : "", s->summary);
	print_filled(s->text, 0);
	putchar('\n');
	for (unsigned k = 0; k < OPTIONS; k++)
		if (has(v, k))
			print_option(options_spec(k));
}

/* A verb, or all whose first word it is. */
static int print_verbs(const char *name, struct failure *f)
{
	size_t n = strlen(name);
	bool found = false;

	for (unsigned v = 0; v < VERBS; v++) {
		const char *verb = options_verb(v)->name;

		if (strncmp(verb, name, n) != 0 || (verb[n] && verb[n] != ' '))
			continue;
		if (found)
			putchar('\n');
		print_verb(v);
		found = true;
	}
	return found ? 0 : failure_set(f, -EINVAL, "'tessera help' lists the verbs", "there is no verb '%.80s'", name);
}

static void print_all(void)
{
	printf("tessera VERB [OPTION...]: one virtual machine out of the CPUs and memory of several hosts\n\n");
	for (unsigned v = 0; v < VERBS; v++) {
		int n = printf("  %s %s", options_verb(v)->name, options_verb(v)->operand ? options_verb(v)->operand : "");

		printf("%*s%s\n", 18 - n, "", options_verb(v)->summary);
	}
	printf("\nFirst steps, on a host each:\n"
	       "  tessera node --name A --lend cpus=2,memory=512M\n"
	       "  tessera run --name vm1 --cpus 2 --memory 400M --kernel bzImage --initrd initrd.gz --append 'console=ttyS0'\n"
	       "\n'tessera help VERB' tells the options of a verb.\n");
	print_exits();
}

/* roff: a line must not begin with . or ', and - and \ are escaped. */
static void roff(const char *text)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", stdout);
	for (; *text; text++) {
		if (*text == '-' || *text == '\\')
			putchar('\\');
		putchar(*text);
		if (*text == '\\')
			putchar('e');
	}
	putchar('\n');
}

static void man_option(const struct option_spec *o)
{
	char text[128], letter[8] = "";

	if (o->letter)
		snprintf(letter, sizeof letter, "-%c, ", o->letter);
	snprintf(text, sizeof text, "%s--%s%s%s", letter, o->name, o->value ? " " : "", o->value ? o->value : "");
	printf(".TP\n.B ");
	roff(text);
	roff(o->help);
}

static void man_verb(enum option_verb v)
{
	const struct verb_spec *s = options_verb(v);

	printf(".SS tessera %s%s%s%s\n", s->name, s->operand ? " " : "", s->operand ? s->operand : "", s->passes ? " [\\-\\- WORD...]" : "");
	roff(s->text);
	for (unsigned k = 0; k < OPTIONS; k++)
		if (has(v, k))
			man_option(options_spec(k));
}

static void print_man(void)
{
	printf(".\\\" Made by 'tessera help --man' from src/cli/options.c; do not edit.\n"
	       ".TH TESSERA 1 \"\" \"tessera %s\"\n.SH NAME\ntessera \\- one virtual machine out of several hosts\n"
	       ".SH SYNOPSIS\n.B tessera\n.I VERB\n.RI [ OPTION ...]\n.SH DESCRIPTION\n", TESSERA_VERSION);
	roff("Tessera builds one virtual machine out of CPUs and memory of several Linux hosts, called nodes. Each node runs a daemon (tessera node); the other "
	     "verbs speak to the daemon of the host they are typed on. The guest is an unmodified kernel that sees one SMP machine with a NUMA node per host.");
	printf(".SH VERBS\n");
	for (unsigned v = 0; v < VERBS; v++)
		man_verb(v);
	printf(".SH EXIT STATUS\n");
	for (unsigned code = 0; code < 32; code++)
		if (report_exit_text(code)) {
			printf(".TP\n.B %u\n", code);
			roff(report_exit_text(code));
		}
	printf(".SH ENVIRONMENT\n.TP\n.B TESSERA_RUN_DIR\nWhere daemons keep their sockets, instead of /run/tessera.\n"
	       ".TP\n.B TESSERA_NODE\nThe daemon to speak to where a host runs several.\n"
	       ".SH JSON\n");
	roff("With --json every verb prints one JSON document. A failure is {\"error\":{\"what\":...,\"node\":...,\"todo\":...,\"code\":...}}, where code is the exit "
	     "status. What run, console, stop and kill print is "
	     "{\"vm\":...,\"end\":{\"reason\":...,\"node\":...,\"what\":...,\"code\":...}}, where code "
	     "is the exit status of run, or {\"vm\":...,\"state\":...} if it has not ended; the console goes to stderr then. stats --watch prints one document a second."
	     " Sizes have bytes in their names, times end in _ms, _us or _ns.");
	printf(".SH VM FILES\n");
	roff("A file for run --file is a YAML mapping whose keys are run's options, but for --node, --run-dir, --json and --file itself. Options without a value are true or "
	     "false, those that may repeat take a list. Relative paths begin at the file's folder. What is on the command line wins. Example:");
	printf(".PP\n.nf\nname: web\ncpus: 4\nmemory: 4G\nkernel: vmlinuz\ninitrd: initrd.img\nssh\\-key:\n  \\- /root/.ssh/id_ed25519.pub\ndetach: true\n.fi\n"
	       ".SH SEEDS\n");
	roff("--ssh-key, --user-data and --hostname are put on a small read-only FAT disk labelled CIDATA, as cloud-init's data source NoCloud wants it: meta-data with an "
	     "instance-id, the host's name and the keys, and user-data as given. The disk lives in the memory of the VM's first node and is gone with the VM. The "
	     "instance-id is made of the VM's name and of all the seed says: a guest whose seed has changed sets itself up anew, host keys included. Keys, "
	     "meta-data and user data may have 30 KiB together.");
	printf(".SH SEE ALSO\n.BR tessera\\-node (8)\n");
}

/* The first words of the verbs, each once; or the second words of those that begin with first. */
static void print_words(const char *first)
{
	const char *last = "";
	size_t last_bytes = 0;

	for (unsigned v = 0; v < VERBS; v++) {
		const char *name = options_verb(v)->name;
		size_t n = strcspn(name, " ");

		if (first && name[n] && strncmp(name, first, n) == 0)
			printf("%s ", name + n + 1);
		if (first || (n == last_bytes && strncmp(name, last, n) == 0))
			continue;
		printf("%s%.*s", v ? " " : "", (int)n, name);
		last = name;
		last_bytes = n;
	}
}

/* One case per verb. */
static void print_completion(void)
{
	printf("# Completion for bash, made by 'tessera help --completion': source it, or put it in /etc/bash_completion.d.\n"
	       "_tessera() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} words\n\tcase $COMP_CWORD:${COMP_WORDS[1]}:${COMP_WORDS[2]} in\n\t1:*) words=\"");
	print_words(NULL);
	printf("\" ;;\n\t2:image:*) words=\"");
	print_words("image");
	printf("\" ;;\n");
	for (unsigned v = 0; v < VERBS; v++) {
		const char *separator = "", *name = options_verb(v)->name;
		int n = (int)strcspn(name, " ");

		printf("\t*:%.*s:%s) words=\"", n, name, name[n] ? name + n + 1 : "*");
		for (unsigned k = 0; k < OPTIONS; k++)
			if (has(v, k)) {
				printf("%s--%s", separator, options_spec(k)->name);
				separator = " ";
			}
		printf("\" ;;\n");
	}
	printf("\tesac\n\tCOMPREPLY=($(compgen -o default -W \"$words\" -- \"$cur\"))\n}\ncomplete -F _tessera tessera\n");
}

int manual_verb(const struct options *o)
{
	struct failure f = {0};

	if (o->value[OPTION_MAN])
		print_man();
	else if (o->value[OPTION_COMPLETION])
		print_completion();
	else if (!o->operand)
		print_all();
	else if (print_verbs(o->operand, &f))
		return (int)report_usage(&f, false);
	return REPORT_OK;
}
