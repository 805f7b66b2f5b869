/* SPDX-License-Identifier: MIT */
/*
 * The state table: mode x event, every cell written down. A cell is a handler, STALE (it may come
 * late and changes nothing), REFUSED (an operator asks for what the state does not allow: answered,
 * nothing changed) or WRONG (our own error).
 */
#include "engine/model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef void (*cell_fn)(struct engine *e, struct engine_task *t, const struct engine_event *ev);

/* ---- ways on ---- */

static void queue_gate(struct engine *e, struct engine_task *t)
{
	struct engine_plan *p = task_plan(e, t);
	uint32_t *slot = VEC_PUSH(&p->gate_queue);
	if (slot)
		*slot = task_index(e, t);
	else
		e->out_of_memory = true;
}

static void queue_merge(struct engine *e, struct engine_task *t)
{
	struct engine_plan *p = task_plan(e, t);
	uint32_t *slot = VEC_PUSH(&p->merge_queue);
	if (slot)
		*slot = task_index(e, t);
	else
		e->out_of_memory = true;
}

static void task_pass(struct engine *e, struct engine_task *t, struct reason why)
{
	struct engine_plan *p = task_plan(e, t);
	p->failed_row = 0;
	t->lost_row = t->conflict_row = t->unchanged_row = 0;
	task_enter(e, t, MODE_PASSED, why);
	for (uint32_t i = t->first_successor; i != ENGINE_NONE; i = e->edges.items[i].next) {
		struct engine_task *next = &e->tasks.items[e->edges.items[i].task];
		next->deps_left--;
		task_make_ready(e, next);
	}
}

/* Green, or a person said yes. */
static void task_accept(struct engine *e, struct engine_task *t, struct reason why)
{
	if (!task_plan(e, t)->init.worktrees) {
		task_pass(e, t, why);
		return;
	}
	task_enter(e, t, MODE_MERGEABLE, why);
	queue_merge(e, t);
}

static void task_judge(struct engine *e, struct engine_task *t, bool green, const char *text)
{
	if (!green && t->gate != GATE_HUMAN_APPROVE) {
		task_fail(e, t, (struct reason){.verdict = VERDICT_GATE_FAILED, .text = text}, 0);
		return;
	}
	if (t->gate == GATE_AUTO) {
		task_accept(e, t, NO_REASON);
		return;
	}
	task_plan(e, t)->failed_row = 0;
	struct reason why = NO_REASON;
	if (!green)
		why = (struct reason){.verdict = VERDICT_GATE_FAILED, .text = text};
	task_enter(e, t, MODE_REVIEW, why);
}

/* The attempt ended well and its tree is safe. */
static void task_check(struct engine *e, struct engine_task *t)
{
	breaker_worked(e, t);
	if (!t->has_checks) {
		task_enter(e, t, MODE_CHECKABLE, NO_REASON);
		task_judge(e, t, true, NULL);
	} else if (task_plan(e, t)->draining) {
		task_enter(e, t, MODE_CHECKABLE, NO_REASON);
		queue_gate(e, t);
	} else {
		task_enter(e, t, MODE_GATING, NO_REASON);
		action_add_task(e, ACT_GATE, t);
	}
}

static void attempt_close(struct engine_task *t, enum outcome outcome)
{
	t->attempt_open = false;
	t->outcome = (uint8_t)outcome;
}

static void attempt_fail(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	attempt_close(t, (enum outcome)t->outcome);
	struct reason why = {
		.code = (enum outcome)t->outcome,
		.text = ev->text,
		.no_charge = ev->no_charge,
	};
	task_fail(e, t, why, ev->until);
}

/* Its attempt keeps the number for the next start. */
static void never_ran(struct engine *e, struct engine_task *t)
{
	breaker_unproven(e, t);
	task_plan(e, t)->started--;
	task_enter(e, t, MODE_PENDING, NO_REASON);
	task_make_ready(e, t);
}

/* ---- cells ---- */

static void prepared(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	if (ev->result == RESULT_FAILED) {
		t->outcome = (uint8_t)ev->outcome;
		attempt_fail(e, t, ev);
	} else if (ev->result == RESULT_CANCELLED || task_plan(e, t)->draining) {
		never_ran(e, t);
	} else {
		task_enter(e, t, MODE_STARTING, NO_REASON);
		action_add_task(e, ACT_START, t);
	}
}

static void started(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	(void)ev;
	task_enter(e, t, MODE_RUNNING, NO_REASON);
}

