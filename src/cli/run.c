/* See run.h. What the command line leaves out is filled in here; what makes no sense to anybody is refused here, the rest by the daemon. */
#include "cli/run.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/quantity.h"
#include "base/text.h"
#include "cli/console.h"
#include "cli/report.h"
#include "cli/seed.h"
#include "cli/vmfile.h"
#include "dev/gear.h"
#include "dev/virtio_vsock.h"
#include "proto/stop.h"

enum { STOP_TIMEOUT_S = 60, TIMEOUT_MAX_S = 86400 };

static const uint64_t memory_default = 512 << 20;

/* What --place adds up to; nonsense in it is the daemon's to explain. */
static void sum_place(const char *place, uint64_t *cpus, uint64_t *memory, bool *all_memory)
{
	*cpus = *memory = 0;
	*all_memory = *place;
	while (*place) {
		const char *end = place + strcspn(place, ","), *colon = memchr(place, ':', (size_t)(end - place));
		const char *second = colon ? memchr(colon + 1, ':', (size_t)(end - colon - 1)) : NULL;
		uint64_t n = 0;

		if (colon && !quantity_read_count(colon + 1, second ? second : end, VCPUS_MAX, &n))
			*cpus += n;
		if (second && !quantity_read_bytes(second + 1, end, &n))
			*memory += n;
		else
			*all_memory = false;
		place = *end ? end + 1 : end;
	}
}

static int read_sizes(const struct options *o, struct control_ask_run *r, struct failure *f)
{
	const char *place = o->value[OPTION_PLACE] ? o->value[OPTION_PLACE] : "";
	uint64_t cpus, memory;
	bool all_memory;

	sum_place(place, &cpus, &memory, &all_memory);
	if (!cpus)
		cpus = 1;
	if (!all_memory)
		memory = memory_default;
	if (o->value[OPTION_CPUS] && quantity_read_count(o->value[OPTION_CPUS], NULL, UINT32_MAX, &cpus))
		return failure_set(f, -EINVAL, "give a number, 1 to 64", "cannot read --cpus %.80s", o->value[OPTION_CPUS]);
	if (o->value[OPTION_MEMORY] && quantity_read_bytes(o->value[OPTION_MEMORY], NULL, &memory))
		return failure_set(f, -EINVAL, "write it as 900M or 4G", "cannot read --memory %.80s", o->value[OPTION_MEMORY]);
	r->cpus = (uint32_t)cpus;
	r->memory = memory;
	if (strlen(place) >= sizeof r->place.s)
		return failure_set(f, -EINVAL, "make it shorter", "--place is too long");
	wire_set_text(&r->place, place);
	return 0;
}

/* Paths as the daemon can use them, and a message in the user's own words when there is nothing to read. */
static int read_path(const char *what, const char *path, struct wire_text *to, struct failure *f)
{
	char full[PATH_MAX];

	if (!path)
		return 0;
	if (!realpath(path, full) || access(full, R_OK) < 0)
		return failure_set(f, -errno, "give the path of a file you can read", "cannot read the %s %.120s: %s", what, path, strerror(errno));
	if (strlen(full) >= sizeof to->s)
		return failure_set(f, -ENAMETOOLONG, "move it", "the path of the %s is too long", what);
	wire_set_text(to, full);
	return 0;
}

/* A file's path as the daemon can use it: whether it is there, its own node must say. */
static int read_disk(struct gear *g, const char *text, struct failure *f)
{
	struct gear_disk *d;
	char here[PATH_MAX], full[PATH_MAX + GEAR_PATH_BYTES + 1];
	int err = gear_add_disk(g, text, f);

	if (err)
		return err;
	d = &g->disk[g->disks - 1];
	if (gear_is_uri(d->path) || *d->path == '/')
		return 0;
	if (!getcwd(here, sizeof here))
		return failure_set(f, -errno, "give the whole path", "cannot tell where the disk %.120s is: %s", d->path, strerror(errno));
	snprintf(full, sizeof full, "%s/%s", here, d->path);
	if (strlen(full) >= sizeof d->path)
		return failure_set(f, -ENAMETOOLONG, "move it", "the path of the disk %.120s is too long", d->path);
	TEXT_SET(d->path, full);
	return 0;
}

