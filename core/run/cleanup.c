/* SPDX-License-Identifier: MIT */
#include "run/cleanup.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/planrefs.h"
#include "git/worktree.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define GIT_TIMEOUT_MS 600000

struct cleaning {
	struct cleanup *u;
	struct git_ctx ctx;
	char *base_ref;
	struct git_oid base;
	bool worktrees;
	/* What keeps the work: tasks by their state; passed ones, and the integration branch, by a
	 * merge. The first of each is named. */
	char *first[TASK_STATUS_COUNT];
};

void cleanup_deinit(struct cleanup *u)
{
	free(u->plan);
	strv_free(u->unsafe);
	u->plan = NULL;
	u->unsafe = NULL;
}

static int complain(struct cleaning *c, char *sentence)
{
	int r = sentence ? strv_add(&c->u->unsafe, sentence) : -ENOMEM;
	free(sentence);
	return r;
}

/* ---- what would be lost ---- */

static int check_task(void *ctx, const struct task_row *row)
{
	struct cleaning *c = ctx;
	if (row->status == TASK_ASSIGNED || row->status == TASK_RUNNING)
		return complain(
			c, str_printf("task '%s' is %s: `orch dispatch %s` commits its work",
				   row->name, task_status_name(row->status), c->u->plan));
	if (row->outcome == OUTCOME_UNCOMMITTABLE && row->worktree &&
		file_exists(AT_FDCWD, row->worktree))
		return complain(c, str_printf("the work of task '%s' could not be committed and is "
					      "only in %s",
					   row->name, row->worktree));
	return 0;
}

struct newest {
	int64_t number;
	enum task_status status;
};

static int note_newest(void *ctx, const struct task_row *row)
{
	struct newest *n = ctx;
	*n = (struct newest){.number = row->attempt, .status = row->status};
	return 0;
}

static int note_start(void *ctx, const struct attempt_row *row)
{
	struct git_oid *start = ctx;
	return row->start_oid && git_oid_parse(row->start_oid, start) < 0 ? -EBADMSG : 0;
}

/* Whether a task's branch changes anything against the commit that its attempt began at. */
static int holds_work(struct cleaning *c, const char *task, const struct git_oid *tip,
	enum task_status *ret_status, bool *ret_holds, struct err *e)
{
	int64_t id = 0;
	struct newest newest = {.status = TASK_PASSED};
	struct git_oid start = GIT_OID_NONE;
	int r = store_task_id(c->u->store, c->u->plan_id, task, &id, e);
	if (r == 0 && id)
		r = store_task(c->u->store, id, note_newest, &newest, e);
	if (r == 0 && newest.number)
		r = store_attempt(c->u->store, id, newest.number, note_start, &start, e);
	*ret_status = newest.status;
	*ret_holds = true;
	if (r < 0 || !start.hex[0])
		return r < 0 ? r : 0;
	return git_changed(&c->ctx, &start, tip, ret_holds, e);
}

/* Branches are what counts: refs of attempts that were superseded are merged nowhere. */
static int check_refs(struct cleaning *c, const struct git_plan_refs *refs, struct err *e)
{
	static const char heads[] = "refs/heads/";
	CLEANUP_STR char *tasks = str_printf("%sorch/%s/task/", heads, c->u->plan);
	if (!tasks)
		return err_nomem(e);
	vec_foreach(ref, &refs->list) {
		enum task_status status = TASK_PASSED;
		const char *task = NULL;
		bool holds = true;
		int r = 0;
		if (ref->merged || !str_starts(ref->ref, heads))
			continue;
		if (str_starts(ref->ref, tasks)) {
			task = ref->ref + strlen(tasks);
			r = holds_work(c, task, &ref->oid, &status, &holds, e);
		}
		if (r == 0 && holds && !c->first[status])
			r = str_replace(&c->first[status], task ? task : "") < 0 ? err_nomem(e) : 0;
		if (r == 0 && holds)
			r = complain(c, str_printf("branch '%s' is not merged into '%s'",
						ref->ref + sizeof(heads) - 1,
						c->base_ref ? c->base_ref : "its base"));
		if (r < 0)
			return r;
	}
	return 0;
}

