/* SPDX-License-Identifier: MIT */
/* Merges, conflicts as feedback, publication by compare-and-swap, and the user's own branch. */
#include "git_fixture.h"

#include "git/planrefs.h"

static int setup(void **state)
{
	if (fixture_setup(state) < 0)
		return -1;
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "git -C repo reset -q --hard; rm repo/untracked; git -C repo branch side");
	open_repo(f, "repo");
	return 0;
}

/* A commit on top of parent (a rev), made in a worktree of its own; returns its id. */
static struct git_oid commit_on(struct fixture *f, const char *parent, const char *script)
{
	sh(f->repo->toplevel,
		"git worktree add -q --detach ../tmp %s; cd ../tmp; %s\n"
		"git add -A; git commit -qm change; git update-ref refs/orch/keep/$(git rev-parse "
		"HEAD) HEAD\n"
		"cd ../repo; git worktree remove --force ../tmp",
		parent, script);
	char *hex = output(f->repo->common_dir,
		"git for-each-ref --sort=-creatordate --format='%%(objectname)' refs/orch/keep | "
		"while read o; do "
		"test -e seen.$o || { touch seen.$o; echo $o; }; done");
	struct git_oid oid;
	assert_int_equal(git_oid_parse(hex, &oid), 0);
	free(hex);
	return oid;
}

static struct git_oid rev(struct fixture *f, const char *name)
{
	struct git_oid oid;
	assert_done(f, git_resolve(&f->ctx, name, &oid, &f->e));
	return oid;
}

static struct git_oid merge(struct fixture *f, const struct git_oid *tip, const struct git_oid *c)
{
	struct git_oid oid;
	char **conflicts = NULL, *messages = NULL;
	assert_done(f, git_merge(&f->ctx, tip, c, "Merge", &oid, &conflicts, &messages, &f->e));
	return oid;
}

static void test_merge_and_publish(void **state)
{
	struct fixture *f = *state;
	struct git_oid base = f->repo->head, tip, other;
	assert_done(f, git_integration_ensure(&f->ctx, "plan", &base, &tip, &f->e));
	struct git_oid c = commit_on(f, "main", "echo x >new");
	struct git_oid m = merge(f, &tip, &c);
	assert_output(f->repo->common_dir, "2",
		"git rev-list --parents -1 %s | wc -w | xargs -I{} expr {} - 1", m.hex);
	/* Nothing moved yet. */
	assert_done(f, git_integration_ensure(&f->ctx, "plan", &c, &other, &f->e));
	assert_true(git_oid_eq(&other, &tip));
	assert_done(f, git_integration_publish(&f->ctx, "plan", &tip, &m, &f->e));
	assert_done(f, git_integration_publish(&f->ctx, "plan", &tip, &m, &f->e)); /* repeated */
	assert_int_equal(git_integration_publish(&f->ctx, "plan", &tip, &c, &f->e), GIT_MOVED);
	other = rev(f, "orch/plan/integration");
	assert_true(git_oid_eq(&other, &m));
	/* What is in already merges to the tip itself. */
	other = merge(f, &m, &c);
	assert_true(git_oid_eq(&other, &m));
}

static void test_conflict_names_paths_and_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct git_oid one = commit_on(f, "main", "echo 1 >>a; echo 1 >'n ü'; echo fine >other");
	struct git_oid two = commit_on(f, "main", "echo 2 >>a; echo 2 >'n ü'");
	char *before = output(f->repo->common_dir, "git for-each-ref");
	struct git_oid oid;
	char **conflicts = NULL, *messages = NULL;
	assert_int_equal(
		git_merge(&f->ctx, &one, &two, "Merge", &oid, &conflicts, &messages, &f->e),
		GIT_CONFLICT);
	assert_int_equal(strv_len(conflicts), 2);
	assert_string_equal(conflicts[0], "a");
	assert_string_equal(conflicts[1], "n ü");
	assert_non_null(strstr(messages, "Merge conflict in a"));
	strv_free(conflicts);
	free(messages);
	assert_output(f->repo->common_dir, before, "git for-each-ref");
	free(before);

	/* The next attempt goes on from there, with the markers in its files. */
	char *wt = git_worktree_path(f->root, "plan", "task");
	int r = git_worktree_continue(&f->ctx, wt, &one, &two, NULL, &conflicts, &f->e);
	assert_int_equal(r, 0);
	assert_int_equal(strv_len(conflicts), 2);
	strv_free(conflicts);
	assert_output(wt, one.hex, "git rev-parse HEAD");
	assert_output(wt, "1", "grep -c '^=======$' a");
	assert_output(wt, "fine", "cat other");
	sh(wt, "printf 'one\\ntwo\\n1\\n2\\n' >a; echo 12 >'n ü'");
	struct git_attempt a = attempt_of(wt, &one, "task", 2);
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_done(f, git_attempt_commit(&f->ctx, &a, &res, &f->e));
	struct git_oid m = merge(f, &one, &res.commit);
	assert_output(f->repo->common_dir, "one two 1 2", "git cat-file blob %s:a | xargs", m.hex);
	git_attempt_result_deinit(&res);
	free(wt);
}

