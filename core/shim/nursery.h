/* SPDX-License-Identifier: MIT */
/* Forks keepers for an engine; see unit/nursery.h. */
#ifndef SHIM_NURSERY_H
#define SHIM_NURSERY_H

/*
 * Serves until the engine closes its end. Consumes sock. arg and env are NURSERY_ARG and
 * NURSERY_ENV where the kernel put them, to be overwritten in each keeper; NULL: not given.
 * Returns the exit status, in the nursery as in each keeper.
 */
int nursery_main(int sock, char *arg, char *env);

#endif
