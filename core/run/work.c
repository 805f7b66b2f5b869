/* SPDX-License-Identifier: MIT */
/* What happens in a task's worktree before and after its agent. */
#include "run/state.h"

#include "git/attempt.h"
#include "git/integrate.h"
#include "git/worktree.h"

#include <errno.h>
#include <string.h>

#define STAT_BYTES       2000
#define GIT_TIMEOUT_MS   600000
#define SETUP_TIMEOUT_MS 1800000

int64_t work_git_timeout_ms(void)
{
	return GIT_TIMEOUT_MS;
}

/* ---- prepare ---- */

struct prepare {
	struct job job;
	char *plan;
	char *path;
	char *const *copy; /* the plan's */
	struct git_oid attempt;
	struct git_oid start;
	struct git_oid last_start; /* of the last attempt; "": none */
	unsigned aside;            /* the last attempt, whose tree has no commit; 0: it has */
	char *kept;                /* where that tree is now */
	struct tamper_view seen;
	char *stat;           /* what the last attempt had changed */
	struct git_oid known; /* what the integration branch must hold */
	bool mended;
	bool carry;
};

static void prepare_perform(struct job *job)
{
	struct prepare *p = (struct prepare *)job;
	struct git_ctx ctx = job_git(job, GIT_TIMEOUT_MS);
	CLEANUP_STRV char **conflicts = NULL;
	job->result =
		git_integration_tip(&ctx, p->plan, &p->known, &p->start, &p->mended, &job->err);
	if (job->result == 0 && !p->start.hex[0])
		job->result = err_set(
			&job->err, -ENOENT, "there is no branch orch/%s/integration", p->plan);
	if (job->result == 0 && p->aside)
		job->result = git_worktree_set_aside(p->path, p->aside, &p->kept, &job->err);
	if (job->result < 0)
		return;
	if (p->carry && p->attempt.hex[0])
		job->result = git_worktree_continue(
			&ctx, p->path, &p->start, &p->attempt, p->copy, &conflicts, &job->err);
	else
		job->result = git_worktree_prepare(&ctx, p->path, &p->start, p->copy, &job->err);
	if (job->result < 0)
		return;
	struct err ignored = ERR_INIT; /* the prompt is complete enough without it */
	if (p->last_start.hex[0] && p->attempt.hex[0] &&
		git_diff_stat(&ctx, &p->last_start, &p->attempt, STAT_BYTES, &p->stat, &ignored) <
			0)
		p->stat = NULL;
	tamper_look(&ctx, &p->seen);
}

static void prepare_failed(struct live *l, const struct err *err)
{
	/* Without a code it was told before, as a fault. */
	if (!err->code || run_machine_failed(l->run, err) || l->cancel) {
		run_post_task(l->run, l, EVENT_PREPARED, RESULT_CANCELLED, NULL);
		return;
	}
	run_post(l->run,
		(struct engine_event){.kind = EVENT_PREPARED,
			.task = l->index,
			.plan = ENGINE_NONE,
			.result = RESULT_FAILED,
			.outcome = OUTCOME_SPAWN_FAILED},
		err->msg);
}

static void setup_done(struct live *l, struct command_result *result)
{
	if (result->cancelled) {
		run_post_task(l->run, l, EVENT_PREPARED, RESULT_CANCELLED, NULL);
		return;
	}
	if (!result->failed_to_run && result->exit.cause == CAUSE_EXITED &&
		result->exit.exit_code == 0) {
		run_post_task(l->run, l, EVENT_PREPARED, RESULT_DONE, NULL);
		return;
	}
	if (result->failed_to_run && run_machine_failed(l->run, &result->err)) {
		run_post_task(l->run, l, EVENT_PREPARED, RESULT_CANCELLED, NULL);
		return;
	}
	size_t len = result->errout ? strlen(result->errout) : 0;
	size_t cut = len > 500 ? len - 500 : 0;
	CLEANUP_STR char *said = len ? str_trimmed(result->errout + cut, len - cut) : NULL;
	CLEANUP_STR char *text =
		result->failed_to_run
			? str_printf("the set-up command could not be run: %s", result->err.msg)
			: str_printf("the set-up command failed (%s): %s",
				  result->exit.text ? result->exit.text : "no reason",
				  said ? said : "");
	run_post(l->run,
		(struct engine_event){.kind = EVENT_PREPARED,
			.task = l->index,
			.plan = ENGINE_NONE,
			.result = RESULT_FAILED,
			.outcome = OUTCOME_SPAWN_FAILED},
		text);
}

