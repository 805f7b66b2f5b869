/* SPDX-License-Identifier: MIT */
/* Events, invariants, their results and the cache of results. */
#include "store/db.h"

#include "base/str.h"

#include <errno.h>

int store_event_add(struct store *s, const struct event_row *row, struct err *e)
{
	return db_run(s, e,
		"INSERT INTO event (at, plan_id, task_id, attempt, kind, data) VALUES (?, ?, ?, ?, "
		"?, ?)",
		"iiiiss", row->at, row->plan_id, row->task_id, row->attempt, row->kind, row->data);
}

int store_each_event(struct store *s, int64_t plan_id, int64_t task_id, int64_t after,
	event_row_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q =
		task_id ? db_query(s, e,
				  "SELECT seq, at, plan_id, task_id, attempt, kind, data FROM event"
				  " WHERE task_id = ? AND seq > ? ORDER BY seq",
				  "ii", task_id, after)
			: db_query(s, e,
				  "SELECT seq, at, plan_id, task_id, attempt, kind, data FROM event"
				  " WHERE plan_id = ? AND seq > ? ORDER BY seq",
				  "ii", plan_id, after);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		struct event_row row = {
			.seq = col_int(q, 0),
			.at = col_int(q, 1),
			.plan_id = col_int(q, 2),
			.task_id = col_int(q, 3),
			.attempt = col_int(q, 4),
			.kind = col_str(q, 5),
			.data = col_str(q, 6),
		};
		r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_each_named_event(
	struct store *s, int64_t from, int64_t limit, named_event_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT v.seq, v.at, v.plan_id, v.task_id, v.attempt, v.kind, v.data, p.name, "
		"t.name"
		" FROM event v JOIN plan p ON p.id = v.plan_id JOIN task t ON t.id = v.task_id"
		" WHERE v.seq >= ? ORDER BY v.seq LIMIT ?",
		"ii", from, limit);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		struct event_row row = {
			.seq = col_int(q, 0),
			.at = col_int(q, 1),
			.plan_id = col_int(q, 2),
			.task_id = col_int(q, 3),
			.attempt = col_int(q, 4),
			.kind = col_str(q, 5),
			.data = col_str(q, 6),
		};
		r = fn(ctx, &row, col_str(q, 7), col_str(q, 8));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_last_event(struct store *s, int64_t task_id, int64_t attempt, const char *kind,
	char **ret, struct err *e)
{
	*ret = NULL;
	sqlite3_stmt *q = db_query(s, e,
		"SELECT data FROM event WHERE task_id = ? AND attempt = ? AND kind = ?"
		" ORDER BY seq DESC LIMIT 1",
		"iis", task_id, attempt, kind);
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r <= 0)
		return r;
	*ret = str_dup(col_str(q, 0));
	db_done(q);
	return *ret ? 0 : err_nomem(e);
}

int store_next_event(struct store *s, int64_t *ret, struct err *e)
{
	return db_int(s, e, 1, ret, "SELECT coalesce(max(seq), 0) + 1 FROM event", "");
}

