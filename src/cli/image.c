/* See image.h. What people said is judged here, the work is done by the script tessera-image-build, and the result gets its name only when it is whole:
 * whatever happens before, nothing is left behind. */
#include "cli/image.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/ends.h"
#include "base/quantity.h"
#include "base/text.h"
#include "cli/report.h"
#include "cli/seed.h"
#include "vm/bootdisk.h"

enum { FAILURE_FD = 3, HOST_NAME_MAX_BYTES = 64, MIRRORS_MAX = 16, PACKAGES_BYTES = 8192, ARGS_FIXED = 6 };

static const uint64_t size_default = 4ull << 30, size_min = 64 << 20, size_max = 16ull << 40;
static const char name_letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-";

struct build {
	char output[PATH_MAX], temporary[PATH_MAX];
	char release[32], hostname[HOST_NAME_MAX_BYTES], size_kib[32], packages[PACKAGES_BYTES];
	char *mirror[MIRRORS_MAX + 1];
	bool force;
};

/* What the script does not want to see: options, spaces, shell letters. */
static bool good_words(const char *text, const char *also)
{
	char allowed[128];

	snprintf(allowed, sizeof allowed, "%s%s", name_letters, also);
	return *text && *text != '-' && strspn(text, allowed) == strlen(text);
}

/* The output's name without its end, as far as it can be a host's. */
static void default_hostname(struct build *b)
{
	char copy[PATH_MAX];
	size_t n;

	TEXT_SET(copy, b->output);
	TEXT_SET(b->hostname, basename(copy));
	n = strspn(b->hostname, name_letters);
	b->hostname[n] = 0;
	if (!good_words(b->hostname, ""))
		TEXT_SET(b->hostname, "tessera");
}

static int read_packages(const struct options *o, struct build *b, struct failure *f)
{
	size_t at = 0;

	for (unsigned k = 0; options_each(o, OPTION_PACKAGE, k); k++) {
		const char *text = options_each(o, OPTION_PACKAGE, k);
		int n = snprintf(b->packages + at, sizeof b->packages - at, "%s%s", at ? "," : "", text);

		if (!good_words(text, "+.:=~_/,"))
			return failure_set(f, -EINVAL, "write them as nginx,php-fpm", "cannot read --package %.80s", text);
		if (n < 0 || (size_t)n >= sizeof b->packages - at)
			return failure_set(f, -EINVAL, "give fewer", "the names of the packages have more than %u bytes", (unsigned)PACKAGES_BYTES);
		at += (size_t)n;
	}
	return 0;
}

static int read_mirrors(const struct options *o, struct build *b, struct failure *f)
{
	for (unsigned k = 0; options_each(o, OPTION_MIRROR, k); k++) {
		const char *text = options_each(o, OPTION_MIRROR, k);

		if (k == MIRRORS_MAX)
			return failure_set(f, -EINVAL, "give fewer", "more than %u mirrors", (unsigned)MIRRORS_MAX);
		if (strncmp(text, "deb ", 4) != 0 && (!strstr(text, ":/") || strpbrk(text, " \n")))
			return failure_set(f, -EINVAL, "write it as http://HOST/debian, or as a line of sources.list", "cannot read --mirror %.80s", text);
		b->mirror[k] = (char *)text;
	}
	return 0;
}

static int read_output(const struct options *o, struct build *b, struct failure *f)
{
	const char *output = o->value[OPTION_OUTPUT];

	b->force = o->value[OPTION_FORCE];
	if (!output || !*output)
		return failure_set(f, -EINVAL, "'tessera help image' tells what it needs", "say which file to make: -o FILE");
	if (strlen(output) + 16 > sizeof b->output)
		return failure_set(f, -ENAMETOOLONG, "choose another place", "the path of the image is too long");
	TEXT_SET(b->output, output);
	return 0;
}

