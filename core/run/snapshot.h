/* SPDX-License-Identifier: MIT */
/* A plan with what its tasks have come to, as one text: for `plan export` and for the commit at a
 * halt. */
#ifndef RUN_SNAPSHOT_H
#define RUN_SNAPSHOT_H

#include "base/buf.h"
#include "store/store.h"

/* Appends the plan file with its [state] sections; deterministic, without times. */
int snapshot_build(struct store *s, int64_t plan_id, struct buf *out, struct err *e) MUST_CHECK;

#endif
