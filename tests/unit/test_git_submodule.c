/* SPDX-License-Identifier: MIT */
/* Submodules, nested ones too: populated without network, new commits kept, nothing lost. */
#include "git_fixture.h"

#include "git/planrefs.h"

static char *wt;
static struct git_oid start;
static char *user_before;

/* repo/libs/sub (named "the sub") holds inner; repo/absent is a submodule the user never fetched.
 */
static int setup(void **state)
{
	if (fixture_setup(state) < 0)
		return -1;
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir,
		"git config --global protocol.file.allow always\n"
		"git config --global user.name U; git config --global user.email u@example.org\n"
		"for r in inner sub absent; do git init -q -b main up/$r; cd up/$r; echo $r >file; "
		"git add file\n"
		"test $r != sub || git submodule --quiet add ../inner inner\n"
		"git commit -qm $r; cd ../..; done\n"
		"cd repo; git reset -q --hard; git submodule --quiet add --name 'the sub' "
		"\"$PWD/../up/sub\" libs/sub\n"
		"git submodule --quiet add \"$PWD/../up/absent\" absent; git commit -qm modules\n"
		"git submodule --quiet update --init --recursive\n"
		"git submodule --quiet deinit absent 2>/dev/null; rm -rf .git/modules/absent; rm "
		"-rf ../up; echo more >>libs/sub/file");
	open_repo(f, "repo");
	wt = git_worktree_path(f->root, "plan", "task");
	start = f->repo->head;
	user_before = user_side(f->repo);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	if (f->repo) {
		char *after = user_side(f->repo);
		assert_string_equal(user_before, after);
		free(after);
		sh(f->repo->common_dir, "cd 'modules/the sub'; test ! -e shallow; git rev-parse "
					"--verify -q main >/dev/null");
	}
	free(user_before);
	free(wt);
	user_before = wt = NULL;
	return fixture_teardown(state);
}

static int commit(struct fixture *f, unsigned n, struct git_attempt_result *res)
{
	struct git_attempt a = attempt_of(wt, &start, "task", n);
	return git_attempt_commit(&f->ctx, &a, res, &f->e);
}

static void test_populated_and_reset(void **state)
{
	struct fixture *f = *state;
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	assert_output(wt, "sub\ninner", "cat libs/sub/file libs/sub/inner/file");
	assert_output(wt, "", "git status --porcelain");
	sh(wt, "test -d absent; test -z \"$(ls -A absent)\"; echo x >libs/sub/new; echo y "
	       ">>libs/sub/file; echo z >absent/junk; git init -q extra");
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	assert_output(wt, "sub\ninner", "cat libs/sub/file libs/sub/inner/file");
	sh(wt, "test ! -e libs/sub/new; test -z \"$(ls -A absent)\"; test ! -e extra");
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_done(f, commit(f, 1, &res));
	assert_false(res.changed);
	git_attempt_result_deinit(&res);
	assert_done(f, git_worktree_remove(&f->ctx, wt, &f->e));
}

static void test_new_commit_is_kept(void **state)
{
	struct fixture *f = *state;
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	sh(wt, "cd libs/sub; cd inner; echo i >>file; git commit -qam in; cd ..; echo s >>file; "
	       "git commit -qam out; git push -q origin HEAD:main 2>/dev/null && exit 1 || true");
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_done(f, commit(f, 1, &res));
	assert_true(res.changed);
	struct git_oid oid = res.commit;
	git_attempt_result_deinit(&res);
	assert_done(f, git_worktree_remove(&f->ctx, wt, &f->e));
	/* A merge worktree gets it from the user's repository of the submodule. */
	char *merge_wt = git_worktree_path(f->root, "plan", "");
	assert_done(f, git_worktree_prepare(&f->ctx, merge_wt, &oid, NULL, &f->e));
	assert_output(merge_wt, "sub\ns\ninner\ni", "cat libs/sub/file libs/sub/inner/file");
	assert_done(f, git_worktree_remove(&f->ctx, merge_wt, &f->e));
	free(merge_wt);
	sh(f->repo->common_dir, "git --git-dir='modules/the sub' --work-tree=. rev-parse -q "
				"--verify refs/orch/plan/task/1 >/dev/null");
	struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	assert_done(f, git_plan_refs_list(&f->ctx, "plan", &start, &refs, &f->e));
	assert_done(f, git_plan_refs_delete(&f->ctx, "plan", &refs, f->root, &f->e));
	git_plan_refs_deinit(&refs);
	assert_output(f->repo->common_dir, "",
		"for m in 'modules/the sub' 'modules/the sub/modules/inner'; do git "
		"--git-dir=\"$m\" --work-tree=. for-each-ref refs/orch; done");
}

static void assert_uncommittable(struct fixture *f, const char *path)
{
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_int_equal(commit(f, 1, &res), GIT_UNCOMMITTABLE);
	assert_true(strv_contains(res.paths, path));
	git_attempt_result_deinit(&res);
}

static void test_dirty_content_is_uncommittable(void **state)
{
	struct fixture *f = *state;
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	sh(wt, "echo x >>libs/sub/file");
	assert_uncommittable(f, "libs/sub");
	sh(wt, "cd libs/sub; git commit -qam x; echo new >new");
	assert_uncommittable(f, "libs/sub");
	sh(wt, "cd libs/sub; rm new; echo x >>inner/file");
	assert_uncommittable(f, "libs/sub/inner");
}

static void test_added_submodule_is_uncommittable(void **state)
{
	struct fixture *f = *state;
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	sh(wt, "git init -q mine; cd mine; echo x >x; git add x; git commit -qm x; cd ..; git add "
	       "mine 2>/dev/null");
	assert_uncommittable(f, "mine");
	sh(wt, "git rm -q -f --cached mine; rm -rf mine; git rm -q -f libs/sub; git commit -qm "
	       "gone");
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_done(f, commit(f, 1, &res));
	assert_output(f->repo->common_dir, "160000 absent",
		"git ls-tree -r %s | grep ^160000 | awk '{print $1, $4}'", res.commit.hex);
	git_attempt_result_deinit(&res);
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	assert_output(wt, "sub\ninner", "cat libs/sub/file libs/sub/inner/file");
}

static void test_names_that_lead_out(void **state)
{
	struct fixture *f = *state;
	sh(f->repo->toplevel,
		"git init -q --bare ../victim; git worktree add -q --detach ../tmp; cd ../tmp\n"
		"sed -i 's|\"the sub\"|\"../../../victim\"|' .gitmodules; git commit -qam evil; "
		"git update-ref refs/orch/x HEAD; cd ../repo; git worktree remove --force ../tmp");
	struct git_oid evil;
	assert_done(f, git_resolve(&f->ctx, "refs/orch/x", &evil, &f->e));
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &evil, NULL, &f->e));
	sh(wt, "test -z \"$(ls -A libs/sub)\"");
}

#define test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_populated_and_reset),
		test(test_new_commit_is_kept),
		test(test_dirty_content_is_uncommittable),
		test(test_added_submodule_is_uncommittable),
		test(test_names_that_lead_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
