/* SPDX-License-Identifier: MIT */
/*
 * The schema, one numbered step after the other; PRAGMA user_version holds the number of the last
 * one. A step that was released is never changed: a new step follows it. Lists in CHECK come from
 * plan/words.h; a word that is added there needs a step that rebuilds the table
 * (tests/unit/test_store_upgrade.c).
 */
#include "store/db.h"

#include <errno.h>
#include <stdio.h>

#define QUOTED(suffix, name)         "'" name "',"
#define QUOTED3(suffix, name, extra) "'" name "',"

/* The lists end in a comma; the last member is one that is allowed anyway. */
#define CHECK_TASK_STATUS(column) "CHECK (" column " IN (" TASK_STATUS_LIST(QUOTED) "'pending'))"
#define CHECK_PLAN_STATUS(column) "CHECK (" column " IN (" PLAN_STATUS_LIST(QUOTED) "'draft'))"
#define CHECK_OUTCOME(column)     "CHECK (" column " IN (" OUTCOME_LIST(QUOTED) "''))"
#define CHECK_HALT(column)        "CHECK (" column " IN (" HALT_LIST(QUOTED3) "'completed'))"
#define CHECK_BOOL(column)        "CHECK (" column " IN (0, 1))"

/* clang-format off */
static const char step_1[] =
	"CREATE TABLE plan ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" name TEXT NOT NULL UNIQUE,"
	" status TEXT NOT NULL " CHECK_PLAN_STATUS("status") ","
	" paused INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("paused") ","
	" worktrees INTEGER NOT NULL " CHECK_BOOL("worktrees") ","
	" definition TEXT NOT NULL,"
	" base TEXT,"
	" base_ref TEXT,"
	" base_oid TEXT,"
	" max_agents INTEGER NOT NULL,"
	" token_budget INTEGER NOT NULL,"
	" halt TEXT " CHECK_HALT("halt") ","
	" halt_also INTEGER NOT NULL DEFAULT 0,"
	" halt_at INTEGER,"
	" halt_commit TEXT,"
	" halt_commit_oid TEXT,"
	" halt_commit_why TEXT,"
	" created_at INTEGER NOT NULL"
	") STRICT;"

	"CREATE TABLE task ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" plan_id INTEGER NOT NULL REFERENCES plan(id) ON DELETE CASCADE,"
	" seq INTEGER NOT NULL,"
	" name TEXT NOT NULL,"
	" status TEXT NOT NULL DEFAULT 'pending' " CHECK_TASK_STATUS("status") ","
	" outcome TEXT NOT NULL DEFAULT '' " CHECK_OUTCOME("outcome") ","
	" gate TEXT NOT NULL,"
	" scope TEXT NOT NULL,"
	" paused INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("paused") ","
	" attempt_open INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("attempt_open") ","
	" allow_empty INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("allow_empty") ","
	" approved INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("approved") ","
	" carry INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("carry") ","
	" has_commit INTEGER NOT NULL DEFAULT 0 " CHECK_BOOL("has_commit") ","
	" reason TEXT,"
	" harness TEXT,"
	" tag TEXT,"
	" prompt TEXT,"
	" command TEXT,"
	" branch TEXT,"
	" commit_oid TEXT,"
	" worktree TEXT,"
	" attempt INTEGER NOT NULL DEFAULT 0,"
	" priority INTEGER NOT NULL,"
	" retry_max INTEGER NOT NULL,"
	" retries_used INTEGER NOT NULL DEFAULT 0,"
	" lost_row INTEGER NOT NULL DEFAULT 0,"
	" conflict_row INTEGER NOT NULL DEFAULT 0,"
	" unchanged_row INTEGER NOT NULL DEFAULT 0,"
	" not_before INTEGER NOT NULL DEFAULT 0,"
	" timeout_ms INTEGER NOT NULL,"
	" token_budget INTEGER NOT NULL,"
	" tokens_input INTEGER NOT NULL DEFAULT 0,"
	" tokens_output INTEGER NOT NULL DEFAULT 0,"
	" tokens_cache_read INTEGER NOT NULL DEFAULT 0,"
	" tokens_cache_write INTEGER NOT NULL DEFAULT 0,"
	" updated_at INTEGER NOT NULL,"
	" UNIQUE (plan_id, name)"
	") STRICT;"

	"CREATE TABLE dependency ("
	" task_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,"
	" needs_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,"
	" PRIMARY KEY (task_id, needs_id)"
	") STRICT,"
	" WITHOUT ROWID;"
	"CREATE INDEX dependency_needs ON dependency (needs_id);"

	"CREATE TABLE invariant ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" plan_id INTEGER NOT NULL REFERENCES plan(id) ON DELETE CASCADE,"
	" name TEXT NOT NULL,"
	" command TEXT NOT NULL,"
	" timeout_ms INTEGER NOT NULL,"
	" expect INTEGER NOT NULL,"
	" advisory INTEGER NOT NULL " CHECK_BOOL("advisory") ","
	" red_before TEXT NOT NULL,"
	" fingerprint TEXT NOT NULL,"
	" UNIQUE (plan_id, name)"
	") STRICT;"
	/* task_id 0 stands for the plan itself: what judges a merge. */

	"CREATE TABLE judged_by ("
	" plan_id INTEGER NOT NULL REFERENCES plan(id) ON DELETE CASCADE,"
	" task_id INTEGER NOT NULL,"
	" seq INTEGER NOT NULL,"
	" invariant_id INTEGER NOT NULL REFERENCES invariant(id) ON DELETE CASCADE,"
	" PRIMARY KEY (plan_id, task_id, seq)"
	") STRICT,"
	" WITHOUT ROWID;"
	"CREATE INDEX judged_by_invariant ON judged_by (invariant_id);"

	"CREATE TABLE attempt ("
	" task_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,"
	" number INTEGER NOT NULL,"
	" harness TEXT NOT NULL,"
	" unit_id TEXT NOT NULL,"
	" start_oid TEXT,"
	" commit_oid TEXT,"
	" outcome TEXT NOT NULL DEFAULT '' " CHECK_OUTCOME("outcome") ","
	" reason TEXT,"
	" feedback TEXT,"
	" session TEXT,"
	" containment TEXT,"
	" started_at INTEGER NOT NULL,"
	" ended_at INTEGER,"
	" exit_code INTEGER,"
	" signal INTEGER,"
	" left_behind INTEGER,"
	" killed INTEGER,"
	" sweep_ms INTEGER,"
	" contained INTEGER,"
	" tokens_input INTEGER NOT NULL DEFAULT 0,"
	" tokens_output INTEGER NOT NULL DEFAULT 0,"
	" tokens_cache_read INTEGER NOT NULL DEFAULT 0,"
	" tokens_cache_write INTEGER NOT NULL DEFAULT 0,"
	" cost REAL NOT NULL DEFAULT 0,"
	" PRIMARY KEY (task_id, number)"
	") STRICT,"
	" WITHOUT ROWID;"

	"CREATE TABLE unit ("
	" id TEXT PRIMARY KEY,"
	" kind TEXT NOT NULL,"
	" plan_id INTEGER NOT NULL,"
	" task_id INTEGER NOT NULL,"
	" attempt INTEGER NOT NULL,"
	" name TEXT,"
	" boot_id TEXT NOT NULL,"
	" journal_offset INTEGER NOT NULL DEFAULT 0,"
	" started_at INTEGER NOT NULL,"
	" ended_at INTEGER"
	") STRICT,"
	" WITHOUT ROWID;"
	"CREATE INDEX unit_open ON unit (started_at) WHERE ended_at IS NULL;"
	"CREATE INDEX unit_ended ON unit (ended_at) WHERE ended_at IS NOT NULL;"

	"CREATE TABLE transition ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" plan_id INTEGER NOT NULL REFERENCES plan(id) ON DELETE CASCADE,"
	" task_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,"
	" attempt INTEGER NOT NULL,"
	" from_status TEXT NOT NULL " CHECK_TASK_STATUS("from_status") ","
	" to_status TEXT NOT NULL " CHECK_TASK_STATUS("to_status") ","
	" reason TEXT,"
	" at INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX transition_task ON transition (task_id, id);"
	"CREATE INDEX transition_plan ON transition (plan_id);"

	"CREATE TABLE event ("
	" seq INTEGER PRIMARY KEY AUTOINCREMENT,"
	" at INTEGER NOT NULL,"
	" plan_id INTEGER NOT NULL REFERENCES plan(id) ON DELETE CASCADE,"
	" task_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,"
	" attempt INTEGER NOT NULL,"
	" kind TEXT NOT NULL,"
	" data TEXT NOT NULL"
	") STRICT;"
	"CREATE INDEX event_task ON event (task_id, seq);"
	"CREATE INDEX event_plan ON event (plan_id, seq);"

	"CREATE TABLE gate_result ("
	" id INTEGER PRIMARY KEY AUTOINCREMENT,"
	" task_id INTEGER NOT NULL REFERENCES task(id) ON DELETE CASCADE,"
	" attempt INTEGER NOT NULL,"
	" stage TEXT NOT NULL,"
	" invariant TEXT NOT NULL,"
	" passed INTEGER NOT NULL " CHECK_BOOL("passed") ","
	" timed_out INTEGER NOT NULL " CHECK_BOOL("timed_out") ","
	" cached INTEGER NOT NULL " CHECK_BOOL("cached") ","
	" red_before INTEGER NOT NULL " CHECK_BOOL("red_before") ","
	" advisory INTEGER NOT NULL " CHECK_BOOL("advisory") ","
	" exit_code INTEGER NOT NULL,"
	" signal INTEGER NOT NULL,"
	" duration_ms INTEGER NOT NULL,"
	" stdout TEXT NOT NULL,"
	" stderr TEXT NOT NULL,"
	" at INTEGER NOT NULL"
	") STRICT;"
	"CREATE INDEX gate_result_task ON gate_result (task_id, attempt, id);"

	"CREATE TABLE gate_cache ("
	" tree TEXT NOT NULL,"
	" fingerprint TEXT NOT NULL,"
	" passed INTEGER NOT NULL " CHECK_BOOL("passed") ","
	" timed_out INTEGER NOT NULL " CHECK_BOOL("timed_out") ","
	" exit_code INTEGER NOT NULL,"
	" signal INTEGER NOT NULL,"
	" duration_ms INTEGER NOT NULL,"
	" stdout TEXT NOT NULL,"
	" stderr TEXT NOT NULL,"
	" at INTEGER NOT NULL,"
	" PRIMARY KEY (tree, fingerprint)"
	") STRICT,"
	" WITHOUT ROWID;";
