/* SPDX-License-Identifier: MIT */
/* orch cleanup: the worktrees, branches and refs that a plan left. Its rows stay. */
#include "cli/commands.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/guard.h"
#include "git/planrefs.h"
#include "git/worktree.h"

#include <errno.h>
#include <string.h>

#define GIT_TIMEOUT_MS   600000
#define GIT_LOCK_WAIT_MS 10000

struct cleanup {
	struct cli *cli;
	struct cli_site at;
	struct git_ctx ctx;
	int git_lock;
	bool all, force;
	/* The plan that is being cleaned up. */
	int64_t id;
	char *plan;
	char *base_ref;
	struct git_oid base;
	bool worktrees;
	char **unsafe; /* what would be lost; owned strv of sentences */
};

static int complain(struct cleanup *c, char *sentence)
{
	int r = sentence ? strv_add(&c->unsafe, sentence) : -ENOMEM;
	free(sentence);
	return r;
}

/* ---- what would be lost ---- */

static int check_task(void *ctx, const struct task_row *row)
{
	struct cleanup *c = ctx;
	if (row->status == TASK_ASSIGNED || row->status == TASK_RUNNING)
		return complain(
			c, str_printf("task '%s' is %s: `orch dispatch %s` commits its work",
				   row->name, task_status_name(row->status), c->plan));
	if (row->outcome == OUTCOME_UNCOMMITTABLE && row->worktree)
		return complain(c, str_printf("the work of task '%s' could not be committed and is "
					      "only in %s",
					   row->name, row->worktree));
	return 0;
}

static int note_newest(void *ctx, const struct task_row *row)
{
	int64_t *number = ctx;
	*number = row->attempt;
	return 0;
}

static int note_start(void *ctx, const struct attempt_row *row)
{
	struct git_oid *start = ctx;
	return row->start_oid && git_oid_parse(row->start_oid, start) < 0 ? -EBADMSG : 0;
}

/* Whether a task's branch changes anything against the commit that its attempt began at. */
static int holds_work(struct cleanup *c, const char *task, const struct git_oid *tip,
	bool *ret_holds, struct err *e)
{
	int64_t id = 0, number = 0;
	struct git_oid start = GIT_OID_NONE;
	int r = store_task_id(c->at.store, c->id, task, &id, e);
	if (r == 0 && id)
		r = store_task(c->at.store, id, note_newest, &number, e);
	if (r == 0 && number)
		r = store_attempt(c->at.store, id, number, note_start, &start, e);
	*ret_holds = true;
	if (r < 0 || !start.hex[0])
		return r < 0 ? r : 0;
	return git_changed(&c->ctx, &start, tip, ret_holds, e);
}

/* Branches are what counts: refs of attempts that were superseded are merged nowhere. */
static int check_refs(struct cleanup *c, const struct git_plan_refs *refs, struct err *e)
{
	static const char heads[] = "refs/heads/";
	CLEANUP_STR char *tasks = str_printf("%sorch/%s/task/", heads, c->plan);
	if (!tasks)
		return err_nomem(e);
	vec_foreach(ref, &refs->list) {
		bool holds = true;
		int r = 0;
		if (ref->merged || !str_starts(ref->ref, heads))
			continue;
		if (str_starts(ref->ref, tasks))
			r = holds_work(c, ref->ref + strlen(tasks), &ref->oid, &holds, e);
		if (r == 0 && holds)
			r = complain(c, str_printf("branch '%s' is not merged into '%s'",
						ref->ref + sizeof(heads) - 1,
						c->base_ref ? c->base_ref : "its base"));
		if (r < 0)
			return r;
	}
	return 0;
}

static int refuse(const struct cleanup *c, struct err *e)
{
	for (size_t i = 0; c->unsafe[i]; i++) {
		fprintf(stderr, "  ");
		cli_print_safe(stderr, c->unsafe[i]);
		fputc('\n', stderr);
	}
	return err_exit(e, 1,
		"plan '%s' has work that would be lost (above); `orch merge %s` keeps it, --force "
		"gives it up",
		c->plan, c->plan);
}

/* ---- removing ---- */