static int tell_kept(struct live *l, const char *path, struct err *e)
{
	CLEANUP_STR char *text = str_printf(
		"what the last attempt left could not be committed; it is kept in '%s'", path);
	if (!text)
		return err_nomem(e);
	run_warn(l->run, "%s/%s: %s", l->plan->name, l->name, text);
	return run_note(l, text, e);
}

static void prepare_done(struct job *job)
{
	struct prepare *p = (struct prepare *)job;
	struct live *l = job->live;
	struct run *r = l->run;
	struct err err = job->err;
	int code = job->result;
	if (p->mended)
		merge_mended(r, l->plan, l);
	if (p->kept && code == 0)
		code = tell_kept(l, p->kept, &err);
	if (p->start.hex[0] && !l->plan->tip.hex[0])
		l->plan->tip = p->start;
	if (code == 0) {
		l->start = p->start;
		l->carried = p->carry && p->attempt.hex[0];
		code = run_tx(r);
	}
	if (code == 0)
		code = store_attempt_set_start(r->store, l->id, l->attempt, p->start.hex, &err);
	if (code == 0)
		code = store_task_set_worktree(r->store, l->id, l->worktree, &err);
	if (code == 0)
		code = tamper_begin(l, &p->seen, &err);
	if (code < 0) {
		prepare_failed(l, &err);
		return;
	}
	free(l->last_stat);
	l->last_stat = TAKE(p->stat);
	if (!l->plan->setup || l->cancel) {
		run_post_task(
			r, l, EVENT_PREPARED, l->cancel ? RESULT_CANCELLED : RESULT_DONE, NULL);
		return;
	}
	command_run(
		l, UNIT_SETUP, "setup", l->plan->setup, l->worktree, SETUP_TIMEOUT_MS, setup_done);
}

static void prepare_free(struct job *job)
{
	struct prepare *p = (struct prepare *)job;
	free(p->plan);
	free(p->path);
	free(p->stat);
	free(p->kept);
	tamper_view_deinit(&p->seen);
	free(p);
}

static int note_last(void *ctx, const struct attempt_row *row)
{
	struct prepare *p = ctx;
	if (row->start_oid && git_oid_parse(row->start_oid, &p->last_start) < 0)
		p->last_start = GIT_OID_NONE;
	if (row->outcome == OUTCOME_UNCOMMITTABLE)
		p->aside = (unsigned)row->number;
	return 0;
}

void work_prepare(struct live *l, bool carry)
{
	struct err err = ERR_INIT;
	l->cancel = l->hard = l->started = false;
	struct prepare *p = calloc(1, sizeof(*p));
	int code = 0;
	if (p) {
		p->job.perform = prepare_perform;
		p->job.done = prepare_done;
		p->job.free = prepare_free;
		p->plan = str_dup(l->plan->name);
		p->path = str_dup(l->worktree);
		p->copy = l->plan->copy;
		p->attempt = l->commit;
		p->known = l->plan->tip;
		if (l->attempt > 1)
			code = store_attempt(
				l->run->store, l->id, l->attempt - 1, note_last, p, &err);
		p->carry = carry;
	}
	if (code >= 0 && (!p || !p->plan || !p->path))
		code = err_nomem(&err);
	if (code >= 0)
		code = job_start(l->run, l, &p->job, &err);
	else if (p)
		prepare_free(&p->job);
	if (code < 0)
		prepare_failed(l, &err);
}

/* ---- commit ---- */

struct commit {
	struct job job;
	struct git_attempt attempt;
	struct git_attempt_result made;
	struct tamper_view seen;
	bool look;
	char *plan, *task, *path, *outcome, *unchanged;
	char *branch; /* the whole ref */
};

static void commit_perform(struct job *job)
{
	struct commit *c = (struct commit *)job;
	struct git_ctx ctx = job_git(job, GIT_TIMEOUT_MS);
	if (c->look)
		tamper_look(&ctx, &c->seen);
	job->result = git_attempt_commit(&ctx, &c->attempt, &c->made, &job->err);
}

