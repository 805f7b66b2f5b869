/* SPDX-License-Identifier: MIT */
/*
 * What an engine finds when it starts: units of an earlier one, alive or ended. Agents are adopted;
 * the commands of a gate or a set-up, which will run anew, are ended. Looking at a unit may take
 * seconds when its keeper does not answer, so workers do it, all at once.
 */
#include "run/state.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct found_unit {
	struct job job;
	struct run *run;
	char id[UNIT_ID_LEN + 1];
	int64_t task_id; /* 0: nothing waits for it; it is to be ended */
	bool unknown;    /* a command of a gate or a set-up: it has no row, only a directory */
	struct unit *unit;
	enum unit_found found;
	struct unit_exit exit;
};

struct found {
	struct VEC(struct found_unit *) list;
	struct map by_task;
	struct map by_id;
};

static void look_at(struct found_unit *f)
{
	f->job.result = unit_adopt(f->run->lifecycle, f->id, &f->unit, &f->found, &f->job.err);
	if (f->job.result < 0)
		return;
	if (f->task_id == 0 && f->found == UNIT_FOUND_LIVE) {
		f->job.result = unit_abandon(f->unit, &f->job.err);
		unit_free(f->unit);
		f->unit = NULL;
	}
	if (f->unknown && f->job.result == 0) {
		f->job.result = lifecycle_remove(f->run->lifecycle, f->id, &f->job.err);
		/* Its keeper has recorded the end and is on its own way out: the next start's. */
		if (f->job.result == -EBUSY)
			f->job.result = 0;
	}
	if (f->task_id == 0)
		return;
	if (f->found == UNIT_FOUND_ENDED || f->found == UNIT_FOUND_LOST)
		f->job.result =
			lifecycle_exit_read(f->run->lifecycle, f->id, &f->exit, &f->job.err);
}

/* Whose own directory fails, and not the machine, is lost. */
static void look(struct job *job)
{
	struct found_unit *f = (struct found_unit *)job;
	look_at(f);
	if (job->result >= 0 || err_is_machine(job->result))
		return;
	struct err why = job->err;
	job->err = ERR_INIT;
	unit_exit_deinit(&f->exit);
	f->exit = UNIT_EXIT_INIT;
	f->found = UNIT_FOUND_LOST;
	job->result = lifecycle_spoilt(f->run->lifecycle, f->id, why.msg, &f->exit, &job->err);
}

static void looked(struct job *job)
{
	struct found_unit *f = (struct found_unit *)job;
	struct run *r = f->run;
	r->found_left--;
	if (job->result < 0 && !r->failed) {
		r->failed = job->result;
		r->err = job->err;
		err_prefix(&r->err, "cannot tell what became of unit %s", f->id);
	}
}

/* The unit is kept until reconcile_free: its result is needed when the engine is there. */
static void keep(struct job *job)
{
	(void)job;
}

static struct found_unit *found_add(struct run *r, const char *id, int64_t task_id, struct err *e)
{
	struct found_unit *f = calloc(1, sizeof(*f));
	struct found_unit **slot = f ? VEC_PUSH(&r->found->list) : NULL;
	char key[24];
	snprintf(key, sizeof(key), "%lld", (long long)task_id);
	if (!slot) {
		free(f);
		err_nomem(e);
		return NULL;
	}
	*slot = f;
	f->run = r;
	f->task_id = task_id;
	f->exit = UNIT_EXIT_INIT;
	snprintf(f->id, sizeof(f->id), "%s", id);
	if (map_put(&r->found->by_id, f->id, f) < 0 ||
		(task_id && map_put(&r->found->by_task, key, f) < 0)) {
		err_nomem(e);
		return NULL;
	}
	f->job.perform = look;
	f->job.done = looked;
	f->job.free = keep;
	return f;
}

struct scan {
	struct run *run;
	struct err *err;
	struct VEC(int64_t) under_way;
};

static int note_under_way(void *ctx, const struct task_row *row)
{
	struct scan *scan = ctx;
	if (!row->attempt_open || (row->status != TASK_ASSIGNED && row->status != TASK_RUNNING))
		return 0;
	int64_t *slot = VEC_PUSH(&scan->under_way);
	if (!slot)
		return err_nomem(scan->err);
	slot[0] = row->id;
	slot = VEC_PUSH(&scan->under_way);
	if (!slot)
		return err_nomem(scan->err);
	slot[0] = row->attempt;
	return 0;
}

static int note_attempt(void *ctx, const struct attempt_row *row)
{
	struct scan *scan = ctx;
	return found_add(scan->run, row->unit_id, row->task_id, scan->err) ? 0 : scan->err->code;
}

static int note_open(void *ctx, const struct unit_row *row)
{
	struct scan *scan = ctx;
	if (map_get(&scan->run->found->by_id, row->id))
		return 0;
	return found_add(scan->run, row->id, 0, scan->err) ? 0 : scan->err->code;
}

static int note_known(void *ctx, const struct unit_row *row)
{
	bool *known = ctx;
	(void)row;
	*known = true;
	return 0;
}

/* Directories that no row knows of. */
static int add_unknown(struct run *r, struct err *e)
{
	CLEANUP_STRV char **ids = NULL;
	int code = lifecycle_list(r->lifecycle, &ids, e);
	for (size_t i = 0; code == 0 && ids && ids[i]; i++) {
		bool known = map_get(&r->found->by_id, ids[i]) != NULL;
		if (!known)
			code = store_unit(r->store, ids[i], note_known, &known, e);
		if (code < 0 || known)
			continue;
		struct found_unit *f = found_add(r, ids[i], 0, e);
		if (!f)
			return e->code;
		f->unknown = true;
	}
	return code;
}

