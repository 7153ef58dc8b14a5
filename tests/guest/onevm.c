/* Boots a kernel on a machine of one node, or of several made-up nodes whose memory and vCPUs all lie in this process, with the console on
 * stdin and stdout. A test's tool, not a user's: no daemon, no other host, no userfaultfd.
 *
 * usage: onevm --kernel FILE [--initrd FILE] [--append TEXT] [--cpus N] [--memory MIB] [--nodes N] [--press-at TEXT]
 *   --press-at TEXT: press the power button when the console has said TEXT
 * exit: 0 power-off, 10 reset, 11 panic, 12 triple fault, 13 KVM error, 1 could not start, 2 usage */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fcntl.h>
#include <sys/eventfd.h>

#include "base/log.h"
#include "mem/ram.h"
#include "vm/machine.h"

struct onevm {
	struct boot_config boot;
	unsigned long cpus, memory_mib, nodes;
	struct ram ram;
	struct cpuid_table cpuid;
	struct machine *machine;
	int ended; /* eventfd, counts why + 1 */
	const char *press_at;
	size_t press_seen; /* bytes of press_at the console has just said */
	int room; /* eventfd of console_room */
	uint8_t keys[256]; /* read from stdin, keys_left of them from keys_at not yet taken */
	size_t keys_at, keys_left;
	bool stdin_over;
};

static void on_end(void *owner, enum machine_end why, const char *text)
{
	struct onevm *o = owner;
	uint64_t value = (uint64_t)why + 1;

	fprintf(stderr, "onevm: %s\n", text);
	if (write(o->ended, &value, sizeof value) < 0)
		abort();
}

static void watch_for_press(struct onevm *o, const char *bytes, size_t n)
{
	for (size_t i = 0; o->press_at && i < n; i++) {
		o->press_seen = bytes[i] == o->press_at[o->press_seen] ? o->press_seen + 1 : bytes[i] == o->press_at[0];
		if (o->press_at[o->press_seen] == 0) {
			o->press_at = NULL;
			machine_power_button(o->machine);
		}
	}
}

static void on_console(void *owner, const void *bytes, size_t n)
{
	watch_for_press(owner, bytes, n);
	while (n > 0) {
		ssize_t put = write(STDOUT_FILENO, bytes, n);

		if (put <= 0)
			return;
		bytes = (const char *)bytes + put;
		n -= (size_t)put;
	}
}

static void on_console_room(void *owner)
{
	struct onevm *o = owner;
	uint64_t one = 1;

	if (write(o->room, &one, sizeof one) < 0)
		abort();
}

static int usage(void)
{
	fprintf(stderr, "usage: onevm --kernel FILE [--initrd FILE] [--append TEXT] [--cpus N] [--memory MIB] [--nodes N] [--press-at TEXT]\n");
	return 2;
}

static int parse(struct onevm *o, int argc, char **argv)
{
	static const struct option options[] = {
		{"kernel", required_argument, NULL, 'k'}, {"initrd", required_argument, NULL, 'i'}, {"append", required_argument, NULL, 'a'},
		{"cpus", required_argument, NULL, 'c'}, {"memory", required_argument, NULL, 'm'}, {"nodes", required_argument, NULL, 'n'},
		{"press-at", required_argument, NULL, 'p'}, {0},
	};
	int c;

	*o = (struct onevm){.cpus = 1, .memory_mib = 256, .nodes = 1};
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 'k': o->boot.kernel = optarg; break;
		case 'i': o->boot.initrd = optarg; break;
		case 'a': o->boot.cmdline = optarg; break;
		case 'c': o->cpus = strtoul(optarg, NULL, 10); break;
		case 'm': o->memory_mib = strtoul(optarg, NULL, 10); break;
		case 'n': o->nodes = strtoul(optarg, NULL, 10); break;
		case 'p': o->press_at = optarg; break;
		default: return usage();
		}
	}
	return o->boot.kernel && optind == argc && o->cpus <= VCPUS_MAX && o->nodes >= 1 && o->nodes <= NODES_MAX ? 0 : usage();
}

