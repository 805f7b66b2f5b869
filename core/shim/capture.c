/* SPDX-License-Identifier: MIT */
#include "shim/capture.h"

#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#define MIN_CAP 4096

int capture_open(struct capture *c, int dirfd, const char *name, int64_t cap_bytes,
	const struct mask *mask, struct err *e)
{
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, -errno, "cannot make '%s'", name);
	*c = (struct capture){
		.dirfd = dirfd,
		.fd = fd,
		.name = name,
		.mask = mask_is_empty(mask) ? NULL : mask,
		.cap_bytes = cap_bytes < MIN_CAP ? MIN_CAP : cap_bytes,
	};
	return 0;
}

static int64_t head_bytes(const struct capture *c)
{
	return c->cap_bytes / 2;
}

/* Where the byte number `at` of the output goes. */
static int64_t place(const struct capture *c, int64_t at)
{
	if (at < c->cap_bytes)
		return at;
	int64_t head = head_bytes(c);
	return head + (at - head) % (c->cap_bytes - head);
}

static void store(struct capture *c, const void *data, size_t len)
{
	const char *p = data;
	if (len > 0)
		c->last = p[len - 1];
	while (len > 0) {
		int64_t at = place(c, c->total_bytes);
		size_t n = len;
		if ((int64_t)n > c->cap_bytes - at)
			n = (size_t)(c->cap_bytes - at);
		if (fd_pwrite_all(c->fd, p, n, at) < 0)
			c->lost_bytes += (int64_t)n;
		c->total_bytes += (int64_t)n;
		p += n;
		len -= n;
	}
}

static void store_masked(struct capture *c, const void *data, size_t len, enum mask_more more)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	mask_feed(c->mask, &c->carry, data, len, more, &out);
	if (c->carry.failed || out.failed) {
		/* Without memory rather no output than a secret in it. */
		buf_reset(&c->carry);
		c->lost_bytes += (int64_t)len;
		return;
	}
	store(c, out.data, out.len);
}

void capture_write(struct capture *c, const void *data, size_t len)
{
	if (c->mask)
		store_masked(c, data, len, MASK_MORE);
	else
		store(c, data, len);
}

static int copy_range(int out, int in, int64_t from, int64_t to)
{
	off_t at = from;
	while (at < to) {
		ssize_t n = sendfile(out, in, &at, (size_t)(to - at));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			break; /* a hole that the disk did not take */
	}
	return 0;
}

/* Writes the parts in order into a new file and puts it in the place of the old one. */
static int put_in_order(struct capture *c)
{
	CLEANUP_STR char *temp = str_printf("%s.tmp", c->name);
	if (!temp)
		return -ENOMEM;
	CLEANUP(closep)
	int out = openat(c->dirfd, temp, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (out < 0)
		return -errno;
	char mark[96];
	int len = snprintf(mark, sizeof(mark), "\n[... orch: %lld bytes cut here ...]\n",
		(long long)(c->total_bytes - c->cap_bytes));
	int64_t oldest = place(c, c->total_bytes);
	int r = copy_range(out, c->fd, 0, head_bytes(c));
	if (r == 0)
		r = fd_write_all(out, mark, (size_t)len);
	if (r == 0)
		r = copy_range(out, c->fd, oldest, c->cap_bytes);
	if (r == 0)
		r = copy_range(out, c->fd, head_bytes(c), oldest);
	if (r == 0 && renameat(c->dirfd, temp, c->dirfd, c->name) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(c->dirfd, temp, 0);
		return r;
	}
	close(c->fd);
	c->fd = TAKE_FD(out);
	return 0;
}

int capture_close(struct capture *c, const char *last_words, struct err *e)
{
	int r = 0;
	if (c->mask)
		store_masked(c, "", 0, MASK_LAST);
	buf_deinit(&c->carry);
	if (c->total_bytes > c->cap_bytes)
		r = put_in_order(c);
	if (r == 0 && last_words) {
		CLEANUP_STR char *text = str_printf(
			"%s%s\n", c->last == '\n' || c->last == '\0' ? "" : "\n", last_words);
		off_t end = lseek(c->fd, 0, SEEK_END);
		r = text ? fd_pwrite_all(c->fd, text, strlen(text), end) : -ENOMEM;
	}
	close(TAKE_FD(c->fd));
	if (r < 0)
		return err_errno(e, r, "cannot finish '%s'", c->name);
	return 0;
}
