/* SPDX-License-Identifier: MIT */
/* What agents do to their worktree, and what a commit makes of it. */
#include "git_fixture.h"

#include "git/guard.h"

static char *wt; /* of the running test */
static struct git_oid start;
static char *user_before;

static int setup(void **state)
{
	if (fixture_setup(state) < 0)
		return -1;
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	assert_done(f, git_state_link(f->repo, &f->e));
	wt = git_worktree_path(f->root, "plan", "task");
	start = f->repo->head;
	user_before = user_side(f->repo);
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	if (f->repo && user_before) {
		char *after = user_side(f->repo);
		assert_string_equal(user_before, after);
		free(after);
	}
	free(user_before);
	free(wt);
	user_before = wt = NULL;
	return fixture_teardown(state);
}

static struct git_attempt_result commit(struct fixture *f, unsigned n, int expected)
{
	struct git_attempt a = attempt_of(wt, &start, "task", n);
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	int r = git_attempt_commit(&f->ctx, &a, &res, &f->e);
	if (r != expected)
		fail_msg("%d, not %d: %s", r, expected, f->e.msg);
	return res;
}

/* Commits and returns what changed since the start, one path a line; owned. */
static char *committed(struct fixture *f, unsigned n, struct git_oid *ret_oid)
{
	struct git_attempt_result res = commit(f, n, 0);
	char *text = output(f->repo->common_dir,
		"git diff --name-only --no-renames -z %s %s | tr '\\0' '\\n'", start.hex,
		res.commit.hex);
	if (ret_oid)
		*ret_oid = res.commit;
	git_attempt_result_deinit(&res);
	return text;
}

#define assert_committed(f, n, expected) \
	do { \
		char *text_ = committed(f, n, NULL); \
		assert_string_equal(text_, expected); \
		free(text_); \
	} while (0)

static void assert_uncommittable(struct fixture *f, const char *path)
{
	struct git_attempt_result res = commit(f, 1, GIT_UNCOMMITTABLE);
	assert_true(strv_contains(res.paths, path));
	assert_non_null(strstr(res.why, path));
	git_attempt_result_deinit(&res);
	assert_output(f->repo->common_dir, "", "git for-each-ref | grep orch/ || true");
}

/* At a retry the worktree is as the commit says, whatever stood there. */
static void assert_clean_retry(struct fixture *f)
{
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
	assert_output(wt, "", "git status --porcelain --ignored");
	assert_output(wt, start.hex, "git rev-parse HEAD");
	assert_output(wt, "", "git symbolic-ref -q HEAD || true");
	assert_output(wt, "one\ntwo", "cat a");
}

static void test_files_of_every_kind(void **state)
{
	struct fixture *f = *state;
	sh(wt, "rm -r src; mkdir new; echo x >new/file; ln -s nowhere link; printf x >'a\"b\\c'\n"
	       "printf y >\"$(printf 'new\\nline')\"; echo x >tool; chmod +x tool; rm a; mkdir a\n"
	       "echo in >a/in; echo ignored >x.o; mkfifo pipe; mkdir empty; git mv -k 'späce d/ü' "
	       "moved");
	struct git_oid oid;
	char *text = committed(f, 1, &oid);
	assert_string_equal(text, "a\na\"b\\c\na/in\nlink\nmoved\nnew\nline\nnew/"
				  "file\nsp\303\244ce d/\303\274\nsrc/main.c\ntool");
	free(text);
	assert_output(f->repo->common_dir, "100755 120000",
		"git ls-tree %s tool link | cut -d' ' -f1 | sort | tr '\\n' ' ' | sed 's/ $//'",
		oid.hex);
	assert_output(f->repo->common_dir,
		"Orch-Plan: plan\nOrch-Task: task\nOrch-Attempt: 1\nOrch-Outcome: ok\n",
		"git log -1 --format='%%(trailers:only)' %s", oid.hex);
	assert_output(f->repo->common_dir, oid.hex, "git rev-parse refs/orch/plan/task/1");
	assert_output(f->repo->common_dir, oid.hex, "git rev-parse orch/plan/task/task");
	assert_output(wt, oid.hex, "git rev-parse HEAD");
	assert_output(wt, "", "git status --porcelain");
	assert_clean_retry(f);
}

