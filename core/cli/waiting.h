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

struct waiting_counts {
	size_t person; /* wait for a person's word on their work */
	size_t next;   /* go on with the next dispatch, or could start with it */
};

int waiting_count(
	struct store *s, int64_t plan_id, struct waiting_counts *ret, struct err *e) MUST_CHECK;
int waiting_print(FILE *out, struct store *s, int64_t plan_id, struct err *e) MUST_CHECK;

#endif
