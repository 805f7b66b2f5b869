/* SPDX-License-Identifier: MIT */
/*
 * Around a run: the state directory's visible entry, what to check before, what an agent may have
 * changed in the shared repository, and mending after a crash.
 */
#ifndef GIT_GUARD_H
#define GIT_GUARD_H

#include "base/diag.h"
#include "git/git.h"

/* <common dir>/orch; owned. */
char *git_state_dir(const struct git_repo *repo) MUST_CHECK;

/*
 * Makes <toplevel>/.orch a symbolic link to the state directory and enters "/.orch" in
 * info/exclude, each unless it is there; nothing for a bare repository. -EEXIST when .orch is
 * something else.
 */
int git_state_link(const struct git_repo *repo, struct err *e) MUST_CHECK;
/* Only whether something else is in its place. */
int git_state_link_check(const struct git_repo *repo, struct err *e) MUST_CHECK;

/*
 * What would go wrong, as errors and warnings: no commit yet, refs that block orch's own (a branch
 * "orch"), a plan name that collides with refs/orch/state, a worktree root in the repository,
 * branches of the plan checked out by the user, Git LFS used but not installed. plan may be NULL.
 */
int git_preflight(const struct git_ctx *ctx, const char *plan, const char *worktree_root,
	struct diags *d, struct err *e) MUST_CHECK;

/* For a plan of which no attempt was made: refs of attempts that are there all the same would be
 * in the way of its own. */
int git_preflight_new(
	const struct git_ctx *ctx, const char *plan, struct diags *d, struct err *e) MUST_CHECK;

/*
 * The shared repository as text, one line an item: refs outside orch/, config, hooks, exclude,
 * attributes, stash. Compare two by git_tamper_diff, which gives a line for a person for each
 * difference ("refs/heads/main changed from ... to ...") or NULL when there is none. Both owned.
 */
int git_tamper_snapshot(const struct git_ctx *ctx, char **ret_text, struct err *e) MUST_CHECK;
int git_tamper_diff(const char *before, const char *after, char ***ret_changes) MUST_CHECK;
/* Brings refs in `before` to where they are in `after` if these moves, one after the other, lead
 * there; after NULL: to where they lead. */
void git_tamper_follow(
	char *before, const char *after, const struct git_ref_update *moves, size_t n);

/*
 * Takes <state dir>/git.lock, to be the lock_fd of every git_ctx. Waits until no git of an earlier
 * engine holds it, at most timeout_ms; then -EBUSY (exit status 69) naming the pids.
 * *ret_fd is owned and CLOEXEC; it is not closed before the engine ends.
 */
#define GIT_LOCK_WAIT_MS 10000
int git_lock_take(const char *state_dir, int64_t timeout_ms, int *ret_fd, struct err *e) MUST_CHECK;

/*
 * <state dir>/merge.lock: held by an `orch merge` or `orch cleanup`, whose gits inherit it when an
 * engine has git.lock. What they work with is mended by nobody meanwhile.
 */
#define GIT_MERGE_LOCK "merge.lock"

/*
 * With git.lock held: removes *.lock under refs/heads/orch and refs/orch, and in git's directories
 * for worktrees below worktree_root except those in live (strv of paths whose agents still run; may
 * be NULL), and our own temporary files in the state directory. No other lock is ever touched.
 */
int git_mend(const struct git_ctx *ctx, const char *worktree_root, char *const *live,
	struct err *e) MUST_CHECK;
/* The same without worktrees: what stands in the way of a ref before an engine is there. */
int git_mend_refs(const struct git_ctx *ctx, struct err *e) MUST_CHECK;

#endif
