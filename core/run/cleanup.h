/* SPDX-License-Identifier: MIT */
/*
 * What a plan left in the repository, removed: worktrees, then branches and refs by
 * compare-and-swap. Nothing is removed while something would be lost by it, unless that is wanted.
 * Blocks; no event loop. The plan must not be under way, and be held (hold.h) where an engine runs.
 */
#ifndef RUN_CLEANUP_H
#define RUN_CLEANUP_H

#include "base/err.h"
#include "run/site.h"
#include "store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cleanup {
	const struct site *site;
	struct store *store; /* for reading is enough */
	int64_t plan_id;
	int lock_fd; /* git.lock, or merge.lock beside an engine; every git inherits it */
	bool force;
	/* What came of it; owned. */
	char *plan;
	char **unsafe; /* sentences that say what would be, or was, lost; NULL: nothing */
	size_t worktrees, refs;
	bool done; /* false: there was nothing to do, or it failed */
};

void cleanup_deinit(struct cleanup *u);
/* Exit status 1: something would be lost (unsafe), or a branch is checked out elsewhere. */
int cleanup_run(struct cleanup *u, struct err *e) MUST_CHECK;
/* The rows' part of it, by whoever may write. */
int cleanup_forget(struct store *s, int64_t plan_id, struct err *e) MUST_CHECK;

#endif
