/* SPDX-License-Identifier: MIT */
/*
 * Integration: merges are made without a worktree, judged by the caller in a worktree of their own,
 * and published by compare-and-swap.
 */
#ifndef GIT_INTEGRATE_H
#define GIT_INTEGRATE_H

#include "git/git.h"

/* Where orch/<plan>/integration is; "": there is none. */
int git_integration_find(const struct git_ctx *ctx, const char *plan, struct git_oid *ret_tip,
	struct err *e) MUST_CHECK;
/* Makes orch/<plan>/integration at base unless it exists; *ret_tip is where it is. */
int git_integration_ensure(const struct git_ctx *ctx, const char *plan, const struct git_oid *base,
	struct git_oid *ret_tip, struct err *e) MUST_CHECK;

/*
 * Merges commit into tip. 0 and the merge commit (tip itself when it holds commit already), or
 * GIT_CONFLICT with the paths (owned strv) and git's messages (owned, bounded). No ref moves.
 */
int git_merge(const struct git_ctx *ctx, const struct git_oid *tip, const struct git_oid *commit,
	const char *message, struct git_oid *ret_merge, char ***ret_conflicts, char **ret_messages,
	struct err *e) MUST_CHECK;

/*
 * The tree of a three-way merge: 0, or GIT_CONFLICT, when the tree holds conflict markers in
 * *ret_conflicts (owned strv). ret_messages (owned) may be NULL.
 */
int git_merge_trees(const struct git_ctx *ctx, const struct git_oid *ours,
	const struct git_oid *theirs, struct git_oid *ret_tree, char ***ret_conflicts,
	char **ret_messages, struct err *e) MUST_CHECK;

/*
 * Where orch/<plan>/integration is; GIT_OID_NONE: nowhere. It must hold `known`, what its plan has
 * merged so far (GIT_OID_NONE: that is not known): where somebody has moved or removed it, it is
 * put back there, and *ret_mended says so.
 */
int git_integration_tip(const struct git_ctx *ctx, const char *plan, const struct git_oid *known,
	struct git_oid *ret_tip, bool *ret_mended, struct err *e) MUST_CHECK;

/* Moves orch/<plan>/integration from old to new; GIT_MOVED when it is elsewhere. 0 also when it is
 * at new already. */
int git_integration_publish(const struct git_ctx *ctx, const char *plan, const struct git_oid *old,
	const struct git_oid *new, struct err *e) MUST_CHECK;

/*
 * After a worktree of ours could not be prepared at a commit: whether that commit is to blame,
 * since base can be checked out there, and it cannot. *ret_why: git's words, owned; NULL: it is
 * not, and the worktree is to be prepared again.
 */
int git_checkout_refused(const struct git_ctx *ctx, const char *path, const struct git_oid *base,
	const struct git_oid *commit, char **ret_why, struct err *e) MUST_CHECK;

/*
 * Moves the user's branch (short name) from old to new, a descendant of old. Where the branch is
 * checked out, that checkout is brought along. GIT_REFUSED, with the reason in e: the checkout is
 * dirty, in the middle of an operation, checked out twice, or has untracked or ignored files in the
 * way. GIT_MOVED: the branch is not at old.
 */
int git_base_publish(const struct git_ctx *ctx, const char *branch, const struct git_oid *old,
	const struct git_oid *new, struct err *e) MUST_CHECK;
/* The same checks without the move (for a dry run, or before a long gate). */
int git_base_check(const struct git_ctx *ctx, const char *branch, const struct git_oid *old,
	struct err *e) MUST_CHECK;

#endif
