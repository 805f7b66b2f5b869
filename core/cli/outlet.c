/* SPDX-License-Identifier: MIT */
#include "cli/outlet.h"

#include "base/buf.h"
#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define KEPT_MAX_BYTES (16U << 20)
#define CHUNK_BYTES    512 /* POSIX' PIPE_BUF: what poll(2) says there is room for */
#define LAST_MS        1000

struct outlet {
	FILE **place;
	FILE *before, *stream;
	int fd, stop_fd;
	struct buf kept;
	size_t at;    /* so much of it is out */
	int error;    /* of a write; nothing more goes out */
	bool dropped; /* as for an error, but nobody is told */
};

static size_t left(const struct outlet *o)
{
	return o->kept.len - o->at;
}

static void drop(struct outlet *o)
{
	o->dropped = true;
	buf_reset(&o->kept);
	o->at = 0;
}

/* One write, if there is room for it in time: how much went out. timeout_ms as for poll(2); a stop
 * signal ends the wait. */
static size_t write_some(struct outlet *o, const char *data, size_t len, int timeout_ms)
{
	struct pollfd p[] = {{.fd = o->fd, .events = POLLOUT},
		{.fd = timeout_ms ? o->stop_fd : -1, .events = POLLIN}};
	int ready = poll(p, 2, timeout_ms);
	if (ready == 0 || (ready > 0 && !p[0].revents))
		return 0;
	size_t n = len < CHUNK_BYTES ? len : CHUNK_BYTES;
	if (fwrite(data, 1, n, o->before) == n && fflush(o->before) == 0)
		return n;
	o->error = errno ? -errno : -EIO;
	drop(o);
	return 0;
}

/* Some of what is kept; false: not in time, or never. */
static bool write_kept(struct outlet *o, int timeout_ms)
{
	size_t n = write_some(o, o->kept.data + o->at, left(o), timeout_ms);
	o->at += n;
	if (left(o) == 0 || o->at > KEPT_MAX_BYTES) {
		buf_consume(&o->kept, o->at);
		o->at = 0;
	}
	return n > 0;
}

void outlet_pump(struct outlet *o)
{
	while (left(o) > 0 && write_kept(o, 0))
		;
}

int outlet_drain(struct outlet *o, int patience_ms)
{
	int64_t deadline = patience_ms < 0 ? DEADLINE_NONE : deadline_after(patience_ms);
	(void)!fflush(o->stream); /* its errors are ours */
	while (left(o) > 0 && write_kept(o, deadline_poll_ms(deadline)))
		;
	if (left(o) > 0)
		drop(o);
	return o->error;
}

/* Behind what is kept. How much went out. */
static size_t write_new(struct outlet *o, const char *data, size_t len, int timeout_ms)
{
	size_t at = 0, n = 1;
	while (left(o) > 0 && write_kept(o, timeout_ms))
		;
	for (; left(o) == 0 && at < len && n > 0; at += n)
		n = write_some(o, data + at, len - at, timeout_ms);
	return at;
}

static ssize_t outlet_write(void *cookie, const char *data, size_t len)
{
	struct outlet *o = cookie;
	size_t at = o->dropped ? len : write_new(o, data, len, 0);
	/* Without memory, or with too much of it, there is nothing for it but to wait. */
	if (!o->dropped && at < len && left(o) + len - at <= KEPT_MAX_BYTES) {
		buf_add(&o->kept, data + at, len - at);
		if (buf_check(&o->kept) == 0)
			at = len;
		o->kept.failed = false;
	}
	if (!o->dropped && at < len)
		at += write_new(o, data + at, len - at, -1);
	if (!o->dropped && at < len)
		drop(o);
	errno = -o->error;
	return o->error ? 0 : (ssize_t)len;
}

int outlet_open(FILE **place, int fd, int stop_fd, struct outlet **ret, struct err *e)
{
	struct outlet *o = calloc(1, sizeof(*o));
	cookie_io_functions_t functions = {.write = outlet_write};
	FILE *stream = o ? fopencookie(o, "w", functions) : NULL;
	if (!stream || (fd == STDERR_FILENO && setvbuf(stream, NULL, _IONBF, 0) != 0)) {
		if (stream)
			fclose(stream);
		free(o);
		return err_nomem(e);
	}
	*o = (struct outlet){.place = place, .before = *place, .stream = stream};
	o->fd = fd;
	o->stop_fd = stop_fd;
	fflush(o->before);
	*place = stream;
	*ret = o;
	return 0;
}

void outlet_close(struct outlet *o)
{
	if (!o)
		return;
	(void)!outlet_drain(o, LAST_MS); /* whoever wants to know has asked before */
	*o->place = o->before;
	fclose(o->stream);
	buf_deinit(&o->kept);
	free(o);
}
