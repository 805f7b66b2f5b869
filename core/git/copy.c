/* SPDX-License-Identifier: MIT */
#include "git/copy.h"

#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define RECORD     "orch-copied"
#define MAX_DEPTH  128
#define RECORD_MAX ((size_t)64 << 20)

struct copier {
	int from;
	int to;
	char ***copied;
	struct err *e;
};

/* A directory below `root` without a symlink on the way. */
static int open_below(int root, const char *path)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	long fd = syscall(SYS_openat2, root, path[0] ? path : ".", &how, sizeof(how));
	return fd < 0 ? -errno : (int)fd;
}

/* mkdir -p of the parent of path, below root, with the modes of the same directories in from. */
static int make_parents(const struct copier *c, const char *path)
{
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		CLEANUP_STR char *dir = strndup(path, (size_t)(slash - path));
		CLEANUP_STR char *above = dir ? strdup(dir) : NULL;
		if (!dir || !above)
			return -ENOMEM;
		char *name = strrchr(above, '/');
		if (name)
			*name++ = '\0';
		CLEANUP(closep) int parent = open_below(c->to, name ? above : "");
		if (parent < 0)
			return parent;
		struct stat st;
		mode_t mode = fstatat(c->from, dir, &st, 0) == 0 ? st.st_mode & 0777 : 0777;
		if (mkdirat(parent, name ? name : dir, mode | S_IRWXU) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static int copy_bytes(int in, int out)
{
	if (ioctl(out, FICLONE, in) == 0)
		return 0;
	char chunk[65536];
	for (;;) {
		ssize_t n = read(in, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		int r = fd_write_all(out, chunk, (size_t)n);
		if (r < 0)
			return r;
	}
}

static int copy_regular(int from, int to, const char *name, const struct stat *st)
{
	CLEANUP(closep) int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (in < 0)
		return -errno;
	CLEANUP(closep) int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	int r = copy_bytes(in, out);
	if (r == 0 && fchmod(out, st->st_mode & 0777) < 0)
		r = -errno;
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	if (r == 0 && futimens(out, times) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(to, name, 0);
	return r;
}

static int copy_link(int from, int to, const char *name)
{
	char target[4096];
	ssize_t n = readlinkat(from, name, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return symlinkat(target, to, name) < 0 ? -errno : 0;
}

static int copy_node(struct copier *c, int from, int to, const char *name, const char *path,
	bool record, unsigned depth);

static int copy_dir(struct copier *c, int from, int to, const char *name, const char *path,
	const struct stat *st, bool record, unsigned depth)
{
	if (depth > MAX_DEPTH)
		return -ELOOP;
	bool made = mkdirat(to, name, 0700) == 0;
	if (!made && errno != EEXIST)
		return -errno;
	if (made && record && strv_add(c->copied, path) < 0)
		return -ENOMEM;
	CLEANUP(closep) int sub_to = open_below(to, name);
	CLEANUP(closep)
	int sub_from = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (sub_to < 0 || sub_from < 0)
		return sub_to < 0 ? sub_to : -errno;
	int list_fd = fcntl(sub_from, F_DUPFD_CLOEXEC, 0);
	DIR *d = list_fd < 0 ? NULL : fdopendir(list_fd);
	if (!d) {
		int r = -errno;
		closep(&list_fd);
		return r;
	}
	int r = 0;
	struct dirent *entry;
	while (r == 0 && (entry = readdir(d)) != NULL) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		CLEANUP_STR char *below = str_printf("%s/%s", path, entry->d_name);
		r = below ? copy_node(c, sub_from, sub_to, entry->d_name, below, record && !made,
				    depth + 1)
			  : -ENOMEM;
	}
	closedir(d);
	if (r == 0 && made && fchmod(sub_to, st->st_mode & 0777) < 0)
		r = -errno;
	return r;
}

/* What exists stays; sockets and the like are left out. */
static int copy_node(struct copier *c, int from, int to, const char *name, const char *path,
	bool record, unsigned depth)
{
	struct stat st, there;
	if (str_eq(name, ".git") || (depth == 0 && str_eq(path, ".orch")))
		return 0;
	if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	bool exists = fstatat(to, name, &there, AT_SYMLINK_NOFOLLOW) == 0;
	if (S_ISDIR(st.st_mode))
		return exists && !S_ISDIR(there.st_mode)
			       ? 0
			       : copy_dir(c, from, to, name, path, &st, record, depth);
	if (exists || (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)))
		return 0;
	int r = S_ISREG(st.st_mode) ? copy_regular(from, to, name, &st) : copy_link(from, to, name);
	if (r == 0 && record)
		r = strv_add(c->copied, path);
	return r;
}

/* The worktree holds a link or a file where a directory would be: that stays. */
static bool is_other(int r)
{
	return r == -ELOOP || r == -ENOTDIR || r == -EXDEV;
}

static int copy_path(struct copier *c, const char *path)
{
	int r = make_parents(c, path);
	if (is_other(r))
		return 0;
	if (r < 0)
		return err_errno(c->e, r, "cannot copy '%s' into the worktree", path);
	CLEANUP_STR char *dir = strdup(path);
	if (!dir)
		return err_nomem(c->e);
	char *slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	const char *name = slash ? slash + 1 : path;
	CLEANUP(closep)
	int from = openat(c->from, slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from < 0)
		return err_errno(c->e, -errno, "cannot read '%s' in the checkout", dir);
	CLEANUP(closep) int to = open_below(c->to, slash ? dir : "");
	if (is_other(to))
		return 0;
	if (to < 0)
		return err_errno(c->e, to, "cannot copy '%s' into the worktree", path);
	r = copy_node(c, from, to, name, path, true, 0);
	return r < 0 ? err_errno(c->e, r, "cannot copy '%s' into the worktree", path) : 0;
}

static bool pattern_is_safe(const char *p)
{
	if (!p[0] || p[0] == '/')
		return false;
	for (const char *part = p; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return false;
	}
	return true;
}

/* glob(3) has no "at" form: absolute patterns, with the checkout's own path quoted. */
static char *absolute_pattern(const char *from, const char *pattern)
{
	CLEANUP_BUF struct buf b = BUF_INIT;
	for (const char *p = from; *p; p++) {
		if (strchr("*?[]\\", *p))
			buf_addc(&b, '\\');
		buf_addc(&b, *p);
	}
	buf_addc(&b, '/');
	buf_adds(&b, pattern);
	return buf_check(&b) < 0 ? NULL : buf_steal(&b);
}

/* A directory that is not there, or that we may not read, holds nothing to copy. */
static int stop_looking(const char *path, int error)
{
	(void)path;
	return err_is_machine(-error);
}

static int copy_pattern(struct copier *c, const char *from, const char *pattern)
{
	if (!pattern_is_safe(pattern))
		return err_set(c->e, -EINVAL,
			"cannot copy '%s': a path inside the checkout is needed", pattern);
	CLEANUP_STR char *full = absolute_pattern(from, pattern);
	if (!full)
		return err_nomem(c->e);
	glob_t found = {0};
	int g = glob(full, GLOB_NOSORT, stop_looking, &found);
	int r = 0;
	if (g != 0 && g != GLOB_NOMATCH)
		r = err_set(
			c->e, g == GLOB_NOSPACE ? -ENOMEM : -EIO, "cannot look for '%s'", pattern);
	for (size_t i = 0; g == 0 && r == 0 && i < found.gl_pathc; i++) {
		char *path = found.gl_pathv[i] + strlen(from) + 1;
		for (size_t len = strlen(path); len > 0 && path[len - 1] == '/'; len--)
			path[len - 1] = '\0';
		const char *last = strrchr(path, '/');
		last = last ? last + 1 : path;
		if (path[0] && !str_eq(last, ".") && !str_eq(last, ".."))
			r = copy_path(c, path);
	}
	globfree(&found);
	return r;
}

int copy_files(
	const char *from, const char *to, char *const *patterns, char ***ret_copied, struct err *e)
{
	CLEANUP_STRV char **copied = NULL;
	CLEANUP(closep) int from_fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP(closep) int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (from_fd < 0 || to_fd < 0)
		return err_errno(e, -errno, "cannot open '%s'", from_fd < 0 ? from : to);
	struct copier c = {.from = from_fd, .to = to_fd, .copied = &copied, .e = e};
	for (size_t i = 0; patterns && patterns[i]; i++) {
		int r = copy_pattern(&c, from, patterns[i]);
		if (r < 0)
			return r;
	}
	*ret_copied = TAKE(copied);
	return 0;
}

int copy_record_write(const char *admin_dir, char *const *copied, struct err *e)
{
	CLEANUP_STR char *path = path_join(admin_dir, RECORD);
	CLEANUP_BUF struct buf b = BUF_INIT;
	for (size_t i = 0; copied && copied[i]; i++)
		buf_add(&b, copied[i], strlen(copied[i]) + 1);
	if (!path || buf_check(&b) < 0)
		return err_nomem(e);
	if (b.len == 0) {
		if (unlink(path) < 0 && errno != ENOENT)
			return err_errno(e, -errno, "cannot remove '%s'", path);
		return 0;
	}
	return file_write_new(AT_FDCWD, path, b.data, b.len, 0600, e);
}

int copy_record_read(const char *admin_dir, char ***ret_copied, struct err *e)
{
	CLEANUP_STR char *path = path_join(admin_dir, RECORD);
	CLEANUP_BUF struct buf b = BUF_INIT;
	if (!path)
		return err_nomem(e);
	int r = file_read(AT_FDCWD, path, RECORD_MAX, &b, e);
	if (r == -ENOENT || r == -EINVAL) { /* or the agent has put something else there */
		*ret_copied = NULL;
		return 0;
	}
	return r < 0 ? r : git_split_z(&b, ret_copied, e);
}

bool copy_record_has(char *const *copied, const char *path)
{
	for (size_t i = 0; copied && copied[i]; i++) {
		size_t len = strlen(copied[i]);
		if (strncmp(path, copied[i], len) == 0 && (path[len] == '\0' || path[len] == '/'))
			return true;
	}
	return false;
}
