/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include "base/str.h"
#include "config/ini.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Tasks and invariants both begin with their name. */
_Static_assert(offsetof(struct task, name) == 0 && offsetof(struct invariant, name) == 0,
	"compare_names reads the first member");

static int compare_names(const void *a, const void *b)
{
	const char *const *const *x = a;
	const char *const *const *y = b;
	return strcmp(**x, **y);
}

/* Pointers to the elements of an array, sorted by name; owned, NULL when memory is out. */
static const void **sorted(const void *items, size_t count, size_t size)
{
	const void **list = malloc((count + 1) * sizeof(*list));
	if (!list)
		return NULL;
	for (size_t i = 0; i < count; i++)
		list[i] = (const char *)items + i * size;
	if (count > 0)
		qsort(list, count, sizeof(*list), compare_names);
	return list;
}

/* Every key that differs from its default, in the order of the table. */
static int put_keys(
	struct buf *out, const struct key_table *table, const void *object, const void *defaults)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct key_spec *spec = &table->keys[i];
		if (key_equal(spec, object, defaults))
			continue;
		CLEANUP_STR char *value = key_format(spec, object);
		if (!value)
			return -ENOMEM;
		ini_put(out, spec->key, value);
	}
	return 0;
}

static int put_plan(struct buf *out, const struct plan *p)
{
	CLEANUP_PLAN struct plan *defaults = plan_new();
	if (!defaults)
		return -ENOMEM;
	ini_put_section(out, "plan", NULL);
	int r = put_keys(out, &plan_keys, p, defaults);
	if (p->has_invariants && !p->invariant_names)
		ini_put(out, "invariants", ""); /* none, which is not the same as unset */
	return r;
}

static int put_invariants(struct buf *out, const struct plan *p)
{
	size_t n = p->invariant_defs.count;
	CLEANUP(freep)
	const void **list = sorted(p->invariant_defs.items, n, sizeof(*p->invariant_defs.items));
	struct invariant defaults;
	if (!list || invariant_init(&defaults, "") < 0)
		return -ENOMEM;
	int r = 0;
	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct invariant *inv = list[i];
		ini_put_section(out, "invariant", inv->name);
		r = put_keys(out, &invariant_keys, inv, &defaults);
	}
	invariant_deinit(&defaults);
	return r;
}

int plan_export(const struct plan *p, enum plan_export_what what, struct buf *out)
{
	size_t n = p->tasks.count;
	CLEANUP(freep) const void **list = sorted(p->tasks.items, n, sizeof(*p->tasks.items));
	struct task defaults = {0};
	int r = list ? keys_init(&task_keys, &defaults) : -ENOMEM;
	if (r == 0)
		r = put_plan(out, p);
	if (r == 0)
		r = put_invariants(out, p);
	for (size_t i = 0; r == 0 && i < n; i++) {
		const struct task *t = list[i];
		ini_put_section(out, "task", t->name);
		r = put_keys(out, &task_keys, t, &defaults);
	}
	task_deinit(&defaults);
	if (what == PLAN_EXPORT_STATE && r == 0 && p->state)
		r = plan_state_export(NULL, p->state, out);
	for (size_t i = 0; what == PLAN_EXPORT_STATE && r == 0 && i < n; i++) {
		const struct task *t = list[i];
		if (t->state)
			r = plan_state_export(t->name, t->state, out);
	}
	return r < 0 ? r : buf_check(out);
}
