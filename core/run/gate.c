/* SPDX-License-Identifier: MIT */
/*
 * Judging a tree by invariants, one after the other: each is run as a unit, its result stored. A
 * red one is compared with the commit the task began at (lazily, cached); results of a clean tree
 * are cached. Afterwards the task's worktree has its tracked files back as they were committed.
 */
#include "run/state.h"

#include "base/json_text.h"
#include "git/worktree.h"
#include "run/json_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct check {
	char *name;
	char *command;
	char fingerprint[33];
	int64_t timeout_ms;
	int64_t expect;
	bool advisory;
	enum red_before red_before;
};

struct judge {
	struct live *live;
	enum gate_stage stage;
	char *dir;
	struct git_oid commit;
	struct git_oid tree;       /* "": no cache */
	struct git_oid start_tree; /* of the commit the task began at; "": not asked yet */
	struct VEC(struct check) checks;
	size_t at;
	struct buf red; /* what is red, for the reason */
	/* The red result that waits for its baseline. */
	struct gate_result_row row;
	char *out, *errout;
	bool on_bench;
	bool unjudged; /* the command of this row could not be run: no result to keep */
	gate_fn done;
};

static void gate_next(struct judge *g);

static const char *stage_name(enum gate_stage stage)
{
	return stage == GATE_STAGE_TASK ? "task" : "merge";
}

static void gate_free(struct judge *g)
{
	vec_foreach(c, &g->checks) {
		free(c->name);
		free(c->command);
	}
	VEC_FREE(&g->checks);
	buf_deinit(&g->red);
	free(g->dir);
	free(g->out);
	free(g->errout);
	free(g);
}

void gate_drop(struct live *l)
{
	if (l->judge)
		gate_free(TAKE(l->judge));
}

static void gate_finish(struct judge *g, struct gate_verdict verdict)
{
	struct live *l = g->live;
	if (g->on_bench)
		bench_release(l);
	l->judge = NULL;
	CLEANUP_STR char *text = buf_steal(&g->red);
	verdict.text = text;
	gate_fn done = g->done;
	gate_free(g);
	done(l, &verdict);
}

static void gate_fault(struct judge *g, const struct err *e)
{
	run_fault(g->live->run, e);
	gate_finish(g, (struct gate_verdict){.cancelled = true, .faulted = true});
}

/* ---- the end: tracked files as committed ---- */

struct reset {
	struct job job;
	struct judge *judge;
	char **changed;
};

static void reset_perform(struct job *job)
{
	struct reset *x = (struct reset *)job;
	struct git_ctx ctx = job_git(job, work_git_timeout_ms());
	job->result = git_worktree_reset_tracked(
		&ctx, x->judge->dir, &x->judge->commit, &x->changed, &job->err);
}

static int report_changed(struct live *l, char *const *paths, struct err *e)
{
	CLEANUP_STR char *list = strv_join(paths, ", ");
	CLEANUP_STR char *words =
		list ? str_printf("an invariant changed tracked files (taken back): %s", list)
		     : NULL;
	return words ? run_note(l, words, e) : err_nomem(e);
}

static void reset_done(struct job *job)
{
	struct reset *x = (struct reset *)job;
	struct judge *g = x->judge;
	struct err err = job->err;
	int code = job->result;
	if (code == 0 && x->changed && x->changed[0])
		code = report_changed(g->live, x->changed, &err);
	if (code < 0 && !g->live->cancel)
		gate_fault(g, &err);
	else if (g->live->cancel)
		gate_finish(g, (struct gate_verdict){.cancelled = true});
	else
		gate_finish(g, (struct gate_verdict){.green = g->red.len == 0});
}

static void reset_free(struct job *job)
{
	struct reset *x = (struct reset *)job;
	strv_free(x->changed);
	free(x);
}

static void gate_end(struct judge *g)
{
	if (g->live->cancel || g->stage != GATE_STAGE_TASK || !g->live->worktree) {
		gate_finish(g, (struct gate_verdict){
				       .cancelled = g->live->cancel, .green = g->red.len == 0});
		return;
	}
	struct err err = ERR_INIT;
	struct reset *x = calloc(1, sizeof(*x));
	if (x) {
		x->judge = g;
		x->job.perform = reset_perform;
		x->job.done = reset_done;
		x->job.free = reset_free;
	}
	int code = x ? job_start(g->live->run, g->live, &x->job, &err) : err_nomem(&err);
	if (code < 0)
		gate_fault(g, &err);
}

