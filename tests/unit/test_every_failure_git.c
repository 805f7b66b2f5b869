/* SPDX-License-Identifier: MIT */
/*
 * Commits and merges in a real repository while our own calls fail (git's do not); see failing.h. A
 * failure is never taken for something that the agent did, and the same call again succeeds. No
 * point leaves anything in the repository that would make the next one's calls more.
 */
#include "failing.h"

#include "git_fixture.h"

#include "git/guard.h"
#include "os/file.h"

static struct {
	struct fixture *f;
	char *wt;
	struct git_oid start, commit; /* the agent's, and one to merge */
	unsigned attempt;
} world;

static void open_world(void)
{
	void *state = NULL;
	if (fixture_setup(&state) < 0 || !state)
		abort(); /* there is nothing to test in */
	struct fixture *f = world.f = state;
	if (!f)
		abort();
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	assert_done(f, git_state_link(f->repo, &f->e));
	world.wt = git_worktree_path(f->root, "plan", "task");
	world.start = f->repo->head;
	assert_done(f, git_worktree_prepare(&f->ctx, world.wt, &world.start, NULL, &f->e));
	sh(world.wt, "echo merged >merged");
	struct git_attempt a = attempt_of(world.wt, &world.start, "merged", 1);
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_done(f, git_attempt_commit(&f->ctx, &a, &res, &f->e));
	world.commit = res.commit;
	git_attempt_result_deinit(&res);
}

static void close_world(void)
{
	void *state = world.f;
	assert_output(world.f->repo->common_dir, "", "find . -name '*.lock'");
	free(world.wt);
	assert_int_equal(fixture_teardown(&state), 0);
}

static int attempt(struct failing *f, struct err *e)
{
	unsigned n = ++world.attempt;
	struct git_attempt a = attempt_of(world.wt, &world.start, "task", n);
	struct git_attempt_result first = GIT_ATTEMPT_RESULT_INIT, res = GIT_ATTEMPT_RESULT_INIT;
	struct err again = ERR_INIT;
	sh(world.wt, "echo %u >new", n);
	failing_start(f);
	int r = git_attempt_commit(&world.f->ctx, &a, &first, e);
	failing_stop();
	assert_true(r <= 0); /* the agent's tree can be committed */
	if (git_attempt_commit(&world.f->ctx, &a, &res, &again) != 0)
		fail_msg("%d: %s; again: %s", r, e->msg, again.msg);
	assert_true(res.changed);
	if (r == 0)
		assert_true(git_oid_eq(&first.commit, &res.commit));
	char text[16];
	snprintf(text, sizeof(text), "%u", n);
	assert_output(world.wt, text, "git show refs/orch/plan/task/%u:new", n);
	sh(world.wt, "git update-ref -d refs/orch/plan/task/%u", n);
	git_attempt_result_deinit(&first);
	git_attempt_result_deinit(&res);
	return r;
}

static int merge_once(const char *plan, struct git_oid *ret, struct err *e)
{
	const struct git_ctx *ctx = &world.f->ctx;
	struct git_oid tip;
	CLEANUP_STRV char **conflicts = NULL;
	CLEANUP_STR char *messages = NULL;
	int r = git_integration_ensure(ctx, plan, &world.start, &tip, e);
	if (r == 0)
		r = git_merge(ctx, &tip, &world.commit, "Merge", ret, &conflicts, &messages, e);
	if (r == 0)
		r = git_integration_publish(ctx, plan, &tip, ret, e);
	return r;
}

/* The branch is at the merge, or where it was. */
static int integration(struct failing *f, struct err *e)
{
	struct git_oid merge = GIT_OID_NONE, second = GIT_OID_NONE, tip;
	struct err again = ERR_INIT;
	char plan[32], branch[64];
	snprintf(plan, sizeof(plan), "plan-%u", ++world.attempt);
	snprintf(branch, sizeof(branch), "orch/%s/integration", plan);
	failing_start(f);
	int r = merge_once(plan, &merge, e);
	failing_stop();
	assert_true(r <= 0); /* there is no conflict, and nobody moves the branch */
	if (merge_once(plan, &second, &again) != 0)
		fail_msg("%d: %s; again: %s", r, e->msg, again.msg);
	assert_int_equal(git_resolve(&world.f->ctx, branch, &tip, &again), 0);
	assert_true(git_oid_eq(&tip, &second));
	if (r == 0)
		assert_true(git_oid_eq(&merge, &second));
	sh(world.wt, "git update-ref -d refs/heads/%s", branch);
	return r;
}

static const struct failing_scenario scenarios[] = {
	{"git attempt", attempt, 0, 0, 97, NULL, 37},
	{"git integration", integration, 0, 0, 83, NULL, 29},
};

int main(void)
{
	open_world();
	int failed = failing_run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
	if (failed == 0)
		close_world();
	return failed;
}