static void test_continue_without_conflict(void **state)
{
	struct fixture *f = *state;
	struct git_oid tip = commit_on(f, "main", "echo tip >tip");
	struct git_oid attempt = commit_on(f, "main", "echo mine >mine; rm src/main.c; echo e >>a");
	char *wt = git_worktree_path(f->root, "plan", "task"), **conflicts = NULL;
	char *copy[] = {".env", NULL};
	assert_done(f, git_worktree_continue(&f->ctx, wt, &tip, &attempt, copy, &conflicts, &f->e));
	assert_null(conflicts);
	assert_output(wt, "M a A mine D src/main.c", "git status --porcelain | xargs");
	assert_output(wt, "tip SECRET=1", "cat tip .env | xargs");
	free(wt);
}

static void test_attributes_decide_merges(void **state)
{
	struct fixture *f = *state;
	sh(f->repo->toplevel, "echo 'log merge=union' >.gitattributes; echo l >log; git add .; git "
			      "commit -qm attr");
	struct git_oid one = commit_on(f, "main", "echo 1 >>log");
	struct git_oid two = commit_on(f, "main", "echo 2 >>log");
	struct git_oid m = merge(f, &one, &two);
	assert_output(f->repo->common_dir, "l 1 2", "git cat-file blob %s:log | xargs", m.hex);
}

static void test_base_that_moved(void **state)
{
	struct fixture *f = *state;
	struct git_oid c = commit_on(f, "main", "echo x >new");
	struct git_oid old = rev(f, "main");
	sh(f->repo->toplevel, "echo u >user; git add user; git commit -qm 'by the user'");
	assert_int_equal(git_base_publish(&f->ctx, "main", &old, &c, &f->e), GIT_MOVED);
	struct git_oid today = rev(f, "main");
	struct git_oid m = merge(f, &today, &c);
	assert_done(f, git_base_publish(&f->ctx, "main", &today, &m, &f->e));
	assert_output(f->repo->toplevel, "", "git status --porcelain");
	assert_output(f->repo->toplevel, "x u", "cat new user | xargs");
	assert_output(f->repo->toplevel, m.hex, "git rev-parse main");
	assert_int_equal(git_base_publish(&f->ctx, "main", &m, &today, &f->e), -EINVAL);
	assert_int_equal(git_base_publish(&f->ctx, "none", &today, &m, &f->e), -ENOENT);
}

static void test_base_that_is_not_checked_out(void **state)
{
	struct fixture *f = *state;
	struct git_oid c = commit_on(f, "side", "echo x >new"), old = rev(f, "side");
	sh(f->repo->toplevel, "echo dirty >>a; echo s >s; git add s");
	char *before = output(
		f->repo->toplevel, "git status --porcelain; cat .git/HEAD; sha1sum .git/index");
	assert_done(f, git_base_publish(&f->ctx, "side", &old, &c, &f->e));
	assert_output(f->repo->toplevel, before,
		"git status --porcelain; cat .git/HEAD; sha1sum .git/index");
	assert_output(f->repo->toplevel, c.hex, "git rev-parse side");
	free(before);
}

