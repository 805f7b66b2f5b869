/* SPDX-License-Identifier: MIT */
/* orch plan set: keys of a stored plan, through the engine that runs or without one. */
#include "cli/commands.h"
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "run/change.h"
#include "server/client.h"

#include <string.h>

#define ASK_TIMEOUT_MS 30000

struct set {
	struct cli *cli;
	struct cli_site at;
	struct cli_task what; /* task_id 0: the plan */
	char **settings;      /* borrowed */
};

static int set_through_engine(struct set *s, char ***ret_refused, struct err *e)
{
	json_t *list = json_array(), *result = NULL;
	for (size_t i = 0; s->settings[i]; i++)
		json_array_append_new(list, json_string(s->settings[i]));
	json_t *params = json_pack("{s:I, s:s?, s:o}", "plan_id", (json_int_t)s->what.plan_id,
		"task", s->what.task_id ? s->what.task : NULL, "settings", list);
	int r = client_call(
		s->at.engine, "plan.set", params, deadline_after(ASK_TIMEOUT_MS), &result, e);
	if (r < 0)
		return r;
	int status = (int)json_integer_value(json_object_get(result, "exit_status"));
	size_t i;
	json_t *line;
	json_array_foreach(json_object_get(result, "refused"), i, line) {
		if (strv_add(ret_refused, json_string_value(line)) < 0)
			r = err_nomem(e);
	}
	if (r == 0 && status)
		r = err_exit(e, (enum exit_status)status, "%s",
			json_string_value(json_object_get(result, "message")));
	json_decref(result);
	return r;
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
