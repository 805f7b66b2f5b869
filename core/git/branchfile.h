/* SPDX-License-Identifier: MIT */
/*
 * One file committed to the branch that a checkout of the user's has checked out: the one place
 * where orch touches a branch, an index and a checkout that are not its own, and only when the
 * user has asked for it ([halt] commit = branch).
 */
#ifndef GIT_BRANCHFILE_H
#define GIT_BRANCHFILE_H

#include "git/git.h"

/*
 * Commits `name` at the top of the current branch of the checkout that ctx->repo was opened from:
 * a commit with that one path, the path's entry in the index and the file itself; nothing else of
 * index and checkout changes, and what is staged stays staged. HEAD is looked at anew.
 *
 * 0, with *ret_changed false when the branch holds those bytes already (nothing is done then).
 * GIT_REFUSED, with a message: something of the user's is under way or in the way (a merge, a
 * rebase, unmerged paths, a detached HEAD, index.lock, a file of that name that is not ours, an
 * ignored path); nothing was changed. GIT_MOVED: the branch moved meanwhile; nothing was changed.
 * After an error *ret is the commit if it was made all the same, else "".
 */
int git_commit_on_branch(const struct git_ctx *ctx, const char *name, const void *data, size_t len,
	const char *message, struct git_oid *ret, bool *ret_changed, struct err *e) MUST_CHECK;

/*
 * The operation that a checkout is in the middle of ("a merge", "a rebase"...), NULL: none. Static.
 */
const char *git_under_way(const struct git_repo *repo);

/* For the same file in a tree: a commit's tree with that one file replaced; see objects.c. */
int git_tree_with_file(const struct git_ctx *ctx, const struct git_oid *commit, const char *name,
	const struct git_oid *blob, struct git_oid *ret, struct err *e) MUST_CHECK;
int git_blob_write(const struct git_ctx *ctx, const void *data, size_t len, struct git_oid *ret,
	struct err *e) MUST_CHECK;

#endif
