/* See vmfile.h. */
#include "cli/vmfile.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <yaml.h>

#include "base/text.h"
#include "dev/gear.h"

struct reader {
	yaml_parser_t parser;
	yaml_event_t event;     /* the current one */
	const char *path;
	char folder[PATH_MAX];
	struct vmfile *keep;
	struct options *options;
	struct options before;  /* as the command line said */
	uint64_t seen[(OPTIONS + 63) / 64];
	struct failure *f;
};

static bool is_key(enum option_id id)
{
	const struct option_spec *s = options_spec(id);

	return s->verbs >> VERB_RUN & 1 && !s->client;
}

static int wrong(struct reader *r, size_t line, const char *todo, const char *what, const char *about)
{
	return failure_set(r->f, -EINVAL, todo, "%.120s:%zu: %s%s%.60s", r->path, line + 1, what, about ? " " : "", about ? about : "");
}

/* The next event becomes the current one. */
static int advance(struct reader *r)
{
	yaml_event_delete(&r->event);
	if (yaml_parser_parse(&r->parser, &r->event))
		return 0;
	return wrong(r, r->parser.problem_mark.line, "see that it is YAML", r->parser.problem ? r->parser.problem : "cannot be read", NULL);
}

static const char *scalar(const struct reader *r)
{
	return (const char *)r->event.data.scalar.value;
}

/* A disk may be at a URI, and has its options behind its name. */
static bool is_relative(const char *path)
{
	return *path != '/' && !gear_is_uri(path);
}

/* The same text, for as long as the options live; paths from the file's folder on. */
static const char *keep(struct reader *r, const char *text, bool path)
{
	char **more = realloc(r->keep->text, (r->keep->texts + 1) * sizeof *more);
	size_t room = strlen(r->folder) + strlen(text) + 2;
	char *copy = malloc(room);

	if (more)
		r->keep->text = more;
	if (!more || !copy) {
		free(copy);
		return NULL;
	}
	snprintf(copy, room, "%s%s%s", path && is_relative(text) ? r->folder : "", path && is_relative(text) ? "/" : "", text);
	r->keep->text[r->keep->texts++] = copy;
	return copy;
}

static int set(struct reader *r, enum option_id id, const char *text)
{
	size_t line = r->event.start_mark.line;
	struct failure why = {0};

	if (r->before.value[id])
		return 0; /* the command line wins */
	text = keep(r, text, options_spec(id)->path);
	if (!text)
		return failure_set(r->f, -ENOMEM, "free some memory", "out of memory");
	return options_set(r->options, id, text, &why) ? wrong(r, line, why.todo, why.what, NULL) : 0;
}

static int read_flag(struct reader *r, enum option_id id)
{
	static const char *const words[] = {"true", "yes", "on", "false", "no", "off"};

	for (size_t k = 0; k < ARRAY_LEN(words); k++)
		if (strcasecmp(scalar(r), words[k]) == 0)
			return k < 3 ? set(r, id, "") : 0;
	return wrong(r, r->event.start_mark.line, "write true or false", "this is true or false:", options_spec(id)->name);
}

static int read_value(struct reader *r, enum option_id id)
{
	const struct option_spec *s = options_spec(id);

	if (r->event.type != YAML_SCALAR_EVENT)
		return wrong(r, r->event.start_mark.line, "'tessera help run' tells what it takes", "this takes one value:", s->name);
	if (strlen(scalar(r)) != r->event.data.scalar.length || !*scalar(r))
		return wrong(r, r->event.start_mark.line, "'tessera help run' tells what it takes", "this needs a value:", s->name);
	return s->value ? set(r, id, scalar(r)) : read_flag(r, id);
}

/* The value that follows a key: one, or a list where it may repeat. */
static int read_values(struct reader *r, enum option_id id)
{
	int err = advance(r);

	if (err || r->event.type != YAML_SEQUENCE_START_EVENT || !options_spec(id)->repeats)
		return err ? err : read_value(r, id);
	err = advance(r);
	while (!err && r->event.type != YAML_SEQUENCE_END_EVENT) {
		err = read_value(r, id);
		if (!err)
			err = advance(r);
	}
	return err;
}

static int read_key(struct reader *r)
{
	size_t line = r->event.start_mark.line;
	unsigned id = 0;

	if (r->event.type != YAML_SCALAR_EVENT)
		return wrong(r, line, "write 'option: value', an option a line", "this is no option's name", NULL);
	while (id < OPTIONS && !(is_key(id) && strcmp(options_spec(id)->name, scalar(r)) == 0))
		id++;
	if (id == OPTIONS)
		return wrong(r, line, "'tessera help run' lists the options", "there is no option", scalar(r));
	if (r->seen[id / 64] >> id % 64 & 1)
		return wrong(r, line, "give it once; one that may repeat takes a list", "this is given twice:", options_spec(id)->name);
	r->seen[id / 64] |= 1ull << id % 64;
	return read_values(r, id);
}