static void assert_refused(struct fixture *f, const struct git_oid *new, const char *why)
{
	struct git_oid old = rev(f, "main"), now;
	char *before = output(f->dir,
		"cd repo; GIT_OPTIONAL_LOCKS=0 git status --porcelain; sha1sum "
		".git/index; cat a untracked .env 2>/dev/null || true; ls .git | grep -v orch");
	assert_int_equal(git_base_publish(&f->ctx, "main", &old, new, &f->e), GIT_REFUSED);
	if (!strstr(f->e.msg, why))
		fail_msg("'%s' is not in: %s", why, f->e.msg);
	now = rev(f, "main");
	assert_true(git_oid_eq(&now, &old));
	assert_output(f->dir, before,
		"cd repo; GIT_OPTIONAL_LOCKS=0 git status --porcelain; sha1sum .git/index; cat a "
		"untracked .env 2>/dev/null || true; ls .git | grep -v orch");
	free(before);
}

static void test_base_in_a_checkout_that_is_in_the_way(void **state)
{
	struct fixture *f = *state;
	const char *repo = f->repo->toplevel;
	struct git_oid c = commit_on(f, "main",
		"echo x >untracked; git add -f untracked; echo S >.env; git add -f .env; echo n "
		">>a");
	sh(repo, "echo mine >untracked");
	assert_refused(f, &c, "untracked");
	sh(repo, "rm untracked");
	assert_refused(f, &c, ".env"); /* ignored, and still the user's */
	sh(repo, "rm .env; echo dirty >>src/main.c");
	assert_refused(f, &c, "uncommitted");
	sh(repo, "git add src/main.c");
	assert_refused(f, &c, "uncommitted");
	sh(repo, "git reset -q --hard; touch .git/index.lock");
	assert_refused(f, &c, "index.lock");
	sh(repo, "rm .git/index.lock; git bisect start >/dev/null");
	assert_refused(f, &c, "BISECT");
	sh(repo, "git bisect reset >/dev/null 2>&1; git worktree add -q -f ../second main");
	assert_refused(f, &c, "another worktree");
	sh(repo, "git worktree remove ../second");
	sh(repo, "git checkout -q -b x side~; echo o >>a; git commit -qam o; git checkout -q main; "
		 "git rebase -q x 2>/dev/null && exit 1 || true");
	assert_refused(f, &c, "rebased");
	sh(repo, "git rebase --abort");
	struct git_oid old = rev(f, "main");
	assert_done(f, git_base_check(&f->ctx, "main", &old, &f->e));
	assert_done(f, git_base_publish(&f->ctx, "main", &old, &c, &f->e));
	assert_output(repo, "", "git status --porcelain");
	assert_output(repo, "x S", "cat untracked .env | xargs");
}

static void test_base_in_another_worktree(void **state)
{
	struct fixture *f = *state;
	struct git_oid c = commit_on(f, "side", "echo x >new"), old = rev(f, "side");
	sh(f->repo->toplevel, "git worktree add -q '../my side' side; echo d >>'../my side/a'");
	assert_int_equal(git_base_publish(&f->ctx, "side", &old, &c, &f->e), GIT_REFUSED);
	assert_non_null(strstr(f->e.msg, "my side"));
	sh(f->repo->toplevel, "git -C '../my side' checkout -q a");
	assert_done(f, git_base_publish(&f->ctx, "side", &old, &c, &f->e));
	assert_output(f->dir, "x", "cat 'my side/new'; git -C 'my side' status --porcelain");
	/* A worktree whose directory is gone does not hold the branch. */
	sh(f->dir, "rm -rf 'my side'");
	struct git_oid d = commit_on(f, "side", "echo y >new");
	assert_done(f, git_base_publish(&f->ctx, "side", &c, &d, &f->e));
}

static void test_cleanup_knows_what_is_merged(void **state)
{
	struct fixture *f = *state;
	struct git_oid base = f->repo->head;
	struct git_oid in = commit_on(f, "main", "echo x >new"),
		       out = commit_on(f, "main", "echo y >y");
	sh(f->repo->toplevel,
		"git update-ref refs/orch/plan/t/1 %s; git update-ref refs/orch/plan/t/2 %s\n"
		"git branch orch/plan/task/t %s; git update-ref refs/orch/plan2/t/1 %s",
		out.hex, in.hex, in.hex, out.hex);
	struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	assert_done(f, git_plan_refs_list(&f->ctx, "plan", &in, &refs, &f->e));
	assert_int_equal(refs.list.count, 3);
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(refs.list.items[i].merged,
			!str_eq(refs.list.items[i].ref, "refs/orch/plan/t/1"));
	sh(f->repo->toplevel, "git worktree add -q ../mine orch/plan/task/t");
	assert_int_equal(git_plan_refs_delete(&f->ctx, "plan", &refs, f->root, &f->e), GIT_REFUSED);
	assert_non_null(strstr(f->e.msg, "mine"));
	sh(f->repo->toplevel, "git worktree remove ../mine; git update-ref refs/orch/plan/t/1 %s",
		base.hex);
	assert_int_equal(git_plan_refs_delete(&f->ctx, "plan", &refs, f->root, &f->e), GIT_MOVED);
	assert_output(f->repo->common_dir, "3",
		"git for-each-ref refs/orch/plan refs/heads/orch | wc -l");
	git_plan_refs_deinit(&refs);
	assert_done(f, git_plan_refs_list(&f->ctx, "plan", &in, &refs, &f->e));
	assert_done(f, git_plan_refs_delete(&f->ctx, "plan", &refs, f->root, &f->e));
	git_plan_refs_deinit(&refs);
	assert_output(f->repo->common_dir, "refs/orch/plan2/t/1",
		"git for-each-ref --format='%%(refname)' refs/orch/plan* refs/heads/orch");
}

