/* SPDX-License-Identifier: MIT */
/* From a checked plan to rows, and from a changed one to changed rows. */
#include "store/db.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>

static int write_invariants(
	struct store *s, int64_t plan_id, const struct plan *plan, int64_t **ret_ids, struct err *e)
{
	int64_t *ids = calloc(plan->invariant_defs.count + 1, sizeof(*ids));
	if (!ids)
		return err_nomem(e);
	int r = 0;
	for (size_t i = 0; r == 0 && i < plan->invariant_defs.count; i++) {
		const struct invariant *inv = &plan->invariant_defs.items[i];
		char fingerprint[33];
		invariant_fingerprint(inv, fingerprint);
		r = db_run(s, e,
			"INSERT INTO invariant (plan_id, name, command, timeout_ms, expect, "
			"advisory,"
			" red_before, fingerprint) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
			"issiibss", plan_id, inv->name, inv->command, inv->timeout_ms, inv->expect,
			inv->advisory, red_before_name(inv->red_before), fingerprint);
		ids[i] = sqlite3_last_insert_rowid(s->db);
	}
	if (r < 0) {
		free(ids);
		return r;
	}
	*ret_ids = ids;
	return 0;
}

static int write_judges(struct store *s, int64_t plan_id, int64_t task_id, const uint32_t *list,
	uint32_t n, const int64_t *ids, struct err *e)
{
	int r = 0;
	for (uint32_t i = 0; r == 0 && i < n; i++)
		r = db_run(s, e,
			"INSERT INTO judged_by (plan_id, task_id, seq, invariant_id) VALUES (?, ?, "
			"?, ?)",
			"iiii", plan_id, task_id, (int64_t)i, ids[list[i]]);
	return r;
}

/* Everything that hangs on invariants is written anew: results refer to them by name. */
static int rewrite_judges(struct store *s, int64_t plan_id, const struct plan *plan,
	const int64_t *task_ids, struct err *e)
{
	CLEANUP(freep) int64_t *ids = NULL;
	int r = db_run(s, e, "DELETE FROM invariant WHERE plan_id = ?", "i", plan_id);
	if (r == 0)
		r = write_invariants(s, plan_id, plan, &ids, e);
	/* Rows with task_id 0 are the plan's own list; without any, a merge is judged by its
	 * task's. */
	if (r == 0 && plan->has_invariants)
		r = write_judges(s, plan_id, 0, plan->invariants, plan->n_invariants, ids, e);
	for (size_t i = 0; r == 0 && i < plan->tasks.count; i++)
		r = write_judges(s, plan_id, task_ids[i], plan->tasks.items[i].invariants,
			plan->tasks.items[i].n_invariants, ids, e);
	return r;
}

static int insert_task(struct store *s, int64_t plan_id, const struct plan *plan, size_t i,
	int64_t now, int64_t *ret_id, struct err *e)
{
	const struct task *t = &plan->tasks.items[i];
	int r = db_run(s, e,
		"INSERT INTO task (plan_id, seq, name, gate, scope, allow_empty, harness, tag, "
		"prompt,"
		" command, priority, retry_max, timeout_ms, token_budget, updated_at)"
		" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		"iisssbssssiiiii", plan_id, (int64_t)i, t->name, gate_name(t->gate),
		scope_name(t->scope), t->allow_empty, t->harness ? t->harness : plan->harness,
		t->tag, t->prompt, t->command, t->priority, t->retry_max, t->timeout_ms,
		t->token_budget, now);
	*ret_id = sqlite3_last_insert_rowid(s->db);
	return r;
}

static int write_edges(
	struct store *s, const struct plan *plan, size_t i, const int64_t *task_ids, struct err *e)
{
	const struct task *t = &plan->tasks.items[i];
	int r = 0;
	for (uint32_t k = 0; r == 0 && k < t->n_deps; k++)
		r = db_run(s, e, "INSERT INTO dependency (task_id, needs_id) VALUES (?, ?)", "ii",
			task_ids[i], task_ids[t->deps[k]]);
	return r;
}