/* *text: what travels; the caller's to free. */
static int read_gear(const struct options *o, char **text, struct control_ask_run *r, struct failure *f)
{
	struct gear *g = calloc(1, sizeof *g);
	const char *value;
	int n = g ? 0 : -ENOMEM;

	for (unsigned i = 0; n >= 0 && (value = options_each(o, OPTION_DISK, i)); i++)
		n = read_disk(g, value, f);
	for (unsigned i = 0; n >= 0 && (value = options_each(o, OPTION_NET, i)); i++)
		n = gear_add_net(g, value, f);
	*text = n >= 0 ? malloc(GEAR_TEXT_BYTES) : NULL;
	if (n >= 0)
		n = *text ? gear_print(g, *text) : -ENOMEM;
	free(g);
	if (n < 0)
		return failure_set(f, n, "use shorter paths", "cannot pass on the disks and network cards: %s", strerror(-n));
	r->gear = (struct wire_blob){(const uint8_t *)*text, (uint32_t)n};
	return 0;
}

static int read_vsock(const char *text, uint32_t *cid, struct failure *f)
{
	uint64_t n = 0;

	if (!text)
		return 0;
	if (strncmp(text, "cid=", 4) != 0 || quantity_read_count(text + 4, text + strlen(text), UINT32_MAX - 1, &n) || n < VSOCK_CID_MIN)
		return failure_set(f, -EINVAL, "write it as --vsock cid=N, with N from 3 to 4294967294", "cannot read '%.60s' in --vsock", text);
	*cid = (uint32_t)n;
	return 0;
}

static int read_request(const struct options *o, struct control_ask_run *r, char **gear, struct failure *f)
{
	static const char remedy[] = "'tessera help run' tells what it needs";
	const char *append = o->value[OPTION_APPEND] ? o->value[OPTION_APPEND] : "";
	bool fake = o->value[OPTION_FAKE];
	int err;

	*r = (struct control_ask_run){0};
	err = read_vsock(o->value[OPTION_VSOCK], &r->cid, f);
	if (err)
		return err;
	if (!o->value[OPTION_NAME])
		return failure_set(f, -EINVAL, remedy, "the VM needs a --name");
	if (!o->value[OPTION_KERNEL] && !o->value[OPTION_DISK] && !fake)
		return failure_set(f, -EINVAL, remedy, "the VM needs a --kernel, or a --disk with one inside");
	if (strlen(o->value[OPTION_NAME]) >= sizeof r->vm.s)
		return failure_set(f, -EINVAL, "use up to 63 letters, digits, '.', '_' and '-'", "the name is too long");
	wire_set_name(&r->vm, o->value[OPTION_NAME]);
	err = read_sizes(o, r, f);
	if (!err)
		err = read_path("kernel", o->value[OPTION_KERNEL], &r->kernel, f);
	if (!err)
		err = read_path("initrd", o->value[OPTION_INITRD], &r->initrd, f);
	if (!err && strlen(append) > 2047)
		err = failure_set(f, -E2BIG, "make it shorter", "--append is longer than 2047 bytes");
	if (!err)
		err = read_gear(o, gear, r, f);
	r->append = (struct wire_blob){(const uint8_t *)append, (uint32_t)strlen(append)};
	r->flags = (o->value[OPTION_DETACH] ? CONTROL_RUN_DETACH : 0u) | (o->value[OPTION_UNSAFE_MMU] ? CONTROL_RUN_UNSAFE_MMU : 0u) |
		   (fake ? CONTROL_RUN_FAKE : 0u) | (o->value[OPTION_NO_SANDBOX] ? CONTROL_RUN_NO_SANDBOX : 0u) |
		   (o->value[OPTION_NO_REBOOT] ? CONTROL_RUN_NO_REBOOT : 0u);
	return err;
}

/* What goes along with the request, in memory of its own. */
struct parcel {
	struct vmfile file;      /* what --file said */
	char *text;              /* the VM as a file */
	uint8_t seed[SEED_MAX];
};

static int pack_parcel(const struct options *o, struct parcel *b, struct control_ask_run *r, struct failure *f)
{
	size_t bytes = 0;
	int err = seed_from_options(o, b->seed, &r->seed.bytes, f);

	if (!err)
		err = vmfile_write(o, &b->text, &bytes, f);
	r->seed.at = b->seed;
	r->file = (struct wire_blob){(const uint8_t *)b->text, (uint32_t)bytes};
	return err;
}