static void test_nothing_changed(void **state)
{
	struct fixture *f = *state;
	sh(wt, "touch a src/main.c; echo x >ignored.o");
	struct git_attempt_result res = commit(f, 1, 0);
	assert_false(res.changed);
	assert_true(res.commit.hex[0]);
	git_attempt_result_deinit(&res);
	/* Also when it committed something and took it back. */
	sh(wt, "git commit -q --allow-empty -m empty; echo x >>a; git commit -qam x; git revert "
	       "--no-edit HEAD >/dev/null");
	res = commit(f, 2, 0);
	assert_false(res.changed);
	git_attempt_result_deinit(&res);
}

static void test_same_size_within_the_time_stamp(void **state)
{
	struct fixture *f = *state;
	/* The index is written in the same instant as the file: git must look at the content. */
	sh(wt, "printf 'one\\ntwX\\n' >a; touch -r .gitignore a .gitignore\n"
	       "git add a; touch -r a \"$(git rev-parse --git-path index)\"; printf 'one\\ntwY\\n' "
	       ">a; touch -r .gitignore a");
	struct git_oid oid;
	char *text = committed(f, 1, &oid);
	free(text);
	assert_output(f->repo->common_dir, "one\ntwY", "git cat-file blob %s:a", oid.hex);
}

static void test_agent_commits(void **state)
{
	struct fixture *f = *state;
	sh(wt, "echo 1 >one; git add one; git commit -qm 'by the agent'; echo 2 >two; git add two; "
	       "echo 3 >>two");
	char *head = output(wt, "git rev-parse HEAD");
	struct git_oid oid;
	char *text = committed(f, 1, &oid);
	assert_string_equal(text, "one\ntwo");
	assert_output(f->repo->common_dir, head, "git rev-parse %s^", oid.hex);
	assert_output(f->repo->common_dir, "2\n3", "git cat-file blob %s:two", oid.hex);
	free(text);
	free(head);
	assert_clean_retry(f);
}

static void test_agent_switches_branch(void **state)
{
	struct fixture *f = *state;
	sh(wt, "git checkout -q -b agents; echo 1 >one; git add one; git commit -qm x; echo 2 "
	       ">two");
	assert_committed(f, 1, "one\ntwo");
	assert_clean_retry(f);
	sh(f->repo->common_dir, "git branch -qD agents");
}

static void test_agent_goes_to_unrelated_history(void **state)
{
	struct fixture *f = *state;
	sh(wt, "git checkout -q --orphan alone; git commit -qm root; echo 2 >two");
	struct git_oid oid;
	char *text = committed(f, 1, &oid);
	assert_string_equal(text, "two");
	free(text);
	assert_output(f->repo->common_dir, start.hex, "git rev-parse %s^", oid.hex);
	assert_clean_retry(f);
	sh(f->repo->common_dir, "git branch -qD alone");
}

static void test_agent_leaves_a_rebase(void **state)
{
	struct fixture *f = *state;
	sh(wt,
		"git checkout -q --detach HEAD~; echo o >>a; git commit -qam o\n"
		"git rebase -q %s 2>/dev/null && exit 1; test -d \"$(git rev-parse --git-path "
		"rebase-merge)\"; echo two >new",
		start.hex);
	struct git_oid oid;
	char *text = committed(f, 1, &oid);
	assert_string_equal(text, "a\nnew");
	free(text);
	assert_output(f->repo->common_dir, "1", "git cat-file blob %s:a | grep -c '<<<<'", oid.hex);
	assert_clean_retry(f);
	sh(wt, "test ! -e \"$(git rev-parse --git-path rebase-merge)\"; git rebase --abort "
	       "2>/dev/null && exit 1 || true");
}

