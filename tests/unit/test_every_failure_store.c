/* SPDX-License-Identifier: MIT */
/*
 * The database under failure; see failing.h. Whatever fails, it passes its own check, and a
 * transaction is in it as a whole or not at all.
 */
#include "failing.h"

#include "base/str.h"
#include "os/file.h"
#include "store/store.h"

#include <fcntl.h>
#include <stdio.h>

static const char plan_text[] = "[plan]\nname = demo\nharness = shell\ntoken_budget = 1000\n"
				"invariants = build\n"
				"[invariant:build]\ncommand = make ; # all of it\n"
				"[task:one]\nprompt = Do it, and more than a few words of it.\n"
				"invariants = build\n"
				"[task:two]\ncommand = true\ndepends_on = one\npriority = 7\n"
				"[task:three]\ncommand = false\ndepends_on = one, two\n";
static const char changed_text[] = "[plan]\nname = demo\n"
				   "[invariant:test]\ncommand = make test\n"
				   "[task:two]\ncommand = false\ninvariants = test\n"
				   "[task:four]\ncommand = true\ndepends_on = two\n";
static const char unit_id[] = "0123456789abcdef0123456789abcdef";

static struct plan *parse(const char *text)
{
	struct plan *plan = NULL;
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	assert_int_equal(
		plan_parse_text("plan.ini", NULL, text, strlen(text), NULL, &plan, &d, &e), 0);
	diags_deinit(&d);
	return plan;
}

/* ---- what is in the database, as text ---- */

static int note_plan(void *ctx, const struct plan_row *row)
{
	buf_addf(ctx, "plan %s %d %d %lld %lld\n", row->name, (int)row->status, row->paused,
		(long long)row->n_tasks, (long long)row->tokens[0]);
	return 0;
}

static int note_task(void *ctx, const struct task_row *row)
{
	buf_addf(ctx, "task %s %d %lld %d %s %s %lld %s\n", row->name, (int)row->status,
		(long long)row->attempt, (int)row->outcome, row->reason ? row->reason : "-",
		row->branch ? row->branch : "-", (long long)row->n_invariants,
		row->harness ? row->harness : "-");
	return 0;
}

static int note_edge(void *ctx, int64_t task, int64_t dependency)
{
	buf_addf(ctx, "edge %lld %lld\n", (long long)task, (long long)dependency);
	return 0;
}

static int note_judged(void *ctx, int64_t task, const char *invariant)
{
	buf_addf(ctx, "judged %lld %s\n", (long long)task, invariant);
	return 0;
}

static int note_attempt(void *ctx, const struct attempt_row *row)
{
	buf_addf(ctx, "attempt %lld %s %s %d %lld %lld %s\n", (long long)row->number, row->harness,
		row->unit_id, (int)row->outcome, (long long)row->tokens[0], (long long)row->killed,
		row->feedback ? row->feedback : "-");
	return 0;
}

static int note_transition(void *ctx, int64_t at, int64_t attempt, const char *from, const char *to,
	const char *reason)
{
	buf_addf(ctx, "transition %lld %lld %s %s %s\n", (long long)at, (long long)attempt, from,
		to, reason ? reason : "-");
	return 0;
}

static int note_event(void *ctx, const struct event_row *row)
{
	buf_addf(ctx, "event %s %s\n", row->kind, row->data);
	return 0;
}

static int note_unit(void *ctx, const struct unit_row *row)
{
	buf_addf(ctx, "unit %s %s %lld\n", row->id, row->kind, (long long)row->journal_offset);
	return 0;
}

static int note_result(void *ctx, const struct gate_result_row *row)
{
	buf_addf(ctx, "result %s %s %d %s\n", row->stage, row->invariant, row->passed, row->out);
	return 0;
}

static int note_invariant(void *ctx, const struct invariant_row *row)
{
	buf_addf(ctx, "invariant %s %s %s\n", row->name, row->command, row->fingerprint);
	return 0;
}

static int describe_task(
	struct store *s, int64_t plan, const char *name, struct buf *out, struct err *e)
{
	int64_t id = 0;
	CLEANUP_STR char *prompt = NULL;
	CLEANUP_STR char *command = NULL;
	int r = store_task_id(s, plan, name, &id, e);
	if (r < 0 || id == 0)
		return r;
	r = store_task_text(s, id, &prompt, &command, e);
	if (r == 0)
		buf_addf(out, "text %s %s\n", prompt ? prompt : "-", command ? command : "-");
	if (r == 0)
		r = store_each_task_invariant(s, id, note_invariant, out, e);
	if (r == 0)
		r = store_each_attempt(s, id, note_attempt, out, e);
	if (r == 0)
		r = store_each_transition(s, id, note_transition, out, e);
	if (r == 0)
		r = store_each_gate_result(s, id, 1, note_result, out, e);
	return r;
}