int reconcile_start(struct run *r, struct err *e)
{
	r->found = calloc(1, sizeof(*r->found));
	if (!r->found)
		return err_nomem(e);
	struct scan scan = {.run = r, .err = e};
	int code = 0;
	for (size_t i = 0; code == 0 && i < r->plans.count; i++)
		code = store_each_task(r->store, r->plans.items[i]->id, note_under_way, &scan, e);
	for (size_t i = 0; code == 0 && i + 1 < scan.under_way.count; i += 2) {
		code = store_attempt(r->store, scan.under_way.items[i], scan.under_way.items[i + 1],
			note_attempt, &scan, e);
		if (code == 1)
			code = 0; /* assigned, and not even the attempt was stored: it never ran */
	}
	VEC_FREE(&scan.under_way);
	if (code == 0)
		code = store_each_open_unit(r->store, note_open, &scan, e);
	if (code == 0)
		code = add_unknown(r, e);
	for (size_t i = 0; code == 0 && i < r->found->list.count; i++) {
		code = job_start(r, NULL, &r->found->list.items[i]->job, e);
		if (code == 0)
			r->found_left++;
	}
	return code;
}

static struct found_unit *found_for(const struct run *r, int64_t task_id)
{
	char key[24];
	snprintf(key, sizeof(key), "%lld", (long long)task_id);
	return map_get(&r->found->by_task, key);
}

static int note_place(void *ctx, const struct task_row *row)
{
	return row->worktree ? strv_add(ctx, row->worktree) : 0;
}

int reconcile_worktrees(struct run *r, char ***ret, struct err *e)
{
	vec_foreach(f, &r->found->list) {
		if ((*f)->task_id == 0 || (*f)->found != UNIT_FOUND_LIVE)
			continue;
		int code = store_task(r->store, (*f)->task_id, note_place, ret, e);
		if (code < 0)
			return e->code ? code : err_nomem(e);
	}
	return 0;
}

enum engine_mode reconcile_mode(struct run *r, const struct task_row *row)
{
	struct found_unit *f = found_for(r, row->id);
	return engine_mode_found(row->status, f && f->found != UNIT_FOUND_NEVER_RAN);
}

/* Reports one adopted or ended agent to the engine. */
static void resume_agent(struct run *r, struct found_unit *f, struct live *l)
{
	struct err err = ERR_INIT;
	snprintf(l->unit_id, sizeof(l->unit_id), "%s", f->id);
	run_post_task(r, l, EVENT_STARTED, RESULT_DONE, NULL);
	l->started = true;
	int code = agent_recall(l, &err);
	if (code == 0 && f->found == UNIT_FOUND_LIVE)
		code = agent_watch_adopted(l, TAKE(f->unit), &err);
	/* It may have been paused while no engine was there. */
	if (code == 0 && l->agent && engine_is_paused(r->engine, l->index))
		watch_pause(l->agent);
	if (code < 0)
		run_fail(r, code, &err);
	if (code < 0 || f->found == UNIT_FOUND_LIVE)
		return;
	int dir = -1;
	code = lifecycle_unit_dir(r->lifecycle, f->id, &dir, &err);
	if (err_is_machine(code)) {
		run_fail(r, code, &err); /* what it said is there, and would be passed over */
		return;
	}
	if (code < 0)
		run_warn(r, "%s", err.msg);
	agent_over(l, dir, &f->exit);
	if (dir >= 0)
		close(dir);
}

void reconcile_finish(struct run *r)
{
	for (uint32_t i = 0; i < engine_task_count(r->engine); i++) {
		enum engine_mode mode = (enum engine_mode)engine_task(r->engine, i)->mode;
		if (mode != MODE_STARTING && mode != MODE_RUNNING)
			continue;
		struct found_unit *f = found_for(r, engine_task(r->engine, i)->id);
		struct live *l = live_get(r, i);
		struct err err = ERR_INIT;
		/* Started just now, by engine_begin: also one that was assigned, and never ran. */
		if (!f || (mode == MODE_STARTING && f->found == UNIT_FOUND_NEVER_RAN))
			continue;
		if (!l)
			l = live_new(r, i, &err);
		if (!l || (l->worktree && tamper_resume(l, &err) < 0))
			run_fail(r, err.code, &err);
		else if (f->found == UNIT_FOUND_NEVER_RAN)
			/* Running was saved, so a process was there: its directory was removed. */
			agent_over(
				l, -1, &(struct unit_exit){.cause = CAUSE_LOST, .exit_code = -1});
		else
			resume_agent(r, f, l);
	}
	vec_foreach(f, &r->found->list) {
		struct err err = ERR_INIT;
		bool over = !(*f)->unknown &&
			    ((*f)->task_id == 0 || (*f)->found == UNIT_FOUND_NEVER_RAN);
		if (over && run_tx(r) == 0 &&
			store_unit_end(r->store, (*f)->id, run_now(r), &err) < 0)
			run_fault(r, &err);
	}
}

void reconcile_free(struct run *r)
{
	if (!r->found)
		return;
	vec_foreach(f, &r->found->list) {
		unit_free((*f)->unit);
		unit_exit_deinit(&(*f)->exit);
		free(*f);
	}
	VEC_FREE(&r->found->list);
	map_deinit(&r->found->by_task);
	map_deinit(&r->found->by_id);
	free(r->found);
}
