/* SPDX-License-Identifier: MIT */
/*
 * Output of a process in a file of bounded size: the beginning and the end are kept, what lies
 * between is replaced by a line that says how much was cut. While the process runs, the second half
 * of a full file is used as a ring; capture_close puts it in order. A disk that takes no more loses
 * output, never the process.
 */
#ifndef SHIM_CAPTURE_H
#define SHIM_CAPTURE_H

#include "base/err.h"
#include "shim/mask.h"

#include <stddef.h>
#include <stdint.h>

struct capture {
	int dirfd; /* borrowed */
	int fd;
	const char *name;        /* borrowed */
	const struct mask *mask; /* borrowed; NULL: nothing to mask */
	struct buf carry;
	int64_t cap_bytes;
	int64_t total_bytes; /* that were handed over */
	int64_t lost_bytes;  /* that the disk did not take */
	char last;           /* byte that was written; 0: none */
};

int capture_open(struct capture *c, int dirfd, const char *name, int64_t cap_bytes,
	const struct mask *mask, struct err *e) MUST_CHECK;
void capture_write(struct capture *c, const void *data, size_t len);
/* Ends the file with the line `last_words` (NULL: none), on a line of its own. */
int capture_close(struct capture *c, const char *last_words, struct err *e) MUST_CHECK;

#endif
