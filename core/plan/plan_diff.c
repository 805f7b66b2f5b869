/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include "base/str.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

bool plan_task_key_when_started(const char *key)
{
	static const char *const keys[] = {
		"priority", "tag", "retry_max", "timeout", "gate", "invariants", NULL};
	return name_table_find(keys, key) >= 0;
}

bool plan_key_when_started(const char *key)
{
	static const char *const keys[] = {"token_budget", "max_agents", "invariants", NULL};
	return name_table_find(keys, key) >= 0;
}

static int add(struct plan_diff *d, struct plan_change change)
{
	struct plan_change *place = VEC_PUSH(&d->changes);
	if (!place)
		return -ENOMEM;
	*place = change;
	return 0;
}

static int compare_strings(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Equal as sets. 1, 0 or -ENOMEM. */
static int same_names(char *const *a, char *const *b)
{
	size_t n = strv_len(a);
	if (n != strv_len(b))
		return 0;
	CLEANUP(freep) const char **x = malloc((n + 1) * sizeof(*x));
	CLEANUP(freep) const char **y = malloc((n + 1) * sizeof(*y));
	if (!x || !y)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		x[i] = a[i];
		y[i] = b[i];
	}
	qsort(x, n, sizeof(*x), compare_strings);
	qsort(y, n, sizeof(*y), compare_strings);
	for (size_t i = 0; i < n; i++)
		if (strcmp(x[i], y[i]) != 0)
			return 0;
	return 1;
}

static int diff_plan_keys(const struct plan *from, const struct plan *to, struct plan_diff *d)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < plan_keys.count; i++) {
		const struct key_spec *spec = &plan_keys.keys[i];
		bool same = key_equal(spec, from, to);
		if (str_eq(spec->key, "invariants"))
			same = same && from->has_invariants == to->has_invariants;
		if (!same)
			r = add(d, (struct plan_change){.kind = PLAN_CHANGE_FIELD,
					   .field = spec->key,
					   .from = -1,
					   .to = -1,
					   .when_started = plan_key_when_started(spec->key)});
	}
	return r;
}

static int diff_task(
	const struct plan *from, const struct plan *to, struct plan_change at, struct plan_diff *d)
{
	const struct task *a = &from->tasks.items[at.from], *b = &to->tasks.items[at.to];
	at.kind = PLAN_CHANGE_TASK_FIELD;
	for (size_t i = 0; i < task_keys.count; i++) {
		const struct key_spec *spec = &task_keys.keys[i];
		if (key_equal(spec, a, b))
			continue;
		int same = 0;
		if (str_eq(spec->key, "depends_on"))
			same = same_names(a->depends_on, b->depends_on);
		at.field = spec->key;
		at.when_started = plan_task_key_when_started(spec->key);
		if (same < 0 || (!same && add(d, at) < 0))
			return -ENOMEM;
	}
	return 0;
}

static int diff_tasks(const struct plan *from, const struct plan *to, struct plan_diff *d)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < from->tasks.count; i++) {
		struct plan_change c = {.kind = PLAN_CHANGE_TASK_REMOVED,
			.name = from->tasks.items[i].name,
			.from = (int64_t)i};
		c.to = plan_find_task(to, c.name);
		r = c.to < 0 ? add(d, c) : diff_task(from, to, c, d);
	}
	for (size_t i = 0; r == 0 && i < to->tasks.count; i++) {
		struct plan_change c = {.kind = PLAN_CHANGE_TASK_ADDED,
			.name = to->tasks.items[i].name,
			.from = -1,
			.to = (int64_t)i,
			.when_started = true};
		if (plan_find_task(from, c.name) < 0)
			r = add(d, c);
	}
	return r;
}

static int diff_invariant(
	const struct plan *from, const struct plan *to, struct plan_change at, struct plan_diff *d)
{
	int r = 0;
	at.kind = PLAN_CHANGE_INVARIANT_FIELD;
	for (size_t i = 0; r == 0 && i < invariant_keys.count; i++) {
		at.field = invariant_keys.keys[i].key;
		if (!key_equal(&invariant_keys.keys[i], &from->invariant_defs.items[at.from],
			    &to->invariant_defs.items[at.to]))
			r = add(d, at);
	}
	return r;
}

