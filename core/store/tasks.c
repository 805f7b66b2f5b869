/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "base/str.h"

#include <errno.h>

#define TASK_COLUMNS \
	"SELECT id, plan_id, seq, name, status, outcome, gate, scope, paused, attempt_open," \
	" allow_empty, approved, carry, has_commit, reason, harness, tag, branch, commit_oid," \
	" worktree, attempt, priority, retry_max, retries_used, lost_row, conflict_row," \
	" unchanged_row, not_before, timeout_ms, token_budget, tokens_input, tokens_output," \
	" tokens_cache_read, tokens_cache_write," \
	" (SELECT count(*) FROM judged_by j WHERE j.plan_id = task.plan_id AND j.task_id = " \
	"task.id)," \
	" updated_at FROM task "

static int gate_parse(const char *name, enum gate *ret)
{
	for (int i = 0; i < GATE_COUNT; i++) {
		if (str_eq(name, gate_name((enum gate)i))) {
			*ret = (enum gate)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int scope_parse(const char *name, enum scope *ret)
{
	for (int i = 0; i < SCOPE_COUNT; i++) {
		if (str_eq(name, scope_name((enum scope)i))) {
			*ret = (enum scope)i;
			return 0;
		}
	}
	return -EINVAL;
}

static int task_row_read(sqlite3_stmt *q, struct task_row *ret, struct err *e)
{
	*ret = (struct task_row){
		.id = col_int(q, 0),
		.plan_id = col_int(q, 1),
		.seq = col_int(q, 2),
		.name = col_str(q, 3),
		.paused = col_bool(q, 8),
		.attempt_open = col_bool(q, 9),
		.allow_empty = col_bool(q, 10),
		.approved = col_bool(q, 11),
		.carry = col_bool(q, 12),
		.has_commit = col_bool(q, 13),
		.reason = col_str(q, 14),
		.harness = col_str(q, 15),
		.tag = col_str(q, 16),
		.branch = col_str(q, 17),
		.commit_oid = col_str(q, 18),
		.worktree = col_str(q, 19),
		.attempt = col_int(q, 20),
		.priority = col_int(q, 21),
		.retry_max = col_int(q, 22),
		.retries_used = col_int(q, 23),
		.lost_row = col_int(q, 24),
		.conflict_row = col_int(q, 25),
		.unchanged_row = col_int(q, 26),
		.not_before = col_int(q, 27),
		.timeout_ms = col_int(q, 28),
		.token_budget = col_int(q, 29),
		.tokens = {col_int(q, 30), col_int(q, 31), col_int(q, 32), col_int(q, 33)},
		.n_invariants = col_int(q, 34),
		.updated_at = col_int(q, 35),
	};
	if (task_status_parse(col_str(q, 4), &ret->status) < 0 ||
		outcome_parse(col_str(q, 5), &ret->outcome) < 0 ||
		gate_parse(col_str(q, 6), &ret->gate) < 0 ||
		scope_parse(col_str(q, 7), &ret->scope) < 0)
		return err_set(e, -EBADMSG, "database: task %lld has a value that is not known",
			(long long)ret->id);
	return 0;
}

int store_each_task(struct store *s, int64_t plan_id, task_row_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q =
		db_query(s, e, TASK_COLUMNS "WHERE plan_id = ? ORDER BY seq, id", "i", plan_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		struct task_row row;
		r = task_row_read(q, &row, e);
		if (r == 0)
			r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_task(struct store *s, int64_t id, task_row_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e, TASK_COLUMNS "WHERE id = ?", "i", id);
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r <= 0)
		return r < 0 ? r : 1;
	struct task_row row;
	r = task_row_read(q, &row, e);
	if (r == 0)
		r = fn(ctx, &row);
	if (!db_stopped(q, r, e))
		db_done(q);
	return r;
}

int store_task_id(struct store *s, int64_t plan_id, const char *name, int64_t *ret, struct err *e)
{
	return db_int(s, e, 0, ret, "SELECT id FROM task WHERE plan_id = ? AND name = ?", "is",
		plan_id, name);
}

int store_each_edge(struct store *s, int64_t plan_id, edge_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT d.task_id, d.needs_id FROM task t JOIN dependency d ON d.task_id = t.id"
		" WHERE t.plan_id = ?",
		"i", plan_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_int(q, 0), col_int(q, 1));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_each_judged(struct store *s, int64_t plan_id, judged_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT j.task_id, i.name FROM judged_by j JOIN invariant i ON i.id = "
		"j.invariant_id"
		" WHERE j.plan_id = ? ORDER BY j.task_id, j.seq",
		"i", plan_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_int(q, 0), col_str(q, 1));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_each_task_harness(
	struct store *s, int64_t plan_id, task_harness_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT t.id, a.harness, t.command IS NOT NULL FROM task t LEFT JOIN attempt a"
		" ON a.task_id = t.id AND a.number = t.attempt WHERE t.plan_id = ?",
		"i", plan_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_int(q, 0), col_str(q, 1), col_bool(q, 2));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_each_need(struct store *s, int64_t task_id, need_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q =
		db_query(s, e, "SELECT needs_id FROM dependency WHERE task_id = ?", "i", task_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_int(q, 0));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_task_text(
	struct store *s, int64_t id, char **ret_prompt, char **ret_command, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e, "SELECT prompt, command FROM task WHERE id = ?", "i", id);
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "no task with id %lld", (long long)id);
	CLEANUP_STR char *prompt = str_dup(col_str(q, 0));
	CLEANUP_STR char *command = str_dup(col_str(q, 1));
	bool failed = (col_str(q, 0) && !prompt) || (col_str(q, 1) && !command);
	db_done(q);
	if (failed)
		return err_nomem(e);
	*ret_prompt = TAKE(prompt);
	*ret_command = TAKE(command);
	return 0;
}

/* ---- changes ---- */

int store_save_task(struct store *s, const struct task_save *t, int64_t now, struct err *e)
{
	int r = db_run(s, e,
		"UPDATE task SET status = ?, outcome = ?, reason = ?, attempt = "
		"?,"
		" attempt_open = ?, retries_used = ?, lost_row = ?, conflict_row = ?,"
		" unchanged_row = ?, not_before = ?, paused = ?, approved = ?, carry = ?,"
		" has_commit = ?, updated_at = ? WHERE id = ?",
		"sssibiiiiibbbbii", task_status_name(t->to), outcome_name(t->outcome), t->reason,
		t->attempt, t->attempt_open, t->retries_used, t->lost_row, t->conflict_row,
		t->unchanged_row, t->not_before, t->paused, t->approved, t->carry, t->has_commit,
		now, t->id);
	if (r == 0)
		r = db_run(s, e,
			"INSERT INTO transition (plan_id, task_id, attempt, from_status, "
			"to_status, reason,"
			" at) VALUES (?, ?, ?, ?, ?, ?, ?)",
			"iiisssi", t->plan_id, t->id, t->attempt, task_status_name(t->from),
			task_status_name(t->to), t->reason, now);
	if (r == 0 && t->outcome != OUTCOME_NONE)
		r = db_run(s, e,
			"UPDATE attempt SET outcome = ?, reason = coalesce(?, reason),"
			" ended_at = coalesce(ended_at, ?) WHERE task_id = ? AND number = ?",
			"ssiii", outcome_name(t->outcome), t->reason, now, t->id, t->attempt);
	return r;
}

int store_task_set_paused(struct store *s, int64_t id, bool paused, struct err *e)
{
	return db_run(s, e, "UPDATE task SET paused = ? WHERE id = ?", "bi", paused, id);
}

int store_task_set_carry(struct store *s, int64_t id, bool carry, struct err *e)
{
	return db_run(s, e, "UPDATE task SET carry = ? WHERE id = ?", "bi", carry, id);
}

int store_task_set_worktree(struct store *s, int64_t id, const char *worktree, struct err *e)
{
	return db_run(s, e, "UPDATE task SET worktree = ? WHERE id = ?", "si", worktree, id);
}

int store_task_set_commit(
	struct store *s, int64_t id, const char *branch, const char *oid, struct err *e)
{
	return db_run(s, e, "UPDATE task SET branch = ?, commit_oid = ? WHERE id = ?", "ssi",
		branch, oid, id);
}

int store_each_transition(
	struct store *s, int64_t task_id, transition_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT at, attempt, from_status, to_status, reason FROM transition WHERE task_id "
		"= ?"
		" ORDER BY id",
		"i", task_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_int(q, 0), col_int(q, 1), col_str(q, 2), col_str(q, 3),
			col_str(q, 4));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}
