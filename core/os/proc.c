/* SPDX-License-Identifier: MIT */
#include "os/proc.h"

#include "base/buf.h"
#include "base/str.h"
#include "os/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define ENVIRON_MAX (8U << 20) /* the kernel's own bound is a quarter of the stack limit */

DEFINE_FREEP(closedirp, DIR, closedir)

/* Reads a small /proc file into a caller's buffer; the length, or -errno. */
static ssize_t read_small(const char *path, char *buf, size_t size)
{
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t len = fd_pread_all(fd, buf, size - 1, 0);
	if (len >= 0)
		buf[len] = '\0';
	return len;
}

void proc_boot_id(char ret[BOOT_ID_LEN + 1])
{
	char text[64];
	ret[0] = '\0';
	if (read_small("/proc/sys/kernel/random/boot_id", text, sizeof(text)) < BOOT_ID_LEN)
		return;
	memcpy(ret, text, BOOT_ID_LEN);
	ret[BOOT_ID_LEN] = '\0';
}

int proc_stat_read(pid_t pid, struct proc_stat *ret)
{
	char path[64];
	char text[1024];
	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	ssize_t n = read_small(path, text, sizeof(text));
	if (n < 0)
		return n == -ENOENT ? -ESRCH : (int)n;
	/* The name is in parentheses and may itself hold any of them. */
	const char *p = strrchr(text, ')');
	struct proc_stat st = {0};
	unsigned long utime, stime;
	char state;
	long ppid, cutime, cstime, threads;
	unsigned long long starttime;
	if (!p ||
		sscanf(p + 1,
			" %c %ld %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %ld "
			"%*d %llu",
			&state, &ppid, &utime, &stime, &cutime, &cstime, &threads, &starttime) != 8)
		return -EIO;
	st.dead = state == 'X' || state == 'x' || (state == 'Z' && threads <= 1);
	st.ppid = (pid_t)ppid;
	st.starttime = starttime;
	st.cpu_ticks = (uint64_t)utime + stime + (uint64_t)cutime + (uint64_t)cstime;
	*ret = st;
	return 0;
}

int proc_identify(pid_t pid, struct proc_id *ret)
{
	struct proc_stat st;
	int r = proc_stat_read(pid, &st);
	if (r < 0)
		return r;
	ret->pid = pid;
	ret->starttime = st.starttime;
	proc_boot_id(ret->boot_id);
	return 0;
}

/* Of what concerns one process: it has ended, or is nobody's business of ours. What else there is
 * (no descriptor, no memory) says nothing about it. */
static bool is_gone(int r)
{
	return r == -ENOENT || r == -ESRCH || r == -EACCES || r == -EPERM;
}

bool proc_is_alive(const struct proc_id *id)
{
	struct proc_stat st;
	int r = id->pid > 0 ? proc_stat_read(id->pid, &st) : -ESRCH;
	if (r < 0)
		return !is_gone(r);
	char boot_id[BOOT_ID_LEN + 1];
	proc_boot_id(boot_id);
	return st.starttime == id->starttime && !st.dead &&
	       (!boot_id[0] || str_eq(boot_id, id->boot_id));
}

int proc_open(const struct proc_id *id, int *ret_pidfd)
{
	if (id->pid <= 0)
		return -ESRCH;
	/* The descriptor pins the process; only then is it compared. */
	CLEANUP(closep) int pidfd = (int)syscall(SYS_pidfd_open, id->pid, 0);
	if (pidfd < 0)
		return -errno;
	if (!proc_is_alive(id))
		return -ESRCH;
	*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}

int proc_kill(const struct proc_id *id, int signal)
{
	CLEANUP(closep) int pidfd = -1;
	int r = proc_open(id, &pidfd);
	if (r < 0)
		return r;
	return syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0) < 0 ? -errno : 0;
}

static int pids_add(struct pids *list, pid_t pid)
{
	pid_t *slot = VEC_PUSH(list);
	if (!slot)
		return -ENOMEM;
	*slot = pid;
	return 0;
}