static void test_state_file(void **state)
{
	struct fixture *f = *state;
	struct git_oid one, two;
	bool changed = false;
	char *before = user_side(f->repo);
	assert_done(f, git_commit_file(&f->ctx, "refs/orch/state", "orch-plan.p.ini", "[plan]\n", 7,
			       "Save\n", &one, &changed, &f->e));
	assert_true(changed);
	assert_done(f, git_commit_file(&f->ctx, "refs/orch/state", "orch-plan.p.ini", "[plan]\n", 7,
			       "Save\n", &two, &changed, &f->e));
	assert_false(changed);
	assert_true(git_oid_eq(&one, &two));
	assert_done(f, git_commit_file(&f->ctx, "refs/orch/state", "orch-plan.q.ini", "x", 1,
			       "Save\n", &two, &changed, &f->e));
	assert_true(changed);
	assert_output(f->repo->common_dir, "orch-plan.p.ini\norch-plan.q.ini",
		"git ls-tree --name-only refs/orch/state");
	assert_output(f->repo->common_dir, one.hex, "git rev-parse refs/orch/state~");
	char *after = user_side(f->repo);
	assert_string_equal(before, after);
	free(before);
	free(after);
}

static void test_questions(void **state)
{
	struct fixture *f = *state;
	struct git_oid one = f->repo->head, two = commit_on(f, "main", "echo x >new; echo y >>a"),
		       tree;
	bool yes = false;
	assert_done(f, git_is_ancestor(&f->ctx, &one, &two, &yes, &f->e));
	assert_true(yes);
	assert_done(f, git_is_ancestor(&f->ctx, &two, &one, &yes, &f->e));
	assert_false(yes);
	assert_done(f, git_changed(&f->ctx, &one, &two, &yes, &f->e));
	assert_true(yes);
	assert_done(f, git_changed(&f->ctx, &one, &one, &yes, &f->e));
	assert_false(yes);
	assert_done(f, git_tree_of(&f->ctx, &two, &tree, &f->e));
	char *stat = NULL, **paths = NULL;
	assert_done(f, git_diff_stat(&f->ctx, &one, &two, 10000, &stat, &f->e));
	assert_non_null(strstr(stat, "2 files changed"));
	free(stat);
	assert_done(f, git_diff_stat(&f->ctx, &one, &two, 5, &stat, &f->e));
	assert_int_equal(strlen(stat), 5);
	free(stat);
	assert_done(f, git_diff_paths(&f->ctx, &one, &two, &paths, &f->e));
	assert_int_equal(strv_len(paths), 2);
	strv_free(paths);
	struct git_oid oid;
	assert_int_equal(git_resolve(&f->ctx, "no such", &oid, &f->e), -ENOENT);
	assert_int_equal(git_resolve(&f->ctx, "two\nlines", &oid, &f->e), -EINVAL);
}

#define test(t) cmocka_unit_test_setup_teardown(t, setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_merge_and_publish),
		test(test_conflict_names_paths_and_changes_nothing),
		test(test_continue_without_conflict),
		test(test_attributes_decide_merges),
		test(test_base_that_moved),
		test(test_base_that_is_not_checked_out),
		test(test_base_in_a_checkout_that_is_in_the_way),
		test(test_base_in_another_worktree),
		test(test_cleanup_knows_what_is_merged),
		test(test_state_file),
		test(test_questions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