static void test_agent_leaves_locks(void **state)
{
	struct fixture *f = *state;
	sh(wt, "echo 1 >one; touch \"$(git rev-parse --git-path index.lock)\" \"$(git rev-parse "
	       "--git-path HEAD.lock)\"");
	assert_committed(f, 1, "one");
	sh(wt, "touch \"$(git rev-parse --git-path index.lock)\"");
	assert_clean_retry(f);
}

static void test_agent_hides_changes(void **state)
{
	struct fixture *f = *state;
	sh(wt, "git update-index --assume-unchanged a; git update-index --skip-worktree "
	       "src/main.c\n"
	       "echo hidden >>a; echo hidden >>src/main.c");
	assert_committed(f, 1, "a\nsrc/main.c");
	sh(wt, "git update-index --assume-unchanged a; echo more >>a");
	assert_clean_retry(f);
}

static void test_agent_breaks_its_index(void **state)
{
	struct fixture *f = *state;
	sh(wt, "echo garbage >\"$(git rev-parse --git-path index)\"; echo 1 >one; echo y >>a");
	assert_committed(f, 1, "a\none");
	sh(wt, "echo garbage >\"$(git rev-parse --git-path index)\"");
	assert_clean_retry(f);
}

static void test_agent_stages_and_unmerges(void **state)
{
	struct fixture *f = *state;
	sh(wt, "git add -N a; echo 1 >i; git add -N i; echo f >forced.o; git add -f forced.o\n"
	       "printf '0 0000000000000000000000000000000000000000\\tsrc/main.c\\n100644 %%s "
	       "1\\tsrc/main.c\\n100644 %%s 2\\tsrc/main.c\\n' "
	       "$(git rev-parse HEAD:a) $(git rev-parse HEAD:src/main.c) | git update-index "
	       "--index-info; git ls-files -u | grep -q main.c; echo r >>src/main.c");
	assert_committed(f, 1, "forced.o\ni\nsrc/main.c");
	assert_clean_retry(f);
}

static void test_agent_replaces_dot_git(void **state)
{
	struct fixture *f = *state;
	sh(wt, "rm .git; git init -q .; git add -A; git -c user.name=x -c user.email=x commit -qm "
	       "mine; echo 1 >one");
	assert_committed(f, 1, "one");
	assert_clean_retry(f);
	sh(wt, "rm .git; echo 2 >two");
	assert_committed(f, 2, "two");
	assert_clean_retry(f);
}

static void test_git_forgot_the_worktree(void **state)
{
	struct fixture *f = *state;
	sh(wt, "echo 1 >one; rm -rf \"$(git rev-parse --absolute-git-dir)\"");
	assert_committed(f, 1, "one");
	assert_clean_retry(f);
}

static void test_worktree_is_gone(void **state)
{
	struct fixture *f = *state;
	sh(wt, "rm -rf '%s'", wt);
	struct git_attempt_result res = commit(f, 1, GIT_UNCOMMITTABLE);
	assert_non_null(strstr(res.why, "is gone"));
	git_attempt_result_deinit(&res);
	assert_clean_retry(f);
}

static void test_half_made_worktree(void **state)
{
	struct fixture *f = *state;
	sh(wt, "rm -rf src; rm \"$(git rev-parse --git-path index)\" \"$(git rev-parse --git-path "
	       "HEAD)\"; rm .git");
	assert_clean_retry(f);
	sh("/", "rm -rf '%s'; mkdir '%s'; echo x >'%s/x'", wt, wt, wt);
	assert_clean_retry(f);
	sh("/", "rm -rf '%s'; echo file >'%s'", wt, wt);
	assert_clean_retry(f);
}

