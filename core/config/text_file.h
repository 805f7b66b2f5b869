/* SPDX-License-Identifier: MIT */
/* Reads a text file whole, within a limit. */
#ifndef CONFIG_TEXT_FILE_H
#define CONFIG_TEXT_FILE_H

#include "base/buf.h"
#include "base/err.h"

/*
 * Appends the contents of path ("-": standard input) to out; blocks. -ENOENT and other errnos,
 * -EFBIG beyond the limit, -EISDIR, -ENOMEM, each with e.
 */
int text_file_read(const char *path, size_t limit, struct buf *out, struct err *e) MUST_CHECK;

#endif
