/* SPDX-License-Identifier: MIT */
/* The .orch entry, the preflight, what an agent changed in the shared repository, and mending. */
#include "git_fixture.h"

#include "git/guard.h"
#include "os/lock.h"

static int setup(void **state)
{
	if (fixture_setup(state) < 0)
		return -1;
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	return 0;
}

static void test_state_link(void **state)
{
	struct fixture *f = *state;
	const char *repo = f->repo->toplevel;
	sh(repo, "printf 'last line without end' >.git/info/exclude");
	char *ignore = output(repo, "cat .gitignore");
	for (int i = 0; i < 3; i++)
		assert_done(f, git_state_link(f->repo, &f->e));
	assert_output(repo, ".git/orch", "readlink .orch");
	assert_output(repo, "last line without end\n/.orch", "cat .git/info/exclude");
	assert_output(repo, ignore, "cat .gitignore");
	free(ignore);
	sh(repo, "rm .orch; rm -r .git/info");
	assert_done(f, git_state_link(f->repo, &f->e));
	assert_output(repo, "/.orch", "cat .git/info/exclude");
	sh(repo, "rm .orch; mkdir .orch");
	assert_int_equal(git_state_link(f->repo, &f->e), -EEXIST);
	sh(repo, "rmdir .orch; ln -s /etc .orch");
	assert_int_equal(git_state_link(f->repo, &f->e), -EEXIST);
	sh(repo, "test $(readlink .orch) = /etc");
	/* The repository was moved: the link is mended. */
	sh(repo, "rm .orch; ln -s /old/place/.git/orch .orch");
	assert_done(f, git_state_link(f->repo, &f->e));
	assert_output(repo, ".git/orch", "readlink .orch");
}

static void assert_problem(
	struct fixture *f, const char *plan, const char *root, size_t errors, const char *words)
{
	struct diags d = DIAGS_INIT;
	assert_done(f, git_preflight(&f->ctx, plan, root, &d, &f->e));
	assert_int_equal(d.errors, errors);
	bool found = false;
	vec_foreach(it, &d.list)
		found |= strstr(it->text, words) != NULL;
	if (!found)
		fail_msg("no problem says '%s'", words);
	diags_deinit(&d);
}

static void test_preflight(void **state)
{
	struct fixture *f = *state;
	const char *repo = f->repo->toplevel;
	sh(repo, "git branch orch");
	assert_problem(f, "plan", f->root, 1, "refs/heads/orch exists");
	sh(repo, "git branch -qD orch; git branch orch/plan");
	assert_problem(f, "plan", f->root, 1, "refs/heads/orch/plan exists");
	sh(repo, "git branch -qD orch/plan; git update-ref refs/orch/plan HEAD");
	assert_problem(f, "plan", f->root, 1, "refs/orch/plan exists");
	sh(repo, "git update-ref -d refs/orch/plan");
	assert_problem(f, "state", f->root, 1, "cannot be called 'state'");
	char *inside = path_join(repo, "not/yet/there");
	assert_problem(f, "plan", inside, 1, "inside the repository");
	free(inside);
	sh(repo, "git branch orch/plan/integration; git worktree add -q ../mine "
		 "orch/plan/integration");
	assert_problem(f, "plan", f->root, 0, "is checked out at");
	sh(repo, "git worktree remove ../mine; echo '*.x filter=lfs' >.gitattributes; git add "
		 ".gitattributes; git commit -qm lfs");
	open_repo(f, "repo");
	sh(f->dir, "mkdir bin; ln -s $(command -v git) bin/git");
	char *path = strdup(getenv("PATH")), *bin = fixture_path(f, "bin");
	setenv("PATH", bin, 1);
	assert_problem(f, "plan", f->root, 0, "git-lfs is not on PATH");
	setenv("PATH", path, 1);
	free(path);
	free(bin);
}