static int add_living(struct pids *list, pid_t pid)
{
	struct proc_stat st;
	int r = proc_stat_read(pid, &st);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	/* A zombie's children were given to the reaper already. */
	return st.dead ? 0 : pids_add(list, pid);
}

/* The children of all threads of a process. -ENOENT: no such process, or no such kernel option. */
static int add_children(pid_t parent, struct pids *ret)
{
	char path[80];
	snprintf(path, sizeof(path), "/proc/%ld/task", (long)parent);
	CLEANUP(closedirp) DIR *tasks = opendir(path);
	if (!tasks)
		return -errno;
	const struct dirent *task;
	int r = 0;
	while (r == 0 && (task = readdir(tasks))) {
		if (!isdigit((unsigned char)task->d_name[0]))
			continue;
		snprintf(path, sizeof(path), "%.20s/children", task->d_name);
		CLEANUP_BUF struct buf text = BUF_INIT;
		struct err ignored = ERR_INIT;
		r = file_read(dirfd(tasks), path, ENVIRON_MAX, &text, &ignored);
		if (r < 0)
			return r;
		char *save = NULL;
		for (char *word = text.data ? strtok_r(text.data, " \n", &save) : NULL;
			word && r == 0; word = strtok_r(NULL, " \n", &save)) {
			int64_t pid;
			if (parse_int64(word, 1, INT32_MAX, &pid) == 0)
				r = add_living(ret, (pid_t)pid);
		}
	}
	return r;
}

static int for_each_process(int (*fn)(void *user, pid_t pid), void *user)
{
	CLEANUP(closedirp) DIR *proc = opendir("/proc");
	if (!proc)
		return -errno;
	const struct dirent *entry;
	while (errno = 0, (entry = readdir(proc))) {
		int64_t pid;
		if (parse_int64(entry->d_name, 1, INT32_MAX, &pid) < 0)
			continue;
		int r = fn(user, (pid_t)pid);
		if (r < 0)
			return r;
	}
	return -errno;
}

struct family {
	pid_t pid, ppid;
	bool dead;
};
struct families VEC(struct family);

static int collect_family(void *user, pid_t pid)
{
	struct families *all = user;
	struct proc_stat st;
	if (proc_stat_read(pid, &st) < 0)
		return 0;
	struct family *f = VEC_PUSH(all);
	if (!f)
		return -ENOMEM;
	*f = (struct family){.pid = pid, .ppid = st.ppid, .dead = st.dead};
	return 0;
}

/* For kernels without CONFIG_PROC_CHILDREN. */
static int descendants_by_scan(pid_t root, struct pids *ret)
{
	struct families all = {0};
	size_t next = ret->count;
	int r = for_each_process(collect_family, &all);
	for (pid_t parent = root; r == 0; parent = ret->items[next++]) {
		vec_foreach(f, &all)
			if (r == 0 && f->ppid == parent && !f->dead)
				r = pids_add(ret, f->pid);
		if (next >= ret->count)
			break;
	}
	VEC_FREE(&all);
	return r;
}

int proc_descendants(pid_t root, struct pids *ret)
{
	size_t next = ret->count;
	int r = add_children(root, ret);
	if (r == -ENOENT)
		return descendants_by_scan(root, ret);
	if (r < 0)
		return r;
	for (; next < ret->count; next++) {
		r = add_children(ret->items[next], ret);
		if (r < 0 && !is_gone(r))
			return r;
	}
	return 0;
}

struct environ_search {
	const char *entry;
	size_t len;
	struct pids *found;
	bool passed_over; /* one in the middle of an exec */
};

/* A number of /proc/<pid>/stat, as proc(5) counts them, from 4 on; 0 where there is none. */
static unsigned long stat_field(const char *text, int field)
{
	/* The name, which is the second, is in parentheses and may itself hold any of them. */
	const char *p = strrchr(text, ')');
	for (int at = 2; p && at < field; at++)
		p = strchr(p + 1, ' ');
	return p ? strtoul(p + 1, NULL, 10) : 0;
}

