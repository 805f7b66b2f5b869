/* SPDX-License-Identifier: MIT */
/*
 * The words that users, scripts, the database and JSON share: task and plan states, attempt
 * outcomes, reason codes, halt reasons. Each list is written once; the enum, the names and the SQL
 * CHECK lists are made from it.
 */
#ifndef PLAN_WORDS_H
#define PLAN_WORDS_H

#include "base/cleanup.h"

/* X(ENUM_SUFFIX, "name") */
#define TASK_STATUS_LIST(X) \
	X(PENDING, "pending") \
	X(ASSIGNED, "assigned") \
	X(RUNNING, "running") \
	X(CHECKING, "checking") \
	X(INTEGRATING, "integrating") \
	X(AWAITING_REVIEW, "awaiting_review") \
	X(PASSED, "passed") \
	X(FAILED, "failed") \
	X(ESCALATED, "escalated")

#define PLAN_STATUS_LIST(X) \
	X(DRAFT, "draft") \
	X(APPROVED, "approved") \
	X(RUNNING, "running") \
	X(COMPLETED, "completed") \
	X(FAILED, "failed") \
	X(HALTED, "halted")

/* How an attempt ended; NONE: it has not. */
#define OUTCOME_LIST(X) \
	X(NONE, "") \
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

/* Reason codes that are not outcomes: what became of an attempt that ended well. */
#define VERDICT_LIST(X) \
	X(NONE, "") \
	X(GATE_FAILED, "gate_failed") \
	X(CONFLICT, "conflict") \
	X(MERGE_RED, "merge_red") \
	X(REJECTED, "rejected") \
	X(APPROVED, "approved")

/* X(ENUM_SUFFIX, "name", exit status), in order of precedence. */
#define HALT_LIST(X) \
	X(INTERRUPTED, "interrupted", 130) \
	X(INTERNAL_ERROR, "internal_error", 70) \
	X(IO_ERROR, "io_error", 74) \
	X(BUDGET_EXCEEDED, "budget_exceeded", 3) \
	X(CIRCUIT_BREAKER, "circuit_breaker", 5) \
	X(CAP_REACHED, "cap_reached", 4) \
	X(REVIEW_REQUIRED, "review_required", 2) \
	X(TARGET_BLOCKED, "target_blocked", 1) \
	X(FAILED, "failed", 1) \
	X(TARGET_COMPLETED, "target_completed", 0) \
	X(FILTER_EXHAUSTED, "filter_exhausted", 0) \
	X(NO_MATCHING_TASKS, "no_matching_tasks", 0) \
	X(COMPLETED, "completed", 0)

enum task_status {
#define X(suffix, name) TASK_##suffix,
	TASK_STATUS_LIST(X)
#undef X
		TASK_STATUS_COUNT,
};

enum plan_status {
#define X(suffix, name) PLAN_##suffix,
	PLAN_STATUS_LIST(X)
#undef X
		PLAN_STATUS_COUNT,
};

enum outcome {
#define X(suffix, name) OUTCOME_##suffix,
	OUTCOME_LIST(X)
#undef X
		OUTCOME_COUNT,
};

enum verdict {
#define X(suffix, name) VERDICT_##suffix,
	VERDICT_LIST(X)
#undef X
		VERDICT_COUNT,
};

enum halt_reason {
#define X(suffix, name, status) HALT_##suffix,
	HALT_LIST(X)
#undef X
		HALT_COUNT,
};

const char *task_status_name(enum task_status s);
const char *plan_status_name(enum plan_status s);
const char *outcome_name(enum outcome o);
const char *verdict_name(enum verdict v);
const char *halt_reason_name(enum halt_reason h);
/* The exit status of a dispatch that ended for this reason. */
int halt_reason_status(enum halt_reason h);

/* 0, or -EINVAL for a word that is not in the list. */
int task_status_parse(const char *name, enum task_status *ret) MUST_CHECK;
int plan_status_parse(const char *name, enum plan_status *ret) MUST_CHECK;
int outcome_parse(const char *name, enum outcome *ret) MUST_CHECK;
int halt_reason_parse(const char *name, enum halt_reason *ret) MUST_CHECK;

#endif
