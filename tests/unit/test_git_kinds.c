/* SPDX-License-Identifier: MIT */
/* One whole cycle (worktree, attempt, merge, publish, retry, cleanup) in every kind of repository.
 */
#include "git_fixture.h"

#include "git/guard.h"
#include "git/planrefs.h"

static void assert_no_problems(struct fixture *f)
{
	struct diags d = DIAGS_INIT;
	assert_done(f, git_preflight(&f->ctx, "plan", f->root, &d, &f->e));
	if (d.list.count > 0)
		fail_msg("%s", d.list.items[0].text);
	diags_deinit(&d);
}

static struct git_oid commit_change(struct fixture *f, const char *wt, const struct git_oid *start,
	const char *task, unsigned n, const char *script)
{
	assert_done(f, git_worktree_prepare(&f->ctx, wt, start, NULL, &f->e));
	sh(wt, "%s", script);
	struct git_attempt a = attempt_of(wt, start, task, n);
	struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	assert_done(f, git_attempt_commit(&f->ctx, &a, &res, &f->e));
	assert_true(res.changed);
	struct git_oid oid = res.commit;
	git_attempt_result_deinit(&res);
	return oid;
}

static struct git_oid integrate(struct fixture *f, const struct git_oid *tip,
	const struct git_oid *commit, const char *merge_wt)
{
	struct git_oid merge;
	char **conflicts = NULL, *messages = NULL;
	assert_done(
		f, git_merge(&f->ctx, tip, commit, "Merge", &merge, &conflicts, &messages, &f->e));
	assert_done(f, git_worktree_prepare(&f->ctx, merge_wt, &merge, NULL, &f->e));
	assert_done(f, git_integration_publish(&f->ctx, "plan", tip, &merge, &f->e));
	return merge;
}

/* Two tasks change different files, are merged; a third continues; everything is cleaned up. */
static void cycle(struct fixture *f)
{
	assert_done(f, git_state_link(f->repo, &f->e));
	char *before = user_side(f->repo);
	assert_no_problems(f);
	char *wt1 = git_worktree_path(f->root, "plan", "one");
	char *wt2 = git_worktree_path(f->root, "plan", "two");
	char *merge_wt = git_worktree_path(f->root, "plan", "");
	struct git_oid tip, base = f->repo->head;
	struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	assert_done(f, git_plan_refs_list(&f->ctx, "plan", &base, &refs, &f->e));
	size_t earlier = refs.list.count;
	git_plan_refs_deinit(&refs);
	assert_done(f, git_integration_ensure(&f->ctx, "plan", &base, &tip, &f->e));
	assert_true(git_oid_eq(&tip, &base));
	struct git_oid one = commit_change(f, wt1, &tip, "one", 1, "echo new >'new ü file'");
	struct git_oid two = commit_change(f, wt2, &tip, "two", 1, "echo x >>a; rm src/main.c");
	tip = integrate(f, &tip, &one, merge_wt);
	tip = integrate(f, &tip, &two, merge_wt);
	assert_output(merge_wt, "a\nnew ü file\nsrc/main.c",
		"git diff --name-only -z %s | tr '\\0' '\\n'", base.hex);
	assert_output(merge_wt, "", "git status --porcelain");
	assert_output(merge_wt, "orch <orch@localhost> orch <orch@localhost>",
		"git log -1 --format='%%an <%%ae> %%cn <%%ce>'");

	/* A retry starts clean at the tip, at the same path. */
	sh(wt1, "echo junk >junk.o; echo y >>a");
	struct git_oid again =
		commit_change(f, wt1, &tip, "one", 2, "test ! -e junk.o; echo z >>a");
	tip = integrate(f, &tip, &again, merge_wt);

	char **changed = NULL;
	sh(merge_wt, "echo formatted >>a; echo output >out.o");
	assert_done(f, git_worktree_reset_tracked(&f->ctx, merge_wt, &tip, &changed, &f->e));
	assert_int_equal(strv_len(changed), 1);
	assert_string_equal(changed[0], "a");
	strv_free(changed);
	assert_output(merge_wt, "!! out.o", "git status --porcelain --ignored");

	assert_done(f, git_plan_refs_list(&f->ctx, "plan", &base, &refs, &f->e));
	assert_int_equal(refs.list.count, earlier + 6); /* attempts, task branches, integration */
	assert_done(f, git_plan_refs_delete(&f->ctx, "plan", &refs, f->root, &f->e));
	git_plan_refs_deinit(&refs);
	const char *all[] = {wt1, wt2, merge_wt};
	for (size_t i = 0; i < 3; i++)
		assert_done(f, git_worktree_remove(&f->ctx, all[i], &f->e));
	assert_output(f->repo->common_dir, "", "git for-each-ref | grep orch/ || true");
	char **left = NULL;
	assert_done(f, git_worktree_list(&f->ctx, f->root, &left, &f->e));
	assert_null(left);

	char *after = user_side(f->repo);
	assert_string_equal(before, after);
	free(before);
	free(after);
	free(wt1);
	free(wt2);
	free(merge_wt);
}

