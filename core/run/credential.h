/* SPDX-License-Identifier: MIT */
/*
 * Whose limit a rate limit is: harnesses of one plugin that use the same login have it in common.
 * What tells logins apart is what pass_env and env_file bring into the agent's environment, and the
 * options by which it is told who it is (credential.c lists them).
 */
#ifndef RUN_CREDENTIAL_H
#define RUN_CREDENTIAL_H

#include "base/err.h"
#include "run/site.h"

/* "<plugin>", or "<plugin> <SHA-256>": no value can be read from it. Owned. */
int credential_name(
	const struct site *s, const char *harness, char **ret, struct err *e) MUST_CHECK;

#endif
