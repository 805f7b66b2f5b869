/* SPDX-License-Identifier: MIT */
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"

#include <string.h>

int import_read(struct cli *cli, const struct site *site, const char *path, struct plan **ret)
{
	struct plan_context context = {
		.shared = site->config->invariants.items,
		.n_shared = site->config->invariants.count,
	};
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_file(path, &context, ret, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	return r < 0 ? cli_error(cli, &e) : 0;
}

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
		return true;
	case PLAN_CHANGE_TASK_REMOVED:
		return !map_get(&st->names, c->name);
	case PLAN_CHANGE_TASK_FIELD:
		return c->when_started || !map_get(&st->names, c->name);
	default:
		return c->when_started || !st->any;
	}
}

/* Prints what must not change now; returns how many there are. */
static size_t print_refused(const struct plan_diff *diff, const struct plan *from,
	const struct plan *to, const struct started *st)
{
	size_t refused = 0;
	vec_foreach(c, &diff->changes) {
		if (change_allowed(c, st))
			continue;
		CLEANUP_STR char *text = plan_change_text(c, from, to);
		fprintf(stderr, "  ");
		cli_print_safe(stderr, text ? text : c->name);
		fputc('\n', stderr);
		refused++;
	}
	return refused;
}

static int update(struct cli *cli, struct store *s, int64_t id, const struct plan *plan)
{
	struct err e = ERR_INIT;
	struct diags d = DIAGS_INIT;
	struct started st = {0};
	struct plan_diff diff = PLAN_DIFF_INIT;
	CLEANUP_STR char *text = NULL;
	CLEANUP_PLAN struct plan *old = NULL;
	int r = store_plan_definition(s, id, &text, &e);
	if (r == 0)
		r = plan_parse_text(plan->name, NULL, text, strlen(text), NULL, &old, &d, &e);
	diags_deinit(&d);
	if (r == 0)
		r = plan_diff(old, plan, &diff);
	if (r == 0)
		r = store_each_task(s, id, note_started, &st, &e);
	if (r == 0 && st.failed)
		r = err_nomem(&e);
	size_t refused = 0;
	if (r == 0 && diff.changes.count > 0) {
		refused = print_refused(&diff, old, plan, &st);
		if (refused)
			r = err_exit(&e, EXIT_DATA,
				"plan '%s' has started, and the changes above are not possible any "
				"more; "
				"nothing was changed (undo them, or give the plan another name)",
				plan->name);
		if (r == 0)
			r = store_begin(s, &e);
		if (r == 0)
			r = store_plan_update(s, id, plan, clock_wall_ms(), &e);
		if (r == 0)
			r = store_commit(s, &e);
		else
			store_rollback(s);
	}
	plan_diff_deinit(&diff);
	map_deinit(&st.names);
	return r < 0 ? cli_error(cli, &e) : 0;
}

static int note_draft(void *ctx, const struct plan_row *row)
{
	bool *draft = ctx;
	*draft = row->status == PLAN_DRAFT;
	return 0;
}

static int approve_draft(struct cli *cli, struct store *s, int64_t id)
{
	struct err e = ERR_INIT;
	bool draft = false;
	int r = store_plan(s, id, note_draft, &draft, &e);
	if (r == 0 && draft)
		r = store_plan_set_status(s, id, PLAN_APPROVED, clock_wall_ms(), &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}

int import_store(struct cli *cli, struct store *s, const struct plan *plan, enum plan_status status,
	int64_t *ret_id)
{
	struct err e = ERR_INIT;
	int64_t id = 0;
	int r = store_plan_id(s, plan->name, &id, &e);
	if (r < 0)
		return cli_error(cli, &e);
	if (id) {
		int code = update(cli, s, id, plan);
		*ret_id = id;
		return code || status != PLAN_APPROVED ? code : approve_draft(cli, s, id);
	}
	r = store_plan_import(s, plan, status, clock_wall_ms(), ret_id, &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}