static void test_plain(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	assert_string_equal(f->repo->head_branch, "main");
	assert_false(f->repo->bare || f->repo->linked || f->repo->shallow || f->repo->sha256);
	cycle(f);
}

static void test_sha256(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "--object-format=sha256");
	open_repo(f, "repo");
	assert_true(f->repo->sha256);
	cycle(f);
}

static void test_spaces_and_utf8(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "my répo  x", "");
	f->root[0] = '\0';
	free(f->root);
	f->root = fixture_path(f, "wörk trees/deep");
	open_repo(f, "my répo  x");
	cycle(f);
}

static void test_subdirectory(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	open_repo(f, "repo/src");
	assert_true(str_ends(f->repo->toplevel, "/repo"));
	cycle(f);
}

static void test_linked_worktree(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "git -C repo worktree add -q ../linked -b side; echo x >>linked/a");
	open_repo(f, "linked");
	assert_true(f->repo->linked);
	assert_true(str_ends(f->repo->common_dir, "/repo/.git"));
	assert_string_equal(f->repo->head_branch, "side");
	cycle(f);
	sh(f->dir, "test -L linked/.orch; test \"$(readlink linked/.orch)\" = "
		   "\"$PWD/repo/.git/orch\"");
}

static void test_bare(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "git clone -q --bare repo bare.git");
	open_repo(f, "bare.git");
	assert_true(f->repo->bare);
	assert_null(f->repo->toplevel);
	cycle(f);
}

static void test_bare_with_worktrees(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "git clone -q --bare repo all/.bare; git -C all/.bare worktree add -q ../main "
		   "main");
	open_repo(f, "all/main");
	assert_false(f->repo->bare);
	cycle(f);
}

static void test_shallow(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "git clone -q --depth 1 file://$PWD/repo shallow");
	open_repo(f, "shallow");
	assert_true(f->repo->shallow);
	cycle(f);
}

static void test_detached_head(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo; git checkout -q --detach");
	open_repo(f, "repo");
	assert_null(f->repo->head_branch);
	cycle(f);
}

static void test_failing_hooks(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo/.git/hooks; for h in post-checkout pre-commit commit-msg "
		   "reference-transaction "
		   "post-merge post-index-change; do printf '#!/bin/sh\\necho hook >&2; exit 1\\n' "
		   ">$h; "
		   "chmod +x $h; done; mkdir ../../../hooks; cp * ../../../hooks/");
	open_repo(f, "repo");
	cycle(f);
	sh(f->dir, "git -C repo config core.hooksPath \"$PWD/hooks\"");
	cycle(f);
}

static void test_no_identity_and_hostile_config(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo; git config --unset user.name; git config --unset user.email\n"
		   "git config user.useConfigOnly true; git config commit.gpgSign true\n"
		   "git config gpg.program false; git config core.fsmonitor false-monitor\n"
		   "git config color.ui always; git config status.short true; git config "
		   "core.quotePath false\n"
		   "git config diff.external false; git config diff.noprefix true; git config "
		   "gc.auto 1\n"
		   "git config submodule.recurse true; git config i18n.commitEncoding latin1\n"
		   "git config log.showSignature true; git config merge.verifySignatures true\n"
		   "git config core.splitIndex true; git config advice.detachedHead true\n"
		   "git config core.pager false; git config core.editor false");
	open_repo(f, "repo");
	cycle(f);
}

static void test_callers_git_variables_do_not_matter(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	setenv("GIT_DIR", "/nonexistent", 1);
	setenv("GIT_WORK_TREE", "/nonexistent", 1);
	setenv("GIT_INDEX_FILE", "/nonexistent", 1);
	setenv("GIT_AUTHOR_NAME", "Somebody", 1);
	setenv("GIT_TRACE", "1", 1);
	open_repo(f, "repo");
	struct git_oid head;
	assert_done(f, git_resolve(&f->ctx, "main", &head, &f->e));
	assert_true(git_oid_eq(&head, &f->repo->head));
	unsetenv("GIT_DIR");
	unsetenv("GIT_WORK_TREE");
	unsetenv("GIT_INDEX_FILE");
	unsetenv("GIT_AUTHOR_NAME");
	unsetenv("GIT_TRACE");
}

