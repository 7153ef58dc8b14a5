/* See options.h. The two tables are the truth about the command line; wording here is what people read. */
#include "cli/options.h"

#include <errno.h>
#include <string.h>

#include "base/quantity.h"

#define ON(verb) (1u << VERB_##verb)

enum {
	CLIENTS = ON(RUN) | ON(LS) | ON(INFO) | ON(STATS) | ON(TOP) | ON(BALLOON) | ON(CONSOLE) | ON(SSH) | ON(STOP) | ON(KILL) | ON(DOCTOR) | ON(QUIT),
	LEND_CPUS_MAX = 1024,
};

static const struct option_spec options[OPTIONS] = {
	[OPTION_NAME] = {"name", "NAME", "Name of this node (default: the host's name), or of the VM.", ON(NODE) | ON(RUN) | ON(IMAGE_SEED)},
	[OPTION_NODE] = {"node", "NAME", "The daemon on this host to speak to; needed only where more than one runs. Default: $TESSERA_NODE, else the only one.",
		CLIENTS, .client = true},
	[OPTION_RUN_DIR] = {"run-dir", "DIR", "Where daemons keep their sockets. Default: $TESSERA_RUN_DIR, else /run/tessera.", CLIENTS | ON(NODE),
		.client = true},
	[OPTION_LISTEN] = {"listen", "ADDR:PORT", "Address at which the other nodes reach this one. Port 0: any free one. Default: 127.0.0.1:0.", ON(NODE)},
	[OPTION_LEND] = {"lend", "cpus=N,memory=SIZE", "What this node lends to VMs at most, as cpus=2,memory=512M. Default: nothing. The part of a VM "
		"that lives here is resident with its share of the VM's memory, at most 64 MiB more of pages cached from other nodes, and an overhead of at most 16 MiB, "
		"10 MiB for each other node of the VM, and 1/64 of the VM's whole memory; while it loads the guest also the kernel's and the initrd's files.", ON(NODE)},
	[OPTION_JOIN] = {"join", "ADDR:PORT", "A node of the cluster to join; it is tried until it answers, and names the others.", ON(NODE)},
	[OPTION_INSECURE] = {"insecure", NULL, "Listen on an address that other hosts can reach. Links are not yet encrypted or authenticated: whoever reaches "
		"the port owns the VMs.", ON(NODE)},
	[OPTION_CPUS] = {"cpus", "N", "vCPUs of the VM, 1 to 64. Default: what --place adds up to, else 1.", ON(RUN)},
	[OPTION_MEMORY] = {"memory", "SIZE", "Memory of the VM, as 900M or 4G. Default: what --place adds up to, else 512M.", ON(RUN)},
	[OPTION_PLACE] = {"place", "NODE:CPUS[:SIZE],...", "Which node gives what. Memory without a size is shared out in proportion to CPUs. This node, or else "
		"the first one named, has the devices and opens the kernel's files. Default: chosen from what the nodes have left; nodes with disks or "
		"network cards of the VM take part.", ON(RUN)},
	[OPTION_KERNEL] = {"kernel", "FILE", "Linux bzImage or PVH ELF image to boot. Default: the "
		"newest one inside the first disk, with its initial RAM disk and root file system.", ON(RUN), .path = true},
	[OPTION_INITRD] = {"initrd", "FILE", "Initial RAM disk for it.", ON(RUN), .path = true},
	[OPTION_APPEND] = {"append", "TEXT", "Added to the kernel's command line.", ON(RUN)},
	[OPTION_DISK] = {"disk", "FILE[,OPTION...]", "A disk for the guest (virtio): a file or block device of the node that has the devices, or of node=NODE; or an "
		"NBD server's URI (nbd://HOST[:PORT][/EXPORT], nbd+unix:///EXPORT?socket=PATH). readonly: the guest cannot write it, and VMs may share it; "
		"otherwise a disk belongs to one VM at a time. format=raw, qcow2, vmdk, vdi, vhdx, vpc or qed; default: what the name ends in, else raw; never "
		"what is in the file. cache=writeback (default: the host's page cache, durable when the guest flushes), none (past the page cache), writethrough "
		"(each write is durable) or unsafe (flushes do nothing). A comma in FILE is written twice. May be given 8 times; the guest sees the disks in this "
		"order.", ON(RUN), .repeats = true, .path = true},
	[OPTION_NET] = {"net", "user[,...]|tap[,...]", "A network card for the guest (virtio). user: through passt, without privileges; the guest is 10.0.2.15 by "
		"DHCP, its gateway 10.0.2.2, and reaches what the node reaches; forward=tcp:[ADDRESS:]PORT:GUESTPORT (or udp:...; may be repeated) passes "
		"connections to the node's port on to the guest. tap: a tap interface of the node (name=INTERFACE), put into bridge=BRIDGE. Both: node=NODE, else "
		"the node that has the devices; mac=MAC, else one made of the VM's name. May be given 4 times.", ON(RUN), .repeats = true},
	[OPTION_VSOCK] = {"vsock", "cid=N", "The guest's own number (CID) for vsock, 3 to 4294967294. Default: one made for each VM. Programs of this node reach port P of "
		"the guest by the socket that info shows, saying CONNECT P and a newline; programs of the guest reach, as port P of CID 2, who listens at that socket's path "
		"and _P.", ON(RUN)},
	[OPTION_PORT] = {"port", "PORT", "Which console: serial (ttyS0, where the kernel's early messages are), or hvc0, the guest's virtio console, which takes the "
		"size of this terminal and is faster. A login there needs a getty on hvc0, which images of 'image build' have and Debian's systemd starts with console=hvc0 on "
		"the kernel's command line. Default: serial.", ON(CONSOLE), .client = true},
	[OPTION_DETACH] = {"detach", NULL, "Return as soon as the VM runs, without its console.", ON(RUN)},
	[OPTION_NO_REBOOT] = {"no-reboot", NULL, "A guest that resets itself has ended, with exit status 10, instead of being started again.", ON(RUN)},
	[OPTION_JSON] = {"json", NULL, "Print one JSON document instead of text; errors too, as {\"error\":{...}}.",
		CLIENTS | ON(VERSION) | ON(IMAGE_BUILD) | ON(IMAGE_INFO) | ON(IMAGE_SEED), .client = true},
	[OPTION_WATCH] = {"watch", NULL, "Print again every second.", ON(STATS)},
	[OPTION_ONCE] = {"once", NULL, "Look for a second, print once, and end.", ON(TOP)},
	[OPTION_ALL] = {"all", NULL, "Show VMs that have ended too.", ON(LS)},
	[OPTION_TIMEOUT] = {"timeout", "SECONDS", "How long the guest has to switch itself off before it is killed. 0: press the button and return. Default: 60.",
		ON(STOP)},
	[OPTION_FORCE] = {"force", NULL, "stop: kill at once instead of pressing the power button. image build and seed: replace FILE if there is one.",
		ON(STOP) | ON(IMAGE_BUILD) | ON(IMAGE_SEED)},
	[OPTION_KILL_VMS] = {"kill-vms", NULL, "Kill the VMs that have a part on this node first.", ON(QUIT)},
	[OPTION_MAN] = {"man", NULL, "Print the man page's source.", ON(HELP)},
	[OPTION_COMPLETION] = {"completion", NULL, "Print completion for bash.", ON(HELP)},
	[OPTION_RELEASE] = {"release", "NAME", "Debian release the image is made of. Default: bookworm.", ON(IMAGE_BUILD)},
	[OPTION_PACKAGE] = {"package", "NAME,...", "Packages to install besides the basic system, without what they only recommend. Repeatable.", ON(IMAGE_BUILD),
		.repeats = true},
	[OPTION_OUTPUT] = {"output", "FILE", "The image to make.", ON(IMAGE_BUILD) | ON(IMAGE_SEED), .letter = 'o'},
	[OPTION_SIZE] = {"size", "SIZE", "Size of the disk and of its file system; the file takes only what is in use. Default: 4G.", ON(IMAGE_BUILD)},
	[OPTION_MIRROR] = {"mirror", "URL", "Where packages come from, as http://HOST/debian, or a whole line of sources.list in quotes. Repeatable. Default: what this "
		"host's apt uses for that release, with its updates and security updates.", ON(IMAGE_BUILD), .repeats = true},
	[OPTION_HOSTNAME] = {"hostname", "NAME", "Name that the guest calls itself. Default: the VM's name where it has a seed; for image build the image's file name.",
		ON(IMAGE_BUILD) | ON(IMAGE_SEED) | ON(RUN)},
	[OPTION_SSH_KEY] = {"ssh-key", "FILE", "Public SSH keys that may log in to the guest's first user (Debian: debian), put on a seed disk for cloud-init. Repeatable.",
		ON(RUN) | ON(IMAGE_SEED), .repeats = true, .path = true},
	[OPTION_USER_DATA] = {"user-data", "FILE", "User data for cloud-init, put on the seed disk: a #cloud-config document, or a script.", ON(RUN) | ON(IMAGE_SEED),
		.path = true},
	[OPTION_FILE] = {"file", "FILE", "Read options from a VM file in YAML: their names are its keys, and relative paths begin where it lies. Options on the "
		"command line win.", ON(RUN), .client = true, .letter = 'f'},
	[OPTION_YAML] = {"yaml", NULL, "Print the VM as a file that 'tessera run --file' takes.", ON(INFO), .client = true},
	[OPTION_UNSAFE_MMU] = {"unsafe-mmu", NULL, "Run on hosts whose KVM cannot run a stock kernel, or is wrong for VMs that span nodes.", ON(RUN), .hidden = true},
	[OPTION_NO_SANDBOX] = {"no-sandbox", NULL, "Do not lock up the processes that hold the VM, so that they can be debugged. Then a guest that takes over one has "
		"this host: not for guests you do not trust.", ON(RUN)},
	[OPTION_USER] = {"user", "NAME", "The guest's user. Default: debian, whom the seed of --ssh-key makes in an image of Debian.", ON(SSH), .client = true},
	[OPTION_FAKE] = {"fake", NULL, "No guest, only what surrounds it.", ON(RUN), .hidden = true},
};

