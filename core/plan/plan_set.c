/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>

/* Sets the key from text, or to its default from empty text. */
static int set_or_reset(
	const struct key_spec *spec, void *object, const char *value, struct buf *why)
{
	if (*value || spec->type == KEY_LIST)
		return key_set(spec, object, value, why);
	if (spec->default_value)
		return key_set(spec, object, spec->default_value, why);
	struct key_table one = {spec, 1};
	keys_deinit(&one, object);
	return 0;
}

/* The first mistake as an error. */
static int first_mistake(const struct diags *d, struct err *e)
{
	vec_foreach(it, &d->list)
		if (it->severity == DIAG_ERROR)
			return err_exit(e, EXIT_DATA, "%s", it->text ? it->text : "out of memory");
	return err_nomem(e);
}

static int resolve(struct plan *p, const struct plan_context *context, struct err *e)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct plan_source source = {0};
	int r = plan_resolve(p, context, &source, &d);
	if (r < 0)
		return err_nomem(e);
	return d.errors > 0 ? first_mistake(&d, e) : 0;
}

static int set_task_key(
	struct task *t, const struct key_spec *spec, const char *value, struct buf *why)
{
	bool work = str_eq(spec->key, "prompt") || str_eq(spec->key, "command");
	if (work && !*value && !(t->prompt && t->command)) {
		buf_addf(why, "expected a value: a task has a prompt or a command");
		return -EINVAL;
	}
	return set_or_reset(spec, t, value, why);
}

static int set_plan_key(
	struct plan *p, const struct key_spec *spec, const char *value, struct buf *why)
{
	if (str_eq(spec->key, "name")) {
		buf_adds(why, "a plan cannot be renamed");
		return -EINVAL;
	}
	int r = set_or_reset(spec, p, value, why);
	if (r == 0 && !plan_value_check(p, spec->key, why))
		r = -EINVAL;
	if (r == 0 && str_eq(spec->key, "invariants"))
		p->has_invariants = true;
	return r;
}

/* With the key that was meant, most likely, else with all there are. */
static int unknown_key(
	const struct key_table *table, const char *of, const char *key, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct suggestion near = SUGGESTION(key);
	suggest_keys(&near, table);
	buf_addf(&text, "unknown key '%s'", key);
	suggest_add(&near, &text);
	for (size_t i = 0; !near.best && i < table->count; i++)
		buf_addf(&text, "%s%s", i ? ", " : of, table->keys[i].key);
	return err_exit(e, EXIT_DATA, "%s", buf_cstr(&text));
}

/* The values of an object, for going back after a mistake. */
struct saved {
	const struct key_table *table;
	union {
		struct plan plan;
		struct task task;
	} values;
};

static void saved_deinit(struct saved *s)
{
	keys_deinit(s->table, &s->values);
}

static void go_back(struct saved *s, void *object, struct plan *p, size_t n_defs,
	const struct plan_context *context)
{
	keys_deinit(s->table, object);
	keys_move(s->table, object, &s->values);
	while (p->invariant_defs.count > n_defs)
		invariant_deinit(&p->invariant_defs.items[--p->invariant_defs.count]);
	(void)resolve(p, context, NULL); /* was resolved before; fails without memory only */
}

int plan_set(struct plan *p, const char *task, const char *key, const char *value,
	const struct plan_context *context, struct err *e)
{
	int64_t at = task ? plan_find_task(p, task) : -1;
	if (task && at < 0) {
		err_exit(e, EXIT_NOINPUT, "plan '%s' has no task '%s'", p->name, task);
		return -ENOENT;
	}
	const struct key_table *table = task ? &task_keys : &plan_keys;
	const struct key_spec *spec = key_find(table, key);
	if (!spec)
		return unknown_key(table,
			task ? "; the keys of a task are " : "; the keys of a plan are ", key, e);
	if (!utf8_is_valid(value, strlen(value)))
		return err_exit(e, EXIT_DATA, "%s: expected UTF-8", key);
	void *object = task ? (void *)&p->tasks.items[at] : (void *)p;
	CLEANUP(saved_deinit) struct saved saved = {.table = table};
	if (keys_copy(table, &saved.values, object) < 0)
		return err_nomem(e);
	size_t n_defs = p->invariant_defs.count;
	bool had_invariants = p->has_invariants;
	CLEANUP_BUF struct buf why = BUF_INIT;
	int r = task ? set_task_key(object, spec, value, &why) : set_plan_key(p, spec, value, &why);
	if (r == -EINVAL)
		err_exit(e, EXIT_DATA, "%s: %s", key, buf_cstr(&why));
	else if (r < 0)
		err_nomem(e);
	else
		r = resolve(p, context, e);
	if (r < 0) {
		p->has_invariants = had_invariants;
		go_back(&saved, object, p, n_defs, context);
	}
	return r;
}
