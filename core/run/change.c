/* SPDX-License-Identifier: MIT */
#include "run/change.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

/* Which tasks of the stored plan have started, by name. */
struct started {
	struct map names;
	bool any;
	bool failed;
};

static int note_started(void *ctx, const struct task_row *row)
{
	struct started *st = ctx;
	if (row->status == TASK_PENDING && row->attempt == 0)
		return 0;
	st->any = true;
	st->failed |= map_put(&st->names, row->name, st) < 0;
	return 0;
}

static bool change_allowed(const struct plan_change *c, const struct started *st)
{
	switch (c->kind) {
	case PLAN_CHANGE_TASK_ADDED:
	/* A changed invariant counts from a task's next attempt on. */
	case PLAN_CHANGE_INVARIANT_FIELD:
		return true;
	case PLAN_CHANGE_TASK_REMOVED:
		return !map_get(&st->names, c->name);
	case PLAN_CHANGE_TASK_FIELD:
		return c->when_started || !map_get(&st->names, c->name);
	default:
		return c->when_started || !st->any;
	}
}

static int find_refused(const struct plan_diff *diff, const struct plan *from,
	const struct plan *to, const struct started *st, char ***ret_refused, struct err *e)
{
	vec_foreach(c, &diff->changes) {
		if (change_allowed(c, st))
			continue;
		CLEANUP_STR char *text = plan_change_text(c, from, to);
		if (!text || strv_add(ret_refused, text) < 0)
			return err_nomem(e);
	}
	if (*ret_refused)
		return err_exit(e, EXIT_DATA,
			"plan '%s' has started, and some changes are not possible any more; "
			"nothing was "
			"changed (undo them, or give the plan another name)",
			to->name);
	return 0;
}

static int load_stored(struct store *s, int64_t id, struct plan **ret, struct err *e)
{
	CLEANUP_STR char *text = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	int r = store_plan_definition(s, id, &text, e);
	return r < 0 ? r
		     : plan_parse_text(
			       "the stored plan", NULL, text, strlen(text), NULL, ret, &d, e);
}

static int write_change(struct store *s, int64_t id, const struct plan *to, struct err *e)
{
	bool own = !store_in_transaction(s);
	int r = own ? store_begin(s, e) : 0;
	if (r == 0)
		r = store_plan_update(s, id, to, clock_wall_ms(), e);
	if (own && r == 0)
		r = store_commit(s, e);
	else if (own)
		store_rollback(s);
	return r;
}

int change_plan(
	struct store *s, int64_t id, const struct plan *to, char ***ret_refused, struct err *e)
{
	CLEANUP_PLAN struct plan *from = NULL;
	struct started st = {0};
	struct plan_diff diff = PLAN_DIFF_INIT;
	*ret_refused = NULL;
	int r = load_stored(s, id, &from, e);
	if (r == 0 && plan_diff(from, to, &diff) < 0)
		r = err_nomem(e);
	if (r == 0)
		r = store_each_task(s, id, note_started, &st, e);
	if (r == 0 && st.failed)
		r = err_nomem(e);
	if (r == 0)
		r = find_refused(&diff, from, to, &st, ret_refused, e);
	if (r == 0 && diff.changes.count > 0)
		r = write_change(s, id, to, e);
	plan_diff_deinit(&diff);
	map_deinit(&st.names);
	return r;
}

int change_set(struct store *s, int64_t id, const char *task, char *const *settings,
	const struct config *config, char ***ret_refused, struct err *e)
{
	CLEANUP_PLAN struct plan *plan = NULL;
	struct plan_context context = {
		.shared = config->invariants.items,
		.n_shared = config->invariants.count,
	};
	*ret_refused = NULL;
	int r = load_stored(s, id, &plan, e);
	for (size_t i = 0; r == 0 && settings[i]; i++) {
		size_t len = strcspn(settings[i], "=");
		if (len == 0 || !settings[i][len])
			return err_exit(e, EXIT_USAGE, "expected KEY=VALUE, not '%s'", settings[i]);
		CLEANUP_STR char *key = strndup(settings[i], len);
		r = key ? plan_set(plan, task, key, settings[i] + len + 1, &context, e)
			: err_nomem(e);
	}
	return r < 0 ? r : change_plan(s, id, plan, ret_refused, e);
}
