/* SPDX-License-Identifier: MIT */
/*
 * The last step of a plan: its integration branch into the branch that it started from. The merge
 * is made with that branch as it is today, judged in a worktree that never held an agent's files,
 * and published by compare-and-swap; a checkout that is dirty is never touched. Blocks; no event
 * loop. An engine may be at work meanwhile, with this plan, too: then what it has integrated by the
 * start of the merge is merged, and no result is cached. One merge at a time: merge.lock.
 */
#ifndef RUN_MERGE_BASE_H
#define RUN_MERGE_BASE_H

#include "base/err.h"
#include "git/git.h"
#include "run/check.h"
#include "run/site.h"
#include "store/store.h"

enum merge_base_outcome {
	MERGE_BASE_DONE,     /* published; with dry_run: it would have been */
	MERGE_BASE_ALREADY,  /* the branch holds it already */
	MERGE_BASE_NOTHING,  /* nothing was integrated, or there is no branch to move; see text */
	MERGE_BASE_MISSING,  /* a task passed, but its commit is not in the integration branch */
	MERGE_BASE_REFUSED,  /* a checkout of the user's is in the way */
	MERGE_BASE_MOVED,    /* the branch moved meanwhile */
	MERGE_BASE_CONFLICT, /* text: the paths */
	MERGE_BASE_RED,      /* an invariant, or the set-up command, failed on the merged tree */
	MERGE_BASE_INTERRUPTED, /* a stop signal came; nothing was moved */
};

/* One invariant on the merged tree; NULL result: it was known from the cache. */
typedef void (*merge_base_fn)(void *ctx, const char *invariant, bool passed, bool blocks,
	const struct check_result *result);

/* The branch (full name of its ref) is about to be moved. */
typedef void (*merge_base_moves_fn)(
	void *ctx, const char *ref, const struct git_oid *from, const struct git_oid *to);

struct merge_base {
	const struct site *site;
	struct store *store; /* STORE_WRITE, the lock held; beside an engine: for reading */
	bool beside;         /* an engine runs */
	int64_t plan_id;
	int signal_fd;
	bool dry_run;
	merge_base_fn told;
	merge_base_moves_fn moves;
	void *ctx;
	/* What came of it; owned. */
	char *branch; /* the branch that is, or would be, moved; NULL: none */
	char *text;   /* a sentence for a person where the outcome is not DONE or ALREADY */
	struct git_oid from, to;
};

void merge_base_deinit(struct merge_base *m);
int merge_base_run(struct merge_base *m, enum merge_base_outcome *ret, struct err *e) MUST_CHECK;

#endif
