/* SPDX-License-Identifier: MIT */
#include "plugin/lines.h"

#include <errno.h>
#include <string.h>

/* A buffer that held a line longer than this is given back. */
#define KEEP_SIZE ((size_t)64 << 10)

void lines_deinit(struct lines *l)
{
	buf_deinit(&l->part);
	l->cut = false;
}

static void part_add(struct lines *l, const char *data, size_t len)
{
	size_t room = ORCH_LINE_MAX - l->part.len;
	if (len > room) {
		l->cut = true;
		len = room;
	}
	if (len > 0)
		buf_add(&l->part, data, len);
}

/* Hands out the part as a line and starts anew. */
static int part_emit(struct lines *l, int stream, orch_line_fn fn, void *user)
{
	int r = buf_check(&l->part);
	bool cut = l->cut || r < 0;
	/* fn may be a plugin's, and may take long: nothing of ours is in between. */
	fn(user, stream, buf_cstr(&l->part), l->part.len, cut ? ORCH_LINE_CUT : 0);
	if (l->part.cap > KEEP_SIZE)
		buf_deinit(&l->part);
	else
		buf_reset(&l->part);
	l->cut = false;
	return r;
}

int lines_feed(struct lines *l, char *data, size_t len, int stream, orch_line_fn fn, void *user)
{
	int result = 0;
	char *at = data;
	char *end = data + len;
	while (at < end) {
		char *newline = memchr(at, '\n', (size_t)(end - at));
		if (!newline) {
			part_add(l, at, (size_t)(end - at));
			break;
		}
		*newline = '\0';
		if (l->part.len == 0 && !l->cut && !l->part.failed) {
			fn(user, stream, at, (size_t)(newline - at), 0);
		} else {
			part_add(l, at, (size_t)(newline - at));
			int r = part_emit(l, stream, fn, user);
			result = result < 0 ? result : r;
		}
		at = newline + 1;
	}
	return result;
}

void lines_end(struct lines *l, int stream, orch_line_fn fn, void *user)
{
	if (l->part.len > 0 || l->cut || l->part.failed)
		(void)part_emit(l, stream, fn, user); /* the mark on the line tells of a loss */
}