static void test_operation_in_progress(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo; git reset -q --hard; git checkout -q -b other HEAD~; echo o >>a\n"
		   "git commit -qam o; git checkout -q main; git rebase -q other 2>/dev/null && "
		   "exit 1\n"
		   "test -d .git/rebase-merge");
	open_repo(f, "repo");
	cycle(f);
	sh(f->dir, "test -d repo/.git/rebase-merge; touch repo/.git/index.lock");
	open_repo(f, "repo");
	cycle(f);
}

static void test_autocrlf(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo; git config core.autocrlf true; git config core.safecrlf true");
	open_repo(f, "repo");
	char *wt = git_worktree_path(f->root, "plan", "crlf");
	struct git_oid oid =
		commit_change(f, wt, &f->repo->head, "crlf", 1, "printf 'one\\ntwo\\r\\n' >mixed");
	assert_output(f->repo->common_dir, "6f6e650a74776f0a",
		"git cat-file blob %s:mixed | od -An -tx1 | tr -d ' \\n'", oid.hex);
	/* Files that nobody touched are not part of the change. */
	assert_output(
		f->repo->common_dir, "mixed", "git diff --name-only %s~ %s", oid.hex, oid.hex);
	assert_done(f, git_worktree_remove(&f->ctx, wt, &f->e));
	free(wt);
	cycle(f);
}

static void test_lfs(void **state)
{
	struct fixture *f = *state;
	if (fixture_sh("/", "git lfs version >/dev/null 2>&1", NULL) != 0) {
		print_message("git-lfs is not installed: not tested\n");
		skip();
	}
	sh(f->dir, "git lfs install --skip-repo >/dev/null");
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo; git lfs track '*.bin' >/dev/null; head -c 5000 /dev/zero >z.bin\n"
		   "git add .gitattributes z.bin; git commit -qm lfs");
	open_repo(f, "repo");
	char *wt = git_worktree_path(f->root, "plan", "lfs");
	struct git_oid oid = commit_change(f, wt, &f->repo->head, "lfs", 1,
		"test $(wc -c <z.bin) = 5000; head -c 6000 /dev/zero >new.bin");
	assert_output(f->repo->common_dir, "version https://git-lfs.github.com/spec/v1",
		"git cat-file blob %s:new.bin | head -n 1", oid.hex);
	assert_output(
		f->repo->common_dir, "new.bin", "git diff --name-only %s~ %s", oid.hex, oid.hex);
	assert_done(f, git_worktree_remove(&f->ctx, wt, &f->e));
	cycle(f);
	/* Pointers without their content, and no server: the pointer files are what there is. */
	sh(f->dir, "GIT_LFS_SKIP_SMUDGE=1 git clone -q repo pointers; rm -rf pointers/.git/lfs\n"
		   "git -C pointers config lfs.url http://127.0.0.1:1/none\n"
		   "git -C pointers config user.name U; git -C pointers config user.email "
		   "u@example.org\n"
		   "git -C pointers config lfs.transfer.maxretries 1");
	open_repo(f, "pointers");
	char *wt2 = git_worktree_path(f->root, "plan", "pointers");
	oid = commit_change(f, wt2, &f->repo->head, "pointers", 1,
		"head -c 20 z.bin | grep -q version; echo x >other");
	assert_output(
		f->repo->common_dir, "other", "git diff --name-only %s~ %s", oid.hex, oid.hex);
	free(wt);
	free(wt2);
}

static void test_sparse_checkout(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	sh(f->dir, "cd repo; git reset -q --hard; git sparse-checkout set --cone src; test ! -e "
		   "'späce d'");
	open_repo(f, "repo");
	cycle(f);
}

static void test_no_repository(void **state)
{
	struct fixture *f = *state;
	sh(f->dir, "mkdir none");
	char *dir = fixture_path(f, "none");
	assert_int_equal(git_open(&f->ctx, dir, &f->repo, &f->e), GIT_NO_REPOSITORY);
	assert_non_null(strstr(f->e.msg, "not in a git repository"));
	free(dir);
	dir = fixture_path(f, "missing");
	assert_int_equal(git_open(&f->ctx, dir, &f->repo, &f->e), -ENOENT);
	free(dir);
}

static void test_empty_repository(void **state)
{
	struct fixture *f = *state;
	sh(f->dir, "git init -q -b trunk empty");
	open_repo(f, "empty");
	assert_string_equal(f->repo->head.hex, "");
	assert_string_equal(f->repo->head_branch, "trunk");
	assert_int_equal(git_require_commit(f->repo, &f->e), -ENODATA);
	assert_non_null(strstr(f->e.msg, "git commit --allow-empty"));
	struct git_oid oid;
	assert_int_equal(git_resolve(&f->ctx, "HEAD", &oid, &f->e), -ENOENT);
	struct diags d = DIAGS_INIT;
	assert_done(f, git_preflight(&f->ctx, "plan", f->root, &d, &f->e));
	assert_int_equal(d.errors, 1);
	diags_deinit(&d);
}

