/* See ssh.h. */
#include "cli/ssh.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cli/report.h"
#include "cli/snapshot.h"
#include "cli/vmfile.h"
#include "dev/gear.h"
#include "net/addr.h"

enum { SSH_PORT = 22 };

/* Where the guest's ssh is to be found. */
struct place {
	char node[NAME_BYTES];    /* whose port it is */
	char address[ADDR_TEXT_BYTES];
	unsigned port;
};

/* The first network card that passes something on to the guest's port 22. */
static int find_forward(const struct options *vm, struct place *p, struct failure *f)
{
	struct gear g = {0};
	const char *text;

	for (unsigned n = 0; (text = options_each(vm, OPTION_NET, n)); n++) {
		const struct gear_nic *nic = &g.nic[n];
		int err = gear_add_net(&g, text, f);

		if (err)
			return err;
		for (unsigned k = 0; k < nic->link.forwards; k++) {
			const struct nic_forward *w = &nic->link.forward[k];

			if (w->udp || w->guest != SSH_PORT)
				continue;
			p->port = w->host;
			snprintf(p->node, sizeof p->node, "%s", nic->node);
			if (strncmp(w->address, "0.", 2) != 0) /* all addresses of the node: the one that others reach will do */
				snprintf(p->address, sizeof p->address, "%s", w->address);
			return 0;
		}
	}
	return failure_set(f, -ENOENT, "start it with --net user,forward=tcp:PORT:22", "no port is passed on to the VM's port %d", SSH_PORT);
}

/* From the VM's file, by way of a file that only we see. */
static int read_forward(const struct options *o, struct place *p, struct failure *f)
{
	struct options vm = {.verb = VERB_RUN};
	struct vmfile file = {0};
	char path[32];
	int fd = memfd_create("vm", MFD_CLOEXEC), err;
	FILE *text = fd < 0 ? NULL : fdopen(fd, "w");

	if (!text)
		return failure_set(f, -errno, "free some memory", "no room for the VM's file: %s", strerror(errno));
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	err = snapshot_ask_file(o, text, f);
	if (!err && fflush(text))
		err = failure_set(f, -EIO, "free some memory", "no room for the VM's file");
	if (!err)
		err = vmfile_read(&file, path, &vm, f);
	if (!err)
		err = find_forward(&vm, p, f);
	vmfile_close(&file);
	fclose(text);
	return err;
}

/* "10.0.0.1:7" or "[fe80::1]:7" without the port and brackets. */
static void address_only(const char *text, char to[ADDR_TEXT_BYTES])
{
	const char *end = strrchr(text, ':');
	bool six = *text == '[';

	if (end)
		snprintf(to, ADDR_TEXT_BYTES, "%.*s", (int)(end - text) - (six ? 2 : 0), text + six);
}

/* The address of a node, where the port is passed on from all of them: the one at which others reach it, without the port; of this host's own, the loopback. */
static int find_node(const struct options *o, struct place *p, struct failure *f)
{
	char here[NAME_BYTES];
	struct snapshot s;
	bool given = *p->address;
	int err = snapshot_ask(&s, o, here, f);

	if (!err && s.vms == 1 && !*p->node)
		snprintf(p->node, sizeof p->node, "%s", s.vm[0].coordinator.s);
	for (unsigned k = 0; !err && k < s.parts; k++)
		if (strcmp(s.part[k].node.s, p->node) == 0 && !given)
			address_only(s.part[k].address.s, p->address);
	if (!err && !given && (!*p->address || strcmp(p->node, here) == 0))
		snprintf(p->address, sizeof p->address, "127.0.0.1");
	if (!err && given && strcmp(p->node, here) != 0 && strncmp(p->address, "127.", 4) == 0)
		err = failure_set(f, -EHOSTUNREACH, "ask there, or start the VM with an address that others reach: forward=tcp:ADDRESS:PORT:22",
		                  "the VM's port 22 is passed on from node %s's %s, which only that node reaches", p->node, p->address);
	snapshot_fini(&s);
	return err;
}

/* Tools of ssh know the guest by its VM's name, not by a port that many guests have in turn. */
static int become_ssh(const struct options *o, const struct place *p, struct failure *f)
{
	char port[16], alias[64 + NAME_BYTES], to[NAME_BYTES + 64 + ADDR_TEXT_BYTES];
	const char *user = o->value[OPTION_USER] ? o->value[OPTION_USER] : "debian";
	char **argv = calloc((size_t)o->rests + 9, sizeof *argv);
	unsigned n = 0;

	snprintf(port, sizeof port, "%u", p->port);
	snprintf(alias, sizeof alias, "HostKeyAlias=tessera-%s", o->operand);
	snprintf(to, sizeof to, "%.64s@%s", user, p->address);
	if (argv) {
		char *const first[] = {(char[]){"ssh"}, (char[]){"-p"}, port, (char[]){"-o"}, alias, (char[]){"-o"}, (char[]){"StrictHostKeyChecking=accept-new"}, to};

		for (; n < ARRAY_LEN(first); n++)
			argv[n] = first[n];
		for (unsigned k = 0; k < o->rests; k++)
			argv[n++] = o->rest[k];
		execvp("ssh", argv);
	}
	n = (unsigned)errno;
	free(argv);
	return failure_set(f, -(int)n, "install the package openssh-client", "ssh cannot be started: %s", strerror((int)n));
}

int ssh_verb(const struct options *o)
{
	struct failure f = {0};
	struct place p = {0};
	int err = read_forward(o, &p, &f);

	if (!err)
		err = find_node(o, &p, &f);
	if (!err)
		err = become_ssh(o, &p, &f);
	return (int)report_failure(&f, o->value[OPTION_JSON]);
}