static size_t changes_after(struct fixture *f, const char *script, const char *words)
{
	char *before = NULL, *after = NULL, **changes = NULL;
	assert_done(f, git_tamper_snapshot(&f->ctx, &before, &f->e));
	sh(f->repo->toplevel, "%s", script);
	assert_done(f, git_tamper_snapshot(&f->ctx, &after, &f->e));
	assert_int_equal(git_tamper_diff(before, after, &changes), 0);
	size_t n = strv_len(changes);
	bool found = words == NULL;
	for (size_t i = 0; i < n; i++)
		found |= strstr(changes[i], words) != NULL;
	if (!found)
		fail_msg("no change says '%s' after: %s", words, script);
	strv_free(changes);
	free(before);
	free(after);
	return n;
}

static void test_tampering_is_noticed(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(
		changes_after(f,
			"git branch orch/plan/x; git update-ref refs/orch/a/b/1 HEAD; echo x >>a",
			NULL),
		0);
	assert_int_equal(changes_after(f, "git branch new", "refs/heads/new is new"), 1);
	assert_int_equal(
		changes_after(f, "git update-ref refs/heads/new HEAD~", "refs/heads/new changed"),
		1);
	assert_int_equal(
		changes_after(f, "git branch -qD new; git tag t", "refs/heads/new was removed"), 2);
	assert_int_equal(changes_after(f, "git config alias.x y", "config was changed"), 1);
	assert_int_equal(
		changes_after(f, "echo x >>.git/info/exclude", "info/exclude was changed"), 1);
	assert_int_equal(
		changes_after(f, "echo x >.git/hooks/pre-commit", "hooks/pre-commit is new"), 2);
	assert_int_equal(changes_after(f, "chmod +x .git/hooks/pre-commit",
				 "hooks/pre-commit (mode) changed"),
		1);
	assert_int_equal(
		changes_after(f, "rm .git/hooks/pre-commit; ln -s /bin/sh .git/hooks/pre-commit",
			"/bin/sh"),
		2);
	assert_true(changes_after(f, "git reset -q --hard; echo z >>a; git stash -q",
			    "refs/stash changed") >= 1);
	/* Below the newest entry the ref stays where it is. */
	assert_true(changes_after(f, "git stash drop -q 'stash@{1}'",
			    "logs/refs/stash was changed") >= 1);
	assert_true(changes_after(f, "mv .git/hooks .git/elsewhere; ln -s elsewhere .git/hooks",
			    "hooks (mode) changed") >= 1);
}

static void test_mend(void **state)
{
	struct fixture *f = *state;
	char *one = git_worktree_path(f->root, "plan", "one"),
	     *two = git_worktree_path(f->root, "plan", "two");
	struct git_oid start = f->repo->head;
	assert_done(f, git_worktree_prepare(&f->ctx, one, &start, NULL, &f->e));
	assert_done(f, git_worktree_prepare(&f->ctx, two, &start, NULL, &f->e));
	sh(f->repo->toplevel, "git worktree add -q ../users; cd .git; mkdir -p "
			      "refs/heads/orch/plan/task refs/orch/plan/one\n"
			      "touch refs/heads/orch/plan/task/one.lock refs/orch/plan/one/1.lock "
			      "worktrees/plan+one/index.lock worktrees/plan+two/index.lock\n"
			      "touch index.lock HEAD.lock refs/heads/main.lock packed-refs.lock "
			      "worktrees/users/index.lock");
	sh(f->repo->common_dir,
		"mkdir -p orch/units orch/git-trash.x/y; touch orch/git-index.plan+one orch/keep");
	char *live[] = {two, NULL};
	assert_done(f, git_mend(&f->ctx, f->root, live, &f->e));
	assert_output(f->repo->common_dir,
		"./HEAD.lock\n./index.lock\n./packed-refs.lock\n./refs/heads/main.lock\n./"
		"worktrees/plan+two/index.lock\n./worktrees/users/index.lock",
		"find . -name '*.lock' ! -path './orch/*' | sort");
	assert_output(
		f->repo->common_dir, "git-worktrees keep merge.lock units", "ls orch | xargs");
	assert_done(f, git_mend(&f->ctx, f->root, NULL, &f->e));
	sh(f->repo->common_dir,
		"test ! -e worktrees/plan+two/index.lock; test -e worktrees/users/index.lock");
	free(one);
	free(two);
}

