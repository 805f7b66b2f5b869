/* SPDX-License-Identifier: MIT */
/*
 * Refs that only the engine writes, and what others may have left where they are to be: locks, refs
 * whose names take theirs, files that are no refs. What is found is moved aside, with a warning; a
 * commit stays a ref, refs/orch/+in-the-way/<name>+<commit>, a file goes to in-the-way/ in the
 * state directory.
 */
#ifndef GIT_WAY_H
#define GIT_WAY_H

#include "git/git.h"

/* Removes <ref>.lock. The caller knows that nobody else writes the ref. */
void way_unlock(const struct git_ctx *ctx, const char *ref);
/* After git could not make or move the ref. */
int way_clear(const struct git_ctx *ctx, const char *ref, struct err *e) MUST_CHECK;

#endif
