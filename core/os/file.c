/* SPDX-License-Identifier: MIT */
#include "os/file.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int fd_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;
	while (len > 0) {
		ssize_t n = write(fd, p, len);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_pwrite_all(int fd, const void *data, size_t len, off_t at)
{
	const char *p = data;
	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, at);
		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_set_nonblock(int fd, struct err *e)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return err_errno(e, -errno, "cannot make a descriptor non-blocking");
	return 0;
}

int file_write_new(
	int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e)
{
	CLEANUP(closep)
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	if (fd < 0)
		return err_errno(e, -errno, "cannot write '%s'", name);
	int r = fd_write_all(fd, data, len);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(e, r, "cannot write '%s'", name);
	return 0;
}

/* The directory that holds `name`: dirfd itself unless there is a slash in it. */
static int parent_sync(int dirfd, const char *name, struct err *e)
{
	const char *slash = strrchr(name, '/');
	CLEANUP_STR char *parent = slash == name ? strdup("/")
				   : slash       ? strndup(name, (size_t)(slash - name))
						 : strdup(".");
	if (!parent)
		return err_nomem(e);
	CLEANUP(closep) int fd = openat(dirfd, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open the directory of '%s'", name);
	return dir_sync(fd, name, e);
}

int file_write_atomic(
	int dirfd, const char *name, const void *data, size_t len, mode_t mode, struct err *e)
{
	static unsigned counter; /* two threads may write beside each other */
	unsigned unique = __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED);
	CLEANUP_STR char *temp = str_printf("%s.%ld.%u.tmp", name, (long)getpid(), unique);
	if (!temp)
		return err_nomem(e);
	int r = file_write_new(dirfd, temp, data, len, mode, e);
	if (r == 0 && renameat(dirfd, temp, dirfd, name) < 0)
		r = err_errno(e, -errno, "cannot replace '%s'", name);
	if (r < 0) {
		unlinkat(dirfd, temp, 0);
		return r;
	}
	return parent_sync(dirfd, name, e);
}

ssize_t fd_pread_all(int fd, void *data, size_t len, off_t at)
{
	size_t have = 0;
	while (have < len) {
		ssize_t n = pread(fd, (char *)data + have, len - have, at + (off_t)have);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		have += (size_t)n;
	}
	return (ssize_t)have;
}

int fd_read_all(int fd, const char *what, size_t limit, struct buf *ret, struct err *e)
{
	size_t begin = ret->len;
	struct stat st;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
		(uint64_t)st.st_size <= limit && buf_reserve(ret, (size_t)st.st_size) < 0)
		return err_nomem(e);
	for (;;) {
		if (buf_reserve(ret, 4096) < 0)
			return err_nomem(e);
		ssize_t n = read(fd, ret->data + ret->len, ret->cap - ret->len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, -errno, "cannot read '%s'", what);
		ret->len += (size_t)n;
		ret->data[ret->len] = '\0';
		if (ret->len - begin > limit)
			return err_set(e, -EFBIG, "'%s' is larger than %zu bytes", what, limit);
		if (n == 0)
			return 0;
	}
}

int file_read(int dirfd, const char *name, size_t limit, struct buf *ret, struct err *e)
{
	CLEANUP(closep)
	int fd = openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	if (fd < 0)
		return err_errno(e, -errno, "cannot read '%s'", name);
	if (fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode))
		return err_set(
			e, -EINVAL, "cannot read '%s': a FIFO stands there, not a file", name);
	return fd_read_all(fd, name, limit, ret, e);
}

bool file_exists(int dirfd, const char *name)
{
	return faccessat(dirfd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

bool file_is_fifo(int dirfd, const char *name)
{
	struct stat st;
	return fstatat(dirfd, name, &st, 0) == 0 && S_ISFIFO(st.st_mode);
}
