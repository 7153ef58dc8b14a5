/* See snapshot.h. */
#include "cli/snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "base/ensure.h"
#include "base/text.h"

static void *grow(void *array, unsigned n, size_t each)
{
	array = realloc(array, (n + 1) * each);
	ensure(array);
	return array;
}

/* Paths are people's, and what nodes say is theirs. */
static void clean_vm(struct control_vm_line *vm)
{
	text_clean(vm->vm.s);
	text_clean(vm->coordinator.s);
	text_clean(vm->kernel.s);
	text_clean(vm->about.s);
	text_clean(vm->what.s);
	text_clean(vm->trouble.s);
	text_clean(vm->sockets.s);
}

static void take(struct snapshot *s, unsigned id, const uint8_t *body, size_t bytes)
{
	struct control_node_line node;
	struct control_vm_line vm;
	struct control_part_line part;

	if (id == CONTROL_node_line && !control_get_node_line(body, bytes, &node)) {
		text_clean(node.node.s);
		text_clean(node.address.s);
		s->node = grow(s->node, s->nodes, sizeof node);
		s->node[s->nodes++] = node;
	} else if (id == CONTROL_vm_line && !control_get_vm_line(body, bytes, &vm)) {
		clean_vm(&vm);
		s->vm = grow(s->vm, s->vms, sizeof vm);
		s->vm[s->vms++] = vm;
	} else if (id == CONTROL_part_line && !control_get_part_line(body, bytes, &part)) {
		text_clean(part.node.s);
		text_clean(part.address.s);
		s->part = grow(s->part, s->parts, sizeof part);
		s->part[s->parts++] = part;
	}
}

static int by_node(const void *a, const void *b)
{
	return strcmp(((const struct control_node_line *)a)->node.s, ((const struct control_node_line *)b)->node.s);
}

static int by_vm(const void *a, const void *b)
{
	return strcmp(((const struct control_vm_line *)a)->vm.s, ((const struct control_vm_line *)b)->vm.s);
}

int snapshot_read(struct snapshot *s, struct client *c, struct failure *f)
{
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err;

	*s = (struct snapshot){0};
	while (!(err = client_next(c, &id, &body, &bytes, f)) && id != CONTROL_end)
		take(s, id, body, bytes);
	if (s->nodes)
		qsort(s->node, s->nodes, sizeof *s->node, by_node);
	if (s->vms)
		qsort(s->vm, s->vms, sizeof *s->vm, by_vm);
	return err;
}

int snapshot_ask(struct snapshot *s, const struct options *o, char here[NAME_BYTES], struct failure *f)
{
	struct client c;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], f);

	*s = (struct snapshot){0};
	if (!err)
		err = CLIENT_SEND(&c, f, ask_info, .vm = client_name(o->operand));
	if (!err)
		err = snapshot_read(s, &c, f);
	if (!err)
		memcpy(here, c.node, NAME_BYTES);
	client_close(&c);
	return err;
}

int snapshot_ask_file(const struct options *o, FILE *to, struct failure *f)
{
	struct control_vm_file in = {0};
	struct client c;
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], f);

	if (!err)
		err = CLIENT_SEND(&c, f, ask_file, .vm = client_name(o->operand));
	while (!err && !(err = client_next(&c, &id, &body, &bytes, f)) && id != CONTROL_end)
		if (id == CONTROL_vm_file && !control_get_vm_file(body, bytes, &in))
			fwrite(in.file.at, 1, in.file.bytes, to);
	client_close(&c);
	return err;
}

void snapshot_fini(struct snapshot *s)
{
	free(s->node);
	free(s->vm);
	free(s->part);
	*s = (struct snapshot){0};
}
