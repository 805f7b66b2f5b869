/* SPDX-License-Identifier: MIT */
/* Whether the integration branch of a plan still holds what it must: someone may have moved it, or
 * removed it. */
#ifndef RUN_MISSING_H
#define RUN_MISSING_H

#include "base/err.h"
#include "git/git.h"
#include "store/store.h"

/*
 * Names of the tasks that passed and whose commit `tip` does not hold (it may not even exist);
 * owned strv, NULL: none. Two git processes, however many tasks there are. Blocks.
 */
int missing_tasks(const struct git_ctx *ctx, struct store *s, int64_t plan_id,
	const struct git_oid *tip, char ***ret_names, struct err *e) MUST_CHECK;

#endif
