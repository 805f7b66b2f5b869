/* SPDX-License-Identifier: MIT */
/* Reads a text file whole, within a limit. */
#ifndef CONFIG_TEXT_FILE_H
#define CONFIG_TEXT_FILE_H

#include "base/buf.h"
#include "base/err.h"

/*
 * Appends the contents of path ("-": standard input) to out; blocks, for a pipe until its writers
 * are done or cancel_fd is readable (0 or less: nothing cancels): then -ECANCELED. -ENOENT and
 * other errnos, -EFBIG beyond the limit, -EISDIR, -ENOMEM, each with e.
 */
int text_file_read(
	const char *path, size_t limit, int cancel_fd, struct buf *out, struct err *e) MUST_CHECK;

#endif
