/* See imagelock.h. The kernel does not say who holds an open file description lock; /proc/PID/fdinfo does, where we may look. */
#include "dev/imagelock.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Does this descriptor of that process carry a lock? */
static bool has_lock(int proc, const char *pid, const char *fd)
{
	char path[600], text[2048];
	ssize_t n;
	int info;

	snprintf(path, sizeof path, "%.20s/fdinfo/%.20s", pid, fd);
	info = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (info < 0)
		return false;
	n = read(info, text, sizeof text - 1);
	close(info);
	text[n > 0 ? n : 0] = 0;
	return strstr(text, "lock:");
}

static bool holds(int proc, const char *pid, const struct stat *image)
{
	char path[600];
	struct dirent *e;
	struct stat s;
	bool found = false;
	DIR *dir;
	int fd;

	snprintf(path, sizeof path, "%.20s/fd", pid);
	fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return false;
	while (!found && (e = readdir(dir)))
		found = fstatat(dirfd(dir), e->d_name, &s, 0) == 0 && s.st_dev == image->st_dev && s.st_ino == image->st_ino && has_lock(proc, pid, e->d_name);
	closedir(dir);
	return found;
}

/* "process 123 (tessera fragment A vm1 ...)" */
static void describe(int proc, const char *pid, char *to, size_t room)
{
	char path[40], line[160] = "";
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof path, "%.20s/cmdline", pid);
	fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, line, sizeof line - 1);
		close(fd);
	}
	for (ssize_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = ' ';
	while (n > 0 && line[n - 1] == ' ')
		n--;
	line[n > 0 ? n : 0] = 0;
	snprintf(to, room, "process %.20s (%.100s)", pid, line);
}

static bool find_holder(int fd, char *to, size_t room)
{
	char self[24];
	struct stat image;
	struct dirent *e;
	bool found = false;
	DIR *proc = opendir("/proc");

	snprintf(self, sizeof self, "%d", (int)getpid());
	if (!proc || fstat(fd, &image) < 0) {
		if (proc)
			closedir(proc);
		return false;
	}
	while (!found && (e = readdir(proc)))
		if (*e->d_name >= '1' && *e->d_name <= '9' && strcmp(e->d_name, self) != 0 && holds(dirfd(proc), e->d_name, &image)) {
			describe(dirfd(proc), e->d_name, to, room);
			found = true;
		}
	if (!found && holds(dirfd(proc), self, &image)) {
		snprintf(to, room, "another disk of this VM");
		found = true;
	}
	closedir(proc);
	return found;
}

int imagelock_take(int fd, bool shared, const char *path, struct failure *f)
{
	struct flock l = {.l_type = shared ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
	char holder[200];

	if (fcntl(fd, F_OFD_SETLK, &l) == 0)
		return 0;
	if (errno != EAGAIN && errno != EACCES) {
		log_warn("disk %s: cannot be locked (%s): nothing keeps two VMs from writing it", path, strerror(errno));
		return 0;
	}
	if (!find_holder(fd, holder, sizeof holder))
		snprintf(holder, sizeof holder, "another program, maybe on another host");
	return failure_set(f, -EBUSY, "end the other user, give each VM a disk of its own, or let all use it readonly", "the disk %.90s is in use by %.140s", path, holder);
}
