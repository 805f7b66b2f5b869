/* SPDX-License-Identifier: MIT */
/* orch pause, resume: freeze a task or a whole plan, tools included; orch stop: as Ctrl+C would. */
#include "cli/commands.h"
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "lifecycle/lifecycle.h"
#include "run/run.h"
#include "server/client.h"

#include <poll.h>
#include <string.h>

#define ASK_TIMEOUT_MS 30000
#define LOOK_EVERY_MS  10

struct pause {
	struct cli *cli;
	struct cli_site at;
	struct cli_task what; /* task_id 0: the plan */
};

static int note_only_plan(void *ctx, const struct plan_row *row)
{
	struct cli_task *what = ctx;
	if (row->status != PLAN_RUNNING && row->status != PLAN_HALTED &&
		row->status != PLAN_APPROVED)
		return 0;
	what->task_id++; /* counts, for now */
	what->plan_id = row->id;
	snprintf(what->plan, sizeof(what->plan), "%s", row->name);
	return 0;
}

/* Without a name: the one plan that is not over. */
static int find_only_plan(struct pause *p)
{
	struct err e = ERR_INIT;
	if (p->at.store && store_each_plan(p->at.store, note_only_plan, &p->what, &e) < 0)
		return cli_error(p->cli, &e);
	int64_t n = p->what.task_id;
	p->what.task_id = 0;
	if (n == 1)
		return 0;
	err_exit(&e, n ? EXIT_USAGE : EXIT_NOINPUT,
		n ? "several plans are not over yet: name one" : "no plan is under way");
	return cli_error(p->cli, &e);
}

/* PLAN, PLAN/TASK, or a task's own name. */
static int find_what(struct pause *p, const char *name)
{
	int64_t id = 0;
	struct err e = ERR_INIT;
	if (!name)
		return find_only_plan(p);
	if (!strchr(name, '/') && p->at.store && store_plan_id(p->at.store, name, &id, &e) == 0 &&
		id) {
		p->what.plan_id = id;
		snprintf(p->what.plan, sizeof(p->what.plan), "%.100s", name);
		return 0;
	}
	return cli_find_task(p->cli, p->at.store, name, &p->what);
}

static int ask_engine(struct pause *p, const char *kind)
{
	struct err e = ERR_INIT;
	json_t *result = NULL;
	json_t *params = json_pack("{s:s, s:I, s:I}", "kind", kind, "plan_id",
		(json_int_t)p->what.plan_id, "task_id", (json_int_t)p->what.task_id);
	if (import_ask(&p->at, "operate", params, &result, NULL, &e) < 0) {
		json_decref(result);
		return cli_error(p->cli, &e);
	}
	const char *refused = json_string_value(json_object_get(result, "refused"));
	int status = 0;
	if (refused) {
		err_exit(
			&e, 1, "'%s/%s' is left as it is: %s", p->what.plan, p->what.task, refused);
		status = cli_error(p->cli, &e);
	}
	json_decref(result);
	return status;
}

/* A pause is one when nothing moves any more: the keepers say so a moment later. */
static int wait_frozen(struct pause *p)
{
	struct err e = ERR_INIT;
	int64_t deadline = deadline_after(ASK_TIMEOUT_MS);
	bool frozen = false;
	while (!frozen) {
		json_t *result = NULL;
		json_t *params = json_pack("{s:I, s:I}", "plan_id", (json_int_t)p->what.plan_id,
			"task_id", (json_int_t)p->what.task_id);
		if (client_call(p->at.engine, "frozen", params, deadline, &result, &e) < 0)
			return cli_error(p->cli, &e);
		frozen = json_is_true(json_object_get(result, "frozen"));
		json_decref(result);
		struct pollfd engine = {.fd = p->at.engine, .events = POLLIN};
		if (!frozen && clock_mono_ms() > deadline) {
			err_exit(&e, EXIT_UNAVAILABLE, "not everything stands still after %d s",
				ASK_TIMEOUT_MS / 1000);
			return cli_error(p->cli, &e);
		}
		if (!frozen)
			poll(&engine, 1, LOOK_EVERY_MS); /* its end would be heard at once */
	}
	return 0;
}

/* ---- no engine runs ---- */

struct alone {
	struct pause *pause;
	char **units;
};

static int note_unit(void *ctx, const struct unit_row *row)
{
	struct alone *a = ctx;
	const struct cli_task *what = &a->pause->what;
	bool meant = what->task_id ? row->task_id == what->task_id : row->plan_id == what->plan_id;
	return meant ? strv_add(&a->units, row->id) : 0;
}