#define STAT_VSIZE   23
#define STAT_ENV_END 51

/* 1: past the point of no return and before the new program's environment is there; a kernel thread
 * has no memory at all. 0: not, or gone; -errno. */
static int is_in_exec(pid_t pid)
{
	char path[64];
	char text[1024];
	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	int r = (int)read_small(path, text, sizeof(text));
	if (r < 0)
		return is_gone(r) ? 0 : r;
	return stat_field(text, STAT_VSIZE) > 0 && stat_field(text, STAT_ENV_END) == 0;
}

static int match_environ(void *user, pid_t pid)
{
	struct environ_search *search = user;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/environ", (long)pid);
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;
	int r = file_read(AT_FDCWD, path, ENVIRON_MAX, &text, &ignored);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	if (text.len == 0) {
		r = is_in_exec(pid);
		search->passed_over |= r > 0;
	}
	if (r < 0)
		return r;
	size_t at = 0;
	while (at < text.len) {
		size_t len = strlen(text.data + at);
		if (len == search->len && memcmp(text.data + at, search->entry, len) == 0)
			return add_living(search->found, pid);
		at += len + 1;
	}
	return 0;
}

int proc_find_environ(const char *entry, struct pids *ret)
{
	struct environ_search search = {.entry = entry, .len = strlen(entry), .found = ret};
	int r = for_each_process(match_environ, &search);
	return r < 0 ? r : search.passed_over;
}

struct holder_search {
	const struct stat *file;
	struct pids *found;
};

static int match_holder(void *user, pid_t pid)
{
	const struct holder_search *search = user;
	char path[64];
	snprintf(path, sizeof(path), "/proc/%ld/fd", (long)pid);
	CLEANUP(closedirp) DIR *fds = opendir(path);
	if (!fds)
		return err_is_shortage(-errno) ? -errno : 0;
	const struct dirent *entry;
	struct stat st;
	while ((entry = readdir(fds)))
		if (fstatat(dirfd(fds), entry->d_name, &st, 0) == 0 &&
			st.st_dev == search->file->st_dev && st.st_ino == search->file->st_ino)
			return add_living(search->found, pid);
	return 0;
}

int proc_find_holders(const struct stat *file, struct pids *ret)
{
	struct holder_search search = {.file = file, .found = ret};
	return for_each_process(match_holder, &search);
}

int proc_pidns(pid_t pid, uint64_t *ret)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof(path), "/proc/%ld/ns/pid", (long)pid);
	if (stat(path, &st) < 0)
		return -errno;
	*ret = st.st_ino;
	return 0;
}

struct pidns_search {
	uint64_t pidns;
	struct pids *found;
};

static int match_pidns(void *user, pid_t pid)
{
	const struct pidns_search *search = user;
	uint64_t pidns;
	int r = proc_pidns(pid, &pidns);
	if (r < 0)
		return is_gone(r) ? 0 : r;
	return pidns == search->pidns ? add_living(search->found, pid) : 0;
}

int proc_find_pidns(uint64_t pidns, struct pids *ret)
{
	struct pidns_search search = {.pidns = pidns, .found = ret};
	return for_each_process(match_pidns, &search);
}

static uint64_t field_after(const char *text, const char *name)
{
	const char *p = strstr(text, name);
	return p ? strtoull(p + strlen(name), NULL, 10) : 0;
}

void proc_usage_add(pid_t pid, struct proc_usage *sum)
{
	struct proc_stat st;
	char path[64];
	char text[1024];
	if (proc_stat_read(pid, &st) < 0)
		return;
	long hz = sysconf(_SC_CLK_TCK);
	sum->cpu_ms += st.cpu_ticks * 1000 / (uint64_t)(hz > 0 ? hz : 100);
	snprintf(path, sizeof(path), "/proc/%ld/io", (long)pid);
	if (read_small(path, text, sizeof(text)) < 0)
		return; /* a kernel without it, or a set-uid program */
	sum->write_bytes += field_after(text, "\nwrite_bytes: ");
	sum->wchar_bytes += field_after(text, "\nwchar: ");
}