static void test_hard_to_remove(void **state)
{
	struct fixture *f = *state;
	sh(wt, "mkdir -p mod/cache; echo x >mod/cache/f; chmod 0444 mod/cache/f; chmod 0555 "
	       "mod/cache mod; git init -q nested");
	assert_clean_retry(f);
	sh(wt, "git worktree list >/dev/null; mkdir d; echo x >d/f; chmod 0 d");
	assert_done(f, git_worktree_remove(&f->ctx, wt, &f->e));
	sh("/", "test ! -e '%s'", wt);
	assert_done(f, git_worktree_remove(&f->ctx, wt, &f->e));
	assert_output(f->repo->common_dir, "1", "git worktree list | wc -l");
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, NULL, &f->e));
}

static void test_nested_repositories(void **state)
{
	struct fixture *f = *state;
	sh(wt, "git init -q nested; echo x >nested/f; echo 1 >one");
	assert_uncommittable(f, "nested/");
	sh(wt, "cd nested; git add f; git -c user.name=x -c user.email=x commit -qm x");
	assert_uncommittable(f, "nested/");
	sh(wt, "git add nested 2>/dev/null");
	assert_uncommittable(f, "nested");
	sh(wt, "git rm -q -f --cached nested; rm -rf nested/.git");
	assert_committed(f, 1, "nested/f\none");
}

static void test_large_files(void **state)
{
	struct fixture *f = *state;
	sh(wt, "head -c 1048577 /dev/zero >large");
	assert_uncommittable(f, "large");
	sh(wt, "git add large");
	assert_uncommittable(f, "large");
	sh(wt, "git commit -qm large");
	assert_uncommittable(f, "large");
	sh(wt, "head -c 1048576 /dev/zero >large; echo y >>a; head -c 1048577 /dev/zero "
	       ">ignored.o");
	assert_committed(f, 1, "a\nlarge");
}