static void commit_done(struct job *job)
{
	struct commit *c = (struct commit *)job;
	struct live *l = job->live;
	struct run *r = l->run;
	struct err err = job->err, tamper = ERR_INIT;
	if (run_tx(r) == 0 && tamper_end(l, &c->seen, &tamper) < 0)
		run_fault(r, &tamper);
	if (job->result == GIT_UNCOMMITTABLE) {
		run_post_task(r, l, EVENT_COMMITTED, RESULT_FAILED, c->made.why);
		return;
	}
	int code = job->result;
	if (code == 0)
		code = run_tx(r);
	if (code == 0)
		code = store_attempt_set_commit(
			r->store, l->id, l->attempt, c->made.commit.hex, &err);
	if (code == 0)
		code = store_task_set_commit(r->store, l->id, c->branch + strlen("refs/heads/"),
			c->made.commit.hex, &err);
	if (code < 0) {
		/* Nothing may be said of the attempt before its tree is safe: the next start does
		 * it. */
		run_fault(r, &err);
		run_post_task(r, l, EVENT_COMMITTED, RESULT_CANCELLED, NULL);
		return;
	}
	l->commit = c->made.commit;
	bool idle = !c->made.changed && l->ended_outcome == OUTCOME_OK;
	run_post(r,
		(struct engine_event){.kind = EVENT_COMMITTED,
			.task = l->index,
			.plan = ENGINE_NONE,
			.result = c->made.changed ? RESULT_DONE : RESULT_UNCHANGED,
			.until = l->ended_until},
		idle ? "the agent said it is done and changed nothing" : l->ended_text);
}

static void commit_free(struct job *job)
{
	struct commit *c = (struct commit *)job;
	git_attempt_result_deinit(&c->made);
	tamper_view_deinit(&c->seen);
	free(c->plan);
	free(c->task);
	free(c->path);
	free(c->outcome);
	free(c->unchanged);
	free(c->branch);
	free(c);
}

void work_commit(struct live *l, enum outcome outcome, enum outcome unchanged)
{
	struct err err = ERR_INIT;
	struct commit *c = calloc(1, sizeof(*c));
	l->ended_outcome = outcome;
	if (c) {
		c->job.perform = commit_perform;
		c->job.done = commit_done;
		c->job.free = commit_free;
		c->plan = str_dup(l->plan->name);
		c->task = str_dup(l->name);
		c->path = str_dup(l->worktree);
		c->outcome = str_dup(outcome_name(outcome));
		c->unchanged = str_dup(outcome_name(unchanged));
		c->branch = git_ref_task(c->plan, c->task);
		c->look = !l->run->killed; /* half a second is for the commits */
		c->attempt = (struct git_attempt){
			.worktree = c->path,
			.start = l->start,
			.plan = c->plan,
			.task = c->task,
			.attempt = l->attempt,
			.outcome = c->outcome,
			.unchanged = c->unchanged,
			.max_file_bytes = l->run->config->orch.max_file_bytes,
		};
	}
	int code = c && c->plan && c->task && c->path && c->outcome && c->unchanged && c->branch
			   ? job_start(l->run, l, &c->job, &err)
			   : err_nomem(&err);
	if (code < 0) {
		run_fault(l->run, &err);
		run_post_task(l->run, l, EVENT_COMMITTED, RESULT_CANCELLED, NULL);
	}
}

/* ---- afterwards ---- */

struct discard {
	struct job job;
	char *path;
};

static void discard_perform(struct job *job)
{
	struct discard *d = (struct discard *)job;
	struct git_ctx ctx = job_git(job, GIT_TIMEOUT_MS);
	job->result = git_worktree_remove(&ctx, d->path, &job->err);
}

static void discard_done(struct job *job)
{
	struct live *l = job->live;
	struct err err = ERR_INIT;
	if (job->result < 0)
		run_warn(job->run, "a worktree stays: %s", job->err.msg);
	else if (run_tx(job->run) == 0 &&
		 store_task_set_worktree(job->run->store, l->id, NULL, &err) < 0)
		run_fault(job->run, &err);
	live_drop_if_idle(job->run, l->index);
}

static void discard_free(struct job *job)
{
	struct discard *d = (struct discard *)job;
	free(d->path);
	free(d);
}

void work_discard(struct live *l)
{
	struct err err = ERR_INIT;
	struct discard *d = calloc(1, sizeof(*d));
	if (d) {
		d->job.perform = discard_perform;
		d->job.done = discard_done;
		d->job.free = discard_free;
		d->path = str_dup(l->worktree);
	}
	int code = d && d->path ? job_start(l->run, l, &d->job, &err) : err_nomem(&err);
	if (code < 0)
		run_warn(l->run, "a worktree stays: %s", err.msg);
}
