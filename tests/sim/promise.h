/* SPDX-License-Identifier: MIT */
/*
 * The promises that hold of an engine's answers whatever the world around it is like. Each returns
 * 0, or a negative number with what is broken in e.
 */
#ifndef SIM_PROMISE_H
#define SIM_PROMISE_H

#include "engine/engine.h"

/* A task as it is saved. */
struct saved {
	struct engine_task row;
	enum task_status status;
};

/* What a plan's halt is held against: how many of its tasks are in which status, and what came. */
struct halt_facts {
	enum halt_reason halt;
	uint32_t also;
	uint32_t tasks[TASK_STATUS_COUNT];
	bool interrupted;
	bool faulted;
	bool cut; /* commits may not have been made: a fault, or the second signal */
};

/* Whether what a failure is said to be uses no retry. */
bool promise_is_free(const struct engine_action *a);
int promise_transition(bool worktrees, const struct saved *before, const struct engine_action *a,
	struct err *e) MUST_CHECK;
/* Of a plan whose tasks are all candidates. */
int promise_halt(const struct halt_facts *facts, struct err *e) MUST_CHECK;

/* One line on stderr. */
void promise_trace(int64_t now, const struct engine_action *a);

#endif
