/* SPDX-License-Identifier: MIT */
/* What happened to a task, in order of time: transitions, events, results of gates, ended attempts.
 */
#ifndef CLI_LOG_TEXT_H
#define CLI_LOG_TEXT_H

#include "base/buf.h"
#include "cli/cli.h"
#include "base/err.h"
#include "store/store.h"

#include <stdint.h>

/* How far a reader has come; begins zeroed. */
struct log_cursor {
	int64_t event;      /* seq */
	int64_t transition; /* how many */
	int64_t gate;       /* id */
	int64_t attempt;    /* number of the last one that was told to have ended */
	int64_t number;     /* the attempt that is being looked at */
};

/*
 * Appends what came after the cursor as lines for a person, escaped for a terminal, and moves the
 * cursor. only_attempt 0: all.
 */
int log_text(struct store *s, const struct cli_task *task, int64_t only_attempt,
	struct log_cursor *cursor, struct buf *out, struct err *e) MUST_CHECK;

#endif