static int ask_for(const struct options *o, struct parcel *b, struct failure *f)
{
	struct console c = {.run_dir = o->value[OPTION_RUN_DIR], .node = o->value[OPTION_NODE], .vm = o->value[OPTION_NAME], .json = o->value[OPTION_JSON],
		.mute = o->value[OPTION_DETACH], .owner = true};
	char *gear = NULL;
	size_t bytes;
	bool complete = o->value[OPTION_NAME] && (o->value[OPTION_KERNEL] || o->value[OPTION_DISK] || o->value[OPTION_FAKE]);
	struct control_ask_run r;
	uint8_t frame[WIRE_FRAME_MAX];
	int err = read_request(o, &r, &gear, f);

	if (!err)
		err = pack_parcel(o, b, &r, f);
	bytes = err ? 0 : control_put_ask_run(&r, frame, sizeof frame);
	free(gear);
	if (err)
		return (int)(complete ? report_failure(f, c.json) : report_usage(f, c.json));
	if (r.flags & CONTROL_RUN_NO_SANDBOX)
		fprintf(stderr, "tessera: warning: %s runs without a sandbox; a guest that takes over its process has the host\n", o->value[OPTION_NAME]);
	return console_attend(&c, frame, bytes);
}

int run_verb(const struct options *given)
{
	struct options o = *given;
	struct parcel *b = calloc(1, sizeof *b);
	struct failure f = {0};
	int code;

	if (!b) {
		failure_set(&f, -ENOMEM, "free some memory", "out of memory");
		return (int)report_failure(&f, o.value[OPTION_JSON]);
	}
	if (o.value[OPTION_FILE] && vmfile_read(&b->file, o.value[OPTION_FILE], &o, &f))
		code = (int)report_usage(&f, o.value[OPTION_JSON]);
	else
		code = ask_for(&o, b, &f);
	vmfile_close(&b->file);
	free(b->text);
	free(b);
	return code;
}

/* Wait for the answer to stop or kill: the VM's end, or just 'end'. */
static int wait_end(struct client *c, bool *ended, struct control_vm_ended *e, struct failure *f)
{
	const uint8_t *body;
	size_t bytes;
	unsigned id = 0;
	int err;

	*ended = false;
	while (!(err = client_next(c, &id, &body, &bytes, f)) && id != CONTROL_end)
		if (id == CONTROL_vm_ended && !control_get_vm_ended(body, bytes, e)) {
			text_clean(e->about.s);
			text_clean(e->what.s);
			*ended = true;
		}
	return err;
}

static int end(const struct options *o, bool kill, uint64_t timeout_s)
{
	bool json = o->value[OPTION_JSON], ended = false;
	struct control_vm_ended e = {0};
	struct failure f = {0};
	struct client c;
	int code = REPORT_OK, err = client_open(&c, o->value[OPTION_RUN_DIR], o->value[OPTION_NODE], &f);

	if (!err && kill)
		err = CLIENT_SEND(&c, &f, ask_kill, .vm = client_name(o->operand));
	else if (!err)
		err = CLIENT_SEND(&c, &f, ask_stop, .vm = client_name(o->operand), .timeout_ms = (uint32_t)(timeout_s * 1000));
	if (!err)
		err = wait_end(&c, &ended, &e, &f);
	client_close(&c);
	if (err)
		return (int)report_failure(&f, json);
	if (ended && !(kill && e.reason == STOP_KILLED && !json))
		code = console_report_end(o->operand, &e, json);
	else if (json)
		report_json(json_pack("{s:s,s:s}", "vm", o->operand, "state", "stopping"));
	return kill ? REPORT_OK : code;
}

int run_kill(const struct options *o)
{
	return end(o, true, 0);
}

int run_stop(const struct options *o)
{
	uint64_t timeout = STOP_TIMEOUT_S;
	struct failure f = {0};

	if (o->value[OPTION_TIMEOUT] && quantity_read_count(o->value[OPTION_TIMEOUT], NULL, TIMEOUT_MAX_S, &timeout)) {
		failure_set(&f, -EINVAL, "give seconds, 0 to 86400", "cannot read --timeout %.80s", o->value[OPTION_TIMEOUT]);
		return (int)report_usage(&f, o->value[OPTION_JSON]);
	}
	return end(o, o->value[OPTION_FORCE], timeout);
}
