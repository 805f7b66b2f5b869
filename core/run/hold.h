/* SPDX-License-Identifier: MIT */
/*
 * A plan that is being cleaned up is held: nobody takes it up before its branches and worktrees are
 * gone. The hold is a lock file of the plan's own in the state directory, so it ends with whoever
 * has it and does not depend on an engine. Whoever takes up a plan looks at the hold first; whoever
 * takes the hold asks the engine that runs afterwards whether the plan is under way. So one of the
 * two always sees the other.
 */
#ifndef RUN_HOLD_H
#define RUN_HOLD_H

#include "base/err.h"
#include "run/site.h"

#include <stdint.h>

/* 0 and an owned descriptor; exit status 69: somebody else has it. */
int hold_take(const struct site *s, int64_t plan_id, int *ret_fd, struct err *e) MUST_CHECK;
/* Sets *fd to -1; nothing happens when it is -1. */
void hold_release(const struct site *s, int64_t plan_id, int *fd);
/* 0; exit status 69 while somebody holds the plan. */
int hold_check(const struct site *s, int64_t plan_id, struct err *e) MUST_CHECK;

#endif