/* ---- one result ---- */

static int store_row(struct judge *g, struct err *e)
{
	struct run *r = g->live->run;
	int code = run_tx(r);
	if (code == 0)
		code = store_gate_result_add(r->store, &g->row, run_now(r), e);
	/* Only what ran on a clean tree may stand for it; a result that time took is no result. */
	if (code == 0 && g->tree.hex[0] && !g->row.cached && !g->row.timed_out && !g->unjudged)
		code = store_cache_put(r->store, g->tree.hex, g->checks.items[g->at].fingerprint,
			&g->row, run_now(r), e);
	return code;
}

static void describe_red(struct judge *g)
{
	const struct check *c = &g->checks.items[g->at];
	buf_addf(&g->red, "%s%s: ", g->red.len ? "; " : "", c->name);
	if (g->row.timed_out)
		buf_adds(&g->red, "timed out");
	else if (g->row.signal)
		buf_addf(&g->red, "signal %lld", (long long)g->row.signal);
	else if (g->row.exit_code < 0)
		buf_adds(&g->red, "could not be run");
	else
		buf_addf(&g->red, "exit %lld", (long long)g->row.exit_code);
	if (g->row.red_before)
		buf_adds(&g->red, " (red before the task, too)");
}

static void gate_record(struct judge *g)
{
	const struct check *c = &g->checks.items[g->at];
	struct err err = ERR_INIT;
	bool ignored = g->row.red_before && c->red_before == RED_BEFORE_IGNORE;
	if (!g->row.passed && !c->advisory && !ignored)
		describe_red(g);
	int code = buf_check(&g->red) < 0 ? err_nomem(&err) : store_row(g, &err);
	free(g->out);
	free(g->errout);
	g->out = g->errout = NULL;
	if (code < 0) {
		gate_fault(g, &err);
		return;
	}
	g->at++;
	g->unjudged = false;
	gate_next(g);
}

/* ---- baseline: was it red before? ---- */

static void merge_tree_back(struct live *l, const char *dir, const struct err *e)
{
	struct judge *g = l->judge;
	if (dir)
		gate_record(g);
	else if (l->cancel || e->code == -ECHILD)
		gate_finish(g, (struct gate_verdict){.cancelled = true}); /* merged anew */
	else
		gate_fault(g, e);
}

/* The baseline is known, or cannot be: the gate goes on, a merge's with its own tree back. */
static void baseline_over(struct judge *g)
{
	struct live *l = g->live;
	if (g->stage == GATE_STAGE_MERGE && !l->cancel)
		bench_take(l, &g->commit, merge_tree_back);
	else
		gate_record(g);
}

static void baseline_ran(struct live *l, struct command_result *result)
{
	struct judge *g = l->judge;
	const struct check *c = &g->checks.items[g->at];
	struct err err = ERR_INIT;
	g->on_bench = false;
	bench_release(l);
	if (result->failed_to_run && err_is_machine(result->err.code)) {
		gate_fault(g, &result->err);
		return;
	}
	if (result->cancelled || result->failed_to_run) {
		baseline_over(g); /* unknown counts as green before: the attempt is charged */
		return;
	}
	bool passed = result->exit.cause == CAUSE_EXITED && result->exit.signal == 0 &&
		      result->exit.exit_code == c->expect;
	g->row.red_before = !passed;
	struct gate_result_row row = {
		.passed = passed,
		.timed_out = result->exit.cause == CAUSE_TIMED_OUT,
		.exit_code = result->exit.exit_code,
		.signal = result->exit.signal,
		.duration_ms = result->exit.duration_ms,
		.out = result->out,
		.errout = result->errout,
	};
	int code = run_tx(l->run);
	if (code == 0 && g->start_tree.hex[0] && !row.timed_out)
		code = store_cache_put(l->run->store, g->start_tree.hex, c->fingerprint, &row,
			run_now(l->run), &err);
	if (code < 0)
		gate_fault(g, &err);
	else
		baseline_over(g);
}

static int cached_red(void *ctx, const struct gate_result_row *row)
{
	bool *red = ctx;
	*red = !row->passed;
	return 0;
}

