/* SPDX-License-Identifier: MIT */
/* What a person decides about one task: carried out by an engine that finishes what it entails. */
#ifndef CLI_DECIDE_H
#define CLI_DECIDE_H

#include "cli/cli.h"
#include "plan/words.h"
#include "run/run.h"

struct decide {
	struct cli *cli;
	struct cli_site at; /* CLI_WRITE */
	struct cli_task task;
	enum task_status from; /* before the decision */
	enum task_status to;   /* after it */
	enum plan_status plan;
	bool worktrees; /* of the plan */
	bool refused;
	bool interrupted;
	char *text; /* why it was refused, else the task's reason; owned; NULL: none */
	bool json;
};

/* Opens the site and finds the task; 0 or an exit status after an error was printed. */
int decide_open(struct decide *d, const char *name);
/*
 * Makes the request the first event of an engine for this plan, and waits for what follows from it.
 * 0 (see to, refused, text), or an exit status after an error was printed.
 */
int decide_run(struct decide *d, enum engine_event_kind kind, const char *text, bool carry,
	enum engine_admit admit);
/* Prints the refusal, if it was one, and the JSON object with --json; the verb's exit status is
 * what it returns: 1 when refused, 130 when interrupted, else `status`. */
int decide_report(struct decide *d, int status);
void decide_close(struct decide *d);

/* The reason that a person gives must say something. */
bool decide_reason_is_empty(const char *reason);

#endif
