/* SPDX-License-Identifier: MIT */
/*
 * The words for where a plan, a task and an attempt stand. SQL CHECK lists, JSON and the saved
 * state in a plan file all come from these lists.
 */
#ifndef PLAN_STATUS_H
#define PLAN_STATUS_H

#define PLAN_STATUS_LIST(X) \
	X(DRAFT, "draft") \
	X(APPROVED, "approved") \
	X(RUNNING, "running") \
	X(COMPLETED, "completed") \
	X(FAILED, "failed") \
	X(HALTED, "halted")

#define TASK_STATUS_LIST(X) \
	X(PENDING, "pending") \
	X(ASSIGNED, "assigned") \
	X(RUNNING, "running") \
	X(CHECKING, "checking") \
	X(AWAITING_REVIEW, "awaiting_review") \
	X(INTEGRATING, "integrating") \
	X(PASSED, "passed") \
	X(FAILED, "failed") \
	X(ESCALATED, "escalated")

#define OUTCOME_LIST(X) \
	X(OK, "ok") \
	X(AGENT_ERROR, "agent_error") \
	X(CRASHED, "crashed") \
	X(TIMED_OUT, "timed_out") \
	X(STALLED, "stalled") \
	X(RUNAWAY, "runaway") \
	X(CANCELLED, "cancelled") \
	X(INTERRUPTED, "interrupted") \
	X(NO_CHANGE, "no_change") \
	X(BLOCKED, "blocked") \
	X(NOT_NEEDED, "not_needed") \
	X(OVER_BUDGET, "over_budget") \
	X(RATE_LIMITED, "rate_limited") \
	X(AUTH_FAILED, "auth_failed") \
	X(UNCOMMITTABLE, "uncommittable") \
	X(SPAWN_FAILED, "spawn_failed") \
	X(HARNESS_MISSING, "harness_missing") \
	X(HARNESS_INVALID, "harness_invalid") \
	X(HARNESS_CRASHED, "harness_crashed") \
	X(HARNESS_HUNG, "harness_hung") \
	X(LOST, "lost")

#define X(id, name) PLAN_STATUS_##id,
enum plan_status { PLAN_STATUS_LIST(X) PLAN_STATUS_COUNT };
#undef X
#define X(id, name) TASK_STATUS_##id,
enum task_status { TASK_STATUS_LIST(X) TASK_STATUS_COUNT };
#undef X
#define X(id, name) OUTCOME_##id,
enum outcome { OUTCOME_LIST(X) OUTCOME_COUNT };
#undef X

const char *plan_status_name(enum plan_status v);
const char *task_status_name(enum task_status v);
const char *outcome_name(enum outcome v);
/* The value of a name, or -1. */
int plan_status_find(const char *name);
int task_status_find(const char *name);
int outcome_find(const char *name);

#endif
