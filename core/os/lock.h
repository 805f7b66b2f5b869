/* SPDX-License-Identifier: MIT */
/*
 * Lock files: flock(2), with the file's identity compared after the lock was got (an unlinked lock
 * file would let two holders in). The holder writes into the file who it is; that text informs,
 * the lock decides. The lock lives as long as any descriptor of this open file: also one that a
 * child inherited, which is used on purpose for shim.lock.
 */
#ifndef OS_LOCK_H
#define OS_LOCK_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define LOCK_HELD 1

/*
 * Takes the lock, made with mode 0600 when missing. Tries until deadline_ms (0: once); blocks that
 * long. 0 with an owned CLOEXEC descriptor; LOCK_HELD (somebody else has it: *ret_fd unchanged);
 * -EOPNOTSUPP on a network file system; other negative errno.
 */
int lock_take(
	int dirfd, const char *name, int64_t deadline_ms, int *ret_fd, struct err *e) MUST_CHECK;
/* Like lock_take without creating the file: -ENOENT when it is missing. */
int lock_take_existing(
	int dirfd, const char *name, int64_t deadline_ms, int *ret_fd, struct err *e) MUST_CHECK;

/* The holder's text: replaced through the locked descriptor; read by anybody ("" when missing). */
int lock_write_holder(int lock_fd, const char *text, struct err *e) MUST_CHECK;
int lock_read_holder(int dirfd, const char *name, struct buf *ret, struct err *e) MUST_CHECK;

/*
 * Whether somebody holds the lock now, without taking it from anybody: a try with a deadline of its
 * own is disturbed for microseconds at most. A missing file is not locked.
 */
int lock_is_held(int dirfd, const char *name, bool *ret, struct err *e) MUST_CHECK;
/* Whether flock on this file system means nothing on other machines (NFS, SMB, 9p, FUSE...). */
bool fd_on_network_fs(int fd);

#endif