/* Until the keeper has done what it was asked, which it does in order, or the unit is over. */
static int wait_done(struct unit *unit, struct err *e)
{
	int64_t deadline = deadline_after(ASK_TIMEOUT_MS);
	for (;;) {
		struct unit_event ev;
		struct pollfd keeper = {.fd = unit_fd(unit), .events = POLLIN};
		int got = unit_read(unit, &ev, e);
		if (got < 0 ||
			(got > 0 && (ev.type == UNIT_EVENT_PONG || ev.type == UNIT_EVENT_ENDED ||
					    ev.type == UNIT_EVENT_GONE)))
			return got < 0 ? got : 0;
		if (got == 0 && clock_mono_ms() > deadline)
			return err_exit(e, EXIT_UNAVAILABLE, "unit %s does not answer after %d s",
				unit_id(unit), ASK_TIMEOUT_MS / 1000);
		if (got == 0)
			poll(&keeper, 1, LOOK_EVERY_MS);
	}
}

static int freeze_unit(struct lifecycle *lc, const char *id, bool paused, struct err *e)
{
	CLEANUP_UNIT struct unit *unit = NULL;
	enum unit_found found;
	int r = unit_adopt(lc, id, &unit, &found, e);
	if (r < 0 || found != UNIT_FOUND_LIVE)
		return r; /* the next engine takes what is over */
	r = paused ? unit_pause(unit, e) : unit_resume(unit, e);
	if (r == 0)
		r = unit_ping(unit, e);
	return r < 0 ? r : wait_done(unit, e);
}

/* Agents that a dead engine has left are told by their keepers. */
static int freeze_alone(struct pause *p, bool paused)
{
	struct err e = ERR_INIT;
	struct alone a = {.pause = p};
	CLEANUP_LIFECYCLE struct lifecycle *lc = NULL;
	int r = store_each_open_unit(p->at.store, note_unit, &a, &e);
	if (r == 0 && a.units)
		r = lifecycle_open(p->at.site->state_dir, NULL, &p->at.site->origin, &lc, &e);
	for (size_t i = 0; r == 0 && a.units && a.units[i]; i++)
		r = freeze_unit(lc, a.units[i], paused, &e);
	strv_free(a.units);
	return r < 0 ? cli_error(p->cli, &e) : 0;
}

/* The mark is what counts at the next dispatch. */
static int mark(struct pause *p, bool paused)
{
	struct err e = ERR_INIT;
	CLEANUP_STR char *refused = NULL;
	struct run_request request = {
		.kind = paused ? EVENT_PAUSE : EVENT_RESUME, .task_id = p->what.task_id};
	int r;
	if (p->what.task_id == 0) {
		r = store_plan_set_paused(p->at.store, p->what.plan_id, paused, &e);
		return r < 0 ? cli_error(p->cli, &e) : 0;
	}
	r = run_refuses(p->at.store, &request, &refused, &e);
	if (r >= 0 && refused)
		r = err_exit(
			&e, 1, "'%s/%s' is left as it is: %s", p->what.plan, p->what.task, refused);
	if (r >= 0)
		r = store_task_set_paused(p->at.store, p->what.task_id, paused, &e);
	return r < 0 ? cli_error(p->cli, &e) : 0;
}

static int pause_or_resume(struct cli *cli, int argc, char **argv, bool paused)
{
	struct pause p = {.cli = cli, .at = CLI_SITE_INIT};
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 1 < argc)
		return cli_usage(cli, "expected one plan or task");
	status = cli_site_open_change(cli, &p.at);
	if (status == 0)
		status = find_what(&p, argv[optind]);
	bool task = p.what.task_id != 0;
	if (status == 0 && p.at.engine >= 0)
		status = ask_engine(&p, paused ? (task ? "pause" : "plan_pause")
					       : (task ? "resume" : "plan_resume"));
	else if (status == 0)
		status = mark(&p, paused);
	if (status == 0 && p.at.engine < 0)
		status = freeze_alone(&p, paused);
	if (status == 0 && paused && p.at.engine >= 0)
		status = wait_frozen(&p);
	if (status == 0 && !cli->quiet)
		printf("%s%s%s: %s\n", p.what.plan, task ? "/" : "", p.what.task,
			paused ? "paused" : "resumed");
	cli_site_close(&p.at);
	return cli_flush(status);
}

int cmd_pause(struct cli *cli, int argc, char **argv)
{
	return pause_or_resume(cli, argc, argv, true);
}

int cmd_resume(struct cli *cli, int argc, char **argv)
{
	return pause_or_resume(cli, argc, argv, false);
}

int cmd_stop(struct cli *cli, int argc, char **argv)
{
	struct pause p = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 1 < argc)
		return cli_usage(cli, "expected one plan");
	status = cli_site_open(cli, CLI_LOOK, &p.at);
	if (status == 0 && client_connect(p.at.site->state_dir, &p.at.engine, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0 && argv[optind])
		status = cli_find_plan(cli, p.at.store, argv[optind], &p.what.plan_id, p.what.plan);
	if (status == 0)
		status = ask_engine(&p, "stop");
	if (status == 0 && !cli->quiet)
		printf("%s%sstopping: agents are asked to end, their work is kept\n", p.what.plan,
			p.what.plan[0] ? ": " : "");
	cli_site_close(&p.at);
	return cli_flush(status);
}
