/* SPDX-License-Identifier: MIT */
#include "config/text_file.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>

/* The caller named a file that is no use: not an error of ours. */
static int no_input(struct err *e, int code, const char *path)
{
	err_errno(e, code, "cannot read %s", path);
	if (e && code != -EIO && code != -ENOMEM && code != -EMFILE && code != -ENFILE)
		e->status = EXIT_NOINPUT;
	return code;
}

int text_file_read(const char *path, size_t limit, struct buf *out, struct err *e)
{
	CLEANUP(closep) int opened = -1;
	int fd = STDIN_FILENO;
	if (!str_eq(path, "-")) {
		opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (opened < 0)
			return no_input(e, -errno, path);
		fd = opened;
	}
	size_t before = out->len;
	for (;;) {
		if (buf_reserve(out, 65536) < 0)
			return err_nomem(e);
		ssize_t n = read(fd, out->data + out->len, 65536);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return no_input(e, -errno, path);
		if (n == 0)
			break;
		out->len += (size_t)n;
		out->data[out->len] = '\0';
		if (out->len - before > limit)
			return no_input(e, -EFBIG, path);
	}
	return 0;
}
