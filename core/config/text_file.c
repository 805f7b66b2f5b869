/* SPDX-License-Identifier: MIT */
#include "config/text_file.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

/* The caller named a file that is no use: not an error of ours. */
static int no_input(struct err *e, int code, const char *path)
{
	err_errno(e, code, "cannot read %s", path);
	if (e && code != -EIO && code != -ENOMEM && code != -EMFILE && code != -ENFILE)
		e->status = EXIT_NOINPUT;
	return code;
}

/* Until there is something to read. A FIFO that nobody has opened to write is waited for. */
static int await_input(int fd, int cancel_fd)
{
	struct pollfd p[] = {{.fd = fd, .events = POLLIN},
		{.fd = cancel_fd > 0 ? cancel_fd : -1, .events = POLLIN}};
	while (poll(p, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	return p[0].revents ? 0 : -ECANCELED;
}

int text_file_read(const char *path, size_t limit, int cancel_fd, struct buf *out, struct err *e)
{
	CLEANUP(closep) int opened = -1;
	int fd = STDIN_FILENO;
	if (!str_eq(path, "-")) {
		opened = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (opened < 0)
			return no_input(e, -errno, path);
		fd = opened;
	}
	size_t before = out->len;
	for (;;) {
		if (buf_reserve(out, 65536) < 0)
			return err_nomem(e);
		int r = await_input(fd, cancel_fd);
		if (r == -ECANCELED)
			return err_set(e, r, "reading %s was stopped", path);
		ssize_t n = r < 0 ? r : read(fd, out->data + out->len, 65536);
		if (n < 0 && r == 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return no_input(e, r < 0 ? r : -errno, path);
		if (n == 0)
			break;
		out->len += (size_t)n;
		out->data[out->len] = '\0';
		if (out->len - before > limit)
			return no_input(e, -EFBIG, path);
	}
	return 0;
}