/* 0: *ret_red; 1: not known. */
static int baseline_cached(struct judge *g, bool *ret_red, struct err *e)
{
	return store_cache_get(g->live->run->store, g->start_tree.hex,
		g->checks.items[g->at].fingerprint, cached_red, ret_red, e);
}

static void baseline_ready(struct live *l, const char *dir, const struct err *e)
{
	struct judge *g = l->judge;
	const struct check *c = &g->checks.items[g->at];
	struct err err = ERR_INIT;
	bool red = false;
	if (!dir && !l->cancel && err_is_machine(e->code)) {
		gate_fault(g, e);
		return;
	}
	if (!dir) {
		if (!l->cancel)
			run_warn(l->run, "no baseline for %s: %s", l->name, e->msg);
		baseline_over(g);
		return;
	}
	/* Whoever had the worktree before may have asked the same. */
	int code = baseline_cached(g, &red, &err);
	if (code <= 0)
		bench_release(l);
	if (code < 0) {
		gate_fault(g, &err);
	} else if (code == 0) {
		g->row.red_before = red;
		baseline_over(g);
	} else {
		g->on_bench = true;
		command_run(
			l, UNIT_INVARIANT, c->name, c->command, dir, c->timeout_ms, baseline_ran);
	}
}

/* The tree of the start commit names the cached baseline. */
struct start_tree {
	struct job job;
	struct judge *judge;
	struct git_oid start, tree;
};

static void start_tree_perform(struct job *job)
{
	struct start_tree *s = (struct start_tree *)job;
	struct git_ctx ctx = job_git(job, work_git_timeout_ms());
	job->result = git_tree_of(&ctx, &s->start, &s->tree, &job->err);
}

static void baseline_ask(struct judge *g)
{
	struct live *l = g->live;
	bool red = false;
	struct err err = ERR_INIT;
	int code = baseline_cached(g, &red, &err);
	if (code < 0) {
		gate_fault(g, &err);
	} else if (code == 0) {
		g->row.red_before = red;
		gate_record(g);
	} else {
		bench_release(l); /* held by a merge's gate, which takes it back afterwards */
		bench_take(l, &l->start, baseline_ready);
	}
}

static void start_tree_done(struct job *job)
{
	struct start_tree *s = (struct start_tree *)job;
	struct judge *g = s->judge;
	if (!g->live->cancel && err_is_machine(job->result)) {
		gate_fault(g, &job->err);
		return;
	}
	if (job->result < 0) {
		gate_record(g);
		return;
	}
	g->start_tree = s->tree;
	baseline_ask(g);
}

static void start_tree_free(struct job *job)
{
	free(job);
}

static void gate_baseline(struct judge *g)
{
	struct live *l = g->live;
	if (!l->worktree || !l->start.hex[0] || l->cancel) {
		gate_record(g);
		return;
	}
	if (g->start_tree.hex[0]) {
		baseline_ask(g);
		return;
	}
	struct err err = ERR_INIT;
	struct start_tree *s = calloc(1, sizeof(*s));
	if (s) {
		s->judge = g;
		s->start = l->start;
		s->job.perform = start_tree_perform;
		s->job.done = start_tree_done;
		s->job.free = start_tree_free;
	}
	int code = s ? job_start(l->run, l, &s->job, &err) : err_nomem(&err);
	if (code < 0)
		gate_fault(g, &err);
}

/* ---- the round ---- */

static void check_ran(struct live *l, struct command_result *result)
{
	struct judge *g = l->judge;
	const struct check *c = &g->checks.items[g->at];
	if (result->cancelled) {
		gate_end(g);
		return;
	}
	if (result->failed_to_run && err_is_machine(result->err.code)) {
		gate_fault(g, &result->err);
		return;
	}
	bool timed_out = result->exit.cause == CAUSE_TIMED_OUT;
	g->unjudged = result->failed_to_run;
	g->out = TAKE(result->out);
	g->errout = TAKE(result->errout);
	if (result->failed_to_run) {
		free(g->errout);
		g->errout = str_printf("could not be run: %s", result->err.msg);
		struct err err = ERR_INIT;
		if (!g->errout) {
			err_nomem(&err);
			gate_fault(g, &err);
			return;
		}
	}
	g->row = (struct gate_result_row){
		.task_id = l->id,
		.attempt = l->attempt,
		.stage = stage_name(g->stage),
		.invariant = c->name,
		.passed = !result->failed_to_run && result->exit.cause == CAUSE_EXITED &&
			  result->exit.signal == 0 && result->exit.exit_code == c->expect,
		.timed_out = timed_out,
		.advisory = c->advisory,
		.exit_code = result->exit.exit_code,
		.signal = result->exit.signal,
		.duration_ms = result->exit.duration_ms,
		.out = g->out,
		.errout = g->errout,
	};
	if (g->row.passed)
		gate_record(g);
	else
		gate_baseline(g);
}