/* What a halt saved: a state that was under way elsewhere comes back as pending. */
static int write_state(struct store *s, int64_t task_id, const struct plan_state *state,
	int64_t now, struct err *e)
{
	enum task_status status = TASK_PENDING;
	enum outcome outcome = OUTCOME_NONE;
	if (state->status && task_status_parse(state->status, &status) < 0)
		return err_exit(e, EXIT_DATA, "unknown task status '%s'", state->status);
	if (state->outcome && outcome_parse(state->outcome, &outcome) < 0)
		return err_exit(e, EXIT_DATA, "unknown outcome '%s'", state->outcome);
	bool under_way = status == TASK_ASSIGNED || status == TASK_RUNNING ||
			 status == TASK_CHECKING || status == TASK_INTEGRATING;
	if (under_way)
		status = TASK_PENDING;
	return db_run(s, e,
		"UPDATE task SET status = ?, attempt = ?, outcome = ?, reason = ?, commit_oid = ?,"
		" has_commit = ?,"
		" tokens_input = min(?, " TOKENS_MAX "), tokens_output = min(?, " TOKENS_MAX "),"
		" tokens_cache_read = min(?, " TOKENS_MAX
		"), tokens_cache_write = min(?, " TOKENS_MAX "), updated_at = ? WHERE id = ?",
		"sisssbiiiiii", task_status_name(status), state->attempt, outcome_name(outcome),
		state->reason, state->commit, state->commit && !state->commit_absent,
		state->tokens.input, state->tokens.output, state->tokens.cache_read,
		state->tokens.cache_write, now, task_id);
}

static int write_definition(struct store *s, int64_t id, const struct plan *plan, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (plan_export(plan, PLAN_EXPORT_DEFINITION, &text) < 0)
		return err_nomem(e);
	return db_run(s, e,
		"UPDATE plan SET definition = ?, base = ?, worktrees = ?, max_agents = ?,"
		" token_budget = ? WHERE id = ?",
		"ssbiii", buf_cstr(&text), plan->base, plan->isolation == ISOLATION_WORKTREE,
		plan->max_agents, plan->token_budget, id);
}

/* A plan that a halt saved is as it was; one that ran then has halted. */
static enum plan_status imported_status(const struct plan *plan, enum plan_status otherwise)
{
	enum plan_status status;
	if (!plan->state || !plan->state->status ||
		plan_status_parse(plan->state->status, &status) < 0)
		return otherwise;
	return status == PLAN_RUNNING ? PLAN_HALTED : status;
}

static int import_rows(struct store *s, const struct plan *plan, enum plan_status status,
	int64_t now, int64_t *ret_id, struct err *e)
{
	int r = db_run(s, e,
		"INSERT INTO plan (name, status, worktrees, definition, max_agents, token_budget,"
		" created_at) VALUES (?, ?, 0, '', 0, 0, ?)",
		"ssi", plan->name, plan_status_name(imported_status(plan, status)), now);
	if (r < 0)
		return r;
	int64_t id = sqlite3_last_insert_rowid(s->db);
	CLEANUP(freep) int64_t *task_ids = calloc(plan->tasks.count + 1, sizeof(int64_t));
	if (!task_ids)
		return err_nomem(e);
	r = write_definition(s, id, plan, e);
	for (size_t i = 0; r == 0 && i < plan->tasks.count; i++)
		r = insert_task(s, id, plan, i, now, &task_ids[i], e);
	for (size_t i = 0; r == 0 && i < plan->tasks.count; i++) {
		r = write_edges(s, plan, i, task_ids, e);
		if (r == 0 && plan->tasks.items[i].state)
			r = write_state(s, task_ids[i], plan->tasks.items[i].state, now, e);
	}
	if (r == 0)
		r = rewrite_judges(s, id, plan, task_ids, e);
	enum halt_reason halt;
	if (r == 0 && plan->state && plan->state->reason &&
		halt_reason_parse(plan->state->reason, &halt) == 0)
		r = store_plan_set_halt(s, id, imported_status(plan, status), halt, 0, now, e);
	*ret_id = id;
	return r;
}