static void test_dubious_ownership(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1", 1); /* scrubbed: needs a real owner */
	if (geteuid() != 0) {
		print_message("only root can give a repository away: not tested\n");
		unsetenv("GIT_TEST_ASSUME_DIFFERENT_OWNER");
		skip();
	}
	sh(f->dir, "chown -R 12345 repo");
	char *dir = fixture_path(f, "repo");
	assert_int_equal(git_open(&f->ctx, dir, &f->repo, &f->e), -EPERM);
	assert_non_null(strstr(f->e.msg, "safe.directory"));
	unsetenv("GIT_TEST_ASSUME_DIFFERENT_OWNER");
	free(dir);
}

static void test_inside_git_directory(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	char *dir = fixture_path(f, "repo/.git/refs");
	assert_int_equal(git_open(&f->ctx, dir, &f->repo, &f->e), -EINVAL);
	assert_non_null(strstr(f->e.msg, "work tree"));
	free(dir);
}

/* Whether git_find knows the repository without git; then it says what git says. */
static bool found(struct fixture *f, const char *name)
{
	struct git_repo *quick = NULL;
	CLEANUP_STR char *dir = fixture_path(f, name);
	CLEANUP_STR char *here = realpath(dir, NULL);
	assert_non_null(here);
	assert_done(f, git_find(here, &quick, &f->e));
	if (!quick)
		return false;
	open_repo(f, name);
	assert_string_equal(quick->common_dir, f->repo->common_dir);
	assert_string_equal(quick->git_dir, f->repo->git_dir);
	assert_string_equal(quick->toplevel, f->repo->toplevel);
	git_repo_free(quick);
	return true;
}

static void test_found_without_git(void **state)
{
	struct fixture *f = *state;
	make_repo(f, "my répo  x", "");
	make_repo(f, "repo", "");
	sh(f->dir, "mkdir -p repo/deep/er none; git clone -q --depth 1 file://$PWD/repo shallow");
	assert_true(found(f, "my répo  x"));
	assert_true(found(f, "repo"));
	assert_true(found(f, "repo/deep/er"));
	assert_true(found(f, "shallow"));
	/* That there is none is known as well, within one file system. */
	struct stat root, none;
	struct git_repo *repo = NULL;
	CLEANUP_STR char *dir = fixture_path(f, "none");
	CLEANUP_STR char *here = realpath(dir, NULL);
	assert_true(here && stat("/", &root) == 0 && stat(here, &none) == 0);
	assert_int_equal(
		git_find(here, &repo, &f->e), root.st_dev == none.st_dev ? GIT_NO_REPOSITORY : 0);
	assert_null(repo);
	/* git is to be asked: */
	sh(f->dir,
		"git -C repo worktree add -q ../linked -b side; git clone -q --bare repo bare.git\n"
		"cp -r repo elsewhere; git -C elsewhere config core.worktree ../../none\n"
		"cp -r repo included; git -C included config include.path ../x\n"
		"cp -r repo called-bare; git -C called-bare config core.bare true\n"
		"cp -r repo broken; rm broken/.git/HEAD\n"
		"cp -r repo inner; cp -r bare.git inner/kept; mkdir inner/kept/x");
	static const char *const others[] = {"linked", "bare.git", "bare.git/refs", "repo/.git",
		"repo/.git/refs", "elsewhere", "included", "called-bare", "broken", "inner/kept",
		"inner/kept/x"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (found(f, others[i]))
			fail_msg("'%s' was found without git", others[i]);
	if (geteuid() == 0) {
		sh(f->dir, "cp -r repo given; chown -R 12345 given");
		assert_false(found(f, "given"));
	}
}

#define kind(t) cmocka_unit_test_setup_teardown(t, fixture_setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		kind(test_plain),
		kind(test_sha256),
		kind(test_spaces_and_utf8),
		kind(test_subdirectory),
		kind(test_linked_worktree),
		kind(test_bare),
		kind(test_bare_with_worktrees),
		kind(test_shallow),
		kind(test_detached_head),
		kind(test_failing_hooks),
		kind(test_no_identity_and_hostile_config),
		kind(test_callers_git_variables_do_not_matter),
		kind(test_operation_in_progress),
		kind(test_autocrlf),
		kind(test_lfs),
		kind(test_sparse_checkout),
		kind(test_no_repository),
		kind(test_empty_repository),
		kind(test_dubious_ownership),
		kind(test_inside_git_directory),
		kind(test_found_without_git),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
