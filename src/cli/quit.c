/* See quit.h. */
#include "cli/quit.h"

#include <errno.h>
#include <string.h>

#include "cli/client.h"
#include "cli/report.h"
#include "cli/snapshot.h"

static int wait_for_end(struct client *c, struct failure *f)
{
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err = 0;

	while (!err && id != CONTROL_end)
		err = client_next(c, &id, &body, &bytes, f);
	return err;
}

static int kill_vm(const struct options *o, const struct wire_name *vm, struct failure *f)
{
	struct client c;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], f);

	if (!err)
		err = CLIENT_SEND(&c, f, ask_kill, .vm = *vm);
	if (!err)
		err = wait_for_end(&c, f);
	client_close(&c);
	return err;
}

/* Those with a part on this node, whoever coordinates them: the node is to be empty. */
static int kill_vms(const struct options *o, struct failure *f)
{
	struct snapshot s = {0};
	struct client c;
	int err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], f);

	if (!err)
		err = CLIENT_SEND(&c, f, ask_list, );
	if (!err)
		err = snapshot_read(&s, &c, f);
	client_close(&c);
	for (unsigned k = 0; k < s.parts && !err; k++)
		for (unsigned v = 0; v < s.vms && !err; v++) {
			if (s.part[k].vm_id != s.vm[v].vm_id || strcmp(s.part[k].node.s, c.node) != 0 || s.vm[v].state == CONTROL_VM_ENDED)
				continue;
			err = kill_vm(o, &s.vm[v].vm, f);
		}
	snapshot_fini(&s);
	return err;
}

int quit_verb(const struct options *o)
{
	bool json = o->value[OPTION_JSON];
	struct failure f = {0};
	struct client c;
	int err = o->value[OPTION_KILL_VMS] ? kill_vms(o, &f) : 0;

	c.fd = -1;
	if (!err)
		err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], &f);
	if (!err)
		err = CLIENT_SEND(&c, &f, ask_quit, );
	if (!err)
		err = wait_for_end(&c, &f);
	while (!err)
		err = wait_for_end(&c, &f); /* until it is gone: the same name can be started again at once */
	client_close(&c);
	if (err != -ECONNRESET)
		return (int)report_failure(&f, json);
	if (json)
		report_json(json_pack("{s:s,s:s}", "node", c.node, "state", "ended"));
	return REPORT_OK;
}