/* Reads all that there is. */
static int describe(struct store *s, struct buf *out, struct err *e)
{
	static const char *const names[] = {"one", "two", "three", "four"};
	int64_t plan = 0;
	CLEANUP_STR char *definition = NULL;
	int r = store_each_plan(s, note_plan, out, e);
	if (r == 0)
		r = store_plan_id(s, "demo", &plan, e);
	if (r == 0 && plan)
		r = store_plan_definition(s, plan, &definition, e);
	if (r == 0 && plan)
		buf_adds(out, definition);
	if (r == 0)
		r = store_each_task(s, plan, note_task, out, e);
	if (r == 0)
		r = store_each_edge(s, plan, note_edge, out, e);
	if (r == 0)
		r = store_each_judged(s, plan, note_judged, out, e);
	if (r == 0)
		r = store_each_open_unit(s, note_unit, out, e);
	if (r == 0)
		r = store_each_event(s, plan, 0, 0, note_event, out, e);
	for (size_t i = 0; r == 0 && i < 4; i++)
		r = describe_task(s, plan, names[i], out, e);
	if (r == 0 && buf_check(out) < 0)
		r = err_nomem(e);
	return r;
}

/* The same of a database that nobody has open, after its own check. Owned. */
static char *contents(struct failing *f)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;
	struct buf out = BUF_INIT;
	CLEANUP_STR char *text = NULL;
	if (store_open(f->dir, STORE_WRITE, &s, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(store_check(s, &text, &e), 0);
	assert_string_equal(text, "ok");
	if (describe(s, &out, &e) < 0)
		fail_msg("%s", e.msg);
	store_close(s);
	return buf_steal(&out);
}

/* ---- a database to begin with, made once ---- */

static struct buf empty_db, full_db;
static struct plan *changed_plan;

static void put_db(struct failing *f, const struct buf *db)
{
	struct err e = ERR_INIT;
	assert_int_equal(file_write_new(f->dirfd, STORE_FILE, db->data, db->len, 0600, &e), 0);
	/* So that it is not made each time, which is slow. */
	failing_write(f, STORE_RESERVE_FILE, "");
}

static struct store *open_store(struct failing *f, const struct buf *db)
{
	struct store *s = NULL;
	struct err e = ERR_INIT;
	put_db(f, db);
	assert_int_equal(store_open(f->dir, STORE_WRITE, &s, &e), 0);
	return s;
}

struct ids {
	int64_t plan, one, two;
};

static struct ids ids_of(struct store *s)
{
	struct err e = ERR_INIT;
	struct ids ids;
	assert_int_equal(store_plan_id(s, "demo", &ids.plan, &e), 0);
	assert_int_equal(store_task_id(s, ids.plan, "one", &ids.one, &e), 0);
	assert_int_equal(store_task_id(s, ids.plan, "two", &ids.two, &e), 0);
	return ids;
}

/* ---- what a run of a plan writes ---- */

static int write_start(struct store *s, struct ids ids, struct err *e)
{
	const struct task_save save = {
		.id = ids.one,
		.plan_id = ids.plan,
		.from = TASK_PENDING,
		.to = TASK_ASSIGNED,
		.attempt = 1,
		.attempt_open = true,
	};
	int r = store_attempt_open(s, ids.plan, ids.one, 1, "shell", unit_id, "boot", 10, e);
	if (r == 0)
		r = store_save_task(s, &save, 10, e);
	if (r == 0)
		r = store_task_set_worktree(s, ids.one, "/worktrees/one", e);
	if (r == 0)
		r = store_attempt_set_start(s, ids.one, 1, "aaaa", e);
	if (r == 0)
		r = store_plan_set_status(s, ids.plan, PLAN_RUNNING, 10, e);
	return r;
}

static int write_events(struct store *s, struct ids ids, struct err *e)
{
	const int64_t tokens[4] = {10, 2, 0, 4};
	const struct event_row row = {
		.at = 11,
		.plan_id = ids.plan,
		.task_id = ids.one,
		.attempt = 1,
		.kind = "finding",
		.data = "{\"severity\":\"high\",\"title\":\"a title of some length\"}",
	};
	int r = store_event_add(s, &row, e);
	if (r == 0)
		r = store_event_add(s, &row, e);
	if (r == 0)
		r = store_unit_set_offset(s, unit_id, 1234, e);
	if (r == 0)
		r = store_add_tokens(s, ids.one, 1, tokens, 0.5, e);
	return r;
}

static int write_end(struct store *s, struct ids ids, struct err *e)
{
	const struct attempt_row exit = {
		.task_id = ids.one,
		.number = 1,
		.containment = "cgroup",
		.started_at = 11,
		.ended_at = 12,
		.exit_code = -1,
		.signal = 11,
		.killed = 2,
		.contained = true,
	};
	const struct task_save save = {
		.id = ids.one,
		.plan_id = ids.plan,
		.from = TASK_RUNNING,
		.to = TASK_FAILED,
		.attempt = 1,
		.outcome = OUTCOME_CRASHED,
		.reason = "crashed: signal 11",
	};
	const struct gate_result_row row = {
		.task_id = ids.one,
		.attempt = 1,
		.stage = "merge",
		.invariant = "build",
		.passed = true,
		.duration_ms = 17,
		.out = "output",
	};
	int r = store_attempt_set_exit(s, &exit, e);
	if (r == 0)
		r = store_attempt_set_commit(s, ids.one, 1, "bbbb", e);
	if (r == 0)
		r = store_save_task(s, &save, 13, e);
	if (r == 0)
		r = store_attempt_set_feedback(s, ids.one, 1, "what went wrong", e);
	if (r == 0)
		r = store_gate_result_add(s, &row, 13, e);
	if (r == 0)
		r = store_cache_put(s, "tree", "print", &row, 13, e);
	if (r == 0)
		r = store_unit_end(s, unit_id, 13, e);
	if (r == 0)
		r = store_plan_set_halt(s, ids.plan, PLAN_HALTED, HALT_FAILED, 0, 14, e);
	return r;
}

/* A whole attempt at once. */
static int write_attempt(struct store *s, struct ids ids, struct err *e)
{
	int r = write_start(s, ids, e);
	if (r == 0)
		r = write_events(s, ids, e);
	if (r == 0)
		r = write_end(s, ids, e);
	return r;
}

static int write_change(struct store *s, struct ids ids, struct err *e)
{
	return store_plan_update(s, ids.plan, changed_plan, 20, e);
}

static int write_delete(struct store *s, struct ids ids, struct err *e)
{
	return store_plan_delete(s, ids.plan, e);
}

typedef int write_fn(struct store *s, struct ids ids, struct err *e);

static int in_transaction(struct store *s, struct ids ids, write_fn *fn, struct err *e)
{
	int r = store_begin(s, e);
	if (r < 0)
		return r;
	r = fn(s, ids, e);
	if (r == 0)
		r = store_commit(s, e);
	else
		store_rollback(s);
	return r;
}

struct transaction {
	write_fn *fn;
	bool known;
	char whole[8192]; /* what it comes to; from the first run, in which nothing fails */
};

static char before[8192]; /* what full_db holds */

/* The rows as the open handle sees them: all or nothing of the transaction. */
static bool is_whole(struct store *s, const struct transaction *t)
{
	CLEANUP_BUF struct buf now = BUF_INIT;
	struct err e = ERR_INIT;
	if (describe(s, &now, &e) < 0)
		fail_msg("%s", e.msg);
	bool whole = str_eq(buf_cstr(&now), t->whole);
	if (!whole)
		assert_string_equal(buf_cstr(&now), before);
	return whole;
}

/*
 * All or nothing, for the handle and in the file. After a failure the same handle writes it, in
 * every second point; in the others the file is looked at as it is.
 */
static int transact(struct failing *f, struct err *e)
{
	struct transaction *t = f->arg;
	struct err again = ERR_INIT;
	struct store *s = open_store(f, &full_db);
	struct ids ids = ids_of(s);
	failing_start(f);
	int r = in_transaction(s, ids, t->fn, e);
	failing_stop();
	assert_false(store_in_transaction(s));
	bool first = !t->known, whole = r == 0;
	if (!first) {
		whole = is_whole(s, t);
		assert_true(whole || r < 0);
	}
	if (!whole && f->even) {
		if (in_transaction(s, ids, t->fn, &again) < 0)
			fail_msg("again: %s", again.msg);
		whole = true;
	}
	store_close(s);
	CLEANUP_STR char *stored = contents(f);
	if (first)
		snprintf(t->whole, sizeof(t->whole), "%s", stored);
	t->known = true;
	/* A commit that failed may have reached the disk. */
	if (whole || !str_eq(stored, before))
		assert_string_equal(stored, t->whole);
	return r;
}

static int import(struct failing *f, struct err *e)
{
	struct store *s = open_store(f, &empty_db);
	CLEANUP_PLAN struct plan *plan = parse(plan_text);
	int64_t id = -1;
	failing_start(f);
	int r = store_plan_import(s, plan, PLAN_DRAFT, 5, &id, e);
	failing_stop();
	assert_false(store_in_transaction(s));
	assert_int_equal(id > 0, r == 0);
	store_close(s);
	CLEANUP_STR char *now = contents(f);
	if (r == 0 || now[0])
		assert_string_equal(now, before);
	return r;
}

/* The schema is the old or the new one, and the next open makes it the new one. */
static int open_new(struct failing *f, struct err *e)
{
	struct store *s = NULL;
	failing_start(f);
	int r = store_open(f->dir, STORE_WRITE, &s, e);
	failing_stop();
	assert_int_equal(s != NULL, r == 0);
	store_close(s);
	CLEANUP_STR char *now = contents(f);
	assert_string_equal(now, "");
	return r;
}

static int read_all(struct failing *f, struct err *e)
{
	struct store *s = NULL;
	CLEANUP_BUF struct buf out = BUF_INIT;
	CLEANUP_BUF struct buf want = BUF_INIT;
	struct err first = ERR_INIT;
	s = open_store(f, &full_db);
	struct ids ids = ids_of(s);
	assert_int_equal(in_transaction(s, ids, write_start, &first), 0);
	assert_int_equal(in_transaction(s, ids, write_events, &first), 0);
	assert_int_equal(describe(s, &want, &first), 0);
	store_close(s);
	s = NULL;
	failing_start(f);
	int r = store_open(f->dir, STORE_READ, &s, e);
	if (r == 0)
		r = describe(s, &out, e);
	store_close(s);
	failing_stop();
	if (r == 0)
		assert_string_equal(buf_cstr(&out), buf_cstr(&want));
	return r;
}

static struct transaction attempt = {.fn = write_attempt}, change = {.fn = write_change},
			  gone = {.fn = write_delete};

/* One with nothing but the schema, and one with a plan. */
static void make_databases(void)
{
	struct failing f = {.dir = "/tmp/orch-test-failing-XXXXXX"};
	struct err e = ERR_INIT;
	struct store *s = NULL;
	assert_non_null(mkdtemp(f.dir));
	assert_int_equal(dir_open(AT_FDCWD, f.dir, &f.dirfd, &e), 0);
	assert_int_equal(store_open(f.dir, STORE_WRITE, &s, &e), 0);
	store_close(s);
	assert_int_equal(file_read(f.dirfd, STORE_FILE, 1 << 24, &empty_db, &e), 0);
	assert_int_equal(store_open(f.dir, STORE_WRITE, &s, &e), 0);
	struct plan *plan = parse(plan_text);
	int64_t id;
	assert_int_equal(store_plan_import(s, plan, PLAN_DRAFT, 5, &id, &e), 0);
	plan_free(plan);
	CLEANUP_BUF struct buf text = BUF_INIT;
	assert_int_equal(describe(s, &text, &e), 0);
	snprintf(before, sizeof(before), "%s", buf_cstr(&text));
	store_close(s);
	assert_int_equal(file_read(f.dirfd, STORE_FILE, 1 << 24, &full_db, &e), 0);
	close(f.dirfd);
	assert_int_equal(dir_remove_tree(AT_FDCWD, f.dir, &e), 0);
}

#define ARG(a) &(a)

static const struct failing_scenario scenarios[] = {
	{"store open", open_new, 0, FAILING_MANY, 211, NULL, 3},
	{"store import", import, 0, 0, 41, NULL, 2},
	{"store attempt", transact, 0, 0, 83, ARG(attempt), 3},
	{"store change", transact, 0, 0, 61, ARG(change), 3},
	{"store delete", transact, 0, 0, 41, ARG(gone), 3},
	{"store read", read_all, 0, 0, 127, NULL, 3},
};

int main(void)
{
	failing_sqlite();
	make_databases();
	changed_plan = parse(changed_text);
	int failed = failing_run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
	buf_deinit(&empty_db);
	buf_deinit(&full_db);
	plan_free(changed_plan);
	return failed;
}
