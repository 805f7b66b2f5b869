/* SPDX-License-Identifier: MIT */
/* orch plan set|remove: of a stored plan, through the engine that runs or without one. */
#include "cli/commands.h"
#include "cli/import.h"

#include "base/str.h"
#include "run/change.h"

#include <string.h>

struct set {
	struct cli *cli;
	struct cli_site at;
	struct cli_task what; /* task_id 0: the plan */
	char **settings;      /* borrowed */
};

static int set_through_engine(struct set *s, char ***ret_refused, struct err *e)
{
	json_t *list = json_array();
	for (size_t i = 0; s->settings[i]; i++)
		if (json_array_append_new(list, json_string(s->settings[i])) < 0) {
			json_decref(list);
			return err_nomem(e);
		}
	return import_ask(&s->at, "plan.set",
		json_pack("{s:I, s:s?, s:o}", "plan_id", (json_int_t)s->what.plan_id, "task",
			s->what.task_id ? s->what.task : NULL, "settings", list),
		NULL, ret_refused, e);
}

static int find_what(struct set *s, const char *name)
{
	if (strchr(name, '/'))
		return cli_find_task(s->cli, s->at.store, name, &s->what);
	return cli_find_plan(s->cli, s->at.store, name, &s->what.plan_id, s->what.plan);
}

static int apply(struct set *s)
{
	struct err e = ERR_INIT;
	CLEANUP_STRV char **refused = NULL;
	int r = s->at.engine >= 0 ? set_through_engine(s, &refused, &e)
				  : change_set(s->at.store, s->what.plan_id,
					    s->what.task_id ? s->what.task : NULL, s->settings,
					    s->at.site->config, &refused, &e);
	return r < 0 ? import_refused(s->cli, refused, &e) : 0;
}

int cmd_plan_set(struct cli *cli, int argc, char **argv)
{
	struct set s = {.cli = cli, .at = CLI_SITE_INIT};
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 2 > argc)
		return cli_usage(cli, "expected a plan or a task, and KEY=VALUE");
	const char *name = argv[optind];
	s.settings = argv + optind + 1;
	status = cli_site_open_change(cli, &s.at);
	if (status == 0)
		status = find_what(&s, name);
	if (status == 0)
		status = apply(&s);
	cli_site_close(&s.at);
	return cli_flush(status);
}

static int remove_task(struct set *s)
{
	struct err e = ERR_INIT;
	CLEANUP_STRV char **refused = NULL;
	int r = s->at.engine >= 0
			? import_ask(&s->at, "plan.remove",
				  json_pack("{s:I, s:s}", "plan_id", (json_int_t)s->what.plan_id,
					  "task", s->what.task),
				  NULL, &refused, &e)
			: change_remove(s->at.store, s->what.plan_id, s->what.task, &refused, &e);
	return r < 0 ? import_refused(s->cli, refused, &e) : 0;
}

int cmd_plan_remove(struct cli *cli, int argc, char **argv)
{
	struct set s = {.cli = cli, .at = CLI_SITE_INIT};
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one task, as PLAN/TASK");
	status = cli_site_open_change(cli, &s.at);
	if (status == 0)
		status = cli_find_task(cli, s.at.store, argv[optind], &s.what);
	if (status == 0)
		status = remove_task(&s);
	if (status == 0 && !cli->quiet)
		printf("%s/%s is removed\n", s.what.plan, s.what.task);
	cli_site_close(&s.at);
	return cli_flush(status);
}