/* clang-format on */

/* Findings are few among many events, and every status asks for them. */
static const char step_2[] =
	"CREATE INDEX event_finding ON event (plan_id, seq) WHERE kind = 'finding';";

/* A harness that was limited stays so for the next engine. */
static const char step_3[] = "CREATE TABLE breaker ("
			     " harness TEXT PRIMARY KEY,"
			     " open_until INTEGER NOT NULL,"
			     " level INTEGER NOT NULL"
			     ") STRICT,"
			     " WITHOUT ROWID;";

/* What agents were given of the shared repository is known to the engine that sees them end. A
 * limit is one of a credential; of what was kept by a harness's name, nobody can say which. */
static const char step_4[] = "CREATE TABLE seen ("
			     " id INTEGER PRIMARY KEY CHECK (id = 1),"
			     " repository TEXT NOT NULL"
			     ") STRICT;"
			     "DELETE FROM breaker;"
			     "ALTER TABLE breaker RENAME COLUMN harness TO credential;";

static const char *const steps[] = {step_1, step_2, step_3, step_4};

int store_schema_latest(void)
{
	return (int)(sizeof(steps) / sizeof(steps[0]));
}

int store_schema_version(struct store *s, int *ret, struct err *e)
{
	int64_t version;
	int r = db_int(s, e, 0, &version, "PRAGMA user_version", "");
	if (r == 0)
		*ret = (int)version;
	return r;
}

/* All steps in one transaction: a crash in the middle leaves the old schema. */
int store_migrate(struct store *s, struct err *e)
{
	int version = 0;
	int r = store_schema_version(s, &version, e);
	if (r < 0 || version == store_schema_latest())
		return r;
	r = store_begin(s, e);
	for (; r == 0 && version < store_schema_latest(); version++)
		r = db_exec(s, steps[version], e);
	char set[64];
	snprintf(set, sizeof(set), "PRAGMA user_version = %d", store_schema_latest());
	if (r == 0)
		r = db_exec(s, set, e);
	if (r == 0)
		r = store_commit(s, e);
	if (r < 0) {
		store_rollback(s);
		return err_prefix(
			e, "cannot upgrade the database to schema %d", store_schema_latest());
	}
	return 0;
}