static const struct verb_spec verbs[VERBS] = {
	[VERB_NODE] = {"node", NULL, "run this host's daemon",
		"Lends CPUs and memory of this host, keeps in touch with the other nodes, and serves the other verbs. Runs in the foreground and logs to standard "
		"error; ends on SIGTERM or SIGINT. VMs live in processes of their own: they run on when the daemon ends, and it finds them again when it is "
		"started with the same --name and --run-dir."},
	[VERB_RUN] = {"run", NULL, "start a VM",
		"Starts a VM made of CPUs and memory of one or more nodes, shows its serial console, and ends when it ends. Detach with ^] and the VM runs on; "
		"SIGTERM, SIGHUP, or SIGINT from outside end it. On a terminal ^C goes to the guest. A guest that resets itself is started again in the same places, from "
		"the kernel's file, with its console attached; five resets in a row, each within ten seconds of the guest's start, end the VM."},
	[VERB_LS] = {"ls", NULL, "list nodes and VMs", "Lists the nodes of the cluster with what they lend, and the VMs with where their parts are."},
	[VERB_INFO] = {"info", "VM", "show all about a VM", "Shows where each part of the VM is, and after its end why it ended (kept by the daemon until it ends itself, "
		"a VM of that name is started, or 32 more have ended)."},
	[VERB_STATS] = {"stats", "VM", "show a VM's counters", "Shows what each part of the VM has counted: remote faults, messages, bytes, interrupts forwarded."},
	[VERB_TOP] = {"top", "VM", "watch what a VM does",
		"Shows, anew every second, what each vCPU does (the node it is on, its share of a host CPU, how often it waited for a page of another node, and how "
		"long: the median and the 99th percentile since its start), what each node sends to each other (with the shortest recent round trip), its "
		"disks and network cards, its devices' busiest queues (blk0.1: vCPU 1's of the first disk) with the node that serves each and how often that waited for "
		"memory, and the pages that were waited for most often since the start. Ends on ^C. Where standard output is no terminal it prints "
		"one picture after the other."},
	[VERB_BALLOON] = {"balloon", "VM [SIZE]", "show or set the memory that a guest does with",
		"Asks the guest to do with SIZE of the memory that the VM was started with, and gives what it does without back to the nodes; without SIZE only shows what is "
		"asked for and what the guest has now. The guest's balloon driver does it, in its own time and as far as it can: it takes memory back rather than run out "
		"of it. It holds until it is asked for something else, also when the guest resets itself."},
	[VERB_CONSOLE] = {"console", "VM", "attach to a VM's console", "Shows the console's last 64 KiB and what follows, and passes keys. Detach with ^]. "
		"Several clients may be attached."},
	[VERB_SSH] = {"ssh", "VM", "log in to a VM", "Starts this host's ssh program, at the first port that --net user,forward=tcp:PORT:22 passes on to the VM. What "
		"follows -- is ssh's: a command for the guest, say. ssh remembers the guest's key under the name tessera-VM. The exit status is ssh's.", .passes = true},
	[VERB_STOP] = {"stop", "VM", "press a VM's power button",
		"Presses the ACPI power button and waits for the guest to switch itself off (exit status 0); kills the VM when it does not within --timeout "
		"(exit status 14, saying so). Of a VM that ends otherwise meanwhile the exit status is that of run. A guest that resets itself instead is not started again."},
	[VERB_KILL] = {"kill", "VM", "end a VM at once", "Ends all parts of the VM at once. Returns when nothing of it is left."},
	[VERB_DOCTOR] = {"doctor", NULL, "check this host and all nodes",
		"Checks what Tessera needs of each node: KVM and its kind, userfaultfd, the MMU mode, CPUID and TSC, the network between nodes, memory and limits. "
		"Each line says OK, WARN or FAIL, why it matters, and the exact remedy. Without a daemon it checks this host only."},
	[VERB_QUIT] = {"quit", NULL, "end this host's daemon", "Ends the daemon as SIGTERM does. VMs run on unless --kill-vms is given."},
	[VERB_IMAGE_BUILD] = {"image build", NULL, "make a disk image of Debian packages",
		"Makes a raw disk image: an ext4 file system without partitions that holds a Debian system with a kernel, OpenSSH, cloud-init, which sets the guest up by the "
		"seed disk, a login on the serial console, and network addresses by DHCP. No user can log in before a seed (or a package) has made one. Needs mmdebstrap "
		"and e2fsprogs, and uidmap where not run by root; nothing is mounted. Nothing is left behind when it fails or is interrupted."},
	[VERB_IMAGE_INFO] = {"image info", "FILE", "show what is in a disk image",
		"Shows which file system a raw disk image or block device holds, and the kernel, initial RAM "
		"disk and root file system that a VM would boot from it. The image is read, not mounted, by a process of its own that can do nothing else."},
	[VERB_IMAGE_SEED] = {"image seed", NULL, "make a seed disk for cloud-init",
		"Makes the small disk that --ssh-key, --user-data and --hostname of run make in memory, as a file for other machines to boot an image with."},
	[VERB_VERSION] = {"version", NULL, "print the version", "Prints the version of the program and of its protocol."},
	[VERB_HELP] = {"help", "[VERB]", "explain the program or a verb", "Explains the program or one of its verbs."},
};

