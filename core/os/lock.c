/* SPDX-License-Identifier: MIT */
#include "os/lock.h"

#include "base/clock.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#define RETRY_MS   10
#define HOLDER_MAX 4096

/* Not in every linux/magic.h. */
#define MAGIC_NFS    0x6969
#define MAGIC_SMB    0x517B
#define MAGIC_SMB2   0xFE534D42
#define MAGIC_CIFS   0xFF534D42
#define MAGIC_V9FS   0x01021997
#define MAGIC_CEPH   0x00C36400
#define MAGIC_AFS    0x5346414F
#define MAGIC_CODA   0x73757245
#define MAGIC_GPFS   0x47504653
#define MAGIC_LUSTRE 0x0BD00BD0

bool fd_on_network_fs(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return false;
	switch ((uint32_t)fs.f_type) {
	case MAGIC_NFS:
	case MAGIC_SMB:
	case MAGIC_SMB2:
	case MAGIC_CIFS:
	case MAGIC_V9FS:
	case MAGIC_CEPH:
	case MAGIC_AFS:
	case MAGIC_CODA:
	case MAGIC_GPFS:
	case MAGIC_LUSTRE:
		return true;
	default:
		return false;
	}
}

/* 0 when `name` still is the file we have locked, -ESTALE when it is another or gone, -errno. */
static int check_same_file(int dirfd, const char *name, int fd)
{
	struct stat a, b;
	if (fstat(fd, &a) < 0)
		return -errno;
	if (fstatat(dirfd, name, &b, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? -ESTALE : -errno;
	return a.st_dev == b.st_dev && a.st_ino == b.st_ino ? 0 : -ESTALE;
}

/* One try: 0, LOCK_HELD, -ESTALE (the file was replaced meanwhile), -errno. */
static int try_lock(int dirfd, const char *name, int flags, int *ret_fd)
{
	CLEANUP(closep) int fd = openat(dirfd, name, flags, 0600);
	if (fd < 0)
		return -errno;
	if (fd_on_network_fs(fd))
		return -EOPNOTSUPP;
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno == EWOULDBLOCK)
			return LOCK_HELD;
		if (errno != EINTR)
			return -errno;
	}
	int r = check_same_file(dirfd, name, fd);
	if (r == 0)
		*ret_fd = TAKE_FD(fd);
	return r;
}

static int take(
	int dirfd, const char *name, int flags, int64_t deadline_ms, int *ret_fd, struct err *e)
{
	for (;;) {
		int r = try_lock(dirfd, name, flags, ret_fd);
		if (r == 0)
			return 0;
		if (r == -EOPNOTSUPP)
			return err_set(e, r,
				"cannot lock '%s': it is on a network file system, where locks of "
				"other machines are not seen",
				name);
		if (r < 0 && r != -ESTALE)
			return err_errno(e, r, "cannot lock '%s'", name);
		if (r == LOCK_HELD && (deadline_ms == 0 || clock_mono_ms() >= deadline_ms))
			return LOCK_HELD;
		if (r == LOCK_HELD)
			poll(NULL, 0, RETRY_MS); /* flock has no timeout */
	}
}

int lock_take(int dirfd, const char *name, int64_t deadline_ms, int *ret_fd, struct err *e)
{
	const int flags = O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC;
	return take(dirfd, name, flags, deadline_ms, ret_fd, e);
}

int lock_take_existing(int dirfd, const char *name, int64_t deadline_ms, int *ret_fd, struct err *e)
{
	return take(dirfd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC, deadline_ms, ret_fd, e);
}

int lock_is_held(int dirfd, const char *name, bool *ret, struct err *e)
{
	CLEANUP(closep) int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno != ENOENT)
		return err_errno(e, -errno, "cannot look at the lock '%s'", name);
	/* Shared, so that several who look do not take each other for a holder. */
	bool held = false;
	while (fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0) {
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return err_errno(e, -errno, "cannot look at the lock '%s'", name);
		held = true;
		break;
	}
	*ret = held;
	return 0;
}

int lock_write_holder(int lock_fd, const char *text, struct err *e)
{
	size_t len = strlen(text);
	int r = fd_pwrite_all(lock_fd, text, len, 0);
	if (r == 0 && ftruncate(lock_fd, (off_t)len) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(e, r, "cannot write into the lock file");
	return 0;
}

int lock_read_holder(int dirfd, const char *name, struct buf *ret, struct err *e)
{
	int r = file_read(dirfd, name, HOLDER_MAX, ret, e);
	return r == -ENOENT ? 0 : r;
}
