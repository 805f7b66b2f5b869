/* SPDX-License-Identifier: MIT */
/*
 * Cuts a stream of bytes into lines. A line that came in one piece is not copied. At most
 * ORCH_LINE_MAX bytes of a line are held; the rest of a longer one is dropped and the line is
 * marked.
 */
#ifndef PLUGIN_LINES_H
#define PLUGIN_LINES_H

#include "base/buf.h"
#include "plugin_api.h"

struct lines {
	struct buf part; /* the line that has no end yet */
	bool cut;        /* part is full: what follows, up to the newline, is dropped */
};

#define LINES_INIT ((struct lines){0})

void lines_deinit(struct lines *l);
/*
 * Calls fn for every line that ends within data[0..len). data is scratch: newlines in it become
 * NUL. 0, or -ENOMEM when a part of a line was lost.
 */
int lines_feed(struct lines *l, char *data, size_t len, int stream, orch_line_fn fn,
	void *user) MUST_CHECK;
/* The stream has ended: hands out a last line without a newline. */
void lines_end(struct lines *l, int stream, orch_line_fn fn, void *user);

#endif
