/* SPDX-License-Identifier: MIT */
/*
 * Submodules in orch's worktrees. Each is a clone that shares the objects of the user's repository
 * of that submodule (<git dir>/modules/<name>); nothing is fetched over a network and no shared
 * config is written. New commits in one are kept in the user's repository under refs/orch/.
 */
#ifndef GIT_SUBMODULE_H
#define GIT_SUBMODULE_H

#include "git/scan.h"

struct submodule {
	char *path;         /* from the top of the worktree */
	char *module;       /* absolute: the user's repository of it */
	struct git_oid oid; /* the commit it was checked out at */
};

struct submodules {
	struct VEC(struct submodule) list;
};

#define SUBMODULES_INIT ((struct submodules){0})
void submodules_deinit(struct submodules *s);

/*
 * Populates those submodules of the worktree, recursively, that the user has; empties the others.
 * The result is recorded in admin_dir. A commit that the user's repository lacks is logged as a
 * warning, and the submodule stays empty.
 */
int submodules_populate(const struct git_ctx *ctx, const char *work_tree, const char *admin_dir,
	struct err *e) MUST_CHECK;

/*
 * Before a commit: keeps new submodule commits under `ref` in the user's repositories. What cannot
 * be kept is appended to *problems (owned strv of paths): uncommitted changes, submodules that the
 * agent added.
 */
int submodules_keep(const struct git_ctx *ctx, const char *work_tree, const char *admin_dir,
	const struct scan *scan, const struct git_oid *start, const char *ref, char ***problems,
	struct err *e) MUST_CHECK;

/* Deletes everything under refs/orch/<plan>/ in all of the user's submodule repositories. */
int submodules_forget(const struct git_ctx *ctx, const char *plan, struct err *e) MUST_CHECK;

#endif
