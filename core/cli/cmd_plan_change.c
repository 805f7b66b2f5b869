/* SPDX-License-Identifier: MIT */
/* orch plan reset|delete: what is stored of a plan. */
#include "cli/commands.h"
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/planrefs.h"
#include "run/change.h"

#include <errno.h>
#include <string.h>

struct change {
	struct cli *cli;
	struct cli_site at;
	int64_t id;
	char plan[101];
};

/* Opens for a change and finds the plan, which no agent that a dead engine left must work for. */
static int change_open(struct change *c, const char *name)
{
	int status = cli_site_open_change(c->cli, &c->at);
	if (status == 0)
		status = cli_find_plan(c->cli, c->at.store, name, &c->id, c->plan);
	if (status == 0 && c->at.engine < 0)
		status = cli_check_idle(c->cli, c->at.store, c->id);
	return status;
}

/* ---- reset ---- */

static int reset(struct change *c, size_t *ret_count, struct err *e)
{
	if (c->at.engine < 0)
		return change_reset(c->at.store, c->id, ret_count, e);
	json_t *result = NULL;
	CLEANUP_STRV char **refused = NULL;
	int r = import_ask(&c->at, "plan.reset", json_pack("{s:I}", "plan_id", (json_int_t)c->id),
		&result, &refused, e);
	*ret_count = (size_t)json_integer_value(json_object_get(result, "count"));
	json_decref(result);
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
	size_t count = 0;
	if (status == 0 && reset(&c, &count, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0 && !cli->quiet)
		printf("plan '%s': %zu task%s set back; `orch dispatch %s` tries again\n", c.plan,
			count, count == 1 ? "" : "s", c.plan);
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
	CLEANUP_STRV char **refused = NULL;
	int r = check_refs(c, e);
	if (r == 0 && c->at.engine >= 0)
		return import_ask(&c->at, "plan.delete",
			json_pack("{s:I}", "plan_id", (json_int_t)c->id), NULL, &refused, e);
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
