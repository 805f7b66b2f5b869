/* SPDX-License-Identifier: MIT */
/*
 * What the tasks of a plan that did not pass are waiting for, for a person: for a person, for a
 * dependency, for nothing any more (blocked for good), for another dispatch. Four different things,
 * said as such, each task with what it waits for.
 */
#ifndef CLI_WAITING_H
#define CLI_WAITING_H

#include "store/store.h"

#include <stdio.h>

int waiting_print(FILE *out, struct store *s, int64_t plan_id, struct err *e) MUST_CHECK;

#endif
