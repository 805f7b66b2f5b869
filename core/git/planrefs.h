/* SPDX-License-Identifier: MIT */
/*
 * What a plan left in the repository: refs/orch/<plan>/..., branches orch/<plan>/..., and the refs
 * that keep submodule commits. For cleanup.
 */
#ifndef GIT_PLANREFS_H
#define GIT_PLANREFS_H

#include "base/vec.h"
#include "git/git.h"

struct git_plan_ref {
	char *ref; /* full name */
	struct git_oid oid;
	bool merged; /* reachable from base */
};

struct git_plan_refs {
	struct VEC(struct git_plan_ref) list; /* in order of ref name */
};

#define GIT_PLAN_REFS_INIT ((struct git_plan_refs){0})
void git_plan_refs_deinit(struct git_plan_refs *r);

/* base "": merged is false everywhere. */
int git_plan_refs_list(const struct git_ctx *ctx, const char *plan, const struct git_oid *base,
	struct git_plan_refs *ret, struct err *e) MUST_CHECK;
/*
 * Deletes them in one transaction, and the plan's refs in submodule repositories. GIT_MOVED: one
 * has changed since the listing. GIT_REFUSED: one of the branches is checked out in a worktree that
 * is not below worktree_root; e names both. Nothing was deleted then.
 */
int git_plan_refs_delete(const struct git_ctx *ctx, const char *plan,
	const struct git_plan_refs *refs, const char *worktree_root, struct err *e) MUST_CHECK;

#endif
