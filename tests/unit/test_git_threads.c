/* SPDX-License-Identifier: MIT */
/* Eight workers on one repository at once: add, commit, merge, publish, remove. */
#include "git_fixture.h"

#include <pthread.h>

#define WORKERS 8
#define TASKS   4

struct worker {
	pthread_t thread;
	struct fixture *f;
	int number;
	int result;
	struct err e;
};

/* Publishes by compare-and-swap, over and over until nobody else was faster. */
static int integrate(struct worker *w, const struct git_oid *commit)
{
	const struct git_ctx *ctx = &w->f->ctx;
	for (int try = 0; try < 1000; try++) {
		struct git_oid tip, merge;
		char **conflicts = NULL, *messages = NULL;
		int r = git_integration_ensure(ctx, "plan", &w->f->repo->head, &tip, &w->e);
		if (r == 0)
			r = git_merge(
				ctx, &tip, commit, "Merge", &merge, &conflicts, &messages, &w->e);
		if (r == 0)
			r = git_integration_publish(ctx, "plan", &tip, &merge, &w->e);
		if (r != GIT_MOVED)
			return r;
	}
	return -EAGAIN;
}

static int one_task(struct worker *w, int n)
{
	char task[32];
	snprintf(task, sizeof(task), "t%d-%d", w->number, n);
	const struct git_ctx *ctx = &w->f->ctx;
	struct git_oid start = w->f->repo->head;
	CLEANUP_STR char *path = git_worktree_path(w->f->root, "plan", task);
	CLEANUP(git_attempt_result_deinit) struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	int r = git_worktree_prepare(ctx, path, &start, NULL, &w->e);
	if (r < 0)
		return r;
	CLEANUP_STR char *file = path_join(path, task);
	FILE *out = fopen(file, "we");
	if (!out)
		return -errno;
	fprintf(out, "%s\n", task);
	fclose(out);
	struct git_attempt a = attempt_of(path, &start, task, 1);
	r = git_attempt_commit(ctx, &a, &res, &w->e);
	if (r == 0)
		r = integrate(w, &res.commit);
	return r == 0 ? git_worktree_remove(ctx, path, &w->e) : r;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	for (int n = 0; n < TASKS && w->result == 0; n++)
		w->result = one_task(w, n);
	return NULL;
}

static void test_eight_workers(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	struct git_oid tip;
	assert_done(f, git_integration_ensure(&f->ctx, "plan", &f->repo->head, &tip, &f->e));
	char *before = user_side(f->repo);
	struct worker workers[WORKERS] = {0};
	for (int i = 0; i < WORKERS; i++) {
		workers[i] = (struct worker){.f = f, .number = i};
		assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	for (int i = 0; i < WORKERS; i++)
		if (workers[i].result != 0)
			fail_msg("worker %d: %d: %s", i, workers[i].result, workers[i].e.msg);
	char *after = user_side(f->repo);
	assert_string_equal(before, after);
	free(before);
	free(after);
	char expected[16];
	snprintf(expected, sizeof(expected), "%d", WORKERS * TASKS);
	assert_output(f->repo->common_dir, expected,
		"git ls-tree --name-only orch/plan/integration | grep -c '^t[0-9]-'");
	assert_output(f->repo->common_dir, expected, "git for-each-ref refs/orch | wc -l");
	assert_output(f->repo->common_dir, "git-worktrees",
		"git fsck --no-dangling --no-progress 2>&1; find . -name '*.lock'; ls orch");
}

/* Another git may be reading the records. */
static void test_a_record_goes_under_the_lock_on_worktrees(void **state)
{
	struct fixture *f = *state;
	int lock = -1;
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	CLEANUP_STR char *path = git_worktree_path(f->root, "plan", "one");
	assert_done(f, git_worktree_prepare(&f->ctx, path, &f->repo->head, NULL, &f->e));
	assert_done(f, git_worktrees_lock(&f->ctx, &lock, &f->e));
	struct git_ctx hurried = f->ctx;
	hurried.deadline_ms = deadline_after(100);
	assert_int_equal(git_worktree_remove(&hurried, path, &f->e), -ETIMEDOUT);
	assert_output(f->repo->common_dir, "plan+one", "ls worktrees");
	close(lock);
	f->e = ERR_INIT;
	assert_done(f, git_worktree_remove(&f->ctx, path, &f->e));
	assert_output(f->repo->common_dir, "", "ls worktrees");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_eight_workers, fixture_setup, fixture_teardown),
		cmocka_unit_test_setup_teardown(test_a_record_goes_under_the_lock_on_worktrees,
			fixture_setup, fixture_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
