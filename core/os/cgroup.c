/* SPDX-License-Identifier: MIT */
#include "os/cgroup.h"

#include "base/buf.h"
#include "base/str.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define READ_MAX (4U << 20)
#define NEST_MAX 32

static const char *mount_point(void)
{
	static const char *const places[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct statfs fs;
		if (statfs(places[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
			return places[i];
	}
	return NULL;
}

int cgroup_own_path(char **ret, struct err *e)
{
	const char *mount = mount_point();
	if (!mount)
		return err_set(e, -ENOTSUP, "no cgroup v2 is mounted");
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = file_read(AT_FDCWD, "/proc/self/cgroup", READ_MAX, &text, e);
	if (r < 0)
		return r;
	const char *line = buf_cstr(&text);
	while (line && !str_starts(line, "0::/")) {
		line = strchr(line, '\n');
		line = line ? line + 1 : NULL;
	}
	if (!line || str_starts(line, "0::/.."))
		return err_set(e, -ENOTSUP, "our own cgroup is outside of what is mounted");
	const char *path = line + strlen("0::");
	size_t len = strcspn(path, "\n");
	if (len == 1)
		len = 0; /* the root */
	*ret = str_printf("%s%.*s", mount, (int)len, path);
	return *ret ? 0 : err_nomem(e);
}

void cgroup_deinit(struct cgroup *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->path);
	*c = CGROUP_INIT;
}

int cgroup_open(const char *path, struct cgroup *ret, struct err *e)
{
	CLEANUP_STR char *copy = strdup(path);
	if (!copy)
		return err_nomem(e);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open the cgroup '%s'", path);
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0 || fs.f_type != CGROUP2_SUPER_MAGIC) {
		close(fd);
		return err_set(e, -EINVAL, "'%s' is no cgroup", path);
	}
	*ret = (struct cgroup){.fd = fd, .path = TAKE(copy)};
	return 0;
}

int cgroup_make(const char *name, struct cgroup *ret, struct err *e)
{
	CLEANUP_STR char *own = NULL;
	int r = cgroup_own_path(&own, e);
	if (r < 0)
		return r;
	CLEANUP_STR char *path = path_join(own, name);
	if (!path)
		return err_nomem(e);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "cannot make the cgroup '%s'", path);
	r = cgroup_open(path, ret, e);
	if (r < 0)
		(void)rmdir(path); /* the failure that counts is the open's */
	return r;
}

int cgroup_probe(struct err *e)
{
	char name[64];
	snprintf(name, sizeof(name), "orch-probe-%ld", (long)getpid());
	CLEANUP(cgroup_deinit) struct cgroup c = CGROUP_INIT;
	int r = cgroup_make(name, &c, e);
	if (r < 0)
		return r;
	/* Moving a process needs the right to write here and in the common ancestor. */
	if (faccessat(c.fd, "cgroup.procs", W_OK, AT_EACCESS) < 0 ||
		faccessat(c.fd, "../cgroup.procs", W_OK, AT_EACCESS) < 0)
		r = err_errno(e, -errno, "cannot move processes into '%s'", c.path);
	int removed = cgroup_remove(&c);
	if (r == 0 && removed < 0)
		r = err_errno(e, removed, "cannot remove the cgroup '%s'", c.path);
	return r;
}

static int write_file(const struct cgroup *c, const char *file, const char *value)
{
	CLEANUP(closep) int fd = openat(c->fd, file, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

int cgroup_enter_self(const struct cgroup *c, struct err *e)
{
	int r = write_file(c, "cgroup.procs", "0");
	if (r < 0)
		return err_errno(e, r, "cannot enter the cgroup '%s'", c->path);
	return 0;
}

static int add_pids(int fd, struct pids *ret)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;
	int r = file_read(fd, "cgroup.procs", READ_MAX, &text, &ignored);
	char *save = NULL;
	for (char *word = text.data ? strtok_r(text.data, "\n", &save) : NULL; word && r == 0;
		word = strtok_r(NULL, "\n", &save)) {
		int64_t pid;
		if (parse_int64(word, 1, INT32_MAX, &pid) < 0)
			continue;
		pid_t *slot = VEC_PUSH(ret);
		if (!slot)
			return -ENOMEM;
		*slot = (pid_t)pid;
	}
	return r;
}

DEFINE_FREEP(closedirp, DIR, closedir)

/* Calls fn for the cgroup and all below it, deepest first: an agent may have made some. */
static int walk(
	int fd, int depth, int (*fn)(void *user, int parent_fd, const char *name), void *user)
{
	int again = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (again < 0)
		return -errno;
	CLEANUP(closedirp) DIR *dir = fdopendir(again);
	if (!dir) {
		close(again);
		return -ENOMEM;
	}
	const struct dirent *entry;
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.')
			continue;
		CLEANUP(closep)
		int child = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (child < 0)
			continue;
		int r = depth < NEST_MAX ? walk(child, depth + 1, fn, user) : -ELOOP;
		if (r == 0)
			r = fn(user, fd, entry->d_name);
		if (r < 0)
			return r;
	}
	return 0;
}

static int add_nested_pids(void *user, int parent_fd, const char *name)
{
	CLEANUP(closep) int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? 0 : add_pids(fd, user);
}

int cgroup_pids(const struct cgroup *c, struct pids *ret)
{
	int r = add_pids(c->fd, ret);
	if (r == -ENODEV)
		return 0;
	return r < 0 ? r : walk(c->fd, 0, add_nested_pids, ret);
}

static int read_event(const struct cgroup *c, const char *key, uint64_t *ret, const char *file)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;
	int r = file_read(c->fd, file, READ_MAX, &text, &ignored);
	if (r < 0)
		return r;
	const char *p = strstr(buf_cstr(&text), key);
	if (!p)
		return -EIO;
	*ret = strtoull(p + strlen(key), NULL, 10);
	return 0;
}

int cgroup_populated(const struct cgroup *c)
{
	uint64_t value;
	int r = read_event(c, "populated ", &value, "cgroup.events");
	if (r == -ENODEV || r == -ENOENT)
		return 0; /* removed */
	return r < 0 ? r : value != 0;
}

int cgroup_cpu_ms(const struct cgroup *c, uint64_t *ret)
{
	uint64_t usec;
	int r = read_event(c, "usage_usec ", &usec, "cpu.stat");
	if (r == 0)
		*ret = usec / 1000;
	return r;
}

int cgroup_kill(const struct cgroup *c)
{
	int r = write_file(c, "cgroup.kill", "1");
	if (r == 0 || r == -ENODEV)
		return 0;
	/* Linux < 5.14, and EINVAL seen in some containers. The caller repeats until it is empty.
	 */
	struct pids pids = {0};
	r = cgroup_thaw(c);
	if (r == 0)
		r = cgroup_pids(c, &pids);
	vec_foreach(pid, &pids)
		kill(*pid, SIGKILL);
	VEC_FREE(&pids);
	return r;
}

int cgroup_freeze(const struct cgroup *c)
{
	return write_file(c, "cgroup.freeze", "1");
}

int cgroup_thaw(const struct cgroup *c)
{
	return write_file(c, "cgroup.freeze", "0");
}

static int remove_nested(void *user, int parent_fd, const char *name)
{
	(void)user;
	return unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(struct cgroup *c)
{
	if (rmdir(c->path) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY)
		return -errno;
	int r = walk(c->fd, 0, remove_nested, NULL);
	if (r < 0)
		return r;
	return rmdir(c->path) == 0 || errno == ENOENT ? 0 : -errno;
}