/* root can read everything: then a child without privileges does the commit. */
static void assert_uncommittable_for_user(struct fixture *f, const char *path)
{
	if (geteuid() != 0) {
		assert_uncommittable(f, path);
		return;
	}
	sh(f->dir, "chown -R 65534:65534 .");
	pid_t pid = fork();
	if (pid == 0) {
		if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		struct git_attempt a = attempt_of(wt, &start, "task", 1);
		struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
		int r = git_attempt_commit(&f->ctx, &a, &res, &f->e);
		bool named = strv_contains(res.paths, path);
		if (r != GIT_UNCOMMITTABLE || !named)
			print_error("%d, %s\n", r, f->e.msg);
		_exit(r == GIT_UNCOMMITTABLE && named ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_unreadable_files(void **state)
{
	struct fixture *f = *state;
	sh(wt, "rm a; mkfifo a");
	assert_uncommittable(f, "a");
	sh(wt, "rm a");
	sh(wt, "echo x >secret; chmod 0 secret");
	assert_uncommittable_for_user(f, "secret");
	sh(wt, "rm -f secret; mkdir closed; echo x >closed/f; chmod 0 closed");
	assert_uncommittable_for_user(f, "closed/");
	sh(wt, "chmod 0400 closed");
	assert_uncommittable_for_user(f, "closed/f");
	sh(wt, "chmod 0700 closed");
	if (geteuid() == 0)
		sh(f->dir, "chown -R 0:0 .");
}

static void test_filter_that_fails(void **state)
{
	struct fixture *f = *state;
	sh(f->dir, "git config --global filter.bad.clean false; git config --global "
		   "filter.bad.required true");
	sh(wt, "echo '*.bad filter=bad' >.gitattributes; echo x >x.bad");
	struct git_attempt_result res = commit(f, 1, GIT_UNCOMMITTABLE);
	assert_non_null(strstr(res.why, "x.bad"));
	git_attempt_result_deinit(&res);
	sh(f->dir, "rm .gitconfig");
}

static void test_repeated_after_a_crash(void **state)
{
	struct fixture *f = *state;
	sh(wt, "echo 1 >one");
	struct git_attempt_result first = commit(f, 1, 0);
	struct git_attempt_result again = commit(f, 1, 0);
	assert_string_equal(first.commit.hex, again.commit.hex);
	assert_true(again.changed);
	git_attempt_result_deinit(&again);
	/* Between the refs and the worktree's HEAD. */
	sh(wt, "git update-ref --no-deref HEAD %s", start.hex);
	again = commit(f, 1, 0);
	assert_string_equal(first.commit.hex, again.commit.hex);
	assert_output(wt, first.commit.hex, "git rev-parse HEAD");
	git_attempt_result_deinit(&again);
	/* Another plan of that name used the number. */
	sh(wt, "echo other >one");
	again = commit(f, 1, -EEXIST);
	git_attempt_result_deinit(&again);
	assert_output(f->repo->common_dir, first.commit.hex, "git rev-parse refs/orch/plan/task/1");
	git_attempt_result_deinit(&first);
}

static void test_branch_moved_by_somebody(void **state)
{
	struct fixture *f = *state;
	sh(wt, "echo 1 >one; git branch orch/plan/task/task HEAD~");
	struct git_oid oid;
	char *text = committed(f, 1, &oid);
	free(text);
	assert_output(f->repo->common_dir, oid.hex, "git rev-parse orch/plan/task/task");
}

static void test_copied_files_are_never_committed(void **state)
{
	struct fixture *f = *state;
	char *copy[] = {".env", "build", "conf*/*.local", "missing", "a", NULL};
	sh(f->repo->toplevel, "mkdir -p build/sub conf1; echo b >build/sub/f; ln -s f build/sub/l; "
			      "chmod 0600 .env; echo USER >>a; echo l >conf1/x.local\n"
			      "chmod +x build/sub/f; git init -q build/repo");
	free(user_before);
	user_before = user_side(f->repo);
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, copy, &f->e));
	assert_output(wt, "SECRET=1", "cat .env");
	assert_output(wt, "600 755", "echo $(stat -c %%a .env build/sub/f)");
	assert_output(wt, "f", "readlink build/sub/l");
	assert_output(wt, "one\ntwo", "cat a"); /* tracked: not overwritten */
	sh(wt, "test -e conf1/x.local; test ! -e build/repo/.git");
	/* conf1/x.local and what the agent puts into build are not even ignored. */
	sh(wt, "echo 1 >one; printf '' >.gitignore; echo more >>.env; echo x >build/new; echo l "
	       ">conf1/y");
	assert_committed(f, 1, ".gitignore\nconf1/y\none");
	/* Nor when the agent commits them itself: its commits are left out of the history then. */
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, copy, &f->e));
	sh(wt, "git add -f .env; git commit -qm secret; git rm -q --cached .env; git commit -qm "
	       "oops; echo 2 >two; git add -f conf1/x.local");
	struct git_oid oid;
	char *text = committed(f, 2, &oid);
	assert_string_equal(text, "two");
	assert_output(f->repo->common_dir, start.hex, "git rev-parse %s^", oid.hex);
	free(text);
	/* A retry without a copy list has none of it. */
	assert_clean_retry(f);
	char *outside[] = {"../x", NULL};
	assert_int_equal(git_worktree_prepare(&f->ctx, wt, &start, outside, &f->e), -EINVAL);
}

static void test_copy_does_not_follow_links(void **state)
{
	struct fixture *f = *state;
	sh(f->dir, "mkdir target");
	sh(f->repo->toplevel, "mkdir conf; echo s >conf/secret");
	free(user_before);
	user_before = NULL;
	sh(wt, "ln -s '%s/target' conf; git add conf; git commit -qm link", f->dir);
	assert_done(f, git_resolve(&f->ctx, "worktrees/plan+task/HEAD", &start, &f->e));
	char *copy[] = {"conf/secret", NULL};
	assert_done(f, git_worktree_prepare(&f->ctx, wt, &start, copy, &f->e));
	sh(f->dir, "test ! -e target/secret; test -L worktrees/plan+task/conf");
}