const struct option_spec *options_spec(enum option_id id)
{
	return &options[id];
}

const struct verb_spec *options_verb(enum option_verb v)
{
	return &verbs[v];
}

/* How many words of the command line the verb's name takes; 0: it is not this verb. */
static int match_verb(const char *name, int argc, char **argv)
{
	size_t first = strcspn(name, " ");

	if (strncmp(name, argv[1], first) != 0 || argv[1][first])
		return 0;
	if (!name[first])
		return 1;
	return argc > 2 && strcmp(name + first + 1, argv[2]) == 0 ? 2 : 0;
}

static int find_verb(int argc, char **argv, enum option_verb *v, int *words)
{
	*words = 1;
	*v = VERB_HELP;
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
		return 0;
	*v = VERB_VERSION;
	if (strcmp(argv[1], "--version") == 0)
		return 0;
	for (unsigned k = 0; k < VERBS; k++)
		if ((*words = match_verb(verbs[k].name, argc, argv))) {
			*v = k;
			return 0;
		}
	return -EINVAL;
}

/* "--name", "--name=value" or "-n" of this verb. */
static int find_option(enum option_verb v, const char *arg, const char **value)
{
	bool letter = arg[1] != '-';
	size_t n = letter ? 0 : strcspn(arg + 2, "=");

	*value = n && arg[2 + n] ? arg + 3 + n : NULL;
	for (int k = 0; k < OPTIONS; k++) {
		const struct option_spec *s = &options[k];

		if (!(s->verbs >> v & 1))
			continue;
		if (letter ? s->letter && arg[1] == s->letter && !arg[2] : strlen(s->name) == n && strncmp(s->name, arg + 2, n) == 0)
			return k;
	}
	return -EINVAL;
}

