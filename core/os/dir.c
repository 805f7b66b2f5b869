/* SPDX-License-Identifier: MIT */
#include "os/file.h"

#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/*
 * Each level of the recursion holds a descriptor or two. What lies deeper is moved up beside the
 * directory that the removal started with, and removed from there.
 */
#define MAX_DEPTH 100

int dir_make(int dirfd, const char *path, mode_t mode, struct err *e)
{
	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	CLEANUP_STR char *part = strdup(path);
	if (!part)
		return err_nomem(e);
	for (char *p = part + 1; p[0] != '\0'; p++) {
		if (*p != '/' || p[-1] == '/')
			continue;
		*p = '\0';
		if (mkdirat(dirfd, part, mode) < 0 && errno != EEXIST)
			return err_errno(e, -errno, "cannot make the directory '%s'", part);
		*p = '/';
	}
	struct stat st;
	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	if (errno != EEXIST)
		return err_errno(e, -errno, "cannot make the directory '%s'", path);
	if (fstatat(dirfd, path, &st, 0) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return err_errno(e, -ENOTDIR, "cannot make the directory '%s'", path);
}

int dir_open(int dirfd, const char *path, int *ret_fd, struct err *e)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open the directory '%s'", path);
	*ret_fd = fd;
	return 0;
}

int dir_list(const char *path, DIR **ret, struct err *e)
{
	*ret = opendir(path);
	if (!*ret && err_is_shortage(-errno))
		return err_errno(e, -errno, "cannot read the directory '%s'", path);
	return 0;
}

int dir_sync(int dirfd, const char *what, struct err *e)
{
	if (fsync(dirfd) < 0 && errno != EINVAL)
		return err_errno(e, -errno, "cannot sync the directory of '%s'", what);
	return 0;
}

/* In place: \040 and the like, by which the kernel writes blanks. */
static void unescape(char *text)
{
	char *to = text;
	for (const char *p = text; *p; to++) {
		unsigned c = 0;
		if (*p == '\\' && sscanf(p, "\\%3o", &c) == 1) {
			*to = (char)c;
			p += 4;
		} else {
			*to = *p++;
		}
	}
	*to = '\0';
}

bool dir_has_mounts(const char *path)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	size_t len = strlen(path);
	if (file_read(AT_FDCWD, "/proc/self/mountinfo", (size_t)16 << 20, &text, NULL) < 0)
		return false;
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\n"));) {
		char *point = NULL; /* the fifth word */
		for (int i = 0; line && i < 5; i++)
			point = strsep(&line, " ");
		if (!line)
			continue;
		unescape(point);
		if (strncmp(point, path, len) == 0 && point[len] == '/')
			return true;
	}
	return false;
}

DEFINE_FREEP(closedirp, DIR, closedir)

static int open_to_empty(int dirfd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dirfd, name, flags);
	if (fd >= 0 || errno != EACCES)
		return fd >= 0 ? fd : -errno;
	if (fchmodat(dirfd, name, 0700, 0) < 0)
		return -EACCES;
	fd = openat(dirfd, name, flags);
	return fd >= 0 ? fd : -errno;
}

struct removal {
	int top_fd; /* of the tree that is removed */
	dev_t device;
	unsigned hoisted;
};

static int remove_entry(struct removal *rm, int dirfd, const char *name, int depth);

/* Removes all that is in the directory. The first failure is returned, the rest still removed. */
static int empty_dir(struct removal *rm, int fd, int depth)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_dev != rm->device)
		return -EXDEV;
	if ((st.st_mode & S_IRWXU) != S_IRWXU)
		(void)fchmod(fd, 0700); /* else the unlink below says why not */
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (again < 0)
		return -errno;
	CLEANUP(closedirp) DIR *dir = fdopendir(again);
	if (!dir) {
		int r = -errno;
		close(again);
		return r;
	}
	int result = 0;
	const struct dirent *entry;
	while ((entry = readdir(dir))) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		int r = remove_entry(rm, fd, entry->d_name, depth);
		if (r < 0 && result == 0)
			result = r;
	}
	return result;
}

static int hoist(struct removal *rm, int dirfd, const char *name)
{
	char there[40];
	do {
		snprintf(there, sizeof(there), ".orch-hoisted-%u", rm->hoisted++);
	} while (file_exists(rm->top_fd, there));
	return renameat(dirfd, name, rm->top_fd, there) < 0 ? -errno : 0;
}

static int remove_entry(struct removal *rm, int dirfd, const char *name, int depth)
{
	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (depth >= MAX_DEPTH)
		return hoist(rm, dirfd, name);
	CLEANUP(closep) int fd = open_to_empty(dirfd, name);
	if (fd < 0)
		return fd;
	int r = empty_dir(rm, fd, depth + 1);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : -errno;
}

static int remove_top(int dirfd, const char *name)
{
	struct stat st;
	/* Most that agents leave are empty. */
	if (unlinkat(dirfd, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno == ENOTDIR)
		return unlinkat(dirfd, name, 0) == 0 || errno == ENOENT ? 0 : -errno;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	CLEANUP(closep) int fd = open_to_empty(dirfd, name);
	if (fd < 0)
		return fd;
	struct removal rm = {.top_fd = fd, .device = st.st_dev};
	unsigned before;
	do {
		before = rm.hoisted;
		int r = empty_dir(&rm, fd, 0);
		if (r < 0)
			return r;
	} while (rm.hoisted != before);
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int dir_remove_tree(int dirfd, const char *name, struct err *e)
{
	int r = remove_top(dirfd, name);
	if (r < 0)
		return err_errno(e, r, "cannot remove '%s'", name);
	return 0;
}