static void test_tracked_files_after_invariants(void **state)
{
	struct fixture *f = *state;
	char **changed = NULL;
	sh(wt, "echo 1 >one");
	struct git_attempt_result res = commit(f, 1, 0);
	assert_done(f, git_worktree_reset_tracked(&f->ctx, wt, &res.commit, &changed, &f->e));
	assert_null(changed);
	sh(wt, "git update-index --assume-unchanged a; echo hidden >>a; rm one; echo out >out; git "
	       "checkout "
	       "-q -b invariants; touch \"$(git rev-parse --git-path index.lock)\"");
	assert_done(f, git_worktree_reset_tracked(&f->ctx, wt, &res.commit, &changed, &f->e));
	assert_int_equal(strv_len(changed), 2);
	strv_free(changed);
	assert_output(wt, "?? out", "git status --porcelain");
	assert_output(wt, res.commit.hex, "git rev-parse HEAD");
	sh(wt, "git symbolic-ref -q HEAD && exit 1; echo x >>a; echo garbage >\"$(git rev-parse "
	       "--git-path index)\"");
	assert_done(f, git_worktree_reset_tracked(&f->ctx, wt, &res.commit, &changed, &f->e));
	assert_int_equal(strv_len(changed), 1);
	strv_free(changed);
	assert_output(wt, "?? out", "git status --porcelain");
	git_attempt_result_deinit(&res);
	sh(f->repo->common_dir, "git branch -qD invariants");
}

static void test_worktree_may_not_overlap_the_repository(void **state)
{
	struct fixture *f = *state;
	char *inside = git_worktree_path(f->repo->toplevel, "plan", "x");
	assert_int_equal(git_worktree_prepare(&f->ctx, inside, &start, NULL, &f->e), -EINVAL);
	assert_int_equal(
		git_worktree_prepare(&f->ctx, f->repo->toplevel, &start, NULL, &f->e), -EINVAL);
	assert_int_equal(git_worktree_remove(&f->ctx, f->repo->toplevel, &f->e), -EINVAL);
	assert_int_equal(git_worktree_remove(&f->ctx, f->dir, &f->e), -EINVAL);
	sh(f->repo->toplevel, "git worktree add -q ../users");
	char *users = fixture_path(f, "users");
	assert_int_equal(git_worktree_remove(&f->ctx, users, &f->e), -EINVAL);
	assert_int_equal(git_worktree_prepare(&f->ctx, users, &start, NULL, &f->e), -EINVAL);
	sh(f->repo->toplevel,
		"test -e ../users/a; git worktree remove ../users; git branch -qD users");
	free(users);
	free(inside);
}

#define test(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_files_of_every_kind),
		test(test_nothing_changed),
		test(test_same_size_within_the_time_stamp),
		test(test_agent_commits),
		test(test_agent_switches_branch),
		test(test_agent_goes_to_unrelated_history),
		test(test_agent_leaves_a_rebase),
		test(test_agent_leaves_locks),
		test(test_agent_hides_changes),
		test(test_agent_breaks_its_index),
		test(test_agent_stages_and_unmerges),
		test(test_agent_replaces_dot_git),
		test(test_git_forgot_the_worktree),
		test(test_worktree_is_gone),
		test(test_half_made_worktree),
		test(test_hard_to_remove),
		test(test_nested_repositories),
		test(test_large_files),
		test(test_unreadable_files),
		test(test_filter_that_fails),
		test(test_repeated_after_a_crash),
		test(test_branch_moved_by_somebody),
		test(test_copied_files_are_never_committed),
		test(test_copy_does_not_follow_links),
		test(test_tracked_files_after_invariants),
		test(test_worktree_may_not_overlap_the_repository),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
