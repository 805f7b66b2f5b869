/* SPDX-License-Identifier: MIT */
/* orch plan reset|delete: what is stored of a plan. */
#include "cli/commands.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/planrefs.h"

#include <errno.h>
#include <string.h>

struct change {
	struct cli *cli;
	struct cli_site at;
	int64_t id;
	char plan[101];
	struct VEC(struct task_save) saves;
};

/* Opens for writing and finds the plan, which no agent must be at work for. */
static int change_open(struct change *c, const char *name)
{
	int status = cli_site_open(c->cli, CLI_WRITE, &c->at);
	if (status == 0)
		status = cli_find_plan(c->cli, c->at.store, name, &c->id, c->plan);
	if (status == 0)
		status = cli_check_idle(c->cli, c->at.store, c->id);
	return status;
}

/* ---- reset ---- */

static int note_broken(void *ctx, const struct task_row *row)
{
	struct change *c = ctx;
	if (row->status != TASK_FAILED && row->status != TASK_ESCALATED)
		return 0;
	struct task_save *save = VEC_PUSH(&c->saves);
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

static int reset(struct change *c, struct err *e)
{
	int r = store_each_task(c->at.store, c->id, note_broken, c, e);
	if (r < 0)
		return e->code ? r : err_nomem(e);
	r = store_begin(c->at.store, e);
	vec_foreach(save, &c->saves)
		if (r == 0)
			r = store_save_task(c->at.store, save, clock_wall_ms(), e);
	if (r == 0)
		r = store_commit(c->at.store, e);
	if (r < 0)
		store_rollback(c->at.store);
	return r;
}

int cmd_plan_reset(struct cli *cli, int argc, char **argv)
{
	struct change c = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	int status = cli_plain_options(cli, argc, argv);
	if (status < 0 && optind + 1 != argc)
		status = cli_usage(cli, "expected one plan");
	if (status >= 0)
		return status;
	status = change_open(&c, argv[optind]);
	if (status == 0 && reset(&c, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0 && !cli->quiet)
		printf("plan '%s': %zu task%s set back; `orch dispatch %s` tries again\n", c.plan,
			c.saves.count, c.saves.count == 1 ? "" : "s", c.plan);
	VEC_FREE(&c.saves);
	cli_site_close(&c.at);
	return cli_flush(status);
}

/* ---- delete ---- */

/* Without its rows nobody would know whose the branches are. */
static int check_refs(struct change *c, struct err *e)
{
	CLEANUP(git_plan_refs_deinit) struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	struct git_ctx ctx = site_git(c->at.site);
	if (!c->at.site->repo)
		return 0;
	int r = git_plan_refs_list(&ctx, c->plan, &GIT_OID_NONE, &refs, e);
	if (r == 0 && refs.list.count > 0)
		r = err_exit(e, 1,
			"plan '%s' still has branches and refs (%s, ...); remove them first with: "
			"orch cleanup %s",
			c->plan, refs.list.items[0].ref, c->plan);
	return r;
}

static int delete_plan(struct change *c, struct err *e)
{
	int r = check_refs(c, e);
	if (r == 0)
		r = store_begin(c->at.store, e);
	if (r == 0)
		r = store_plan_delete(c->at.store, c->id, e);
	if (r == 0)
		r = store_commit(c->at.store, e);
	if (r < 0)
		store_rollback(c->at.store);
	return r;
}

int cmd_plan_delete(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"yes", no_argument, NULL, 'y'}, CLI_OPTIONS};
	struct change c = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	bool yes = false;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val != 'y')
			return cli_usage(cli, "unknown option '-%c'", val);
		yes = true;
	}
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one plan");
	if (!yes)
		return cli_usage(cli, "--yes confirms that its history is to be forgotten");
	status = change_open(&c, argv[optind]);
	if (status == 0 && delete_plan(&c, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0 && !cli->quiet)
		printf("plan '%s' is deleted\n", c.plan);
	cli_site_close(&c.at);
	return cli_flush(status);
}
