/* SPDX-License-Identifier: MIT */
#include "promise.h"

#include <stdio.h>

#define BROKEN (-EPROTO)

/* The arrows of the state diagram; anything else is a hole in the table. */
static bool arrow_exists(bool worktrees, enum task_status from, enum task_status to)
{
#define TO(s) (1U << TASK_##s)
	static const unsigned arrows[TASK_STATUS_COUNT] = {
		[TASK_PENDING] = TO(ASSIGNED),
		[TASK_ASSIGNED] = TO(RUNNING) | TO(FAILED) | TO(PENDING),
		[TASK_RUNNING] = TO(CHECKING) | TO(FAILED),
		[TASK_CHECKING] = TO(INTEGRATING) | TO(AWAITING_REVIEW) | TO(FAILED),
		[TASK_AWAITING_REVIEW] = TO(INTEGRATING) | TO(FAILED),
		[TASK_INTEGRATING] = TO(PASSED) | TO(FAILED),
		[TASK_FAILED] = TO(PENDING) | TO(ESCALATED) | TO(INTEGRATING),
		[TASK_ESCALATED] = TO(PENDING) | TO(INTEGRATING),
	};
	if (!worktrees && to == TASK_PASSED)
		return from == TASK_CHECKING || from == TASK_AWAITING_REVIEW ||
		       from == TASK_ESCALATED || from == TASK_FAILED;
	return arrows[from] & (1U << to);
#undef TO
}

bool promise_is_free(const struct engine_action *a)
{
	switch (a->task_after.outcome) {
	case OUTCOME_RATE_LIMITED:
	case OUTCOME_AUTH_FAILED:
	case OUTCOME_INTERRUPTED:
	case OUTCOME_LOST:
		return true;
	default:
		return a->verdict == VERDICT_CONFLICT;
	}
}

int promise_transition(
	bool worktrees, const struct saved *before, const struct engine_action *a, struct err *e)
{
	const struct engine_task *after = &a->task_after;
	const char *from = task_status_name(a->from), *to = task_status_name(a->to);
	uint32_t attempt = before->row.attempt;
	if (a->from != before->status)
		return err_set(e, BROKEN, "saved from %s but the database says %s", from,
			task_status_name(before->status));
	if (!arrow_exists(worktrees, a->from, a->to))
		return err_set(e, BROKEN, "no arrow %s -> %s", from, to);
	if (after->attempt < attempt || after->attempt > attempt + 1)
		return err_set(e, BROKEN, "attempt %u after %u", after->attempt, attempt);
	if (after->attempt > attempt && before->row.attempt_open)
		return err_set(e, BROKEN, "attempt %u while %u is open", after->attempt, attempt);
	if (before->row.attempt_open && !after->attempt_open && after->outcome == OUTCOME_NONE)
		return err_set(e, BROKEN, "attempt %u ended without outcome", after->attempt);
	if (a->to == TASK_PASSED && after->outcome != OUTCOME_OK &&
		after->outcome != OUTCOME_NOT_NEEDED && !after->approved)
		return err_set(e, BROKEN, "passed with outcome %s", outcome_name(after->outcome));
	if (after->retries_used > after->retry_max &&
		after->retries_used > before->row.retries_used)
		return err_set(e, BROKEN, "more retries than allowed");
	if (after->retries_used > before->row.retries_used && promise_is_free(a))
		return err_set(e, BROKEN, "a retry was used by %s%s", outcome_name(after->outcome),
			verdict_name(a->verdict));
	return 0;
}

int promise_halt(const struct halt_facts *facts, struct err *e)
{
	const uint32_t *n = facts->tasks;
	const uint32_t fault = 1U << HALT_IO_ERROR | 1U << HALT_INTERNAL_ERROR;
	uint32_t all = facts->also | (1U << facts->halt), total = 0;
	for (int i = 0; i < TASK_STATUS_COUNT; i++)
		total += n[i];
	if (facts->also && (uint32_t)__builtin_ctz(facts->also) < (uint32_t)facts->halt)
		return err_set(e, BROKEN, "halt %s is not the first of its reasons",
			halt_reason_name(facts->halt));
	if (facts->faulted != !!(all & fault))
		return err_set(e, BROKEN, "fault: %d, halt reasons %x", facts->faulted, all);
	if (facts->interrupted != !!(all & (1U << HALT_INTERRUPTED)))
		return err_set(
			e, BROKEN, "interrupted: %d, halt reasons %x", facts->interrupted, all);
	if ((n[TASK_AWAITING_REVIEW] > 0) != !!(all & (1U << HALT_REVIEW_REQUIRED)))
		return err_set(e, BROKEN, "review: %u tasks wait, halt reasons %x",
			n[TASK_AWAITING_REVIEW], all);
	if ((n[TASK_ESCALATED] > 0) != !!(all & (1U << HALT_FAILED)))
		return err_set(
			e, BROKEN, "failed: %u escalated, halt reasons %x", n[TASK_ESCALATED], all);
	if ((n[TASK_PASSED] == total) != !!(all & (1U << HALT_COMPLETED)))
		return err_set(e, BROKEN, "completed: %u passed of %u, halt reasons %x",
			n[TASK_PASSED], total, all);
	if (!facts->interrupted && !facts->faulted && (n[TASK_CHECKING] || n[TASK_INTEGRATING]))
		return err_set(e, BROKEN, "halted with work to judge or to merge");
	if ((n[TASK_RUNNING] && !facts->cut) || n[TASK_ASSIGNED])
		return err_set(e, BROKEN, "halted with running tasks");
	return 0;
}

void promise_trace(int64_t now, const struct engine_action *a)
{
	fprintf(stderr, "%8lld task %u attempt %u: %s -> %s %s%s\n", (long long)now, a->task,
		a->task_after.attempt, task_status_name(a->from), task_status_name(a->to),
		outcome_name(a->code), verdict_name(a->verdict));
}
