/* SPDX-License-Identifier: MIT */
/* Changes of a stored plan: what a started plan still allows, and what it does not. */
#ifndef RUN_CHANGE_H
#define RUN_CHANGE_H

#include "config/config.h"
#include "plan/plan.h"
#include "store/store.h"

/*
 * Brings the stored plan to `to`. When it has started and some change is not possible any more:
 * status 65, *ret_refused (owned strv) names each, and nothing is changed. Joins the caller's
 * transaction, or makes its own.
 */
int change_plan(struct store *s, int64_t id, const struct plan *to, char ***ret_refused,
	struct err *e) MUST_CHECK;
/* The same for single keys ("KEY=VALUE") of the plan (task NULL) or of one task. */
int change_set(struct store *s, int64_t id, const char *task, char *const *settings,
	const struct config *config, char ***ret_refused, struct err *e) MUST_CHECK;

#endif
