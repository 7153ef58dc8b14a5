/* dev/disk at NBD servers: the same promises as over files, with formats that qemu-nbd reads, and what becomes of a disk whose server is gone. */
#include "tests/test.h"
#include "tests/unit/disk_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static bool have_qemu(void)
{
	return access("/usr/bin/qemu-nbd", X_OK) == 0 && access("/usr/bin/qemu-img", X_OK) == 0;
}

/* The rig's file becomes an image of that format, 1 MiB large. */
static bool make_image(struct disk_rig *r, const char *format)
{
	char command[256];

	snprintf(command, sizeof command, "qemu-img create -q -f %s %s 1M", format, r->path);
	return system(command) == 0;
}

TEST(disk_of_other_formats_keeps_what_was_written)
{
	static const enum disk_format formats[] = {DISK_QCOW2, DISK_VMDK, DISK_VDI, DISK_QED};
	static const char *const names[] = {"qcow2", "vmdk", "vdi", "qed"};

	if (!have_qemu())
		SKIP("qemu-utils is not installed");
	for (unsigned i = 0; i < ARRAY_LEN(formats); i++) {
		struct disk_rig *r = disk_rig_new("/tmp", 0);
		uint8_t *model = calloc(1, IMAGE);

		CHECK(make_image(r, names[i]));
		CHECK_EQ(disk_rig_open(r, &(struct disk_config){.format = formats[i]}), 0);
		CHECK_EQ(disk_bytes(r->d), IMAGE);
		CHECK_EQ(disk_block_bytes(r->d), 512);
		CHECK(disk_rig_walk(r, model, 300));
		CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), 0);
		disk_close(r->d);
		CHECK_EQ(disk_rig_open(r, &(struct disk_config){.format = formats[i], .readonly = true}), 0);
		for (unsigned k = 0; k < IMAGE; k += BUFFER) {
			CHECK_EQ(disk_rig_ask(r, DISK_READ, k, BUFFER), 0);
			CHECK(memcmp(r->buffer, model + k, BUFFER) == 0);
		}
		CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 512), -EROFS);
		free(model);
		disk_rig_free(r);
	}
}

TEST(disk_of_another_format_agrees_with_a_model_in_every_cache_mode)
{
	if (!have_qemu())
		SKIP("qemu-utils is not installed");
	for (enum disk_cache c = 0; c < DISK_CACHES; c++) {
		struct disk_rig *r = disk_rig_new("/tmp", 0);
		uint8_t *model = calloc(1, IMAGE);

		CHECK(make_image(r, "qcow2"));
		CHECK_EQ(disk_rig_open(r, &(struct disk_config){.format = DISK_QCOW2, .cache = c}), 0);
		CHECK(disk_rig_walk(r, model, 200));
		CHECK_EQ(disk_rig_ask(r, DISK_DISCARD, 0, IMAGE), 0);
		CHECK_EQ(r->troubles, 0);
		free(model);
		disk_rig_free(r);
	}
}

TEST(disk_says_what_qemu_says)
{
	struct disk_rig *r;

	if (!have_qemu())
		SKIP("qemu-utils is not installed");
	r = disk_rig_new("/tmp", IMAGE);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.format = DISK_QCOW2}), -EIO);
	CHECK(strstr(r->f.what, "not in qcow2 format"));
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "/nowhere/a.qcow2", .format = DISK_QCOW2}), -ENOENT);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "nowhere", .format = DISK_QCOW2}), -EINVAL);
	disk_rig_free(r);
}

TEST(disk_of_another_format_belongs_to_one_writer)
{
	struct disk_rig *r;
	struct disk *other;
	struct failure f = {0};

	if (!have_qemu())
		SKIP("qemu-utils is not installed");
	r = disk_rig_new("/tmp", 0);
	CHECK(make_image(r, "qcow2"));
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.format = DISK_QCOW2}), 0);
	CHECK_EQ(disk_open(&other, &(struct disk_config){.path = r->path, .format = DISK_QCOW2}, &f), -EBUSY);
	disk_rig_free(r);
}

/* Its socket has a name before it listens. */
static bool answers(const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes;

	snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
	yes = connect(s, (struct sockaddr *)&a, sizeof a) == 0;
	close(s);
	return yes;
}

/* A server of the test's own, for the rig's file as raw bytes; its process. URI: into uri. */
static pid_t serve(struct disk_rig *r, const char *option, char uri[128])
{
	char path[100];
	pid_t pid;

	snprintf(path, sizeof path, "%s.sock", r->path);
	snprintf(uri, 128, "nbd+unix:///?socket=%s", path);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("qemu-nbd", "qemu-nbd", "-f", "raw", "-t", "-k", path, option, r->path, NULL);
		_exit(127);
	}
	while (!answers(path) && waitpid(pid, NULL, WNOHANG) == 0)
		usleep(1000);
	return pid;
}

static void end_server(struct disk_rig *r, pid_t pid)
{
	char path[100];

	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	snprintf(path, sizeof path, "%s.sock", r->path);
	unlink(path);
}

TEST(disk_at_a_server_outlives_it)
{
	struct disk_rig *r;
	uint8_t *model;
	char uri[128];
	pid_t pid;

	if (!have_qemu())
		SKIP("qemu-utils is not installed");
	r = disk_rig_new("/tmp", IMAGE);
	model = calloc(1, IMAGE);
	pid = serve(r, "--discard=unmap", uri);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = uri, .format = DISK_NBD}), 0);
	CHECK_EQ(disk_bytes(r->d), IMAGE);
	CHECK(disk_can_discard(r->d) && disk_writes_back(r->d));
	CHECK(disk_rig_walk(r, model, 300));
	kill(pid, SIGSTOP);
	struct iovec iov = {r->buffer, 4096};
	struct disk_request q = {.op = DISK_READ, .bytes = 4096, .iov = &iov, .iovs = 1, .done = r->on_done, .user = r};
	unsigned before = r->done;

	CHECK_EQ(disk_submit(r->d, &q), 0); /* under way when the server dies */
	end_server(r, pid);
	disk_rig_wait(r, before + 1);
	CHECK_EQ(r->err, -EIO);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 4096), -EIO);
	CHECK_EQ(disk_rig_ask(r, DISK_WRITE, 0, 4096), -EIO);
	CHECK_EQ(disk_rig_ask(r, DISK_FLUSH, 0, 0), -EIO);
	CHECK_EQ(r->troubles, 1);
	CHECK(strstr(r->trouble, "is gone"));
	free(model);
	disk_rig_free(r);
}

TEST(disk_at_a_server_is_what_the_server_lets_it_be)
{
	struct disk_rig *r;
	char uri[128];
	pid_t pid;

	if (!have_qemu())
		SKIP("qemu-utils is not installed");
	r = disk_rig_new("/tmp", IMAGE);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "nbd+unix:///?socket=/nowhere/s", .format = DISK_NBD}), -ECONNREFUSED);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = "nbd://", .format = DISK_NBD, .fd = open("/dev/null", O_RDONLY | O_CLOEXEC)}), -ECONNREFUSED);
	pid = serve(r, "--read-only", uri);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = uri, .format = DISK_NBD}), -EROFS);
	CHECK_EQ(disk_rig_open(r, &(struct disk_config){.path = uri, .format = DISK_NBD, .readonly = true}), 0);
	CHECK_EQ(disk_rig_ask(r, DISK_READ, 0, 4096), 0);
	end_server(r, pid);
	disk_rig_free(r);
}
