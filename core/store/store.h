/* SPDX-License-Identifier: MIT */
/*
 * orch.db: what was decided and what became of it. SQLite in WAL mode, synchronous=FULL: a
 * committed transaction survives a power failure. Whoever opens it STORE_WRITE holds the
 * repository's `lock`; readers need no lock. One thread per struct store.
 *
 * Errors: -ENOSPC and -EIO for the disk, -EBUSY when another process held the database for longer
 * than a second, -EBADMSG for a file that is not ours or is damaged, -EPROTO for a newer schema
 * than this binary knows (nothing is changed then).
 *
 * Strings in rows handed to a callback are borrowed until it returns; NULL where the column is
 * NULL.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/buf.h"
#include "base/err.h"
#include "plan/plan.h"
#include "plan/words.h"

#include <stdbool.h>
#include <stdint.h>

struct store;

enum store_mode {
	STORE_READ,  /* -ENOENT when there is no database; an older schema is read after an upgrade
		      */
	STORE_WRITE, /* makes it and migrates it */
};

#define STORE_FILE "orch.db"

int store_open(
	const char *state_dir, enum store_mode mode, struct store **ret, struct err *e) MUST_CHECK;
void store_close(struct store *s);
DEFINE_FREEP(store_closep, struct store, store_close)
/* The newest schema this binary knows, and the one of a database. */
int store_schema_latest(void);
/* -ESTALE from store_open(STORE_READ): the schema is older, a writer must migrate it first. */

/*
 * A file of 4 MiB beside the database, made by store_open(STORE_WRITE): released when the disk is
 * full, so that the last transactions find room. The next writer makes it again.
 */
#define STORE_RESERVE_FILE "reserve"
void store_release_reserve(const char *state_dir);

/* Whether the file that is open was removed from its place, or another put there: what is written
 * goes nowhere. One stat(2). */
bool store_has_moved(struct store *s);

int store_begin(struct store *s, struct err *e) MUST_CHECK;
int store_commit(struct store *s, struct err *e) MUST_CHECK;
void store_rollback(struct store *s);
bool store_in_transaction(const struct store *s);

/* ---- plans --------------------------------------------------------------------------------------
 */

struct plan_row {
	int64_t id;
	const char *name;
	enum plan_status status;
	bool paused;
	bool worktrees;
	const char *base;     /* as the plan says; NULL: the branch that was current */
	const char *base_ref; /* the branch or commit it came to at the first dispatch */
	const char *base_oid;
	int64_t max_agents;
	int64_t token_budget;
	int64_t n_tasks;
	int64_t tokens[4]; /* input, output, cache_read, cache_write */
	bool halted;
	enum halt_reason halt;
	uint32_t halt_also; /* bit mask */
	int64_t halt_at;
	const char *halt_commit; /* committed, unchanged, failed, off; NULL: none was tried */
	const char *halt_commit_oid;
	const char *halt_commit_why;
};