static int diff_invariants(const struct plan *from, const struct plan *to, struct plan_diff *d)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < from->invariant_defs.count; i++) {
		struct plan_change c = {.kind = PLAN_CHANGE_INVARIANT_REMOVED,
			.name = from->invariant_defs.items[i].name,
			.from = (int64_t)i,
			.when_started = true};
		c.to = plan_find_invariant(to, c.name);
		r = c.to < 0 ? add(d, c) : diff_invariant(from, to, c, d);
	}
	for (size_t i = 0; r == 0 && i < to->invariant_defs.count; i++) {
		struct plan_change c = {.kind = PLAN_CHANGE_INVARIANT_ADDED,
			.name = to->invariant_defs.items[i].name,
			.from = -1,
			.to = (int64_t)i,
			.when_started = true};
		if (plan_find_invariant(from, c.name) < 0)
			r = add(d, c);
	}
	return r;
}

int plan_diff(const struct plan *from, const struct plan *to, struct plan_diff *ret)
{
	CLEANUP(plan_diff_deinit) struct plan_diff d = PLAN_DIFF_INIT;
	if (diff_plan_keys(from, to, &d) < 0 || diff_invariants(from, to, &d) < 0 ||
		diff_tasks(from, to, &d) < 0)
		return -ENOMEM;
	*ret = d;
	d = PLAN_DIFF_INIT;
	return 0;
}

void plan_diff_deinit(struct plan_diff *d)
{
	VEC_FREE(&d->changes);
}

/* ---- in words ---- */

static void add_value(struct buf *out, const struct key_spec *spec, const void *object)
{
	CLEANUP_STR char *value = key_format(spec, object);
	CLEANUP_STR char *safe = value ? str_printable(value, strlen(value), false) : NULL;
	if (!safe) {
		out->failed = true;
		return;
	}
	size_t len = strlen(safe), n = utf8_cut(safe, len, 60);
	if (len == 0)
		buf_adds(out, "(unset)");
	buf_add(out, safe, n);
	if (n < len)
		buf_adds(out, "...");
}

static void add_values(struct buf *out, const struct key_table *table, const char *field,
	const void *from, const void *to)
{
	const struct key_spec *spec = key_find(table, field);
	buf_addf(out, "%s: ", field);
	add_value(out, spec, from);
	buf_adds(out, " -> ");
	add_value(out, spec, to);
}

char *plan_change_text(const struct plan_change *c, const struct plan *from, const struct plan *to)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	switch (c->kind) {
	case PLAN_CHANGE_FIELD:
		add_values(&out, &plan_keys, c->field, from, to);
		break;
	case PLAN_CHANGE_TASK_ADDED:
	case PLAN_CHANGE_TASK_REMOVED:
		buf_addf(&out, "task '%s': %s", c->name,
			c->kind == PLAN_CHANGE_TASK_ADDED ? "added" : "removed");
		break;
	case PLAN_CHANGE_TASK_FIELD:
		buf_addf(&out, "task '%s': ", c->name);
		add_values(&out, &task_keys, c->field, &from->tasks.items[c->from],
			&to->tasks.items[c->to]);
		break;
	case PLAN_CHANGE_INVARIANT_ADDED:
	case PLAN_CHANGE_INVARIANT_REMOVED:
		buf_addf(&out, "invariant '%s': %s", c->name,
			c->kind == PLAN_CHANGE_INVARIANT_ADDED ? "added" : "removed");
		break;
	case PLAN_CHANGE_INVARIANT_FIELD:
		buf_addf(&out, "invariant '%s': ", c->name);
		add_values(&out, &invariant_keys, c->field, &from->invariant_defs.items[c->from],
			&to->invariant_defs.items[c->to]);
		break;
	}
	return buf_steal(&out);
}