static int read_build(const struct options *o, struct build *b, struct failure *f)
{
	const char *size = o->value[OPTION_SIZE], *hostname = o->value[OPTION_HOSTNAME];
	uint64_t bytes = size_default;

	if (read_output(o, b, f))
		return f->err;
	TEXT_SET(b->release, o->value[OPTION_RELEASE] ? o->value[OPTION_RELEASE] : "bookworm");
	if (!good_words(b->release, ""))
		return failure_set(f, -EINVAL, "name it as Debian does: bookworm", "cannot read --release %.30s", b->release);
	if (size && quantity_read_bytes(size, NULL, &bytes))
		return failure_set(f, -EINVAL, "write it as 900M or 4G", "cannot read --size %.80s", size);
	if (bytes < size_min || bytes > size_max)
		return failure_set(f, -EINVAL, "ask for 64M to 16T", "no image can have %s", size);
	snprintf(b->size_kib, sizeof b->size_kib, "%llu", (unsigned long long)(bytes >> 10));
	if (hostname && (strlen(hostname) >= sizeof b->hostname || !good_words(hostname, ".")))
		return failure_set(f, -EINVAL, "use up to 63 letters, digits, '.' and '-'", "'%.80s' is no name for a host", hostname);
	default_hostname(b);
	if (hostname)
		TEXT_SET(b->hostname, hostname);
	return read_packages(o, b, f) ? f->err : read_mirrors(o, b, f);
}

/* An empty file beside the output; what is there already must be known and be ours to replace. */
static int make_temporary(struct build *b, struct failure *f)
{
	char folder[PATH_MAX], leaf[PATH_MAX];
	const char *dir, *name;
	struct stat st;
	mode_t mask = umask(0);
	int fd;

	umask(mask);
	if (lstat(b->output, &st) == 0 && !b->force)
		return failure_set(f, -EEXIST, "choose another name, or give --force to replace it", "%s is already there", b->output);
	if (stat(b->output, &st) == 0 && !S_ISREG(st.st_mode))
		return failure_set(f, -EEXIST, "choose another name", "%s is no file", b->output);
	TEXT_SET(folder, b->output);
	TEXT_SET(leaf, b->output);
	dir = dirname(folder);
	name = basename(leaf);
	if (snprintf(b->temporary, sizeof b->temporary, "%s/.%s.XXXXXX", dir, name) >= (int)sizeof b->temporary)
		return failure_set(f, -ENAMETOOLONG, "choose another place", "the path of the image is too long");
	fd = mkstemp(b->temporary);
	if (fd < 0)
		return failure_set(f, -errno, "choose a folder you can write to", "cannot make a file in %s: %s", dir, strerror(errno));
	(void)fchmod(fd, 0666 & ~mask);
	close(fd);
	return 0;
}

static int find_script(char to[PATH_MAX], struct failure *f)
{
	static const char leaf[] = "tessera-image-build";
	char exe[PATH_MAX - 64] = "";
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

	if (n > 0) {
		exe[n] = 0;
		snprintf(to, PATH_MAX, "%s/%s", dirname(exe), leaf);
		if (access(to, X_OK) == 0)
			return 0;
	}
	snprintf(to, PATH_MAX, "%s/%s", TESSERA_LIBEXEC, leaf);
	if (access(to, X_OK) < 0)
		return failure_set(f, -errno, "install Tessera completely (ninja install)", "cannot find %s: %s", to, strerror(errno));
	return 0;
}

/* In the child: a session of its own, so that we decide who hears what; its stdout is not for programs that read ours. */
static _Noreturn void become_script(const struct build *b, const char *script, int failure_fd, const sigset_t *mask)
{
	char *args[ARGS_FIXED + MIRRORS_MAX + 1] = {(char *)script, (char *)b->temporary, (char *)b->release, (char *)b->size_kib, (char *)b->hostname,
		(char *)b->packages};
	int null = open("/dev/null", O_RDONLY);

	for (unsigned k = 0; b->mirror[k]; k++)
		args[ARGS_FIXED + k] = b->mirror[k];
	setsid();
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0)
		_exit(126);
	if (failure_fd == FAILURE_FD ? fcntl(failure_fd, F_SETFD, 0) < 0 : dup2(failure_fd, FAILURE_FD) < 0)
		_exit(126);
	execv(script, args);
	_exit(127);
}