const char *options_each(const struct options *o, enum option_id id, unsigned n)
{
	for (unsigned k = 0; k < o->repeats; k++)
		if (o->repeat[k].id == id && n-- == 0)
			return o->repeat[k].value;
	return NULL;
}

int options_set(struct options *o, enum option_id id, const char *text, struct failure *f)
{
	if (options[id].repeats) {
		if (o->repeats == OPTIONS_REPEATS_MAX)
			return failure_set(f, -EINVAL, "give fewer", "--%s and its like are given more than %u times", options[id].name, (unsigned)OPTIONS_REPEATS_MAX);
		o->repeat[o->repeats++] = (struct options_repeat){id, text};
	} else if (o->value[id]) {
		return failure_set(f, -EINVAL, "give it once", "--%s is given twice", options[id].name);
	}
	if (!o->value[id])
		o->value[id] = text;
	return 0;
}

static int read_option(struct options *o, int *k, int argc, char **argv, struct failure *f)
{
	const char *remedy = "'tessera help VERB' lists a verb's options", *arg = argv[*k], *value, *verb = verbs[o->verb].name;
	int id = find_option(o->verb, arg, &value);

	if (id < 0)
		return failure_set(f, -EINVAL, remedy, "'tessera %s' has no option '%.80s'", verb, arg);
	if (!options[id].value && value)
		return failure_set(f, -EINVAL, remedy, "--%s takes no value", options[id].name);
	if (options[id].value && !value && ++*k == argc)
		return failure_set(f, -EINVAL, remedy, "--%s needs a value: %s", options[id].name, options[id].value);
	return options_set(o, (enum option_id)id, !options[id].value ? "" : value ? value : argv[*k], f);
}

