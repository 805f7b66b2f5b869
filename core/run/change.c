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

/* An unset base was fixed at the first dispatch; a file that names it (an export does) changes
 * nothing. */
static int note_base(void *ctx, const struct plan_row *row)
{
	struct plan *from = ctx;
	return from->base ? 0 : str_replace(&from->base, row->base_ref);
}

int change_plan(
	struct store *s, int64_t id, const struct plan *to, char ***ret_refused, struct err *e)
{
	CLEANUP_PLAN struct plan *from = NULL;
	struct started st = {0};
	struct plan_diff diff = PLAN_DIFF_INIT;
	*ret_refused = NULL;
	int r = load_stored(s, id, &from, e);
	if (r == 0 && to->base)
		r = store_plan(s, id, note_base, from, e);
	if (r < 0 && !e->code)
		r = err_nomem(e);
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

/* ---- a task that is not wanted any more ---- */

static int check_removable(const struct plan *p, const char *task, struct err *e)
{
	int64_t at = plan_find_task(p, task);
	CLEANUP_BUF struct buf users = BUF_INIT;
	if (at < 0) {
		err_exit(e, EXIT_NOINPUT, "plan '%s' has no task '%s'", p->name, task);
		return -ENOENT;
	}
	vec_foreach(t, &p->tasks)
		for (uint32_t i = 0; i < t->n_deps; i++)
			if (t->deps[i] == (uint32_t)at)
				buf_addf(&users, "%s%s", users.len ? ", " : "", t->name);
	if (users.len > 0)
		return err_exit(e, EXIT_DATA, "task '%s' cannot be removed: %s depend%s on it",
			task, buf_cstr(&users), strchr(buf_cstr(&users), ',') ? "" : "s");
	if (p->tasks.count == 1)
		return err_exit(e, EXIT_DATA,
			"task '%s' is the only one of plan '%s'; remove the plan with: orch plan "
			"delete %s",
			task, p->name, p->name);
	return 0;
}

/* The text of a definition without the section of a task: continued lines are indented, so a line
 * that begins with a bracket begins a section. */
static char *without_task(const char *text, const char *task)
{
	CLEANUP_STR char *head = str_printf("[task:%s]\n", task);
	CLEANUP_BUF struct buf out = BUF_INIT;
	bool inside = false;
	for (const char *line = text; head && *line;) {
		size_t len = strcspn(line, "\n");
		len += line[len] == '\n';
		if (line[0] == '[')
			inside = strncmp(line, head, strlen(head)) == 0;
		if (!inside)
			buf_add(&out, line, len);
		line += len;
	}
	return head && buf_check(&out) == 0 ? buf_steal(&out) : NULL;
}

int change_remove(struct store *s, int64_t id, const char *task, char ***ret_refused, struct err *e)
{
	CLEANUP_PLAN struct plan *from = NULL, *to = NULL;
	CLEANUP_STR char *text = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	*ret_refused = NULL;
	int r = load_stored(s, id, &from, e);
	if (r == 0)
		r = check_removable(from, task, e);
	if (r == 0)
		r = store_plan_definition(s, id, &text, e);
	if (r < 0 || !text)
		return r < 0 ? r : err_nomem(e);
	CLEANUP_STR char *rest = without_task(text, task);
	if (!rest)
		return err_nomem(e);
	r = plan_parse_text("the stored plan", NULL, rest, strlen(rest), NULL, &to, &d, e);
	return r < 0 ? r : change_plan(s, id, to, ret_refused, e);
}

/* ---- back to the start ---- */

struct broken {
	struct VEC(struct task_save) saves;
};

static int note_broken(void *ctx, const struct task_row *row)
{
	struct broken *b = ctx;
	if (row->status != TASK_FAILED && row->status != TASK_ESCALATED)
		return 0;
	struct task_save *save = VEC_PUSH(&b->saves);
	if (!save)
		return -ENOMEM;
	*save = (struct task_save){
		.id = row->id,
		.plan_id = row->plan_id,
		.from = row->status,
		.to = TASK_PENDING,
		.outcome = row->outcome,
		.attempt = row->attempt,
		.paused = row->paused,
		.approved = row->approved,
		/* What a person approved is never started over from zero. */
		.carry = row->approved,
		.has_commit = row->has_commit,
	};
	return 0;
}

static int save_all(struct store *s, const struct broken *b, struct err *e)
{
	bool own = !store_in_transaction(s);
	int r = own ? store_begin(s, e) : 0;
	vec_foreach(save, &b->saves)
		if (r == 0)
			r = store_save_task(s, save, clock_wall_ms(), e);
	if (own && r == 0)
		r = store_commit(s, e);
	else if (own)
		store_rollback(s);
	return r;
}

int change_reset(struct store *s, int64_t id, size_t *ret_count, struct err *e)
{
	struct broken b = {0};
	int r = store_each_task(s, id, note_broken, &b, e);
	if (r < 0 && e->code == 0)
		r = err_nomem(e);
	if (r == 0)
		r = save_all(s, &b, e);
	*ret_count = b.saves.count;
	VEC_FREE(&b.saves);
	return r;
}

/* ---- a plan as a whole ---- */

static int note_draft(void *ctx, const struct plan_row *row)
{
	bool *draft = ctx;
	*draft = row->status == PLAN_DRAFT;
	return 0;
}

int change_approve(struct store *s, int64_t id, struct err *e)
{
	bool draft = false;
	int r = store_plan(s, id, note_draft, &draft, e);
	return r == 0 && draft ? store_plan_set_status(s, id, PLAN_APPROVED, clock_wall_ms(), e)
			       : r;
}

/* The base of a plan that comes with its state was fixed where that was saved. It is no more in the
 * plan than there, so that the file the plan came from goes on with it. */
static int import_new(struct store *s, const struct plan *plan, enum plan_status status,
	int64_t *ret_id, struct err *e)
{
	struct plan stored = *plan; /* borrows all that it points to */
	if (plan->state)
		stored.base = NULL;
	int r = store_plan_import(s, &stored, status, clock_wall_ms(), ret_id, e);
	return r == 0 && plan->state ? store_plan_set_base(s, *ret_id, plan->base, NULL, e) : r;
}

int change_import(struct store *s, const struct plan *plan, enum plan_status status,
	int64_t *ret_id, char ***ret_refused, struct err *e)
{
	*ret_refused = NULL;
	int64_t id = 0;
	int r = store_plan_id(s, plan->name, &id, e);
	if (r < 0)
		return r;
	*ret_id = id;
	if (!id)
		return import_new(s, plan, status, ret_id, e);
	r = change_plan(s, id, plan, ret_refused, e);
	return r == 0 && status == PLAN_APPROVED ? change_approve(s, id, e) : r;
}