static void ended_running(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	enum outcome outcome = ev->outcome;
	/* Whatever the agent says after we asked it to end: half-done work is never judged. */
	if (t->kill_why != OUTCOME_NONE)
		outcome = (enum outcome)t->kill_why;
	t->outcome = (uint8_t)outcome;
	t->unchanged_ok = outcome == OUTCOME_NOT_NEEDED;
	if (outcome == OUTCOME_SPAWN_FAILED && ev->no_charge) {
		attempt_fail(e, t, ev); /* there is nothing to commit */
		return;
	}
	if (task_plan(e, t)->init.worktrees) {
		task_enter(e, t, MODE_COMMITTING, NO_REASON);
		struct engine_action *a = action_add_task(e, ACT_COMMIT, t);
		a->outcome = outcome;
		a->why = outcome == OUTCOME_OK && !t->allow_empty ? OUTCOME_NO_CHANGE : outcome;
		return;
	}
	if (outcome != OUTCOME_OK && outcome != OUTCOME_NOT_NEEDED) {
		attempt_fail(e, t, ev);
		return;
	}
	attempt_close(t, outcome);
	task_check(e, t);
}

/* Ended before we heard that it had started: it never ran, could not be run, or was too quick. */
static void ended_starting(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	if (ev->result == RESULT_CANCELLED) {
		never_ran(e, t);
		return;
	}
	if (ev->outcome == OUTCOME_SPAWN_FAILED || ev->outcome == OUTCOME_HARNESS_MISSING ||
		ev->outcome == OUTCOME_HARNESS_INVALID) {
		t->outcome = (uint8_t)ev->outcome;
		attempt_fail(e, t, ev);
		return;
	}
	started(e, t, ev);
	ended_running(e, t, ev);
}

static void committed(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	enum outcome outcome = (enum outcome)t->outcome;
	if (ev->result == RESULT_CANCELLED) {
		task_enter(e, t, MODE_UNCOMMITTED, NO_REASON);
		return;
	}
	t->has_commit = ev->result == RESULT_DONE || ev->result == RESULT_UNCHANGED;
	if (ev->result == RESULT_FAILED) {
		/* The agent's own failure says more than that its tree could not be kept. */
		if (outcome == OUTCOME_OK || outcome == OUTCOME_NOT_NEEDED)
			t->outcome = OUTCOME_UNCOMMITTABLE;
		attempt_fail(e, t, ev);
	} else if (outcome != OUTCOME_OK && outcome != OUTCOME_NOT_NEEDED) {
		attempt_fail(e, t, ev);
	} else if (ev->result == RESULT_UNCHANGED && !t->allow_empty && !t->unchanged_ok) {
		t->outcome = OUTCOME_NO_CHANGE;
		attempt_fail(e, t, ev);
	} else {
		attempt_close(t, outcome);
		task_check(e, t);
	}
}

static void gated(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	if (ev->result == RESULT_CANCELLED) {
		task_enter(e, t, MODE_CHECKABLE, NO_REASON);
		queue_gate(e, t);
		return;
	}
	task_judge(e, t, ev->result == RESULT_DONE, ev->text);
}

static void merged(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	task_plan(e, t)->merging = false;
	switch (ev->result) {
	case RESULT_CONFLICT:
		task_fail(e, t, (struct reason){.verdict = VERDICT_CONFLICT, .text = ev->text}, 0);
		break;
	case RESULT_FAILED:
		task_fail(e, t, (struct reason){.verdict = VERDICT_MERGE_RED, .text = ev->text}, 0);
		break;
	case RESULT_CANCELLED:
		task_enter(e, t, MODE_MERGEABLE, NO_REASON);
		queue_merge(e, t);
		break;
	default:
		task_pass(e, t,
			t->approved ? (struct reason){.verdict = VERDICT_APPROVED, .text = ev->text}
				    : NO_REASON);
		break;
	}
}

static void approve(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	t->approved = true;
	task_accept(e, t, (struct reason){.verdict = VERDICT_APPROVED, .text = ev->text});
}

static void refuse(struct engine *e, struct engine_task *t, const char *text)
{
	action_say(e, action_add_task(e, ACT_REFUSE, t), text);
}

static const char no_work[] = "its last attempt left no commit that could be taken";

static void override(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	if (task_plan(e, t)->init.worktrees && !t->has_commit)
		refuse(e, t, no_work);
	else
		approve(e, t, ev);
}

static void reject(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	t->approved = false;
	size_t before = e->actions->list.count;
	task_fail(e, t, (struct reason){.verdict = VERDICT_REJECTED, .text = ev->text}, 0);
	if (!ev->carry)
		return;
	t->carry = true;
	for (size_t i = before; i < e->actions->list.count; i++)
		e->actions->list.items[i].task_after.carry = true;
}

static void retry(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	t->retries_used = 0;
	t->lost_row = t->conflict_row = t->unchanged_row = 0;
	t->not_before = 0;
	t->carry = ev->carry || t->approved;
	task_enter(e, t, MODE_PENDING, (struct reason){.text = ev->text});
	task_make_ready(e, t);
}

