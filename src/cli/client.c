/* See client.h. */
#include "cli/client.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/ensure.h"
#include "base/rundir.h"
#include "base/text.h"

static int connect_to(const char *path, int *out)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int err, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	TEXT_SET(a.sun_path, path);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*out = fd;
	return 0;
}

/* The only daemon that answers under root. names: those that do, for the message. */
static int find_only(const char *root, int *fd, char *names, size_t room)
{
	char path[RUNDIR_PATH_BYTES];
	DIR *dir = opendir(root);
	struct dirent *e;
	unsigned found = 0;
	size_t at = 0;

	*names = 0;
	while (dir && (e = readdir(dir))) {
		int one;

		if (!rundir_good_name(e->d_name) || rundir_path(root, e->d_name, "control.sock", path, NULL) || connect_to(path, &one))
			continue;
		if (found++)
			close(*fd);
		*fd = one;
		at += (size_t)snprintf(names + at, room - at, "%s%s", at ? ", " : "", e->d_name);
		at = at < room ? at : room - 1;
	}
	if (dir)
		closedir(dir);
	if (found > 1)
		close(*fd);
	return found == 1 ? 0 : found ? -ENOTUNIQ : -ECONNREFUSED;
}

static int find(const char *root, const char *node, int *fd, struct failure *f)
{
	static const char start[] = "start one with: tessera node --name NAME --lend cpus=2,memory=512M";
	char path[RUNDIR_PATH_BYTES], names[512];
	int err;

	if (!node || !*node) {
		err = find_only(root, fd, names, sizeof names);
		if (err == -ENOTUNIQ)
			return failure_set(f, err, "choose one with --node or $TESSERA_NODE", "several daemons run on this host: %.200s", names);
		return err ? failure_set(f, err, start, "no daemon runs on this host (none under %s)", root) : 0;
	}
	if (!rundir_good_name(node))
		return failure_set(f, -EINVAL, "give the --name of a daemon on this host", "'%.80s' is no name of a node", node);
	err = rundir_path(root, node, "control.sock", path, f);
	if (err)
		return err;
	err = connect_to(path, fd);
	if (err == -EACCES)
		return failure_set(f, err, "be root, or the user that runs the daemon", "not allowed to speak to the daemon of node %s", node);
	return err ? failure_set(f, -ECONNREFUSED, start, "no daemon of node %s runs on this host (under %s)", node, root) : 0;
}

static int greet(struct client *c, struct failure *f)
{
	struct control_hello in;
	const uint8_t *body;
	size_t bytes;
	unsigned id;
	int err = CLIENT_SEND(c, f, hello, .version = WIRE_VERSION, .role = CONTROL_CLIENT);

	if (!err)
		err = client_next(c, &id, &body, &bytes, f);
	if (err)
		return err;
	if (id != CONTROL_hello || control_get_hello(body, bytes, &in) || in.role != CONTROL_DAEMON || in.version != WIRE_VERSION)
		return failure_set(f, -EPROTONOSUPPORT, "run the same version of tessera as client and daemon", "the daemon is another version");
	TEXT_SET(c->node, in.node.s);
	return 0;
}

int client_open(struct client *c, const char *run_dir, const char *node, struct failure *f)
{
	int err;

	c->fd = -1;
	c->at = c->have = 0;
	if (!node)
		node = getenv("TESSERA_NODE");
	err = find(rundir_root(run_dir), node, &c->fd, f);
	if (!err)
		err = greet(c, f);
	if (err)
		client_close(c);
	return err;
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static int gone(struct failure *f)
{
	return failure_set(f, -ECONNRESET, "start it again (tessera node); VMs run on without it", "the daemon ended");
}

int client_send(struct client *c, const uint8_t *frame, size_t bytes, struct failure *f)
{
	ensure(bytes > 0);
	while (bytes) {
		ssize_t n = send(c->fd, frame, bytes, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return gone(f);
		frame += n;
		bytes -= (size_t)n;
	}
	return 0;
}

/* Bytes of the frame at the head of what is here, 0 if it is not whole; -EBADMSG. */
static int whole(const struct client *c, uint16_t *id, uint32_t *bytes)
{
	if (c->have - c->at < WIRE_HEADER_BYTES)
		return 0;
	if (wire_get_header(c->in + c->at, id, bytes))
		return -EBADMSG;
	return c->have - c->at >= WIRE_HEADER_BYTES + *bytes;
}

bool client_ready(const struct client *c)
{
	uint16_t id;
	uint32_t bytes;

	return whole(c, &id, &bytes) != 0;
}

static int fill(struct client *c, struct failure *f)
{
	ssize_t n;

	memmove(c->in, c->in + c->at, c->have - c->at);
	c->have -= c->at;
	c->at = 0;
	do
		n = recv(c->fd, c->in + c->have, sizeof c->in - c->have, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return gone(f);
	c->have += (size_t)n;
	return 0;
}

int client_next(struct client *c, unsigned *id, const uint8_t **body, size_t *bytes, struct failure *f)
{
	struct control_error e;
	uint16_t id16;
	uint32_t n;
	int got;

	while ((got = whole(c, &id16, &n)) == 0) {
		int err = fill(c, f);

		if (err)
			return err;
	}
	if (got < 0)
		return failure_set(f, got, "run the same version of tessera as client and daemon", "the daemon said something that cannot be understood");
	*id = id16;
	*body = c->in + c->at + WIRE_HEADER_BYTES;
	*bytes = n;
	c->at += WIRE_HEADER_BYTES + n;
	if (*id != CONTROL_error || control_get_error(*body, *bytes, &e))
		return 0;
	got = failure_set(f, e.code ? -(int)e.code : -EIO, e.todo.s, "%s", e.what.s);
	if (f)
		TEXT_SET(f->node, e.node.s);
	return got;
}
