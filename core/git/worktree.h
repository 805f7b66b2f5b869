/* SPDX-License-Identifier: MIT */
/*
 * Worktrees of orch's own: detached, outside the repository, known to git under the last component
 * of their path, which must therefore be unique in the repository (git_worktree_path makes such
 * paths). Whatever an agent did in one (other branch, rebase, index.lock, its own .git, index
 * flags), the functions here do not depend on it. Nothing is ever written to the shared config.
 *
 * Submodules that the user has checked out are populated from their repositories (<common
 * dir>/modules/<name>, recursively) without network; the others stay empty.
 */
#ifndef GIT_WORKTREE_H
#define GIT_WORKTREE_H

#include "git/git.h"

/*
 * <root>/<plan>+<task>; task "" gives the plan's merge worktree, one that begins with '+' a further
 * one of the plan's own ("+baseline"). Owned. Paths whose last component has no such form are
 * refused by all functions here: they are not ours.
 */
char *git_worktree_path(const char *root, const char *plan, const char *task) MUST_CHECK;

/* That of `orch merge`: a gate of an engine that died may still use the plan's merge worktree. */
#define GIT_FINAL "+final"

/*
 * Makes path a clean worktree at commit, whatever stands there now: made anew, or reset (tracked
 * files, everything untracked and ignored, HEAD detached, no operation in progress). Work in it
 * must be committed before. Then brings along `copy` (NULL: nothing): paths or globs relative to
 * the user's checkout; what exists in the worktree is not overwritten; git_attempt_commit never
 * commits what was copied. Refuses (-EINVAL) a path that is, or contains, or lies in, the
 * repository.
 */
int git_worktree_prepare(const struct git_ctx *ctx, const char *path, const struct git_oid *commit,
	char *const *copy, struct err *e) MUST_CHECK;

/*
 * As git_worktree_prepare at commit `tip`, then what `attempt` changed since it left tip's history
 * is applied on top, staged, not committed. *ret_conflicts (owned strv, NULL when none) are the
 * paths in which it left conflict markers for the agent.
 */
int git_worktree_continue(const struct git_ctx *ctx, const char *path, const struct git_oid *tip,
	const struct git_oid *attempt, char *const *copy, char ***ret_conflicts,
	struct err *e) MUST_CHECK;

/* One that its agent has moved away with `git worktree move`, to beside where it was, comes back.
 */
int git_worktree_bring_back(const struct git_ctx *ctx, const char *path, struct err *e) MUST_CHECK;

/*
 * What keeps path from being used as a worktree, to be told after its name: "is gone" (also where
 * something else stands there, or a link: what that leads to is nobody's work), "cannot be read",
 * or that git would wait in it for ever. NULL: nothing. Static.
 */
const char *git_worktree_trouble(const char *path);

/*
 * After invariants: tracked files back to commit, HEAD detached there; untracked files stay.
 * *ret_changed (owned strv, NULL when none): tracked paths that were not as in commit; "." where
 * the whole worktree was gone, or unreadable, and is made anew.
 */
int git_worktree_reset_tracked(const struct git_ctx *ctx, const char *path,
	const struct git_oid *commit, char ***ret_changed, struct err *e) MUST_CHECK;

/* Removes the worktree and git's record of it; 0 when there is none. The caller has committed. */
int git_worktree_remove(const struct git_ctx *ctx, const char *path, struct err *e) MUST_CHECK;
/* Moves what is there to `<path>+<number>`, a worktree no more, unless that is there already. *ret
 * is its new path, owned; NULL: there was nothing to move. */
int git_worktree_set_aside(const char *path, unsigned number, char **ret, struct err *e) MUST_CHECK;

/* Paths of all of orch's worktrees below root that git knows or that stand there; owned strv. */
int git_worktree_list(
	const struct git_ctx *ctx, const char *root, char ***ret_paths, struct err *e) MUST_CHECK;

/* git's record of the worktree at path, in whatever state; owned; -ENOENT when there is none. */
int git_worktree_record(
	const struct git_ctx *ctx, const char *path, char **ret, struct err *e) MUST_CHECK;
/* The same; -ENOENT also when git cannot use it. */
int git_worktree_admin_dir(
	const struct git_ctx *ctx, const char *path, char **ret, struct err *e) MUST_CHECK;

/* Leftovers of a crash in the state directory have names that begin with one of these. */
#define GIT_INDEX_PREFIX "git-index."
#define GIT_MERGE_PREFIX "git-merge."
#define GIT_TRASH_PREFIX "git-trash."

/*
 * git fails when it meets the record of a worktree that another git is just making: whoever makes
 * one, or lists them, holds this lock meanwhile. *ret_fd is owned; closing it unlocks.
 */
int git_worktrees_lock(const struct git_ctx *ctx, int *ret_fd, struct err *e) MUST_CHECK;

/* Under that lock: FIFOs go where git reads a file of each worktree, and would wait for ever. */
int git_worktrees_unblock(const struct git_repo *repo, struct err *e) MUST_CHECK;

/* Whether path is dir or lies below it; both absolute and resolved. */
bool git_path_contains(const char *dir, const char *path);

#endif