static void pause_pending(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	(void)e;
	(void)ev;
	t->paused = true;
}

static void resume_pending(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	(void)ev;
	struct engine_plan *p = task_plan(e, t);
	t->paused = false;
	p->parked -= t->parked;
	t->parked = false;
	task_make_ready(e, t);
}

static void pause_running(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	(void)ev;
	t->paused = true;
	if (!task_plan(e, t)->init.paused)
		action_add_task(e, ACT_FREEZE, t);
}

static void resume_running(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	(void)ev;
	t->paused = false;
	if (!task_plan(e, t)->init.paused)
		action_add_task(e, ACT_THAW, t);
}

static void stale(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	(void)e;
	(void)t;
	(void)ev;
}

static const char *const event_names[EVENT_TASK_COUNT] = {
#define X(event) [EVENT_##event] = #event,
	ENGINE_TASK_EVENT_LIST(X)
#undef X
};

static void say_refused(
	enum engine_mode mode, enum engine_event_kind kind, char ret[ENGINE_REFUSAL_MAX])
{
	static const char *const needs[EVENT_TASK_COUNT] = {
		[EVENT_APPROVE] = "only a task that awaits review can be approved",
		[EVENT_OVERRIDE] = "only an escalated task's work can be taken by override",
		[EVENT_REJECT] = "only a task that awaits review can be rejected",
		[EVENT_RETRY] = "only a failed or escalated task can be retried",
		[EVENT_PAUSE] = "a task that is over cannot be paused",
		[EVENT_RESUME] = "a task that is over cannot be resumed",
	};
	snprintf(ret, ENGINE_REFUSAL_MAX, "it is %s; %s",
		task_status_name(engine_mode_status(mode)), needs[kind]);
}

static void refused(struct engine *e, struct engine_task *t, const struct engine_event *ev)
{
	char text[ENGINE_REFUSAL_MAX];
	say_refused((enum engine_mode)t->mode, ev->kind, text);
	refuse(e, t, text);
}

#define WRONG   NULL
#define STALE   stale
#define REFUSED refused

/* clang-format off */
static const cell_fn table[MODE_COUNT][EVENT_TASK_COUNT] = {
/*                  PREPARED  STARTED  ENDED           COMMITTED  GATED  MERGED  APPROVE  OVERRIDE  REJECT   RETRY    PAUSE           RESUME */
[MODE_PENDING]    = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_pending,  resume_pending},
[MODE_PREPARING]  = {prepared, WRONG,   WRONG,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_STARTING]   = {WRONG,    started, ended_starting, WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_RUNNING]    = {WRONG,    STALE,   ended_running,  WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_COMMITTING] = {WRONG,    STALE,   STALE,          committed, WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_UNCOMMITTED]= {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_CHECKABLE]  = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_GATING]     = {WRONG,    STALE,   STALE,          WRONG,     gated, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_REVIEW]     = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  approve, REFUSED,  reject,  REFUSED, REFUSED,        REFUSED},
[MODE_MERGEABLE]  = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_MERGING]    = {WRONG,    STALE,   STALE,          WRONG,     WRONG, merged, REFUSED, REFUSED,  REFUSED, REFUSED, pause_running,  resume_running},
[MODE_PASSED]     = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, REFUSED, REFUSED,        REFUSED},
[MODE_FAILED]     = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, REFUSED,  REFUSED, retry,   pause_pending,  resume_pending},
[MODE_ESCALATED]  = {WRONG,    STALE,   STALE,          WRONG,     WRONG, WRONG,  REFUSED, override, REFUSED, retry,   REFUSED,        REFUSED},
};
/* clang-format on */

int table_dispatch(
	struct engine *e, struct engine_task *t, const struct engine_event *ev, struct err *err)
{
	cell_fn cell = table[t->mode][ev->kind];
	if (!cell)
		return err_set(err, -EPROTO,
			"engine: event %s in mode %s of task %lld cannot happen",
			event_names[ev->kind], engine_mode_name((enum engine_mode)t->mode),
			(long long)t->id);
	cell(e, t, ev);
	return 0;
}

bool engine_refuses(enum engine_mode mode, enum engine_event_kind kind, bool has_work,
	char ret[ENGINE_REFUSAL_MAX])
{
	if (kind >= EVENT_TASK_COUNT)
		return false;
	if (table[mode][kind] == REFUSED)
		say_refused(mode, kind, ret);
	else if (table[mode][kind] == override && !has_work)
		snprintf(ret, ENGINE_REFUSAL_MAX, "%s", no_work);
	else
		return false;
	return true;
}
