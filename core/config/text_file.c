/* SPDX-License-Identifier: MIT */
#include "config/text_file.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>

int text_file_read(const char *path, size_t limit, struct buf *out, struct err *e)
{
	CLEANUP(closep) int opened = -1;
	int fd = STDIN_FILENO;
	if (!str_eq(path, "-")) {
		opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
		if (opened < 0)
			return err_errno(e, -errno, "cannot read %s", path);
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
			return err_errno(e, -errno, "cannot read %s", path);
		if (n == 0)
			break;
		out->len += (size_t)n;
		out->data[out->len] = '\0';
		if (out->len - before > limit)
			return err_set(e, -EFBIG, "cannot read %s: it is larger than %zu MiB", path,
				limit >> 20);
	}
	return 0;
}