int options_read(struct options *o, int argc, char **argv, struct failure *f)
{
	const char *remedy = "'tessera help' lists the verbs, 'tessera help VERB' their options";
	int words;

	*o = (struct options){.verb = VERB_HELP};
	if (argc < 2)
		return failure_set(f, -EINVAL, remedy, "say what to do");
	if (find_verb(argc, argv, &o->verb, &words))
		return failure_set(f, -EINVAL, remedy, "there is no verb '%.80s'", argv[1]);
	for (int k = 1 + words; k < argc; k++) {
		const char *arg = argv[k];

		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
			o->operand = verbs[o->verb].name;
			o->verb = VERB_HELP;
			return 0;
		}
		if (strcmp(arg, "--") == 0 && verbs[o->verb].passes) {
			o->rest = argv + k + 1;
			o->rests = (unsigned)(argc - k - 1);
			break;
		}
		if (arg[0] == '-') {
			int err = read_option(o, &k, argc, argv, f);

			if (err)
				return err;
			continue;
		}
		if (o->operand && !o->second && strchr(verbs[o->verb].operand, ' ')) {
			o->second = arg;
			continue;
		}
		if (!verbs[o->verb].operand || o->operand)
			return failure_set(f, -EINVAL, remedy, "'tessera %s' cannot take '%.80s'", verbs[o->verb].name, arg);
		o->operand = arg;
	}
	if (verbs[o->verb].operand && verbs[o->verb].operand[0] != '[' && !o->operand)
		return failure_set(f, -EINVAL, remedy, "'tessera %s' needs a %.*s", verbs[o->verb].name, (int)strcspn(verbs[o->verb].operand, " "),
			verbs[o->verb].operand);
	return 0;
}

int options_read_lend(const char *text, uint64_t *cpus, uint64_t *memory, struct failure *f)
{
	bool have_cpus = false, have_memory = false;

	*cpus = *memory = 0;
	for (;;) {
		const char *end = text + strcspn(text, ",");
		int err = -EINVAL;

		if (!have_cpus && strncmp(text, "cpus=", 5) == 0) {
			err = quantity_read_count(text + 5, end, LEND_CPUS_MAX, cpus);
			have_cpus = true;
		} else if (!have_memory && strncmp(text, "memory=", 7) == 0) {
			err = quantity_read_bytes(text + 7, end, memory);
			have_memory = true;
		}
		if (err)
			return failure_set(f, -EINVAL, "write it as cpus=2,memory=512M", "cannot read '%.*s' in --lend", (int)(end - text), text);
		if (!*end)
			return 0;
		text = end + 1;
	}
}
