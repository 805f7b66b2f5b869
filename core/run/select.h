/* SPDX-License-Identifier: MIT */
/*
 * Which tasks of a plan a dispatch may start: all, some targets in order with what they need, or
 * what filters let through. A filter restricts what may be started, never the graph: a task that is
 * not chosen still has to pass before its dependents start.
 */
#ifndef RUN_SELECT_H
#define RUN_SELECT_H

#include "base/vec.h"
#include "engine/engine.h"
#include "store/store.h"

#define RUN_FILTER_LIST(X) \
	X(STATUS, "status") \
	X(TAG, "tag") X(SCOPE, "scope") X(HARNESS, "harness") X(PRIORITY, "priority")

enum run_filter_key {
#define X(id, name) RUN_FILTER_##id,
	RUN_FILTER_LIST(X)
#undef X
		RUN_FILTER_COUNT,
};

struct run_filter {
	enum run_filter_key key;
	char **values; /* one of them must hold */
};

/* Every filter must hold. Targets and filters exclude each other. */
struct run_select {
	struct VEC(int64_t) targets; /* tasks by id, in order */
	struct VEC(struct run_filter) filters;
	bool auto_advance;
};

void run_select_deinit(struct run_select *s);
/* "key=value,value": -EINVAL, with status 64 and what is allowed. */
int run_select_add_filter(struct run_select *s, const char *text, struct err *e) MUST_CHECK;
enum engine_select run_select_kind(const struct run_select *s); /* NULL: SELECT_ALL */
/* harness: what would carry the task out; NULL: none. */
bool run_select_matches(
	const struct run_select *s, const struct task_row *row, const char *harness);

struct run_stage {
	int64_t task;
	uint16_t stage; /* UINT16_MAX: no target needs it */
};

/* The stages of a plan's tasks: the number of the first target that needs each. */
struct run_stages {
	struct VEC(struct run_stage) list; /* by task id */
};
void run_stages_deinit(struct run_stages *st);
int run_stages_find(const struct run_select *s, struct store *store, int64_t plan_id,
	struct run_stages *ret, struct err *e) MUST_CHECK;
uint16_t run_stages_get(const struct run_stages *st, int64_t task);

#endif
