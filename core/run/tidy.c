/* SPDX-License-Identifier: MIT */
/* What nobody needs any more: leftovers of dead units, directories older than [log] keep, merge
 * worktrees. */
#include "run/state.h"

#include "git/worktree.h"

/* ---- at the start: temporary directories, control groups, old unit directories ---- */

struct tidy {
	struct job job;
	char **old; /* ids; owned strv */
};

static void tidy_perform(struct job *job)
{
	struct tidy *t = (struct tidy *)job;
	struct lifecycle *lc = job->run->lifecycle;
	job->result = lifecycle_tidy(lc, NULL, &job->err);
	for (size_t i = 0; job->result == 0 && t->old && t->old[i]; i++)
		job->result = lifecycle_remove(lc, t->old[i], &job->err);
}

static void tidy_done(struct job *job)
{
	struct tidy *t = (struct tidy *)job;
	struct run *r = job->run;
	if (job->result < 0) {
		run_warn(r, "could not tidy up after earlier units: %s", job->err.msg);
		return;
	}
	struct err err = ERR_INIT;
	for (size_t i = 0; t->old && t->old[i]; i++) {
		if (run_tx(r) == 0 && store_unit_forget(r->store, t->old[i], &err) < 0) {
			run_fault(r, &err);
			return;
		}
	}
}

static void tidy_free(struct job *job)
{
	struct tidy *t = (struct tidy *)job;
	strv_free(t->old);
	free(t);
}

bool tidy_is_unwanted(const struct run *r, enum task_status status, enum outcome outcome)
{
	enum config_keep_worktrees keep = r->config->orch.keep_worktrees;
	if (status == TASK_ESCALATED)
		return keep == CONFIG_KEEP_WORKTREES_NONE && outcome != OUTCOME_UNCOMMITTABLE;
	return status == TASK_PASSED && keep != CONFIG_KEEP_WORKTREES_ALL;
}

/* Worktrees that an earlier engine would have removed next, had it lived. */
static void tidy_worktrees(struct run *r)
{
	vec_foreach(index, &r->unwanted) {
		struct err err = ERR_INIT;
		struct live *l = live_get(r, *index);
		if (!l)
			l = live_new(r, *index, &err);
		if (!l)
			run_warn(r, "a worktree stays: %s", err.msg);
		else if (l->worktree && !l->job)
			work_discard(l);
	}
	r->unwanted.count = 0;
}

void tidy_start(struct run *r)
{
	struct err err = ERR_INIT;
	struct tidy *t = calloc(1, sizeof(*t));
	int64_t keep = r->config->log.keep_ms;
	int code = t ? 0 : err_nomem(&err);
	if (code == 0 && keep != DURATION_OFF)
		code = store_units_ended_before(r->store, run_now(r) - keep, &t->old, &err);
	if (code < 0) {
		free(t);
		run_fault(r, &err);
		return;
	}
	t->job.perform = tidy_perform;
	t->job.done = tidy_done;
	t->job.free = tidy_free;
	if (job_start(r, NULL, &t->job, &err) < 0)
		run_warn(r, "could not tidy up after earlier units: %s", err.msg);
	tidy_worktrees(r);
}

/* ---- at the end of a plan: its merge worktree ---- */

struct unbench {
	struct job job;
	struct rplan *plan;
	char *path;
};

static void unbench_perform(struct job *job)
{
	struct unbench *u = (struct unbench *)job;
	struct git_ctx ctx = job_git(job, work_git_timeout_ms());
	job->result = git_worktree_remove(&ctx, u->path, &job->err);
}

static void unbench_done(struct job *job)
{
	((struct unbench *)job)->plan->tidying = false;
	if (job->result < 0)
		run_warn(job->run, "the merge worktree stays: %s", job->err.msg);
}

static void unbench_free(struct job *job)
{
	struct unbench *u = (struct unbench *)job;
	free(u->path);
	free(u);
}

void tidy_plan(struct run *r, struct rplan *p)
{
	struct err err = ERR_INIT;
	if (!p->worktrees || p->bench_busy)
		return;
	struct unbench *u = calloc(1, sizeof(*u));
	if (u) {
		u->plan = p;
		/* Also when it was an earlier engine that made it. */
		u->path = git_worktree_path(r->site->worktree_root, p->name, "");
		u->job.perform = unbench_perform;
		u->job.done = unbench_done;
		u->job.free = unbench_free;
	}
	int code = u && u->path ? job_start(r, NULL, &u->job, &err) : err_nomem(&err);
	p->tidying = code == 0;
	if (code < 0)
		run_warn(r, "the merge worktree stays: %s", err.msg);
}

/* ---- when nothing else can be done ---- */

int run_abandon_units(const struct site *site, struct err *e)
{
	CLEANUP_LIFECYCLE struct lifecycle *lc = NULL;
	CLEANUP_STRV char **ids = NULL;
	int code = lifecycle_open(site->state_dir, NULL, &site->origin, &lc, e);
	if (code == 0)
		code = lifecycle_list(lc, &ids, e);
	for (size_t i = 0; code == 0 && ids && ids[i]; i++) {
		CLEANUP_UNIT struct unit *unit = NULL;
		enum unit_found found;
		struct err err = ERR_INIT;
		/* One that cannot be looked at must not keep the others alive. */
		if (unit_adopt(lc, ids[i], &unit, &found, &err) == 0 && found == UNIT_FOUND_LIVE &&
			unit_abandon(unit, &err) < 0)
			*e = err;
	}
	return e->code;
}
