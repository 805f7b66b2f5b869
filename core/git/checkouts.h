/* SPDX-License-Identifier: MIT */
/* All worktrees of the repository, the user's and orch's. */
#ifndef GIT_CHECKOUTS_H
#define GIT_CHECKOUTS_H

#include "base/vec.h"
#include "git/git.h"

struct checkout {
	char *path;     /* absolute */
	char *git_dir;  /* absolute */
	char *branch;   /* full ref name; NULL when detached */
	char *rebasing; /* full ref name of a branch that is being rebased there; NULL */
};

struct checkouts {
	struct VEC(struct checkout) list; /* without a bare repository, and without missing ones */
};

#define CHECKOUTS_INIT ((struct checkouts){0})
void checkouts_deinit(struct checkouts *c);
int checkouts_list(const struct git_ctx *ctx, struct checkouts *ret, struct err *e) MUST_CHECK;

#endif