int store_plan_import(struct store *s, const struct plan *plan, enum plan_status status,
	int64_t now, int64_t *ret_id, struct err *e)
{
	bool own = !s->in_transaction;
	int64_t id = 0;
	int r = own ? store_begin(s, e) : 0;
	if (r < 0)
		return r;
	r = import_rows(s, plan, status, now, &id, e);
	if (own && r == 0)
		r = store_commit(s, e);
	if (own && r < 0)
		store_rollback(s);
	if (r == 0)
		*ret_id = id;
	return r;
}

/* ---- a changed plan ---- */

static int update_task(
	struct store *s, int64_t id, const struct plan *plan, size_t i, int64_t now, struct err *e)
{
	const struct task *t = &plan->tasks.items[i];
	/* What differs for a started task was allowed to by the caller, so one statement serves
	 * both. */
	return db_run(s, e,
		"UPDATE task SET seq = ?, gate = ?, scope = ?, allow_empty = ?, harness = ?, tag = "
		"?,"
		" prompt = ?, command = ?, priority = ?, retry_max = ?, timeout_ms = ?, "
		"token_budget = ?,"
		" updated_at = ? WHERE id = ?",
		"issbssssiiiiii", (int64_t)i, gate_name(t->gate), scope_name(t->scope),
		t->allow_empty, t->harness ? t->harness : plan->harness, t->tag, t->prompt,
		t->command, t->priority, t->retry_max, t->timeout_ms, t->token_budget, now, id);
}

static int delete_missing(struct store *s, int64_t id, const struct plan *plan, struct err *e)
{
	struct VEC(int64_t) gone = {0};
	sqlite3_stmt *q = db_query(s, e, "SELECT id, name FROM task WHERE plan_id = ?", "i", id);
	int r = q ? 0 : (e ? e->code : -EIO);
	while (r >= 0 && q && (r = db_next(s, q, e)) > 0) {
		if (plan_find_task(plan, col_str(q, 1)) >= 0)
			continue;
		int64_t *slot = VEC_PUSH(&gone);
		if (!slot) {
			db_done(q);
			r = err_nomem(e);
			break;
		}
		*slot = col_int(q, 0);
	}
	for (size_t i = 0; r == 0 && i < gone.count; i++)
		r = db_run(s, e, "DELETE FROM task WHERE id = ?", "i", gone.items[i]);
	VEC_FREE(&gone);
	return r;
}

int store_plan_update(
	struct store *s, int64_t id, const struct plan *plan, int64_t now, struct err *e)
{
	CLEANUP(freep) int64_t *task_ids = calloc(plan->tasks.count + 1, sizeof(int64_t));
	if (!task_ids)
		return err_nomem(e);
	int r = delete_missing(s, id, plan, e);
	if (r == 0)
		r = write_definition(s, id, plan, e);
	for (size_t i = 0; r == 0 && i < plan->tasks.count; i++) {
		r = store_task_id(s, id, plan->tasks.items[i].name, &task_ids[i], e);
		if (r == 0 && task_ids[i] == 0)
			r = insert_task(s, id, plan, i, now, &task_ids[i], e);
		else if (r == 0)
			r = update_task(s, task_ids[i], plan, i, now, e);
		if (r == 0)
			r = db_run(
				s, e, "DELETE FROM dependency WHERE task_id = ?", "i", task_ids[i]);
	}
	for (size_t i = 0; r == 0 && i < plan->tasks.count; i++)
		r = write_edges(s, plan, i, task_ids, e);
	if (r == 0)
		r = rewrite_judges(s, id, plan, task_ids, e);
	return r;
}