/* What an `orch merge` that is at work has is not mended away under it. */
static void test_mend_beside_a_merge(void **state)
{
	struct fixture *f = *state;
	char *final = git_worktree_path(f->root, "plan", GIT_FINAL);
	CLEANUP_STR char *lock = path_join(f->repo->common_dir, "orch/" GIT_MERGE_LOCK);
	static const char all[] = "git-merge.x git-trash.x index.lock";
	static const char list[] = "ls -d orch/git-* worktrees/plan++final/index.lock |"
				   " grep -v git-worktrees | xargs -r -n 1 basename | xargs";
	struct git_oid start = f->repo->head;
	int fd = -1;
	assert_done(f, git_worktree_prepare(&f->ctx, final, &start, NULL, &f->e));
	sh(f->repo->common_dir, "mkdir -p orch/git-merge.x orch/git-trash.x;"
				" touch worktrees/plan++final/index.lock orch/git-index.x");
	assert_int_equal(lock_take(AT_FDCWD, lock, 0, &fd, &f->e), 0);
	assert_done(f, git_mend(&f->ctx, f->root, NULL, &f->e));
	assert_output(f->repo->common_dir, all, list);
	close(fd);
	assert_done(f, git_mend(&f->ctx, f->root, NULL, &f->e));
	assert_output(f->repo->common_dir, "", list);
	free(final);
}

static void test_a_move_that_is_known(void **state)
{
	struct fixture *f = *state;
	CLEANUP_STR char *before = NULL;
	struct git_ref_update moves[2] = {{.ref = "refs/heads/main"}, {.ref = "refs/heads/main"}};
	moves[0].old = f->repo->head;
	assert_done(f, git_tamper_snapshot(&f->ctx, &before, &f->e));
	sh(f->repo->toplevel, "git commit -q --allow-empty -m one");
	assert_done(f, git_resolve(&f->ctx, "main", &moves[0].new, &f->e));
	sh(f->repo->toplevel, "git commit -q --allow-empty -m two; git branch more");
	moves[1].old = moves[0].new;
	assert_done(f, git_resolve(&f->ctx, "main", &moves[1].new, &f->e));
	for (size_t n = 0; n <= 2; n++) {
		CLEANUP_STR char *was = strdup(before);
		CLEANUP_STR char *is = NULL;
		CLEANUP_STRV char **changes = NULL;
		assert_non_null(was);
		assert_done(f, git_tamper_snapshot(&f->ctx, &is, &f->e));
		git_tamper_follow(was, is, moves, n);
		assert_int_equal(git_tamper_diff(was, is, &changes), 0);
		assert_int_equal(strv_len(changes), n < 2 ? 2 : 1);
	}
}

static void test_worktree_list(void **state)
{
	struct fixture *f = *state;
	char *one = git_worktree_path(f->root, "plan", "one"),
	     *two = git_worktree_path(f->root, "plan", "two");
	struct git_oid start = f->repo->head;
	char **paths = NULL;
	assert_done(f, git_worktree_list(&f->ctx, f->root, &paths, &f->e));
	assert_null(paths);
	assert_done(f, git_worktree_prepare(&f->ctx, one, &start, NULL, &f->e));
	assert_done(f, git_worktree_prepare(&f->ctx, two, &start, NULL, &f->e));
	sh(f->repo->toplevel,
		"git worktree add -q ../users; rm -rf '%s'; mkdir '%s/plan+stray' '%s/other'", two,
		f->root, f->root);
	assert_done(f, git_worktree_list(&f->ctx, f->root, &paths, &f->e));
	assert_int_equal(strv_len(paths), 3);
	assert_true(strv_contains(paths, one) && strv_contains(paths, two));
	for (size_t i = 0; i < 3; i++)
		assert_done(f, git_worktree_remove(&f->ctx, paths[i], &f->e));
	strv_free(paths);
	assert_output(f->repo->toplevel, "2", "git worktree list | wc -l");
	free(one);
	free(two);
}

#define test(t) cmocka_unit_test_setup_teardown(t, setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_state_link),
		test(test_preflight),
		test(test_tampering_is_noticed),
		test(test_mend),
		test(test_mend_beside_a_merge),
		test(test_a_move_that_is_known),
		test(test_worktree_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