int store_each_finding(struct store *s, int64_t plan_id, finding_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT t.name, v.data FROM event v JOIN task t ON t.id = v.task_id"
		" WHERE v.plan_id = ? AND v.kind = 'finding' ORDER BY v.seq",
		"i", plan_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		r = fn(ctx, col_str(q, 0), col_str(q, 1));
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

/* ---- invariants ---- */

static int each_invariant(
	struct store *s, sqlite3_stmt *q, invariant_row_fn fn, void *ctx, struct err *e)
{
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		const char *red = col_str(q, 6);
		struct invariant_row row = {
			.id = col_int(q, 0),
			.name = col_str(q, 1),
			.command = col_str(q, 2),
			.timeout_ms = col_int(q, 3),
			.expect = col_int(q, 4),
			.advisory = col_bool(q, 5),
			.red_before = str_eq(red, red_before_name(RED_BEFORE_IGNORE))
					      ? RED_BEFORE_IGNORE
					      : RED_BEFORE_FAIL,
			.fingerprint = col_str(q, 7),
		};
		r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

#define INVARIANTS_OF \
	"SELECT i.id, i.name, i.command, i.timeout_ms, i.expect, i.advisory, i.red_before," \
	" i.fingerprint FROM judged_by j JOIN invariant i ON i.id = j.invariant_id" \
	" WHERE j.plan_id = ? AND j.task_id = ? ORDER BY j.seq"

int store_each_task_invariant(
	struct store *s, int64_t task_id, invariant_row_fn fn, void *ctx, struct err *e)
{
	int64_t plan_id;
	int r = db_int(s, e, 0, &plan_id, "SELECT plan_id FROM task WHERE id = ?", "i", task_id);
	if (r < 0)
		return r;
	return each_invariant(s, db_query(s, e, INVARIANTS_OF, "ii", plan_id, task_id), fn, ctx, e);
}

int store_each_merge_invariant(struct store *s, int64_t plan_id, int64_t task_id,
	invariant_row_fn fn, void *ctx, struct err *e)
{
	int64_t own;
	int r = db_int(s, e, 0, &own,
		"SELECT count(*) FROM judged_by WHERE plan_id = ? AND task_id = 0", "i", plan_id);
	if (r < 0)
		return r;
	int64_t who = own > 0 ? 0 : task_id;
	return each_invariant(s, db_query(s, e, INVARIANTS_OF, "ii", plan_id, who), fn, ctx, e);
}

int store_each_final_invariant(
	struct store *s, int64_t plan_id, invariant_row_fn fn, void *ctx, struct err *e)
{
	return each_invariant(s,
		db_query(s, e,
			"SELECT id, name, command, timeout_ms, expect, advisory, red_before,"
			" fingerprint FROM invariant WHERE plan_id = ?1 AND id IN"
			" (SELECT invariant_id FROM judged_by WHERE plan_id = ?1 AND (task_id = 0"
			" OR NOT EXISTS (SELECT 1 FROM judged_by WHERE plan_id = ?1 AND task_id = "
			"0))) ORDER BY id",
			"i", plan_id),
		fn, ctx, e);
}

/* ---- results ---- */

int store_gate_result_add(
	struct store *s, const struct gate_result_row *row, int64_t now, struct err *e)
{
	return db_run(s, e,
		"INSERT INTO gate_result (task_id, attempt, stage, invariant, passed, timed_out, "
		"cached,"
		" red_before, advisory, exit_code, signal, duration_ms, stdout, stderr, at)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		"iissbbbbbiiissi", row->task_id, row->attempt, row->stage, row->invariant,
		row->passed, row->timed_out, row->cached, row->red_before, row->advisory,
		row->exit_code, row->signal, row->duration_ms, row->out ? row->out : "",
		row->errout ? row->errout : "", now);
}

int store_gate_results_clear(
	struct store *s, int64_t task_id, int64_t attempt, const char *stage, struct err *e)
{
	return db_run(s, e,
		"DELETE FROM gate_result WHERE task_id = ? AND attempt = ? AND stage = ?", "iis",
		task_id, attempt, stage);
}

int store_each_gate_result(struct store *s, int64_t task_id, int64_t attempt, gate_result_fn fn,
	void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT stage, invariant, passed, timed_out, cached, red_before, advisory, "
		"exit_code,"
		" signal, duration_ms, stdout, stderr, id, at FROM gate_result"
		" WHERE task_id = ? AND attempt = ? ORDER BY id",
		"ii", task_id, attempt);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		struct gate_result_row row = {
			.task_id = task_id,
			.attempt = attempt,
			.stage = col_str(q, 0),
			.invariant = col_str(q, 1),
			.passed = col_bool(q, 2),
			.timed_out = col_bool(q, 3),
			.cached = col_bool(q, 4),
			.red_before = col_bool(q, 5),
			.advisory = col_bool(q, 6),
			.exit_code = col_int(q, 7),
			.signal = col_int(q, 8),
			.duration_ms = col_int(q, 9),
			.out = col_str(q, 10),
			.errout = col_str(q, 11),
			.id = col_int(q, 12),
			.at = col_int(q, 13),
		};
		r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_cache_get(struct store *s, const char *tree, const char *fingerprint, gate_result_fn fn,
	void *ctx, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e,
		"SELECT passed, timed_out, exit_code, signal, duration_ms, stdout, stderr FROM "
		"gate_cache"
		" WHERE tree = ? AND fingerprint = ?",
		"ss", tree, fingerprint);
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r <= 0)
		return r < 0 ? r : 1;
	struct gate_result_row row = {
		.passed = col_bool(q, 0),
		.timed_out = col_bool(q, 1),
		.cached = true,
		.exit_code = col_int(q, 2),
		.signal = col_int(q, 3),
		.duration_ms = col_int(q, 4),
		.out = col_str(q, 5),
		.errout = col_str(q, 6),
	};
	r = fn(ctx, &row);
	if (!db_stopped(q, r, e))
		db_done(q);
	return r;
}

int store_cache_put(struct store *s, const char *tree, const char *fingerprint,
	const struct gate_result_row *row, int64_t now, struct err *e)
{
	return db_run(s, e,
		"INSERT OR REPLACE INTO gate_cache (tree, fingerprint, passed, timed_out, "
		"exit_code, signal,"
		" duration_ms, stdout, stderr, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		"ssbbiiissi", tree, fingerprint, row->passed, row->timed_out, row->exit_code,
		row->signal, row->duration_ms, row->out ? row->out : "",
		row->errout ? row->errout : "", now);
}