typedef int (*plan_row_fn)(void *ctx, const struct plan_row *row);
/* Calls fn for each plan, oldest first; stops at its first non-zero value and returns that. */
int store_each_plan(struct store *s, plan_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
int store_plan(struct store *s, int64_t id, plan_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* *ret 0: no such plan. */
int store_plan_id(struct store *s, const char *name, int64_t *ret, struct err *e) MUST_CHECK;
/* The plan as imported (plan_export text); owned. */
int store_plan_definition(struct store *s, int64_t id, char **ret, struct err *e) MUST_CHECK;

/* Imports a checked plan as one transaction (or inside the caller's). */
int store_plan_import(struct store *s, const struct plan *plan, enum plan_status status,
	int64_t now, int64_t *ret_id, struct err *e) MUST_CHECK;
/*
 * Brings a stored plan to a changed definition: new tasks are added, tasks that never started
 * updated or removed, others get the fields that may change. The caller has checked with plan_diff
 * that nothing else differs. Inside the caller's transaction.
 */
int store_plan_update(struct store *s, int64_t id, const struct plan *plan, int64_t now,
	struct err *e) MUST_CHECK;
int store_plan_delete(struct store *s, int64_t id, struct err *e) MUST_CHECK;
/* A plan that runs again, or was completed afterwards, is no longer halted. */
int store_plan_set_status(struct store *s, int64_t id, enum plan_status status, int64_t now,
	struct err *e) MUST_CHECK;
int store_plan_set_paused(struct store *s, int64_t id, bool paused, struct err *e) MUST_CHECK;
int store_plan_set_base(struct store *s, int64_t id, const char *base_ref, const char *base_oid,
	struct err *e) MUST_CHECK;
/* After a cleanup: no branches, no worktrees, and the next dispatch begins at the base as it is
 * then.
 */
int store_plan_clear_places(struct store *s, int64_t id, struct err *e) MUST_CHECK;
int store_plan_set_halt(struct store *s, int64_t id, enum plan_status status,
	enum halt_reason reason, uint32_t also, int64_t now, struct err *e) MUST_CHECK;
int store_plan_set_halt_commit(struct store *s, int64_t id, const char *result, const char *oid,
	const char *why, struct err *e) MUST_CHECK;

/* ---- tasks --------------------------------------------------------------------------------------
 */

struct task_row {
	int64_t id;
	int64_t plan_id;
	int64_t seq; /* place in the plan, from 0 */
	const char *name;
	enum task_status status;
	enum outcome outcome;
	enum gate gate;
	enum scope scope;
	bool paused;
	bool attempt_open;
	bool allow_empty;
	bool approved;
	bool carry;
	bool has_commit;
	const char *reason;  /* "<code>: <text>" */
	const char *harness; /* the task's or the plan's own; NULL: the default */
	const char *tag;
	const char *branch;
	const char *commit_oid;
	const char *worktree;
	int64_t attempt;
	int64_t priority;
	int64_t retry_max;
	int64_t retries_used;
	int64_t lost_row;
	int64_t conflict_row;
	int64_t unchanged_row;
	int64_t not_before; /* wall clock ms */
	int64_t timeout_ms; /* 0: the configured one */
	int64_t token_budget;
	int64_t tokens[4];
	int64_t n_invariants;
	int64_t updated_at;
};

typedef int (*task_row_fn)(void *ctx, const struct task_row *row);
int store_each_task(
	struct store *s, int64_t plan_id, task_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* 0, or 1 when there is no such task. */
int store_task(struct store *s, int64_t id, task_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
int store_task_id(
	struct store *s, int64_t plan_id, const char *name, int64_t *ret, struct err *e) MUST_CHECK;
/* fn(ctx, task, dependency) for every edge of the plan. */
typedef int (*edge_fn)(void *ctx, int64_t task, int64_t dependency);
/* fn(ctx, dependency) for what one task depends on. */
typedef int (*need_fn)(void *ctx, int64_t dependency);
int store_each_need(
	struct store *s, int64_t task_id, need_fn fn, void *ctx, struct err *e) MUST_CHECK;
int store_each_edge(
	struct store *s, int64_t plan_id, edge_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* fn(ctx, task, invariant's name) for every invariant of the plan's tasks, in each task's order;
 * task 0: the plan's own list. */
typedef int (*judged_fn)(void *ctx, int64_t task, const char *invariant);
int store_each_judged(
	struct store *s, int64_t plan_id, judged_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* For every task of the plan: the harness of its newest attempt (NULL: none yet), and whether it is
 * a command. */
typedef int (*task_harness_fn)(void *ctx, int64_t task, const char *harness, bool is_command);
int store_each_task_harness(
	struct store *s, int64_t plan_id, task_harness_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* Prompt and command of a task; owned, NULL where not set. */
int store_task_text(struct store *s, int64_t id, char **ret_prompt, char **ret_command,
	struct err *e) MUST_CHECK;

/* What a transition stores; the row of history is made from it. */
struct task_save {
	int64_t id;
	int64_t plan_id;
	enum task_status from, to;
	enum outcome outcome; /* NONE while the attempt is open */
	const char *reason;   /* why it is in `to` now; NULL: no reason */
	int64_t attempt;
	bool attempt_open;
	int64_t retries_used;
	int64_t lost_row, conflict_row, unchanged_row;
	int64_t not_before;
	bool paused, approved, carry, has_commit;
};
int store_save_task(
	struct store *s, const struct task_save *save, int64_t now, struct err *e) MUST_CHECK;
int store_task_set_paused(struct store *s, int64_t id, bool paused, struct err *e) MUST_CHECK;
/* Whether the next attempt goes on from the last one's tree. */
int store_task_set_carry(struct store *s, int64_t id, bool carry, struct err *e) MUST_CHECK;
int store_task_set_worktree(
	struct store *s, int64_t id, const char *worktree, struct err *e) MUST_CHECK;
int store_task_set_commit(
	struct store *s, int64_t id, const char *branch, const char *oid, struct err *e) MUST_CHECK;

typedef int (*transition_fn)(void *ctx, int64_t at, int64_t attempt, const char *from,
	const char *to, const char *reason);
int store_each_transition(
	struct store *s, int64_t task_id, transition_fn fn, void *ctx, struct err *e) MUST_CHECK;

/* ---- attempts -----------------------------------------------------------------------------------
 */

struct attempt_row {
	int64_t task_id;
	int64_t number;
	const char *harness;
	const char *unit_id;
	const char *start_oid;
	const char *commit_oid;
	enum outcome outcome;
	const char *reason;
	const char *feedback; /* what the next attempt is told */
	const char *session;
	const char *containment;
	int64_t started_at, ended_at;
	int64_t exit_code, signal;
	int64_t left, killed, sweep_ms;
	bool contained;
	int64_t tokens[4];
	double cost;
};

typedef int (*attempt_row_fn)(void *ctx, const struct attempt_row *row);
int store_each_attempt(
	struct store *s, int64_t task_id, attempt_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* 0, or 1 when there is no such attempt. */
int store_attempt(struct store *s, int64_t task_id, int64_t number, attempt_row_fn fn, void *ctx,
	struct err *e) MUST_CHECK;
/* Opens attempt and unit: the intent to start. The same attempt may be opened again with a new
 * unit. */
int store_attempt_open(struct store *s, int64_t plan_id, int64_t task_id, int64_t number,
	const char *harness, const char *unit_id, const char *boot_id, int64_t now,
	struct err *e) MUST_CHECK;
int store_attempt_set_start(struct store *s, int64_t task_id, int64_t number, const char *start_oid,
	struct err *e) MUST_CHECK;
/* How the agent ended: everything of the row but outcome, reason, commit and feedback. */
int store_attempt_set_exit(
	struct store *s, const struct attempt_row *row, struct err *e) MUST_CHECK;
int store_attempt_set_commit(struct store *s, int64_t task_id, int64_t number, const char *oid,
	struct err *e) MUST_CHECK;
int store_attempt_set_feedback(struct store *s, int64_t task_id, int64_t number, const char *text,
	struct err *e) MUST_CHECK;

/* ---- units --------------------------------------------------------------------------------------
 */

struct unit_row {
	const char *id;
	const char *kind;
	int64_t plan_id, task_id, attempt;
	const char *name;
	bool ended;
	int64_t journal_offset;
};

typedef int (*unit_row_fn)(void *ctx, const struct unit_row *row);
/* Units that have not been seen to end, of every plan, oldest first. */
int store_each_open_unit(struct store *s, unit_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
int store_unit(
	struct store *s, const char *id, unit_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
int store_unit_add(struct store *s, const struct unit_row *row, const char *boot_id, int64_t now,
	struct err *e) MUST_CHECK;
int store_unit_end(struct store *s, const char *id, int64_t now, struct err *e) MUST_CHECK;
/* The unit, and what its attempt said but for findings. */
int store_unit_forget(struct store *s, const char *id, struct err *e) MUST_CHECK;
/* Ids of ended units whose end is older than `before` (wall clock ms): for [log] keep. Owned strv.
 */
int store_units_ended_before(
	struct store *s, int64_t before, char ***ret, struct err *e) MUST_CHECK;

/* ---- events -------------------------------------------------------------------------------------
 */

struct event_row {
	int64_t seq;
	int64_t at;
	int64_t plan_id, task_id, attempt;
	const char *kind;
	const char *data; /* JSON */
};

int store_event_add(struct store *s, const struct event_row *row, struct err *e) MUST_CHECK;
/* Stored with the rows of the same transaction, so that no event is lost or doubled. */
int store_unit_set_offset(
	struct store *s, const char *unit_id, int64_t offset, struct err *e) MUST_CHECK;
typedef int (*event_row_fn)(void *ctx, const struct event_row *row);
/* Events of a task (0: of the whole plan) with seq > after, in order. */
int store_each_event(struct store *s, int64_t plan_id, int64_t task_id, int64_t after,
	event_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* The data of the newest event of a kind of a task's attempt; owned, NULL where there is none. */
int store_last_event(struct store *s, int64_t task_id, int64_t attempt, const char *kind,
	char **ret, struct err *e) MUST_CHECK;
/* Events of all plans with seq >= from, in order, at most `limit`, with the names of plan and task.
 */
typedef int (*named_event_fn)(
	void *ctx, const struct event_row *row, const char *plan, const char *task);
int store_each_named_event(struct store *s, int64_t from, int64_t limit, named_event_fn fn,
	void *ctx, struct err *e) MUST_CHECK;
/* The seq that the next event will have, or a lower one. */
int store_next_event(struct store *s, int64_t *ret, struct err *e) MUST_CHECK;
/* Findings of a plan's agents, in order; data is JSON as it was stored. */
typedef int (*finding_fn)(void *ctx, const char *task, const char *data);
int store_each_finding(
	struct store *s, int64_t plan_id, finding_fn fn, void *ctx, struct err *e) MUST_CHECK;
int store_add_tokens(struct store *s, int64_t task_id, int64_t attempt, const int64_t tokens[4],
	double cost, struct err *e) MUST_CHECK;

/* ---- gates --------------------------------------------------------------------------------------
 */

struct invariant_row {
	int64_t id;
	const char *name;
	const char *command;
	int64_t timeout_ms;
	int64_t expect;
	bool advisory;
	enum red_before red_before;
	const char *fingerprint;
};

typedef int (*invariant_row_fn)(void *ctx, const struct invariant_row *row);
/* The invariants of a task, in its order. */
int store_each_task_invariant(
	struct store *s, int64_t task_id, invariant_row_fn fn, void *ctx, struct err *e) MUST_CHECK;
/* Those that judge a merge of the task: the plan's own list, else the task's. */
int store_each_merge_invariant(struct store *s, int64_t plan_id, int64_t task_id,
	invariant_row_fn fn, void *ctx, struct err *e) MUST_CHECK;

/* Those that judge what the whole plan brings: the plan's own list, else all of its tasks'. */
int store_each_final_invariant(
	struct store *s, int64_t plan_id, invariant_row_fn fn, void *ctx, struct err *e) MUST_CHECK;

struct gate_result_row {
	int64_t id; /* grows; read only */
	int64_t at; /* wall clock ms; read only */
	int64_t task_id, attempt;
	const char *stage; /* task, merge, baseline, check */
	const char *invariant;
	bool passed, timed_out, cached, red_before, advisory;
	int64_t exit_code; /* -1: none */
	int64_t signal;
	int64_t duration_ms;
	const char *out;
	const char *errout;
};

int store_gate_result_add(
	struct store *s, const struct gate_result_row *row, int64_t now, struct err *e) MUST_CHECK;
/* Removes an attempt's results of a stage: the gate runs anew. */
int store_gate_results_clear(struct store *s, int64_t task_id, int64_t attempt, const char *stage,
	struct err *e) MUST_CHECK;
typedef int (*gate_result_fn)(void *ctx, const struct gate_result_row *row);
int store_each_gate_result(struct store *s, int64_t task_id, int64_t attempt, gate_result_fn fn,
	void *ctx, struct err *e) MUST_CHECK;

/* Results of a clean tree, by (tree, definition). 0 after fn was called, 1: not there. */
int store_cache_get(struct store *s, const char *tree, const char *fingerprint, gate_result_fn fn,
	void *ctx, struct err *e) MUST_CHECK;
int store_cache_put(struct store *s, const char *tree, const char *fingerprint,
	const struct gate_result_row *row, int64_t now, struct err *e) MUST_CHECK;

/* ---- harnesses ----------------------------------------------------------------------------------
 */

/* A credential (by a name that does not tell it) that was limited, or refused: until when (wall
 * clock ms; 0: it works), and how often in a row without being told until when. */
int store_breaker(struct store *s, const char *credential, int64_t *ret_open_until,
	int64_t *ret_level, struct err *e) MUST_CHECK;
int store_breaker_set(struct store *s, const char *credential, int64_t open_until, int64_t level,
	struct err *e) MUST_CHECK;
/* fn(ctx, harness, tokens) for every harness that the plan's attempts used; input, output and cache
 * writes. */
typedef int (*spent_fn)(void *ctx, const char *harness, int64_t tokens);
int store_each_spent(
	struct store *s, int64_t plan_id, spent_fn fn, void *ctx, struct err *e) MUST_CHECK;

/* The repository that all worktrees share, as it was seen last while agents ran
 * (git_tamper_snapshot). Owned; NULL: never. */
int store_seen(struct store *s, char **ret, struct err *e) MUST_CHECK;
int store_seen_set(struct store *s, const char *text, struct err *e) MUST_CHECK;

/* "ok", or what PRAGMA integrity_check says; owned. */
int store_check(struct store *s, char **ret, struct err *e) MUST_CHECK;

#endif