/* Memory in equal parts. */
static int make_ram(struct onevm *o, struct failure *f)
{
	uint64_t bytes[NODES_MAX] = {0};
	int err;

	for (unsigned i = 0; i < o->nodes; i++)
		bytes[i] = (o->memory_mib << 20) / o->nodes & ~(uint64_t)(PAGE_BYTES - 1);
	err = ram_layout(&o->ram, bytes, (unsigned)o->nodes);
	if (err)
		return failure_set(f, err, "choose another --memory", "%lu MiB cannot be laid out", o->memory_mib);
	return ram_map(&o->ram, f);
}

static int read_cpuid(struct onevm *o, struct failure *f)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), err;

	if (kvm < 0)
		return failure_set(f, -errno, "load KVM", "cannot open /dev/kvm: %s", strerror(errno));
	err = cpuid_host(kvm, &o->cpuid, f);
	close(kvm);
	return err;
}

static int load(struct onevm *o, const struct topology *topology, struct failure *f)
{
	struct boot_entry entry;
	int err = boot_load(&o->ram, topology, &o->boot, &entry, f);

	return err ? err : machine_enter_at(o->machine, &entry, f);
}

/* The guest sees o->nodes nodes with equal shares; all of their vCPUs run here. */
static int start(struct onevm *o, struct failure *f)
{
	struct machine_config m = {.topology = {.nodes = (unsigned)o->nodes, .vcpus = (unsigned)o->cpus}, .vcpus_here = UINT64_MAX,
		.ram = &o->ram, .cpuid = &o->cpuid, .hooks = {.owner = o, .end = on_end, .console = on_console, .console_room = on_console_room}};
	int err = make_ram(o, f);

	for (unsigned i = 0; i < o->cpus; i++)
		m.topology.vcpu_node[i].v = (uint8_t)(i * o->nodes / o->cpus);
	if (!err)
		err = read_cpuid(o, f);
	if (!err)
		err = machine_host_tsc_khz(&o->boot.tsc_khz, f);
	if (!err)
		err = machine_open(&o->machine, &m, f);
	if (!err)
		err = load(o, &m.topology, f);
	return err ? err : machine_start(o->machine, f);
}

/* Hand keys to the guest; what it does not take waits, and stdin with it, until on_console_room(). */
static void type(struct onevm *o, struct pollfd *in, struct pollfd *room)
{
	uint64_t count;
	ssize_t n;

	if (room->revents && read(o->room, &count, sizeof count) < 0)
		abort();
	if (o->keys_left == 0 && in->revents) {
		n = read(STDIN_FILENO, o->keys, sizeof o->keys);
		o->keys_left = n > 0 ? (size_t)n : 0;
		o->keys_at = 0;
		o->stdin_over = n <= 0;
	}
	if (o->keys_left) {
		size_t taken = machine_console_input(o->machine, o->keys + o->keys_at, o->keys_left);

		o->keys_at += taken;
		o->keys_left -= taken;
	}
	in->fd = o->keys_left || o->stdin_over ? -1 : STDIN_FILENO;
}

static enum machine_end run(struct onevm *o)
{
	struct pollfd fds[3] = {{.fd = o->ended, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}, {.fd = o->room, .events = POLLIN}};
	uint64_t why = 0;

	while (poll(fds, 3, -1) >= 0 || errno == EINTR) {
		if (fds[0].revents && read(o->ended, &why, sizeof why) == sizeof why)
			break;
		type(o, &fds[1], &fds[2]);
	}
	return (enum machine_end)(why - 1);
}

int main(int argc, char **argv)
{
	static const int codes[] = {[MACHINE_POWEROFF] = 0, [MACHINE_RESET] = 10, [MACHINE_PANIC] = 11, [MACHINE_TRIPLE_FAULT] = 12, [MACHINE_ERROR] = 13};
	struct failure f = {0};
	struct onevm o;
	int err = parse(&o, argc, argv), code = 1;

	if (err)
		return err;
	log_init(getenv("ONEVM_DEBUG") ? LOG_DEBUG : LOG_INFO, "onevm");
	o.ended = eventfd(0, EFD_CLOEXEC);
	o.room = eventfd(0, EFD_CLOEXEC);
	err = start(&o, &f);
	if (err)
		fprintf(stderr, "onevm: %s\n       %s\n", f.what, f.todo);
	else
		code = codes[run(&o)];
	if (o.machine && !err)
		machine_stop(o.machine);
	machine_close(o.machine);
	ram_unmap(&o.ram);
	return code;
}
