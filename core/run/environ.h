/* SPDX-License-Identifier: MIT */
/* The environment of units: the caller's, less what belongs to git, to orch, to other agents, and
 * secrets. Values are in memory only. */
#ifndef RUN_ENVIRON_H
#define RUN_ENVIRON_H

#include "base/err.h"
#include "run/site.h"

/* Owned strv. */
int environ_base(const struct site *s, char ***ret, struct err *e) MUST_CHECK;

#endif
