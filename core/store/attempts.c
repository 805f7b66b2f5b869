/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "base/str.h"

#include <errno.h>

#define ATTEMPT_COLUMNS \
	"SELECT task_id, number, harness, unit_id, start_oid, commit_oid, outcome, reason," \
	" feedback, session, containment, started_at, ended_at, exit_code, signal, left_behind," \
	" killed, sweep_ms, contained, tokens_input, tokens_output, tokens_cache_read," \
	" tokens_cache_write, cost FROM attempt "

static int attempt_row_read(sqlite3_stmt *q, struct attempt_row *ret, struct err *e)
{
	*ret = (struct attempt_row){
		.task_id = col_int(q, 0),
		.number = col_int(q, 1),
		.harness = col_str(q, 2),
		.unit_id = col_str(q, 3),
		.start_oid = col_str(q, 4),
		.commit_oid = col_str(q, 5),
		.reason = col_str(q, 7),
		.feedback = col_str(q, 8),
		.session = col_str(q, 9),
		.containment = col_str(q, 10),
		.started_at = col_int(q, 11),
		.ended_at = col_int(q, 12),
		.exit_code = sqlite3_column_type(q, 13) == SQLITE_NULL ? -1 : col_int(q, 13),
		.signal = col_int(q, 14),
		.left = col_int(q, 15),
		.killed = col_int(q, 16),
		.sweep_ms = col_int(q, 17),
		.contained = col_bool(q, 18),
		.tokens = {col_int(q, 19), col_int(q, 20), col_int(q, 21), col_int(q, 22)},
		.cost = sqlite3_column_double(q, 23),
	};
	if (outcome_parse(col_str(q, 6), &ret->outcome) < 0)
		return err_set(
			e, -EBADMSG, "database: an attempt has an outcome that is not known");
	return 0;
}