static int read_document(struct reader *r)
{
	int err = advance(r);

	while (!err && (r->event.type == YAML_STREAM_START_EVENT || r->event.type == YAML_DOCUMENT_START_EVENT))
		err = advance(r);
	if (!err && r->event.type == YAML_STREAM_END_EVENT)
		return wrong(r, 0, "write 'option: value', an option a line", "there is nothing in it", NULL);
	if (!err && r->event.type != YAML_MAPPING_START_EVENT)
		err = wrong(r, r->event.start_mark.line, "write 'option: value', an option a line", "this is no list of options", NULL);
	if (!err)
		err = advance(r);
	while (!err && r->event.type != YAML_MAPPING_END_EVENT) {
		err = read_key(r);
		if (!err)
			err = advance(r);
	}
	while (!err && r->event.type != YAML_STREAM_END_EVENT) {
		err = advance(r);
		if (!err && r->event.type == YAML_DOCUMENT_START_EVENT)
			err = wrong(r, r->event.start_mark.line, "one VM a file", "here begins a second document", NULL);
	}
	return err;
}

int vmfile_read(struct vmfile *v, const char *path, struct options *o, struct failure *f)
{
	struct reader r = {.path = path, .keep = v, .options = o, .before = *o, .f = f};
	FILE *in = fopen(path, "re");
	char copy[PATH_MAX];
	int err;

	if (!in)
		return failure_set(f, -errno, "give the path of a file you can read", "cannot read %.160s: %s", path, strerror(errno));
	TEXT_SET(copy, path);
	TEXT_SET(r.folder, dirname(copy));
	if (!yaml_parser_initialize(&r.parser)) {
		fclose(in);
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	}
	yaml_parser_set_input_file(&r.parser, in);
	err = read_document(&r);
	yaml_event_delete(&r.event);
	yaml_parser_delete(&r.parser);
	fclose(in);
	return err;
}

void vmfile_close(struct vmfile *v)
{
	for (unsigned k = 0; k < v->texts; k++)
		free(v->text[k]);
	free(v->text);
	*v = (struct vmfile){0};
}

/* Writing. */

struct writer {
	yaml_emitter_t emitter;
	bool bad;
};

static void emit(struct writer *w, yaml_event_t *e, int made)
{
	if (!made || !yaml_emitter_emit(&w->emitter, e))
		w->bad = true;
}

static void emit_scalar(struct writer *w, const char *text)
{
	yaml_event_t e;

	emit(w, &e, yaml_scalar_event_initialize(&e, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1, YAML_ANY_SCALAR_STYLE));
}

static void emit_value(struct writer *w, enum option_id id, const char *text)
{
	char full[PATH_MAX], longer[2 * PATH_MAX];

	if (!options_spec(id)->value)
		text = "true";
	else if (options_spec(id)->path && realpath(text, full))
		text = full;
	else if (options_spec(id)->path && is_relative(text) && getcwd(full, sizeof full) && strlen(text) < PATH_MAX) {
		snprintf(longer, sizeof longer, "%s/%s", full, text);
		text = longer;
	}
	emit_scalar(w, text);
}

static void emit_option(struct writer *w, const struct options *o, enum option_id id)
{
	yaml_event_t e;

	emit_scalar(w, options_spec(id)->name);
	if (!options_spec(id)->repeats) {
		emit_value(w, id, o->value[id]);
		return;
	}
	emit(w, &e, yaml_sequence_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_SEQUENCE_STYLE));
	for (unsigned n = 0; options_each(o, id, n); n++)
		emit_value(w, id, options_each(o, id, n));
	emit(w, &e, yaml_sequence_end_event_initialize(&e));
}

static void emit_all(struct writer *w, const struct options *o)
{
	yaml_event_t e;

	emit(w, &e, yaml_stream_start_event_initialize(&e, YAML_UTF8_ENCODING));
	emit(w, &e, yaml_document_start_event_initialize(&e, NULL, NULL, NULL, 1));
	emit(w, &e, yaml_mapping_start_event_initialize(&e, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
	for (unsigned id = 0; id < OPTIONS; id++)
		if (is_key(id) && o->value[id])
			emit_option(w, o, id);
	emit(w, &e, yaml_mapping_end_event_initialize(&e));
	emit(w, &e, yaml_document_end_event_initialize(&e, 1));
	emit(w, &e, yaml_stream_end_event_initialize(&e));
}

int vmfile_write(const struct options *o, char **text, size_t *bytes, struct failure *f)
{
	struct writer w = {0};

	*text = malloc(VMFILE_BYTES_MAX);
	if (!*text || !yaml_emitter_initialize(&w.emitter)) {
		free(*text);
		*text = NULL;
		return failure_set(f, -ENOMEM, "free some memory", "out of memory");
	}
	yaml_emitter_set_output_string(&w.emitter, (unsigned char *)*text, VMFILE_BYTES_MAX, bytes);
	yaml_emitter_set_unicode(&w.emitter, 1);
	yaml_emitter_set_width(&w.emitter, -1);
	emit_all(&w, o);
	yaml_emitter_delete(&w.emitter);
	if (!w.bad)
		return 0;
	free(*text);
	*text = NULL;
	return failure_set(f, -E2BIG, "make the options shorter, and their text UTF-8", "the options are more than %u bytes, or no text", (unsigned)VMFILE_BYTES_MAX);
}