static int remove_worktrees(struct cleanup *c, size_t *ret_removed, struct err *e)
{
	CLEANUP_STRV char **paths = NULL;
	const char *root = c->at.site->worktree_root;
	CLEANUP_STR char *prefix = str_printf("%s+", c->plan);
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

static int delete_refs(struct cleanup *c, const struct git_plan_refs *refs, struct err *e)
{
	int r = git_plan_refs_delete(&c->ctx, c->plan, refs, c->at.site->worktree_root, e);
	if (r == GIT_REFUSED || r == GIT_MOVED) {
		e->code = -EBUSY;
		e->status = 1;
		return e->code;
	}
	return r;
}

static int forget_places(struct cleanup *c, struct err *e)
{
	int r = store_begin(c->at.store, e);
	if (r == 0)
		r = store_plan_clear_places(c->at.store, c->id, e);
	if (r == 0)
		r = store_commit(c->at.store, e);
	else
		store_rollback(c->at.store);
	return r;
}

/* ---- one plan ---- */

static int read_plan(void *ctx, const struct plan_row *row)
{
	struct cleanup *c = ctx;
	free(c->plan);
	free(c->base_ref);
	c->plan = str_dup(row->name);
	c->base_ref = str_dup(row->base_ref);
	c->worktrees = row->worktrees;
	c->base = GIT_OID_NONE;
	if (row->base_oid && git_oid_parse(row->base_oid, &c->base) < 0)
		c->base = GIT_OID_NONE;
	return c->plan && (c->base_ref || !row->base_ref) ? 0 : -ENOMEM;
}

/* Merged means: in the base branch as it is today; where there is none, in what it was. */
static int resolve_base(struct cleanup *c, struct err *e)
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

static int clean(struct cleanup *c, int64_t id, struct err *e)
{
	CLEANUP(git_plan_refs_deinit) struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	size_t removed = 0;
	c->id = id;
	strv_free(c->unsafe);
	c->unsafe = NULL;
	int r = store_plan(c->at.store, id, read_plan, c, e);
	if (r < 0 || !c->worktrees || !c->at.site->repo)
		return r;
	r = resolve_base(c, e);
	if (r == 0)
		r = git_plan_refs_list(&c->ctx, c->plan, &c->base, &refs, e);
	if (r == 0)
		r = store_each_task(c->at.store, id, check_task, c, e);
	if (r == 0)
		r = check_refs(c, &refs, e);
	if (r < 0)
		return e->code ? r : err_nomem(e);
	if (c->unsafe && !c->force)
		return refuse(c, e);
	r = remove_worktrees(c, &removed, e);
	if (r == 0)
		r = delete_refs(c, &refs, e);
	if (r == 0)
		r = forget_places(c, e);
	if (r == 0 && !c->cli->quiet)
		printf("plan '%s': %zu worktree%s and %zu ref%s removed\n", c->plan, removed,
			removed == 1 ? "" : "s", refs.list.count, refs.list.count == 1 ? "" : "s");
	return r;
}

static int clean_checked(struct cleanup *c, int64_t id)
{
	struct err e = ERR_INIT;
	int status = cli_check_idle(c->cli, c->at.store, id);
	if (status == 0 && clean(c, id, &e) < 0)
		status = cli_error(c->cli, &e);
	return status;
}

/* ---- the verb ---- */

struct ids {
	struct VEC(int64_t) list;
};

static int add_id(void *ctx, const struct plan_row *row)
{
	struct ids *ids = ctx;
	int64_t *slot = VEC_PUSH(&ids->list);
	if (!slot)
		return -ENOMEM;
	*slot = row->id;
	return 0;
}

/* Every plan that can be cleaned up is, whatever becomes of the others. */
static int clean_all(struct cleanup *c)
{
	struct err e = ERR_INIT;
	struct ids ids = {0};
	int status = 0;
	if (store_each_plan(c->at.store, add_id, &ids, &e) < 0) {
		if (!e.code)
			err_nomem(&e);
		status = cli_error(c->cli, &e);
	}
	for (size_t i = 0; i < ids.list.count; i++) {
		int one = clean_checked(c, ids.list.items[i]);
		status = status ? status : one;
	}
	VEC_FREE(&ids.list);
	return status;
}

static int run(struct cleanup *c, const char *name)
{
	struct err e = ERR_INIT;
	int64_t id;
	char plan[101];
	int status = cli_site_open(c->cli, CLI_WRITE, &c->at);
	if (status)
		return status;
	if (c->at.site->repo &&
		git_lock_take(c->at.site->state_dir, GIT_LOCK_WAIT_MS, &c->git_lock, &e) < 0)
		return cli_error(c->cli, &e);
	c->ctx = site_git(c->at.site);
	c->ctx.lock_fd = c->git_lock;
	c->ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	if (c->all)
		return clean_all(c);
	status = cli_find_plan(c->cli, c->at.store, name, &id, plan);
	return status ? status : clean_checked(c, id);
}

int cmd_cleanup(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"all", no_argument, NULL, 'a'}, {"force", no_argument, NULL, 'F'}, CLI_OPTIONS};
	struct cleanup c = {.cli = cli, .at = CLI_SITE_INIT, .git_lock = -1};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'a')
			c.all = true;
		else if (val == 'F')
			c.force = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (argc - optind != (c.all ? 0 : 1))
		return cli_usage(
			cli, c.all ? "--all takes no plan" : "expected one plan, or --all");
	status = run(&c, argv[optind]);
	free(c.plan);
	free(c.base_ref);
	strv_free(c.unsafe);
	if (c.git_lock >= 0)
		close(c.git_lock);
	cli_site_close(&c.at);
	return cli_flush(status);
}