static int use_cached(void *ctx, const struct gate_result_row *row)
{
	struct judge *g = ctx;
	const struct check *c = &g->checks.items[g->at];
	g->out = str_dup(row->out);
	g->errout = str_dup(row->errout);
	g->row = *row;
	g->row.task_id = g->live->id;
	g->row.attempt = g->live->attempt;
	g->row.stage = stage_name(g->stage);
	g->row.invariant = c->name;
	g->row.advisory = c->advisory;
	g->row.cached = true;
	g->row.out = g->out;
	g->row.errout = g->errout;
	return (row->out && !g->out) || (row->errout && !g->errout) ? -ENOMEM : 0;
}

static void gate_next(struct judge *g)
{
	struct live *l = g->live;
	if (l->cancel || g->at >= g->checks.count) {
		gate_end(g);
		return;
	}
	const struct check *c = &g->checks.items[g->at];
	struct err err = ERR_INIT;
	int cached = g->tree.hex[0] ? store_cache_get(l->run->store, g->tree.hex, c->fingerprint,
					      use_cached, g, &err)
				    : 1;
	if (cached < 0)
		gate_fault(g, &err);
	else if (cached == 0 && g->row.passed)
		gate_record(g);
	else if (cached == 0)
		gate_baseline(g);
	else
		command_run(
			l, UNIT_INVARIANT, c->name, c->command, g->dir, c->timeout_ms, check_ran);
}

static int add_check(void *ctx, const struct invariant_row *row)
{
	struct judge *g = ctx;
	struct check *c = VEC_PUSH(&g->checks);
	if (!c)
		return -ENOMEM;
	c->name = str_dup(row->name);
	c->command = str_dup(row->command);
	snprintf(c->fingerprint, sizeof(c->fingerprint), "%s", row->fingerprint);
	c->timeout_ms = row->timeout_ms;
	c->expect = row->expect;
	c->advisory = row->advisory;
	c->red_before = row->red_before;
	return c->name && c->command ? 0 : -ENOMEM;
}

void gate_judge(struct live *l, enum gate_stage stage, const char *dir,
	const struct git_oid *commit, const struct git_oid *tree, gate_fn done)
{
	struct run *r = l->run;
	struct err err = ERR_INIT;
	struct judge *g = calloc(1, sizeof(*g));
	if (!g || !(g->dir = str_dup(dir))) {
		free(g);
		err_nomem(&err);
		run_fault(r, &err);
		done(l, &(struct gate_verdict){.cancelled = true, .faulted = true});
		return;
	}
	g->live = l;
	g->stage = stage;
	g->commit = *commit;
	g->tree = tree ? *tree : GIT_OID_NONE;
	g->done = done;
	l->judge = g;
	int code = stage == GATE_STAGE_TASK
			   ? store_each_task_invariant(r->store, l->id, add_check, g, &err)
			   : store_each_merge_invariant(
				     r->store, l->plan->id, l->id, add_check, g, &err);
	if (code == 0)
		code = run_tx(r);
	if (code == 0)
		code = store_gate_results_clear(
			r->store, l->id, l->attempt, stage_name(stage), &err);
	if (code < 0)
		gate_fault(g, &err);
	else
		gate_next(g);
}

/* ---- the gate of a task ---- */

static void task_judged(struct live *l, const struct gate_verdict *v)
{
	enum engine_result result = v->cancelled ? RESULT_CANCELLED
				    : v->green   ? RESULT_DONE
						 : RESULT_FAILED;
	run_post_task(l->run, l, EVENT_GATED, result, v->text);
}

void gate_start(struct live *l)
{
	l->cancel = l->hard = false;
	gate_judge(l, GATE_STAGE_TASK, l->worktree ? l->worktree : l->run->site->root, &l->commit,
		NULL, task_judged);
}
