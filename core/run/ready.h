/* SPDX-License-Identifier: MIT */
/*
 * The branch that a plan's tasks begin at: made before its first task starts, from the base that is
 * fixed then. What has passed must be in it, since what depends on a task would start without its
 * work.
 */
#ifndef RUN_READY_H
#define RUN_READY_H

#include "run/site.h"
#include "store/store.h"

/*
 * Blocks. 0; -ECANCELED by cancel_fd; other negatives with e: no base (66), work that has passed
 * and is not there any more (65), another git at work (69). Nothing is made where every task has
 * passed and a cleanup has taken the branch away.
 */
int ready_plan(const struct site *s, struct store *store, int64_t plan_id, int cancel_fd,
	struct err *e) MUST_CHECK;

/* Whether that branch is there. */
int ready_look(const struct site *s, const char *plan, bool *ret_there, struct err *e) MUST_CHECK;

#endif
