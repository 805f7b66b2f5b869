/* SPDX-License-Identifier: MIT */
/* The environment of units: the caller's, less what belongs to git, to orch, to other agents, and
 * secrets. Values are in memory only. */
#ifndef RUN_ENVIRON_H
#define RUN_ENVIRON_H

#include "base/err.h"
#include "run/site.h"

/* Owned strv. */
int environ_base(const struct site *s, char ***ret, struct err *e) MUST_CHECK;
/* That of a harness's units, without what each unit has of its own. *ret: owned. */
int environ_of_harness(
	const struct site *s, const char *harness, char ***ret, struct err *e) MUST_CHECK;

#endif
