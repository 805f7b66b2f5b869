/* SPDX-License-Identifier: MIT */
/*
 * What a dispatch shows while it runs: a block of live lines on a terminal (one per task under way:
 * state, elapsed time, last message), plain lines elsewhere, JSON lines with --json. As long as
 * there is one, stdout and stderr wait for no reader (outlet.h).
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "cli/summary.h"
#include "run/run.h"

enum progress_mode {
	PROGRESS_QUIET,
	PROGRESS_LIVE,
	PROGRESS_PLAIN,
	PROGRESS_JSON,
};

struct progress;

/* stop_fd: the signalfd of the stop signals. */
int progress_new(
	enum progress_mode mode, int stop_fd, struct progress **ret, struct err *e) MUST_CHECK;
void progress_free(struct progress *p);
DEFINE_FREEP(progress_freep, struct progress, progress_free)

/* For run_options; valid as long as p. */
struct run_listener progress_listener(struct progress *p);
/* Whether the plan has halted, and how. */
bool progress_halted(const struct progress *p, struct run_halt *ret);

/* The last lines, after whatever is on the screen. */
void progress_summary(struct progress *p, struct summary *s);
/* Waits for whoever reads it all, in a hurry only a moment. 0, or why it could not be written. */
int progress_drain(struct progress *p, bool in_a_hurry) MUST_CHECK;

#endif
