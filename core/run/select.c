/* SPDX-License-Identifier: MIT */
#include "run/select.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const key_names[RUN_FILTER_COUNT] = {
#define X(id, name) name,
	RUN_FILTER_LIST(X)
#undef X
};

void run_select_deinit(struct run_select *s)
{
	VEC_FREE(&s->targets);
	vec_foreach(f, &s->filters)
		strv_free(f->values);
	VEC_FREE(&s->filters);
}

enum engine_select run_select_kind(const struct run_select *s)
{
	if (s && s->targets.count > 0)
		return SELECT_TARGETS;
	return s && s->filters.count > 0 ? SELECT_FILTER : SELECT_ALL;
}

/* ---- filters ---- */

static bool value_is_valid(enum run_filter_key key, const char *value)
{
	enum task_status status;
	int64_t number;
	switch (key) {
	case RUN_FILTER_STATUS:
		return task_status_parse(value, &status) == 0;
	case RUN_FILTER_SCOPE:
		return str_eq(value, scope_name(SCOPE_NARROW)) ||
		       str_eq(value, scope_name(SCOPE_MEDIUM)) ||
		       str_eq(value, scope_name(SCOPE_BROAD));
	case RUN_FILTER_PRIORITY:
		return parse_int64(value, INT32_MIN, INT32_MAX, &number) == 0;
	default:
		return value[0] != '\0';
	}
}

static const char *key_expects(enum run_filter_key key)
{
	switch (key) {
	case RUN_FILTER_STATUS:
		return "the status of a task";
	case RUN_FILTER_SCOPE:
		return "narrow, medium or broad";
	case RUN_FILTER_PRIORITY:
		return "a whole number";
	default:
		return "a value";
	}
}

int run_select_add_filter(struct run_select *s, const char *text, struct err *e)
{
	size_t len = strcspn(text, "="), key = 0;
	while (key < RUN_FILTER_COUNT &&
		!(strlen(key_names[key]) == len && memcmp(key_names[key], text, len) == 0))
		key++;
	if (key == RUN_FILTER_COUNT || !text[len])
		return err_exit(e, EXIT_USAGE,
			"--only: expected status, tag, scope, harness or priority, '=' and values, "
			"not '%.200s'",
			text);
	CLEANUP_STRV char **values = strv_split(text + len + 1, ",");
	if (!values)
		return err_nomem(e);
	if (!values[0])
		return err_exit(e, EXIT_USAGE, "--only %s=: expected %s", key_names[key],
			key_expects((enum run_filter_key)key));
	for (size_t i = 0; values[i]; i++)
		if (!value_is_valid((enum run_filter_key)key, values[i]))
			return err_exit(e, EXIT_USAGE, "--only %s: expected %s, not '%.200s'",
				key_names[key], key_expects((enum run_filter_key)key), values[i]);
	struct run_filter *f = VEC_PUSH(&s->filters);
	if (!f)
		return err_nomem(e);
	f->key = (enum run_filter_key)key;
	f->values = TAKE(values);
	return 0;
}

static bool any_tag(const char *tags, const char *value)
{
	const char *blank = " \t";
	size_t len = strlen(value);
	for (const char *tag = tags; tag; tag = strchr(tag, ',')) {
		tag += *tag == ',';
		tag += strspn(tag, blank);
		if (strncmp(tag, value, len) == 0) {
			const char *end = tag + len + strspn(tag + len, blank);
			if (*end == ',' || *end == '\0')
				return true;
		}
	}
	return str_eq(tags, value);
}

static bool value_holds(
	enum run_filter_key key, const char *value, const struct task_row *row, const char *harness)
{
	int64_t number;
	switch (key) {
	case RUN_FILTER_STATUS:
		return str_eq(value, task_status_name(row->status));
	case RUN_FILTER_TAG:
		return row->tag && any_tag(row->tag, value);
	case RUN_FILTER_SCOPE:
		return str_eq(value, scope_name(row->scope));
	case RUN_FILTER_HARNESS:
		return str_eq(value, harness);
	default:
		return parse_int64(value, INT32_MIN, INT32_MAX, &number) == 0 &&
		       number == row->priority;
	}
}

bool run_select_matches(const struct run_select *s, const struct task_row *row, const char *harness)
{
	if (!s)
		return true;
	vec_foreach(f, &s->filters) {
		bool holds = false;
		for (size_t i = 0; !holds && f->values[i]; i++)
			holds = value_holds(f->key, f->values[i], row, harness);
		if (!holds)
			return false;
	}
	return true;
}

/* ---- targets ---- */

static int by_task(const void *a, const void *b)
{
	int64_t x = ((const struct run_stage *)a)->task, y = ((const struct run_stage *)b)->task;
	return (x > y) - (x < y);
}

static struct run_stage *find(const struct run_stages *st, int64_t task)
{
	struct run_stage key = {.task = task};
	return st->list.count ? bsearch(&key, st->list.items, st->list.count, sizeof(key), by_task)
			      : NULL;
}

void run_stages_deinit(struct run_stages *st)
{
	VEC_FREE(&st->list);
}

uint16_t run_stages_get(const struct run_stages *st, int64_t task)
{
	const struct run_stage *found = find(st, task);
	return found ? found->stage : UINT16_MAX;
}

static int add_task(void *ctx, const struct task_row *row)
{
	struct run_stages *st = ctx;
	struct run_stage *slot = VEC_PUSH(&st->list);
	if (!slot)
		return -ENOMEM;
	*slot = (struct run_stage){.task = row->id, .stage = UINT16_MAX};
	return 0;
}

/* What is still to be followed, from a target back to all it needs. */
struct walk {
	struct run_stages *stages;
	struct VEC(int64_t) todo;
	uint16_t stage;
};

static int reach(void *ctx, int64_t task)
{
	struct walk *w = ctx;
	struct run_stage *found = find(w->stages, task);
	if (!found || found->stage != UINT16_MAX)
		return 0;
	found->stage = w->stage;
	int64_t *slot = VEC_PUSH(&w->todo);
	if (!slot)
		return -ENOMEM;
	*slot = task;
	return 0;
}

int run_stages_find(const struct run_select *s, struct store *store, int64_t plan_id,
	struct run_stages *ret, struct err *e)
{
	struct walk w = {.stages = ret};
	int code = store_each_task(store, plan_id, add_task, ret, e);
	if (code == 0 && ret->list.count > 0)
		qsort(ret->list.items, ret->list.count, sizeof(*ret->list.items), by_task);
	for (size_t i = 0; code == 0 && i < s->targets.count; i++) {
		w.stage = (uint16_t)i;
		code = reach(&w, s->targets.items[i]);
		while (code == 0 && w.todo.count > 0)
			code = store_each_need(store, w.todo.items[--w.todo.count], reach, &w, e);
	}
	VEC_FREE(&w.todo);
	return code < 0 && e->code == 0 ? err_nomem(e) : code;
}
