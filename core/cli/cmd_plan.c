/* SPDX-License-Identifier: MIT */
/* orch plan check|import|approve|list|show|export */
#include "cli/commands.h"
#include "cli/import.h"

#include "base/str.h"
#include "run/change.h"
#include "run/snapshot.h"

#include <string.h>

/* The one operand of a verb; -1: go on. */
static int one_operand(struct cli *cli, int argc, char **argv, const char *what, const char **ret)
{
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one %s", what);
	*ret = argv[optind];
	return -1;
}

int cmd_plan_check(struct cli *cli, int argc, char **argv)
{
	const char *path = NULL;
	CLEANUP_PLAN struct plan *plan = NULL;
	struct cli_site at = CLI_SITE_INIT;
	int status = one_operand(cli, argc, argv, "plan file", &path);
	if (status >= 0)
		return status;
	status = cli_site_open_bare(cli, &at);
	if (status == 0)
		status = import_read(cli, at.site, path, &plan);
	if (status == 0)
		status = import_warn(cli, at.site, path, plan);
	if (status == 0 && !cli->quiet)
		printf("%s: plan '%s', %zu task%s: no mistakes\n", path, plan->name,
			plan->tasks.count, plan->tasks.count == 1 ? "" : "s");
	cli_site_close(&at);
	return cli_flush(status);
}

int cmd_plan_import(struct cli *cli, int argc, char **argv)
{
	const char *path = NULL;
	CLEANUP_PLAN struct plan *plan = NULL;
	struct cli_site at = CLI_SITE_INIT;
	int64_t id;
	int status = one_operand(cli, argc, argv, "plan file", &path);
	if (status >= 0)
		return status;
	status = cli_site_open_change(cli, &at);
	if (status == 0)
		status = import_read(cli, at.site, path, &plan);
	if (status == 0)
		status = import_warn(cli, at.site, path, plan);
	if (status == 0)
		status = import_store(cli, &at, plan, PLAN_DRAFT, &id);
	if (status == 0 && !cli->quiet)
		printf("plan '%s' is stored (%zu task%s)\n", plan->name, plan->tasks.count,
			plan->tasks.count == 1 ? "" : "s");
	cli_site_close(&at);
	return cli_flush(status);
}

struct status_of {
	enum plan_status status;
};

static int note_status(void *ctx, const struct plan_row *row)
{
	struct status_of *s = ctx;
	s->status = row->status;
	return 0;
}

static void tell_approved(const char *plan, enum plan_status before)
{
	if (before == PLAN_DRAFT || before == PLAN_APPROVED)
		printf("plan '%s' is approved\n", plan);
	else
		printf("plan '%s' is %s: it was approved before\n", plan, plan_status_name(before));
}

int cmd_plan_approve(struct cli *cli, int argc, char **argv)
{
	const char *name = NULL;
	char plan[101];
	struct cli_site at = CLI_SITE_INIT;
	struct err e = ERR_INIT;
	struct status_of now = {0};
	int64_t id;
	int status = one_operand(cli, argc, argv, "plan", &name);
	if (status >= 0)
		return status;
	status = cli_site_open_change(cli, &at);
	if (status == 0)
		status = cli_find_plan(cli, at.store, name, &id, plan);
	if (status == 0 && store_plan(at.store, id, note_status, &now, &e) < 0)
		status = cli_error(cli, &e);
	CLEANUP_STRV char **refused = NULL;
	int r = 0;
	if (status == 0 && at.engine >= 0)
		r = import_ask(&at, "plan.approve", json_pack("{s:I}", "plan_id", (json_int_t)id),
			NULL, &refused, &e);
	else if (status == 0)
		r = change_approve(at.store, id, &e);
	if (r < 0)
		status = cli_error(cli, &e);
	if (status == 0 && !cli->quiet)
		tell_approved(plan, now.status);
	cli_site_close(&at);
	return cli_flush(status);
}

static int print_plan(void *ctx, const struct plan_row *row)
{
	(void)ctx;
	printf("%-30s %-10s %lld task%s\n", row->name, plan_status_name(row->status),
		(long long)row->n_tasks, row->n_tasks == 1 ? "" : "s");
	return 0;
}

static int collect_plan(void *ctx, const struct plan_row *row)
{
	json_t *list = ctx;
	json_t *item =
		json_pack("{s:I, s:s, s:s, s:I}", "id", (json_int_t)row->id, "name", row->name,
			"status", plan_status_name(row->status), "tasks", (json_int_t)row->n_tasks);
	return item && json_array_append_new(list, item) == 0 ? 0 : -ENOMEM;
}

int cmd_plan_list(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct cli_site at = CLI_SITE_INIT;
	struct err e = ERR_INIT;
	bool json = false;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		json |= val == 'j';
	}
	if (optind < argc)
		return cli_usage(cli, "expected no operand, found '%s'", argv[optind]);
	status = cli_site_open(cli, CLI_READ, &at);
	json_t *list = json ? json_array() : NULL;
	int r = 0;
	if (status == 0 && at.store)
		r = store_each_plan(at.store, json ? collect_plan : print_plan, list, &e);
	if (r < 0)
		status = cli_error(cli, &e);
	if (json && status == 0)
		status = cli_print_json(json_pack("{s:i, s:O}", "version", 1, "plans", list));
	json_decref(list);
	cli_site_close(&at);
	return cli_flush(status);
}

enum text_of {
	TEXT_DEFINITION,
	TEXT_STATE, /* with what the tasks have come to */
};

static int print_text(struct cli *cli, int argc, char **argv, enum text_of what)
{
	const char *name = NULL;
	char plan[101];
	struct cli_site at = CLI_SITE_INIT;
	struct err e = ERR_INIT;
	CLEANUP_STR char *text = NULL;
	int64_t id;
	int status = one_operand(cli, argc, argv, "plan", &name);
	if (status >= 0)
		return status;
	status = cli_site_open(cli, CLI_READ, &at);
	if (status == 0)
		status = cli_find_plan(cli, at.store, name, &id, plan);
	CLEANUP_BUF struct buf snapshot = BUF_INIT;
	int r = 0;
	if (status == 0)
		r = what == TEXT_STATE ? snapshot_build(at.store, id, &snapshot, &e)
				       : store_plan_definition(at.store, id, &text, &e);
	if (r < 0)
		status = cli_error(cli, &e);
	if (status == 0)
		fputs(what == TEXT_STATE ? buf_cstr(&snapshot) : text, stdout);
	cli_site_close(&at);
	return cli_flush(status);
}

int cmd_plan_show(struct cli *cli, int argc, char **argv)
{
	return print_text(cli, argc, argv, TEXT_DEFINITION);
}

int cmd_plan_export(struct cli *cli, int argc, char **argv)
{
	return print_text(cli, argc, argv, TEXT_STATE);
}
