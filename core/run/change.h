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

/*
 * Takes a task that never started, and that nothing depends on, out of the plan: 65 otherwise, 66
 * when there is none of that name.
 */
int change_remove(struct store *s, int64_t id, const char *task, char ***ret_refused,
	struct err *e) MUST_CHECK;
/* Sets failed and escalated tasks back to pending; what passed stays. *ret_count: how many. */
int change_reset(struct store *s, int64_t id, size_t *ret_count, struct err *e) MUST_CHECK;
/*
 * Stores a plan: a new one gets `status`; one of that name is changed, and approved when `status`
 * is PLAN_APPROVED and it was a draft. Joins the caller's transaction.
 */
int change_import(struct store *s, const struct plan *plan, enum plan_status status,
	int64_t *ret_id, char ***ret_refused, struct err *e) MUST_CHECK;
/* A draft may be dispatched by its name from now on. */
int change_approve(struct store *s, int64_t id, struct err *e) MUST_CHECK;

#endif