static void add_way(struct buf *out, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void add_way(struct buf *out, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	buf_adds(out, out->len ? ", " : "");
	buf_addv(out, fmt, ap);
	va_end(ap);
}

/* What keeps the work, of each kind that there is. */
static void describe_ways(const struct cleaning *c, struct buf *out)
{
	const char *plan = c->u->plan;
	const char *stuck = c->first[TASK_ESCALATED], *review = c->first[TASK_AWAITING_REVIEW];
	if (c->first[TASK_PASSED])
		add_way(out, "`orch merge %s` keeps %s", plan,
			stuck || review ? "what has passed" : "it");
	if (review)
		add_way(out, "`orch approve %s/%s` takes what awaits review", plan, review);
	if (stuck)
		add_way(out,
			"`orch retry %s/%s` or `orch approve %s/%s --override` goes on with what "
			"is escalated",
			plan, stuck, plan, stuck);
	for (int i = 0; i < TASK_STATUS_COUNT; i++) {
		if (!c->first[i] || i == TASK_PASSED || i == TASK_ESCALATED ||
			i == TASK_AWAITING_REVIEW)
			continue;
		add_way(out, "`orch dispatch %s` goes on with what is not done", plan);
		break;
	}
}

static int refuse(const struct cleaning *c, struct err *e)
{
	CLEANUP_BUF struct buf ways = BUF_INIT;
	describe_ways(c, &ways);
	return err_exit(e, 1,
		"plan '%s' has work that would be lost (above); %s%s--force gives it up",
		c->u->plan, buf_cstr(&ways), ways.len ? ", " : "");
}

/* ---- removing ---- */

static int remove_worktrees(struct cleaning *c, size_t *ret_removed, struct err *e)
{
	CLEANUP_STRV char **paths = NULL;
	const char *root = c->u->site->worktree_root;
	CLEANUP_STR char *prefix = str_printf("%s+", c->u->plan);
	int r = prefix ? git_worktree_list(&c->ctx, root, &paths, e) : err_nomem(e);
	*ret_removed = 0;
	for (size_t i = 0; r == 0 && paths && paths[i]; i++) {
		const char *slash = strrchr(paths[i], '/');
		if (!slash || !str_starts(slash + 1, prefix))
			continue;
		r = git_worktree_remove(&c->ctx, paths[i], e);
		*ret_removed += r == 0;
	}
	return r;
}

static int delete_refs(struct cleaning *c, const struct git_plan_refs *refs, struct err *e)
{
	int r = git_plan_refs_delete(&c->ctx, c->u->plan, refs, c->u->site->worktree_root, e);
	if (r == GIT_REFUSED || r == GIT_MOVED) {
		e->code = -EBUSY;
		e->status = 1;
		return e->code;
	}
	return r;
}

/* ---- one plan ---- */

static int read_plan(void *ctx, const struct plan_row *row)
{
	struct cleaning *c = ctx;
	free(c->u->plan);
	free(c->base_ref);
	c->u->plan = str_dup(row->name);
	c->base_ref = str_dup(row->base_ref);
	c->worktrees = row->worktrees;
	c->base = GIT_OID_NONE;
	if (row->base_oid && git_oid_parse(row->base_oid, &c->base) < 0)
		c->base = GIT_OID_NONE;
	return c->u->plan && (c->base_ref || !row->base_ref) ? 0 : -ENOMEM;
}

/* Merged means: in the base branch as it is today; where there is none, in what it was. */
static int resolve_base(struct cleaning *c, struct err *e)
{
	CLEANUP_STR char *ref = str_printf("refs/heads/%s", c->base_ref ? c->base_ref : "");
	struct git_oid now;
	if (!ref)
		return err_nomem(e);
	const char *const revs[] = {ref};
	int r = git_resolve_many(&c->ctx, revs, 1, &now, e);
	if (r == 0 && now.hex[0])
		c->base = now;
	return r;
}

static int look(struct cleaning *c, struct git_plan_refs *refs, struct err *e)
{
	int r = resolve_base(c, e);
	if (r == 0)
		r = git_plan_refs_list(&c->ctx, c->u->plan, &c->base, refs, e);
	if (r == 0)
		r = store_each_task(c->u->store, c->u->plan_id, check_task, c, e);
	if (r == 0)
		r = check_refs(c, refs, e);
	return r < 0 && !e->code ? err_nomem(e) : r;
}

static int clean(struct cleaning *c, struct err *e)
{
	struct cleanup *u = c->u;
	CLEANUP(git_plan_refs_deinit) struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	int r = store_plan(u->store, u->plan_id, read_plan, c, e);
	if (r < 0 || !c->worktrees || !u->site->repo)
		return r < 0 && !e->code ? err_nomem(e) : r;
	r = look(c, &refs, e);
	if (r < 0)
		return r;
	if (u->unsafe && !u->force)
		return refuse(c, e);
	r = remove_worktrees(c, &u->worktrees, e);
	if (r == 0)
		r = delete_refs(c, &refs, e);
	if (r == 0)
		u->refs = refs.list.count;
	u->done = r == 0;
	return r;
}

int cleanup_run(struct cleanup *u, struct err *e)
{
	struct cleaning c = {.u = u, .ctx = site_git(u->site)};
	c.ctx.lock_fd = u->lock_fd;
	c.ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	int r = clean(&c, e);
	free(c.base_ref);
	for (int i = 0; i < TASK_STATUS_COUNT; i++)
		free(c.first[i]);
	return r;
}

int cleanup_forget(struct store *s, int64_t plan_id, struct err *e)
{
	int r = store_begin(s, e);
	if (r == 0)
		r = store_plan_clear_places(s, plan_id, e);
	if (r == 0)
		r = store_commit(s, e);
	else
		store_rollback(s);
	return r;
}
