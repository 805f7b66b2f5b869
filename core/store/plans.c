/* SPDX-License-Identifier: MIT */
#include "store/db.h"

#include "base/str.h"

#include <errno.h>

/* total() cannot overflow, as sum() does. */
#define OF_TASKS ", " TOKENS_MAX ") AS INTEGER) FROM task WHERE plan_id = plan.id),"

#define PLAN_COLUMNS \
	"SELECT id, name, status, paused, worktrees, base, base_ref, base_oid, max_agents," \
	" token_budget," \
	" (SELECT count(*) FROM task WHERE plan_id = plan.id)," \
	" (SELECT CAST(min(total(tokens_input)" OF_TASKS \
	" (SELECT CAST(min(total(tokens_output)" OF_TASKS \
	" (SELECT CAST(min(total(tokens_cache_read)" OF_TASKS \
	" (SELECT CAST(min(total(tokens_cache_write)" OF_TASKS \
	" halt, halt_also, halt_at, halt_commit, halt_commit_oid, halt_commit_why FROM plan "

static int plan_row_read(sqlite3_stmt *q, struct plan_row *ret, struct err *e)
{
	*ret = (struct plan_row){
		.id = col_int(q, 0),
		.name = col_str(q, 1),
		.paused = col_bool(q, 3),
		.worktrees = col_bool(q, 4),
		.base = col_str(q, 5),
		.base_ref = col_str(q, 6),
		.base_oid = col_str(q, 7),
		.max_agents = col_int(q, 8),
		.token_budget = col_int(q, 9),
		.n_tasks = col_int(q, 10),
		.tokens = {col_int(q, 11), col_int(q, 12), col_int(q, 13), col_int(q, 14)},
		.halt_also = (uint32_t)col_int(q, 16),
		.halt_at = col_int(q, 17),
		.halt_commit = col_str(q, 18),
		.halt_commit_oid = col_str(q, 19),
		.halt_commit_why = col_str(q, 20),
	};
	const char *halt = col_str(q, 15);
	ret->halted = halt != NULL;
	if (plan_status_parse(col_str(q, 2), &ret->status) < 0 ||
		(halt && halt_reason_parse(halt, &ret->halt) < 0))
		return err_set(e, -EBADMSG, "database: plan %lld has a status that is not known",
			(long long)ret->id);
	return 0;
}

static int each_plan(struct store *s, sqlite3_stmt *q, plan_row_fn fn, void *ctx, struct err *e)
{
	int r = e ? e->code : -EIO;
	while (q && (r = db_next(s, q, e)) > 0) {
		struct plan_row row;
		r = plan_row_read(q, &row, e);
		if (r == 0)
			r = fn(ctx, &row);
		if (db_stopped(q, r, e))
			break;
	}
	return r;
}

int store_each_plan(struct store *s, plan_row_fn fn, void *ctx, struct err *e)
{
	return each_plan(s, db_query(s, e, PLAN_COLUMNS "ORDER BY id", ""), fn, ctx, e);
}

int store_plan(struct store *s, int64_t id, plan_row_fn fn, void *ctx, struct err *e)
{
	return each_plan(s, db_query(s, e, PLAN_COLUMNS "WHERE id = ?", "i", id), fn, ctx, e);
}

int store_plan_id(struct store *s, const char *name, int64_t *ret, struct err *e)
{
	return db_int(s, e, 0, ret, "SELECT id FROM plan WHERE name = ?", "s", name);
}

int store_plan_definition(struct store *s, int64_t id, char **ret, struct err *e)
{
	sqlite3_stmt *q = db_query(s, e, "SELECT definition FROM plan WHERE id = ?", "i", id);
	int r = q ? db_next(s, q, e) : (e ? e->code : -EIO);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, -ENOENT, "no plan with id %lld", (long long)id);
	char *text = str_dup(col_str(q, 0));
	db_done(q);
	if (!text)
		return err_nomem(e);
	*ret = text;
	return 0;
}

/* ---- changes ---- */

int store_plan_set_status(
	struct store *s, int64_t id, enum plan_status status, int64_t now, struct err *e)
{
	(void)now;
	int r = db_run(s, e, "UPDATE plan SET status = ? WHERE id = ?", "si",
		plan_status_name(status), id);
	if (r < 0 || (status != PLAN_RUNNING && status != PLAN_COMPLETED))
		return r;
	return db_run(s, e,
		"UPDATE plan SET halt = NULL, halt_also = 0, halt_at = NULL, halt_commit = NULL,"
		" halt_commit_oid = NULL, halt_commit_why = NULL WHERE id = ?",
		"i", id);
}

int store_plan_set_paused(struct store *s, int64_t id, bool paused, struct err *e)
{
	return db_run(s, e, "UPDATE plan SET paused = ? WHERE id = ?", "bi", paused, id);
}

int store_plan_set_base(
	struct store *s, int64_t id, const char *base_ref, const char *base_oid, struct err *e)
{
	return db_run(s, e, "UPDATE plan SET base_ref = ?, base_oid = ? WHERE id = ?", "ssi",
		base_ref, base_oid, id);
}

int store_plan_clear_places(struct store *s, int64_t id, struct err *e)
{
	int r = db_run(s, e, "UPDATE plan SET base_oid = NULL WHERE id = ?", "i", id);
	return r < 0 ? r
		     : db_run(s, e,
			       "UPDATE task SET branch = NULL, worktree = NULL WHERE plan_id = ?",
			       "i", id);
}

int store_plan_set_halt(struct store *s, int64_t id, enum plan_status status,
	enum halt_reason reason, uint32_t also, int64_t now, struct err *e)
{
	return db_run(s, e,
		"UPDATE plan SET status = ?, halt = ?, halt_also = ?, halt_at = ?, halt_commit = "
		"NULL,"
		" halt_commit_oid = NULL, halt_commit_why = NULL WHERE id = ?",
		"ssiii", plan_status_name(status), halt_reason_name(reason), (int64_t)also, now,
		id);
}

int store_plan_set_halt_commit(struct store *s, int64_t id, const char *result, const char *oid,
	const char *why, struct err *e)
{
	return db_run(s, e,
		"UPDATE plan SET halt_commit = ?, halt_commit_oid = ?, halt_commit_why = ? WHERE "
		"id = ?",
		"sssi", result, oid, why, id);
}

int store_plan_delete(struct store *s, int64_t id, struct err *e)
{
	int r = db_run(s, e, "DELETE FROM unit WHERE plan_id = ?", "i", id);
	return r < 0 ? r : db_run(s, e, "DELETE FROM plan WHERE id = ?", "i", id);
}