int store_each_attempt(
	struct store *s, int64_t task_id, attempt_row_fn fn, void *ctx, struct err *e)
{
	sqlite3_stmt *q =
		db_query(s, e, ATTEMPT_COLUMNS "WHERE task_id = ? ORDER BY number", "i", task_id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		struct attempt_row row;
		r = attempt_row_read(q, &row, e);
		if (r == 0)
			r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_attempt(struct store *s, int64_t task_id, int64_t number, attempt_row_fn fn, void *ctx,
	struct err *e)
{
	sqlite3_stmt *q = db_query(
		s, e, ATTEMPT_COLUMNS "WHERE task_id = ? AND number = ?", "ii", task_id, number);
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r <= 0)
		return r < 0 ? r : 1;
	struct attempt_row row;
	r = attempt_row_read(q, &row, e);
	if (r == 0)
		r = fn(ctx, &row);
	if (!db_stopped(q, r, e))
		db_done(q);
	return r;
}

int store_attempt_open(struct store *s, int64_t plan_id, int64_t task_id, int64_t number,
	const char *harness, const char *unit_id, const char *boot_id, int64_t now, struct err *e)
{
	int r = db_run(s, e,
		"INSERT INTO attempt (task_id, number, harness, unit_id, started_at)"
		" VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET harness = excluded.harness,"
		" unit_id = excluded.unit_id, started_at = excluded.started_at",
		"iissi", task_id, number, harness, unit_id, now);
	if (r < 0)
		return r;
	struct unit_row unit = {.id = unit_id,
		.kind = "agent",
		.plan_id = plan_id,
		.task_id = task_id,
		.attempt = number};
	return store_unit_add(s, &unit, boot_id, now, e);
}

int store_attempt_set_start(
	struct store *s, int64_t task_id, int64_t number, const char *start_oid, struct err *e)
{
	return db_run(s, e, "UPDATE attempt SET start_oid = ? WHERE task_id = ? AND number = ?",
		"sii", start_oid, task_id, number);
}

int store_attempt_set_exit(struct store *s, const struct attempt_row *a, struct err *e)
{
	return db_run(s, e,
		"UPDATE attempt SET session = ?, containment = ?, started_at = ?, ended_at = ?,"
		" exit_code = ?, signal = ?, left_behind = ?, killed = ?, sweep_ms = ?, contained "
		"= ?"
		" WHERE task_id = ? AND number = ?",
		"ssiiiiiiibii", a->session, a->containment, a->started_at, a->ended_at,
		a->exit_code, a->signal, a->left, a->killed, a->sweep_ms, a->contained, a->task_id,
		a->number);
}

int store_attempt_set_commit(
	struct store *s, int64_t task_id, int64_t number, const char *oid, struct err *e)
{
	return db_run(s, e, "UPDATE attempt SET commit_oid = ? WHERE task_id = ? AND number = ?",
		"sii", oid, task_id, number);
}

int store_attempt_set_feedback(
	struct store *s, int64_t task_id, int64_t number, const char *text, struct err *e)
{
	return db_run(s, e, "UPDATE attempt SET feedback = ? WHERE task_id = ? AND number = ?",
		"sii", text, task_id, number);
}

#define ADD_TOKENS \
	" tokens_input = min(max(tokens_input + ?, 0), " TOKENS_MAX ")," \
	" tokens_output = min(max(tokens_output + ?, 0), " TOKENS_MAX ")," \
	" tokens_cache_read = min(max(tokens_cache_read + ?, 0), " TOKENS_MAX ")," \
	" tokens_cache_write = min(max(tokens_cache_write + ?, 0), " TOKENS_MAX ")"

int store_add_tokens(struct store *s, int64_t task_id, int64_t attempt, const int64_t tokens[4],
	double cost, struct err *e)
{
	int r = db_run(s, e,
		"UPDATE attempt SET" ADD_TOKENS ", cost = min(max(cost + ?, 0.0), 1e12)"
		" WHERE task_id = ? AND number = ?",
		"iiiidii", tokens[0], tokens[1], tokens[2], tokens[3], cost, task_id, attempt);
	if (r < 0)
		return r;
	return db_run(s, e, "UPDATE task SET" ADD_TOKENS " WHERE id = ?", "iiiii", tokens[0],
		tokens[1], tokens[2], tokens[3], task_id);
}

/* ---- units ---- */

static int each_unit(struct store *s, sqlite3_stmt *q, unit_row_fn fn, void *ctx, struct err *e)
{
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		struct unit_row row = {
			.id = col_str(q, 0),
			.kind = col_str(q, 1),
			.plan_id = col_int(q, 2),
			.task_id = col_int(q, 3),
			.attempt = col_int(q, 4),
			.name = col_str(q, 5),
			.ended = col_bool(q, 6),
			.journal_offset = col_int(q, 7),
		};
		r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

#define UNIT_COLUMNS \
	"SELECT id, kind, plan_id, task_id, attempt, name, ended_at IS NOT NULL, journal_offset" \
	" FROM unit "

int store_each_open_unit(struct store *s, unit_row_fn fn, void *ctx, struct err *e)
{
	return each_unit(s,
		db_query(s, e, UNIT_COLUMNS "WHERE ended_at IS NULL ORDER BY started_at", ""), fn,
		ctx, e);
}

int store_unit(struct store *s, const char *id, unit_row_fn fn, void *ctx, struct err *e)
{
	return each_unit(s, db_query(s, e, UNIT_COLUMNS "WHERE id = ?", "s", id), fn, ctx, e);
}

int store_unit_add(struct store *s, const struct unit_row *row, const char *boot_id, int64_t now,
	struct err *e)
{
	return db_run(s, e,
		"INSERT INTO unit (id, kind, plan_id, task_id, attempt, name, boot_id, started_at)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
		"ssiiissi", row->id, row->kind, row->plan_id, row->task_id, row->attempt, row->name,
		boot_id, now);
}

int store_unit_end(struct store *s, const char *id, int64_t now, struct err *e)
{
	return db_run(s, e, "UPDATE unit SET ended_at = ? WHERE id = ? AND ended_at IS NULL", "is",
		now, id);
}

int store_unit_forget(struct store *s, const char *id, struct err *e)
{
	int r = db_run(s, e,
		"DELETE FROM event WHERE kind <> 'finding' AND (task_id, attempt) ="
		" (SELECT task_id, attempt FROM unit WHERE id = ?)",
		"s", id);
	return r < 0 ? r : db_run(s, e, "DELETE FROM unit WHERE id = ?", "s", id);
}

int store_unit_set_offset(struct store *s, const char *unit_id, int64_t offset, struct err *e)
{
	return db_run(
		s, e, "UPDATE unit SET journal_offset = ? WHERE id = ?", "is", offset, unit_id);
}

int store_units_ended_before(struct store *s, int64_t before, char ***ret, struct err *e)
{
	CLEANUP_STRV char **ids = NULL;
	sqlite3_stmt *q = db_query(s, e,
		"SELECT id FROM unit WHERE ended_at IS NOT NULL AND ended_at < ?", "i", before);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (q && (r = db_next(s, q, e)) > 0) {
		if (strv_add(&ids, col_str(q, 0)) < 0) {
			db_done(q);
			return err_nomem(e);
		}
	}
	if (r == 0)
		*ret = TAKE(ids);
	return r;
}
