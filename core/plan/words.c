/* SPDX-License-Identifier: MIT */
#include "plan/words.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define X(suffix, name) name,
static const char *const task_status_names[] = {TASK_STATUS_LIST(X)};
static const char *const plan_status_names[] = {PLAN_STATUS_LIST(X)};
static const char *const outcome_names[] = {OUTCOME_LIST(X)};
static const char *const verdict_names[] = {VERDICT_LIST(X)};
#undef X
#define X(suffix, name, status) name,
static const char *const halt_names[] = {HALT_LIST(X)};
#undef X
#define X(suffix, name, status) status,
static const int halt_statuses[] = {HALT_LIST(X)};
#undef X

static int word_find(const char *const *names, int count, const char *name)
{
	for (int i = 0; name && i < count; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -EINVAL;
}

const char *task_status_name(enum task_status s)
{
	return task_status_names[s];
}

const char *plan_status_name(enum plan_status s)
{
	return plan_status_names[s];
}

const char *outcome_name(enum outcome o)
{
	return outcome_names[o];
}

const char *verdict_name(enum verdict v)
{
	return verdict_names[v];
}

const char *halt_reason_name(enum halt_reason h)
{
	return halt_names[h];
}

int halt_reason_status(enum halt_reason h)
{
	return halt_statuses[h];
}

int task_status_parse(const char *name, enum task_status *ret)
{
	int i = word_find(task_status_names, TASK_STATUS_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum task_status)i;
	return 0;
}

int plan_status_parse(const char *name, enum plan_status *ret)
{
	int i = word_find(plan_status_names, PLAN_STATUS_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum plan_status)i;
	return 0;
}

int outcome_parse(const char *name, enum outcome *ret)
{
	int i = word_find(outcome_names, OUTCOME_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum outcome)i;
	return 0;
}

int halt_reason_parse(const char *name, enum halt_reason *ret)
{
	int i = word_find(halt_names, HALT_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum halt_reason)i;
	return 0;
}
