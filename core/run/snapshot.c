/* SPDX-License-Identifier: MIT */
#include "run/snapshot.h"

#include "base/str.h"
#include "plan/plan.h"

#include <errno.h>
#include <string.h>

struct snapshot {
	struct plan *plan;
	bool failed;
};

static struct plan_state *state_new(struct snapshot *s, const char *status, const char *outcome,
	const char *reason, const char *commit, const int64_t tokens[4])
{
	struct plan_state *state = calloc(1, sizeof(*state));
	if (!state) {
		s->failed = true;
		return NULL;
	}
	state->status = str_dup(status);
	state->outcome = str_dup(outcome);
	state->reason = str_dup(reason);
	state->commit = str_dup(commit);
	state->tokens = (struct plan_tokens){
		.input = tokens[0],
		.output = tokens[1],
		.cache_read = tokens[2],
		.cache_write = tokens[3],
	};
	s->failed |= !state->status || (outcome && !state->outcome) || (reason && !state->reason) ||
		     (commit && !state->commit);
	return state;
}

static int note_plan(void *ctx, const struct plan_row *row)
{
	struct snapshot *s = ctx;
	/* What "the current branch" came to: elsewhere it would be another one. */
	if (!s->plan->base && row->base_ref)
		s->failed |= str_replace(&s->plan->base, row->base_ref) < 0;
	s->plan->state = state_new(s, plan_status_name(row->status), NULL,
		row->halted ? halt_reason_name(row->halt) : NULL, NULL, row->tokens);
	return 0;
}

static int note_task(void *ctx, const struct task_row *row)
{
	struct snapshot *s = ctx;
	int64_t i = plan_find_task(s->plan, row->name);
	if (i < 0 || (row->status == TASK_PENDING && row->attempt == 0))
		return 0;
	struct task *t = &s->plan->tasks.items[i];
	t->state = state_new(s, task_status_name(row->status),
		row->outcome == OUTCOME_NONE ? NULL : outcome_name(row->outcome), row->reason,
		row->commit_oid, row->tokens);
	if (t->state)
		t->state->attempt = row->attempt;
	return 0;
}

int snapshot_build(struct store *s, int64_t plan_id, struct buf *out, struct err *e)
{
	CLEANUP_STR char *text = NULL;
	CLEANUP_PLAN struct plan *plan = NULL;
	struct diags d = DIAGS_INIT;
	int r = store_plan_definition(s, plan_id, &text, e);
	if (r == 0)
		r = plan_parse_text(
			"the stored plan", NULL, text, strlen(text), NULL, &plan, &d, e);
	diags_deinit(&d);
	struct snapshot snapshot = {.plan = plan};
	if (r == 0)
		r = store_plan(s, plan_id, note_plan, &snapshot, e);
	if (r == 0)
		r = store_each_task(s, plan_id, note_task, &snapshot, e);
	if (r == 0 && (snapshot.failed || plan_export(plan, PLAN_EXPORT_STATE, out) < 0))
		r = err_nomem(e);
	return r;
}
