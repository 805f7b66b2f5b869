/* SPDX-License-Identifier: MIT */
/*
 * Files and directories, always relative to a directory descriptor (AT_FDCWD for the working
 * directory): the one atomic write, whole-file reads with a limit, mkdir -p, and the removal of a
 * tree that belongs to somebody else's processes. Everything here blocks on the disk.
 */
#ifndef OS_FILE_H
#define OS_FILE_H

#include "base/buf.h"
#include "base/err.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Replaces `name` by a file of these contents: temporary file in the same directory, fsync, rename,
 * fsync of the directory. After a failure the old file is as it was and the temporary one is gone.
 */
int file_write_atomic(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
	struct err *e) MUST_CHECK;

/* Creates or truncates `name`, writes and fsyncs it. Not atomic: for files nobody reads yet. */
int file_write_new(int dirfd, const char *name, const void *data, size_t len, mode_t mode,
	struct err *e) MUST_CHECK;

/*
 * Appends the contents to *ret. -ENOENT; -EFBIG when it holds more than `limit` bytes; -EINVAL for
 * a FIFO, which could keep us waiting for ever.
 */
int file_read(int dirfd, const char *name, size_t limit, struct buf *ret, struct err *e) MUST_CHECK;
/* The same on a descriptor, from its present position; `what` names it in messages. */
int fd_read_all(int fd, const char *what, size_t limit, struct buf *ret, struct err *e) MUST_CHECK;

/* Writes all of it, over short writes and EINTR. 0 or -errno. */
int fd_write_all(int fd, const void *data, size_t len) MUST_CHECK;
int fd_pwrite_all(int fd, const void *data, size_t len, off_t at) MUST_CHECK;
/* So many bytes, or fewer at the end of the file: how many; or -errno. */
ssize_t fd_pread_all(int fd, void *data, size_t len, off_t at) MUST_CHECK;
int fd_set_nonblock(int fd, struct err *e) MUST_CHECK;

bool file_exists(int dirfd, const char *name);
/* Whoever opens it waits for another; links are followed. */
bool file_is_fifo(int dirfd, const char *name);

/* mkdir -p; directories that are made have this mode (less umask), others are left alone. */
int dir_make(int dirfd, const char *path, mode_t mode, struct err *e) MUST_CHECK;
/* Opens a directory; a symlink in the last component is -ELOOP or -ENOTDIR. */
int dir_open(int dirfd, const char *path, int *ret_fd, struct err *e) MUST_CHECK;
/* A directory to readdir(3), closed by the caller. *ret is NULL, and that is no error, where there
 * is none or we may not read it. */
int dir_list(const char *path, DIR **ret, struct err *e) MUST_CHECK;
int dir_sync(int dirfd, const char *what, struct err *e) MUST_CHECK;
/* Whether something is mounted below path, which has no links in it (/proc/self/mountinfo). */
bool dir_has_mounts(const char *path);

/*
 * Removes `name` and all below it. Symlinks are removed, never followed; a mount point below is
 * left and makes the call fail with -EXDEV; directories without permissions are opened up if they
 * are ours. What does not exist is removed already: 0.
 */
int dir_remove_tree(int dirfd, const char *name, struct err *e) MUST_CHECK;

#endif
