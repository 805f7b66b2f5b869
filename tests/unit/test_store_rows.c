/* SPDX-License-Identifier: MIT */
/* What is put into the database comes out again; what must not be possible is refused. */
#include "store/db.h"

#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char plan_text[] = "[plan]\n"
				"name = demo\n"
				"harness = shell\n"
				"token_budget = 1000\n"
				"\n"
				"[invariant:build]\n"
				"command = make ; # all of it\n"
				"\n"
				"[task:one]\n"
				"prompt = Do it.\n"
				"    \n"
				"    # not a comment\n"
				"invariants = build\n"
				"\n"
				"[task:two]\n"
				"command = true\n"
				"depends_on = one\n"
				"priority = 7\n"
				"gate = human_review\n";

static struct plan *parse(const char *text)
{
	struct plan *plan = NULL;
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_text("plan.ini", NULL, text, strlen(text), NULL, &plan, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	assert_int_equal(r, 0);
	return plan;
}

struct fixture {
	char dir[64];
	struct store *store;
	int64_t plan;
	int64_t one, two;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct err e = ERR_INIT;
	snprintf(f->dir, sizeof(f->dir), "/tmp/test-store-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	assert_int_equal(store_open(f->dir, STORE_WRITE, &f->store, &e), 0);
	CLEANUP_PLAN struct plan *plan = parse(plan_text);
	assert_int_equal(store_plan_import(f->store, plan, PLAN_DRAFT, 5, &f->plan, &e), 0);
	assert_int_equal(store_task_id(f->store, f->plan, "one", &f->one, &e), 0);
	assert_int_equal(store_task_id(f->store, f->plan, "two", &f->two, &e), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	static const char *const files[] = {
		"orch.db", "orch.db-wal", "orch.db-shm", STORE_RESERVE_FILE};
	store_close(f->store);
	for (size_t i = 0; i < 4; i++) {
		CLEANUP_STR char *path = path_join(f->dir, files[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static int copy_task(void *ctx, const struct task_row *row)
{
	*(struct task_row *)ctx = *row;
	return 0;
}

static int compare_task_two(void *ctx, const struct task_row *row)
{
	(void)ctx;
	assert_string_equal(row->name, "two");
	assert_int_equal(row->status, TASK_PENDING);
	assert_int_equal(row->gate, GATE_HUMAN_REVIEW);
	assert_int_equal(row->priority, 7);
	assert_int_equal(row->seq, 1);
	assert_int_equal(row->retry_max, 3);
	assert_int_equal(row->n_invariants, 0);
	assert_string_equal(row->harness, "shell");
	assert_null(row->reason);
	return 0;
}

static int expect_edge(void *ctx, int64_t task, int64_t dependency)
{
	struct fixture *f = ctx;
	assert_int_equal(task, f->two);
	assert_int_equal(dependency, f->one);
	return 0;
}

static int expect_invariant(void *ctx, const struct invariant_row *row)
{
	(*(int *)ctx)++;
	assert_string_equal(row->name, "build");
	assert_string_equal(row->command, "make ; # all of it");
	assert_int_equal(row->timeout_ms, 300000);
	return 0;
}

static void test_import_and_read(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	assert_int_equal(store_task(f->store, f->two, compare_task_two, NULL, &e), 0);
	assert_int_equal(store_each_edge(f->store, f->plan, expect_edge, f, &e), 0);
	int n = 0;
	assert_int_equal(store_each_task_invariant(f->store, f->one, expect_invariant, &n, &e), 0);
	assert_int_equal(n, 1);
	/* The plan has no list of its own: a merge is judged by its task. */
	assert_int_equal(
		store_each_merge_invariant(f->store, f->plan, f->one, expect_invariant, &n, &e), 0);
	assert_int_equal(n, 2);
	assert_int_equal(
		store_each_merge_invariant(f->store, f->plan, f->two, expect_invariant, &n, &e), 0);
	assert_int_equal(n, 2);
	CLEANUP_STR char *prompt = NULL;
	CLEANUP_STR char *command = NULL;
	assert_int_equal(store_task_text(f->store, f->one, &prompt, &command, &e), 0);
	assert_string_equal(prompt, "Do it.\n\n# not a comment");
	assert_null(command);
}

static void test_a_name_is_taken_once(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	int64_t id = -1;
	CLEANUP_PLAN struct plan *plan = parse(plan_text);
	assert_true(store_plan_import(f->store, plan, PLAN_DRAFT, 5, &id, &e) < 0);
	assert_int_equal(id, -1);
	assert_false(store_in_transaction(f->store));
}

static void test_ids_are_never_reused(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	CLEANUP_PLAN struct plan *plan = parse(plan_text);
	int64_t again, task;
	assert_int_equal(store_plan_delete(f->store, f->plan, &e), 0);
	assert_int_equal(store_task_id(f->store, f->plan, "one", &task, &e), 0);
	assert_int_equal(task, 0);
	assert_int_equal(store_plan_import(f->store, plan, PLAN_DRAFT, 6, &again, &e), 0);
	assert_true(again > f->plan);
	assert_int_equal(store_task_id(f->store, again, "one", &task, &e), 0);
	assert_true(task > f->two);
}

struct history {
	int n;
	char text[200];
};

static int note_transition(void *ctx, int64_t at, int64_t attempt, const char *from, const char *to,
	const char *reason)
{
	struct history *h = ctx;
	(void)at;
	h->n++;
	snprintf(h->text, sizeof(h->text), "%lld %s %s %s", (long long)attempt, from, to,
		reason ? reason : "-");
	return 0;
}

static int compare_attempt(void *ctx, const struct attempt_row *row)
{
	(void)ctx;
	assert_int_equal(row->outcome, OUTCOME_CRASHED);
	assert_string_equal(row->reason, "crashed: signal 11");
	assert_int_equal(row->exit_code, -1);
	assert_int_equal(row->signal, 11);
	assert_int_equal(row->left, 3);
	assert_int_equal(row->killed, 2);
	assert_int_equal(row->tokens[0], 15);
	assert_int_equal(row->tokens[3], 4);
	assert_true(row->contained);
	return 0;
}

static void test_an_attempt_from_start_to_end(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	const char *unit = "0123456789abcdef0123456789abcdef";
	struct task_save save = {
		.id = f->one,
		.plan_id = f->plan,
		.from = TASK_PENDING,
		.to = TASK_ASSIGNED,
		.attempt = 1,
		.attempt_open = true,
	};
	assert_int_equal(store_begin(f->store, &e), 0);
	assert_int_equal(
		store_attempt_open(f->store, f->plan, f->one, 1, "shell", unit, "boot", 10, &e), 0);
	assert_int_equal(store_save_task(f->store, &save, 10, &e), 0);
	assert_int_equal(store_commit(f->store, &e), 0);
	int64_t tokens[4] = {10, 2, 0, 4}, more[4] = {5, 0, 0, 0};
	assert_int_equal(store_add_tokens(f->store, f->one, 1, tokens, 0.5, &e), 0);
	assert_int_equal(store_add_tokens(f->store, f->one, 1, more, 0.25, &e), 0);
	struct attempt_row exit = {
		.task_id = f->one,
		.number = 1,
		.containment = "cgroup",
		.started_at = 11,
		.ended_at = 12,
		.exit_code = -1,
		.signal = 11,
		.left = 3,
		.killed = 2,
		.contained = true,
	};
	assert_int_equal(store_attempt_set_exit(f->store, &exit, &e), 0);
	save.from = TASK_RUNNING;
	save.to = TASK_FAILED;
	save.attempt_open = false;
	save.outcome = OUTCOME_CRASHED;
	save.reason = "crashed: signal 11";
	assert_int_equal(store_save_task(f->store, &save, 13, &e), 0);
	assert_int_equal(store_attempt(f->store, f->one, 1, compare_attempt, NULL, &e), 0);
	assert_int_equal(store_attempt(f->store, f->one, 2, compare_attempt, NULL, &e), 1);
	struct history h = {0};
	assert_int_equal(store_each_transition(f->store, f->one, note_transition, &h, &e), 0);
	assert_int_equal(h.n, 2);
	assert_string_equal(h.text, "1 running failed crashed: signal 11");
	struct task_row row;
	assert_int_equal(store_task(f->store, f->one, copy_task, &row, &e), 0);
	assert_int_equal(row.status, TASK_FAILED);
	assert_int_equal(row.tokens[0], 15);
}

static void test_rollback_leaves_nothing(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	struct task_row row;
	assert_int_equal(store_begin(f->store, &e), 0);
	assert_int_equal(store_task_set_paused(f->store, f->one, true, &e), 0);
	store_rollback(f->store);
	assert_int_equal(store_task(f->store, f->one, copy_task, &row, &e), 0);
	assert_false(row.paused);
}

/* A full database ends a transaction by itself: what comes after must not be kept alone. */
static void test_a_lost_transaction_takes_nothing_more(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	struct task_row row;
	CLEANUP_STR char *long_text = malloc(1 << 20);
	assert_non_null(long_text);
	memset(long_text, 'x', (1 << 20) - 1);
	long_text[(1 << 20) - 1] = '\0';
	struct task_save save = {.id = f->one,
		.plan_id = f->plan,
		.from = TASK_PENDING,
		.to = TASK_FAILED,
		.reason = long_text};
	assert_int_equal(db_exec(f->store, "PRAGMA max_page_count = 1", &e), 0); /* as it is now */
	assert_int_equal(store_begin(f->store, &e), 0);
	assert_int_equal(store_task_set_paused(f->store, f->one, true, &e), 0);
	assert_int_equal(store_save_task(f->store, &save, 10, &e), -ENOSPC);
	if (sqlite3_get_autocommit(f->store->db)) {
		assert_int_equal(store_task_set_paused(f->store, f->two, true, &e), -ENOSPC);
		assert_int_equal(store_commit(f->store, &e), -ENOSPC);
	} else {
		store_rollback(f->store);
		fail_msg("this SQLite does not roll back by itself");
	}
	assert_int_equal(store_task(f->store, f->two, copy_task, &row, &e), 0);
	assert_false(row.paused);
	assert_int_equal(store_task(f->store, f->one, copy_task, &row, &e), 0);
	assert_false(row.paused);
	assert_int_equal(row.status, TASK_PENDING);
	assert_int_equal(store_task_set_paused(f->store, f->two, true, &e), 0);
}

static void test_a_changed_plan(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	CLEANUP_PLAN struct plan *plan = parse("[plan]\nname = demo\n[task:two]\ncommand = false\n"
					       "[task:three]\ncommand = true\ndepends_on = two\n");
	int64_t id;
	assert_int_equal(store_begin(f->store, &e), 0);
	assert_int_equal(store_plan_update(f->store, f->plan, plan, 20, &e), 0);
	assert_int_equal(store_commit(f->store, &e), 0);
	assert_int_equal(store_task_id(f->store, f->plan, "one", &id, &e), 0);
	assert_int_equal(id, 0);
	assert_int_equal(store_task_id(f->store, f->plan, "two", &id, &e), 0);
	assert_int_equal(id, f->two);
	assert_int_equal(store_task_id(f->store, f->plan, "three", &id, &e), 0);
	assert_true(id > f->two);
	CLEANUP_STR char *prompt = NULL;
	CLEANUP_STR char *command = NULL;
	assert_int_equal(store_task_text(f->store, f->two, &prompt, &command, &e), 0);
	assert_string_equal(command, "false");
}

static int note_row(void *ctx, const struct gate_result_row *row)
{
	struct gate_result_row *copy = ctx;
	*copy = *row;
	assert_string_equal(row->out, "output");
	return 0;
}

static void test_results_and_cache(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	struct gate_result_row row = {
		.task_id = f->one,
		.attempt = 1,
		.stage = "merge",
		.invariant = "build",
		.passed = true,
		.exit_code = 0,
		.duration_ms = 17,
		.out = "output",
	};
	struct gate_result_row got;
	assert_int_equal(store_gate_result_add(f->store, &row, 1, &e), 0);
	assert_int_equal(store_each_gate_result(f->store, f->one, 1, note_row, &got, &e), 0);
	assert_int_equal(got.duration_ms, 17);
	assert_int_equal(store_cache_get(f->store, "tree", "print", note_row, &got, &e), 1);
	assert_int_equal(store_cache_put(f->store, "tree", "print", &row, 1, &e), 0);
	assert_int_equal(store_cache_get(f->store, "tree", "print", note_row, &got, &e), 0);
	assert_true(got.cached);
	assert_int_equal(store_cache_get(f->store, "tree", "other", note_row, &got, &e), 1);
}

static void test_integrity(void **state)
{
	struct fixture *f = *state;
	struct err e = ERR_INIT;
	CLEANUP_STR char *text = NULL;
	assert_int_equal(store_check(f->store, &text, &e), 0);
	assert_string_equal(text, "ok");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_import_and_read),
		T(test_a_name_is_taken_once),
		T(test_ids_are_never_reused),
		T(test_an_attempt_from_start_to_end),
		T(test_rollback_leaves_nothing),
		T(test_a_lost_transaction_takes_nothing_more),
		T(test_a_changed_plan),
		T(test_results_and_cache),
		T(test_integrity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