/* Wait for it; a signal to us ends it, and it tidies up. Returns its status; *interrupted. */
static int attend(pid_t child, const sigset_t *signals, bool *interrupted)
{
	int status = 0;

	for (;;) {
		int sig = sigwaitinfo(signals, NULL);

		if (sig == SIGINT || sig == SIGTERM || sig == SIGHUP) {
			*interrupted = true;
			kill(-child, SIGTERM);
		}
		if (waitpid(child, &status, WNOHANG) == child)
			return status;
	}
}

/* The script's two lines. */
static int script_failure(int fd, int status, struct failure *f)
{
	char text[1024] = "", *save = NULL, *what, *todo;
	ssize_t n = read(fd, text, sizeof text - 1);

	text[n > 0 ? n : 0] = 0;
	what = strtok_r(text, "\n", &save);
	todo = strtok_r(NULL, "\n", &save);
	if (what && todo)
		return failure_set(f, -EIO, todo, "%s", what);
	return failure_set(f, -EIO, "its last words are above", "making the image failed with %s %d", WIFEXITED(status) ? "status" : "signal",
		WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static int run_script(const struct build *b, struct failure *f)
{
	char script[PATH_MAX];
	int pipes[2], status, err = find_script(script, f);
	bool interrupted = false;
	sigset_t signals, before;
	pid_t child;

	if (err)
		return err;
	if (pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0)
		return failure_set(f, -errno, "close some files", "cannot make a pipe: %s", strerror(errno));
	ends_block(SIGCHLD, &signals, &before);
	child = fork();
	if (child == 0)
		become_script(b, script, pipes[1], &before);
	close(pipes[1]);
	if (child < 0) {
		err = failure_set(f, -errno, "see that this host has processes and memory left", "cannot start %s: %s", script, strerror(errno));
	} else {
		status = attend(child, &signals, &interrupted);
		if (interrupted)
			err = failure_set(f, -EINTR, "start it again", "interrupted; nothing was left behind");
		else if (status)
			err = script_failure(pipes[0], status, f);
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	close(pipes[0]);
	return err;
}

static int put_in_place(const struct build *b, struct failure *f)
{
	if (renameat2(AT_FDCWD, b->temporary, AT_FDCWD, b->output, b->force ? 0 : RENAME_NOREPLACE) == 0)
		return 0;
	if (errno == EEXIST)
		return failure_set(f, -EEXIST, "choose another name, or give --force to replace it", "%s has appeared meanwhile", b->output);
	return failure_set(f, -errno, "choose another place", "cannot name the image %s: %s", b->output, strerror(errno));
}

static int look(const char *path, struct bootdisk *out, struct failure *f)
{
	int err, fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return failure_set(f, -errno, "give the path of a disk image you can read", "cannot open %s: %s", path, strerror(errno));
	err = bootdisk_find(fd, path, out, NULL, NULL, f);
	close(fd);
	return err;
}

static json_t *text_or_null(const char *text)
{
	return *text ? json_string(text) : json_null();
}

static json_t *image_json(const char *path, const struct bootdisk *b)
{
	json_t *volumes = json_array();
	char root[64];

	for (unsigned k = 0; k < b->volumes; k++) {
		const struct bootdisk_volume *v = &b->volume[k];

		json_array_append_new(volumes, json_pack("{s:i,s:o,s:I,s:o,s:o,s:I,s:b,s:b}", "partition", (int)v->where.partition, "type", text_or_null(v->where.fs), "bytes",
			(json_int_t)v->where.bytes, "uuid", text_or_null(v->uuid), "label", text_or_null(v->label), "free_bytes", (json_int_t)v->free_bytes, "root",
			b->root == (int)k, "boot", b->boot == (int)k));
	}
	return json_pack("{s:s,s:I,s:s,s:o,s:o,s:I,s:o,s:I,s:o}", "image", path, "disk_bytes", (json_int_t)b->disk_bytes, "table", b->table, "file_systems", volumes,
		"kernel", text_or_null(b->kernel), "kernel_bytes", (json_int_t)b->kernel_bytes, "initrd", text_or_null(b->initrd), "initrd_bytes",
		(json_int_t)b->initrd_bytes, "append", text_or_null(bootdisk_root(b, root)));
}

static void print_image(const char *path, const struct bootdisk *b)
{
	char size[QUANTITY_TEXT_BYTES], root[64];

	printf("image        %s\nsize         %s\npartitions   %s\n", path, quantity_print_bytes(b->disk_bytes, size), b->table);
	for (unsigned k = 0; k < b->volumes; k++) {
		const struct bootdisk_volume *v = &b->volume[k];

		printf("file system  %s", *v->where.fs ? v->where.fs : "not recognised");
		if (v->where.partition)
			printf(", partition %u", v->where.partition);
		if (*v->uuid)
			printf(", UUID %s", v->uuid);
		if (*v->label)
			printf(", label %s", v->label);
		if (*v->uuid)
			printf(", %s free", quantity_print_bytes(v->free_bytes, size));
		putchar('\n');
	}
	printf("kernel       %s\ninitrd       %s\nappend       %s\n", *b->kernel ? b->kernel : "none", *b->initrd ? b->initrd : "none",
		*bootdisk_root(b, root) ? root : "none");
}

static void show(const char *path, const struct bootdisk *b, bool json)
{
	if (json)
		report_json(image_json(path, b));
	else
		print_image(path, b);
}

int image_build(const struct options *o)
{
	bool json = o->value[OPTION_JSON];
	struct bootdisk found = {0};
	struct failure f = {0};
	struct build b = {0};
	int err;

	if (read_build(o, &b, &f))
		return (int)report_usage(&f, json);
	err = make_temporary(&b, &f);
	if (err)
		return (int)report_failure(&f, json);
	err = run_script(&b, &f);
	if (!err)
		err = look(b.temporary, &found, &f);
	if (!err)
		err = put_in_place(&b, &f);
	if (err) {
		unlink(b.temporary);
		return (int)report_failure(&f, json);
	}
	show(b.output, &found, json);
	return REPORT_OK;
}

int image_info(const struct options *o)
{
	bool json = o->value[OPTION_JSON];
	struct bootdisk found = {0};
	struct failure f = {0};
	int err = look(o->operand, &found, &f);

	if (err && !found.volumes)
		return (int)report_failure(&f, json);
	show(o->operand, &found, json);
	return REPORT_OK;
}

static int write_seed(const struct build *b, const uint8_t *seed, uint32_t bytes, struct failure *f)
{
	int fd = open(b->temporary, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : write(fd, seed, bytes);

	if (n == (ssize_t)bytes && close(fd) == 0)
		return 0;
	return failure_set(f, n < 0 ? -errno : -ENOSPC, "free some space there", "cannot write %s", b->temporary);
}

int image_seed(const struct options *o)
{
	bool json = o->value[OPTION_JSON];
	uint8_t seed[SEED_MAX];
	uint32_t bytes = 0;
	struct failure f = {0};
	struct build b = {0};
	int err;

	if (read_output(o, &b, &f))
		return (int)report_usage(&f, json);
	err = seed_from_options(o, seed, &bytes, &f);
	if (!err && !bytes) {
		failure_set(&f, -EINVAL, "give --ssh-key, --user-data or --hostname", "there is nothing to put on the seed disk");
		return (int)report_usage(&f, json);
	}
	if (!err)
		err = make_temporary(&b, &f);
	if (!err)
		err = write_seed(&b, seed, bytes, &f);
	if (!err)
		err = put_in_place(&b, &f);
	if (err && *b.temporary)
		unlink(b.temporary);
	if (err)
		return (int)report_failure(&f, json);
	if (json)
		report_json(json_pack("{s:s,s:i}", "image", b.output, "disk_bytes", (int)bytes));
	return REPORT_OK;
}
