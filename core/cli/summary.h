/* SPDX-License-Identifier: MIT */
/*
 * The last lines of a dispatch: how the plan ended, what needs a person, where the work is, and
 * what to type next, which is something that goes on from here.
 */
#ifndef CLI_SUMMARY_H
#define CLI_SUMMARY_H

#include "run/run.h"
#include "run/site.h"

struct summary {
	struct store *store;
	const struct site *site;
	const struct run_halt *halt;
	const char *harness; /* in the place of every task's own; NULL: none */
	bool idle;           /* no task has changed */
};

/* Both print an error of their own. */
void summary_text(const struct summary *s);
void summary_json(const struct summary *s);

/* "orch dispatch NAME", with the harness where the tasks that are left have another one; owned. */
char *summary_command(const struct summary *s) MUST_CHECK;

#endif
