/* SPDX-License-Identifier: MIT */
/* orch dispatch: a plan to its end. */
#include "cli/commands.h"
#include "cli/import.h"
#include "cli/progress.h"

#include "base/str.h"
#include "run/change.h"
#include "run/hold.h"
#include "run/preflight.h"
#include "run/ready.h"
#include "server/server.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TARGETS_MAX 1000

struct dispatch {
	struct cli *cli;
	struct cli_site at;
	const char *plan_arg;
	const char *harness;
	const char *prompt;
	int64_t max_agents;
	int64_t timeout_ms;
	int64_t drain_ms;
	int64_t cap;
	char **targets; /* strv, as they were given */
	struct run_select select;
	bool json;
	int64_t plan_id;
	char plan[101];
	enum plan_status status;
	bool worktrees;
};

static int parse_duration_option(struct cli *cli, const char *name, const char *value, int64_t *ret)
{
	if (parse_duration_ms(value, ret) == 0)
		return -1;
	return cli_usage(cli, "%s: expected a duration such as 90s, 30m, 1h30m or off, not '%s'",
		name, value);
}

static int parse_count_option(struct cli *cli, const char *name, const char *value, int64_t *ret)
{
	if (parse_int64(value, 1, 1000000, ret) == 0)
		return -1;
	return cli_usage(cli, "%s: expected a number from 1 to 1000000, not '%s'", name, value);
}

static int parse_only_option(struct dispatch *d, const char *value)
{
	struct err e = ERR_INIT;
	return run_select_add_filter(&d->select, value, &e) < 0 ? cli_error(d->cli, &e) : -1;
}

/* -1: go on. */
static int parse_options(struct dispatch *d, int argc, char **argv)
{
	static const struct option options[] = {
		{"harness", required_argument, NULL, 'H'},
		{"prompt", required_argument, NULL, 'p'},
		{"max-agents", required_argument, NULL, 'm'},
		{"timeout", required_argument, NULL, 't'},
		{"drain-timeout", required_argument, NULL, 'd'},
		{"cap", required_argument, NULL, 'c'},
		{"target", required_argument, NULL, 'T'},
		{"only", required_argument, NULL, 'o'},
		{"auto-advance", no_argument, NULL, 'a'},
		{"json", no_argument, NULL, 'j'},
		CLI_OPTIONS,
	};
	struct cli *cli = d->cli;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		int r = -1;
		switch (val) {
		case CLI_EXIT:
			return status;
		case 'H':
			d->harness = optarg;
			break;
		case 'p':
			d->prompt = optarg;
			break;
		case 'm':
			r = parse_count_option(cli, "--max-agents", optarg, &d->max_agents);
			break;
		case 't':
			r = parse_duration_option(cli, "--timeout", optarg, &d->timeout_ms);
			if (r < 0 && d->timeout_ms == 0)
				return cli_usage(cli, "--timeout: more than 0, or off");
			break;
		case 'd':
			r = parse_duration_option(cli, "--drain-timeout", optarg, &d->drain_ms);
			if (d->drain_ms == DURATION_OFF)
				return cli_usage(cli, "--drain-timeout: it has to end, not 'off'");
			break;
		case 'c':
			r = parse_count_option(cli, "--cap", optarg, &d->cap);
			break;
		case 'T':
			if (strv_add(&d->targets, optarg) < 0)
				return cli_no_memory(cli);
			break;
		case 'o':
			r = parse_only_option(d, optarg);
			break;
		case 'a':
			d->select.auto_advance = true;
			break;
		case 'j':
			d->json = true;
			break;
		default:
			return cli_usage(cli, "unknown option '-%c'", val);
		}
		if (r >= 0)
			return r;
	}
	if (optind < argc)
		d->plan_arg = argv[optind++];
	if (optind < argc)
		return cli_usage(cli, "one plan at a time; '%s' is too many", argv[optind]);
	if (d->plan_arg && d->prompt)
		return cli_usage(cli, "give a plan or --prompt, not both");
	if (d->targets && d->select.filters.count > 0)
		return cli_usage(cli, "give --target or --only, not both");
	if (d->select.auto_advance && !d->targets)
		return cli_usage(cli, "--auto-advance goes from one --target to the next");
	if (strv_len(d->targets) > TARGETS_MAX)
		return cli_usage(cli, "at most %d targets", TARGETS_MAX);
	const char *why;
	if (d->harness && !name_is_valid(d->harness, &why))
		return cli_usage(cli, "--harness: '%s' %s", d->harness, why);
	return -1;
}

/* ---- which plan ---- */

/* A plan file's path from here; "-" stays. NULL: no memory. */
static char *file_path(const struct dispatch *d, const char *path)
{
	return d->cli->dir && !str_eq(path, "-") ? path_join(d->cli->dir, path) : str_dup(path);
}

static bool is_file(const char *path)
{
	struct stat st;
	return str_eq(path, "-") || (stat(path, &st) == 0 && !S_ISDIR(st.st_mode));
}

static int use_file(struct dispatch *d, const char *path)
{
	CLEANUP_PLAN struct plan *plan = NULL;
	int status = import_read(d->cli, d->at.site, path, &plan);
	if (status == 0)
		status = import_store(d->cli, &d->at, plan, PLAN_APPROVED, &d->plan_id);
	if (status == 0)
		snprintf(d->plan, sizeof(d->plan), "%s", plan->name);
	return status;
}

struct stored {
	int64_t id; /* 0: there is none */
	enum plan_status status;
};

static int note_stored(void *ctx, const struct plan_row *row)
{
	struct stored *stored = ctx;
	stored->status = row->status;
	return 0;
}

static int find_stored(struct dispatch *d, const char *name, struct stored *ret, struct err *e)
{
	*ret = (struct stored){0};
	int r = store_plan_id(d->at.store, name, &ret->id, e);
	return r < 0 || !ret->id ? r : store_plan(d->at.store, ret->id, note_stored, ret, e);
}

/* The same prompt names the same plan: an unfinished one goes on as it is stored, with what was
 * changed of it since; a finished one is done again, under a further name. */
static int name_prompted(struct dispatch *d, struct plan *plan, struct stored *ret, struct err *e)
{
	CLEANUP_STR char *stem = str_dup(plan->name);
	int r = stem ? find_stored(d, plan->name, ret, e) : err_nomem(e);
	for (int n = 2; r == 0 && ret->id && ret->status == PLAN_COMPLETED; n++) {
		free(plan->name);
		plan->name = str_printf("%.90s-%d", stem, n);
		r = plan->name ? find_stored(d, plan->name, ret, e) : err_nomem(e);
	}
	return r;
}

static int use_prompt(struct dispatch *d)
{
	CLEANUP_PLAN struct plan *plan = NULL;
	struct stored stored;
	struct err e = ERR_INIT;
	if (plan_from_prompt(d->prompt, &plan, &e) < 0 ||
		str_replace(&plan->harness, d->harness) < 0)
		return e.code ? cli_error(d->cli, &e) : cli_no_memory(d->cli);
	/* Outside a repository there is nothing to make worktrees of. */
	if (!d->at.site->repo)
		plan->isolation = ISOLATION_NONE;
	int r = name_prompted(d, plan, &stored, &e);
	if (r == 0 && stored.id)
		r = change_approve(d->at.store, stored.id, &e);
	int status = r < 0       ? cli_error(d->cli, &e)
		     : stored.id ? 0
				 : import_store(d->cli, &d->at, plan, PLAN_APPROVED, &stored.id);
	d->plan_id = stored.id;
	if (status == 0)
		snprintf(d->plan, sizeof(d->plan), "%s", plan->name);
	return status;
}

struct unfinished {
	int64_t id;
	char name[101];
	size_t count;
	size_t drafts;
	struct buf names, draft_names;
};

static int note_unfinished(void *ctx, const struct plan_row *row)
{
	struct unfinished *u = ctx;
	if (row->status == PLAN_DRAFT)
		buf_addf(&u->draft_names, "%s%s", u->drafts++ ? ", " : "", row->name);
	if (row->status == PLAN_DRAFT || row->status == PLAN_COMPLETED)
		return 0;
	u->id = row->id;
	snprintf(u->name, sizeof(u->name), "%s", row->name);
	buf_addf(&u->names, "%s%s", u->count++ ? ", " : "", row->name);
	return 0;
}

static int use_unfinished(struct dispatch *d)
{
	struct err e = ERR_INIT;
	struct unfinished u = {0};
	int status = 0;
	CLEANUP_STR char *file = file_path(d, "plan.ini");
	if (!file)
		return cli_no_memory(d->cli);
	if (store_each_plan(d->at.store, note_unfinished, &u, &e) < 0) {
		status = cli_error(d->cli, &e);
	} else if (u.count == 1) {
		d->plan_id = u.id;
		memcpy(d->plan, u.name, sizeof(d->plan));
	} else if (u.count > 1) {
		status = cli_usage(d->cli, "several plans are unfinished, name one of: %s",
			buf_cstr(&u.names));
	} else if (is_file(file)) {
		status = use_file(d, file);
	} else if (u.drafts > 0) {
		fprintf(stderr,
			"orch dispatch: there are only drafts: %s; a person lets one run with: "
			"orch plan approve PLAN\n",
			buf_cstr(&u.draft_names));
		status = 2;
	} else {
		err_exit(&e, EXIT_NOINPUT,
			"there is nothing to dispatch: no unfinished plan and no plan.ini here; "
			"write one, "
			"or type: orch dispatch --harness=NAME --prompt='what to do'");
		status = cli_error(d->cli, &e);
	}
	buf_deinit(&u.names);
	buf_deinit(&u.draft_names);
	return status;
}

static int choose_plan(struct dispatch *d)
{
	if (d->prompt)
		return use_prompt(d);
	if (!d->plan_arg)
		return use_unfinished(d);
	CLEANUP_STR char *file = file_path(d, d->plan_arg);
	if (!file)
		return cli_no_memory(d->cli);
	if (is_file(file))
		return use_file(d, file);
	if (strchr(d->plan_arg, '/') || str_ends(d->plan_arg, ".ini")) {
		struct err e = ERR_INIT;
		err_exit(&e, EXIT_NOINPUT, "no plan file '%s'", d->plan_arg);
		return cli_error(d->cli, &e);
	}
	return cli_find_plan(d->cli, d->at.store, d->plan_arg, &d->plan_id, d->plan);
}

/* ---- which of its tasks ---- */

static int find_target(struct dispatch *d, const char *name)
{
	struct cli_task found;
	CLEANUP_STR char *full =
		strchr(name, '/') ? str_dup(name) : str_printf("%s/%s", d->plan, name);
	if (!full)
		return cli_no_memory(d->cli);
	int status = cli_find_task(d->cli, d->at.store, full, &found);
	if (status)
		return status;
	if (found.plan_id != d->plan_id)
		return cli_usage(d->cli, "--target: '%.200s' is not in plan '%s'", name, d->plan);
	int64_t *slot = VEC_PUSH(&d->select.targets);
	if (!slot)
		return cli_no_memory(d->cli);
	*slot = found.task_id;
	return 0;
}

static int find_targets(struct dispatch *d)
{
	int status = 0;
	for (size_t i = 0; status == 0 && d->targets && d->targets[i]; i++)
		status = find_target(d, d->targets[i]);
	return status;
}

/* ---- before the first task ---- */

static int read_plan(void *ctx, const struct plan_row *row)
{
	struct dispatch *d = ctx;
	d->status = row->status;
	d->worktrees = row->worktrees;
	return 0;
}

/* Everything that is wrong, before anything starts. */
static int look_first(struct dispatch *d)
{
	struct err e = ERR_INIT;
	CLEANUP(diags_deinit) struct diags diags = DIAGS_INIT;
	struct preflight p = {
		.site = d->at.site,
		.store = d->at.store,
		.plan_id = d->plan_id,
		.harness = d->harness,
		.cancel_fd = d->cli->signal_fd,
	};
	int status = 0;
	int r = preflight_plan(&p, &diags, &status, &e);
	diags_print(&diags, stderr);
	/* A signal: the engine, which sees it too, ends in order whatever is under way. */
	if (r == -ECANCELED)
		return 0;
	if (r == 0 && status)
		r = err_exit(&e, (enum exit_status)status,
			"this cannot be dispatched yet (see above); nothing was started");
	return r < 0 ? cli_error(d->cli, &e) : 0;
}

static int make_ready(struct dispatch *d)
{
	struct err e = ERR_INIT;
	int r = ready_plan(d->at.site, d->at.store, d->plan_id, d->cli->signal_fd, &e);
	/* A signal: as with look_first. */
	return r < 0 && r != -ECANCELED ? cli_error(d->cli, &e) : 0;
}

/* ---- the run ---- */

static struct summary dispatch_summary(const struct dispatch *d, const struct run_halt *halt)
{
	return (struct summary){
		.store = d->at.store,
		.site = d->at.site,
		.halt = halt,
		.harness = d->harness,
	};
}

static int finish(struct dispatch *d, struct progress *progress, bool interrupted)
{
	struct run_halt halt = {.plan_id = d->plan_id, .plan = d->plan, .reason = HALT_INTERRUPTED};
	bool halted = progress_halted(progress, &halt);
	if (!halted && !interrupted) {
		struct err e = ERR_INIT;
		err_set(&e, -EPROTO, "the plan ended without a reason");
		return cli_error(d->cli, &e);
	}
	struct summary summary = dispatch_summary(d, &halt);
	progress_summary(progress, &summary);
	int status = cli_flush(halt_reason_status(halt.reason));
	bool hurry = interrupted || halt.reason == HALT_INTERRUPTED;
	bool lost = progress_drain(progress, hurry) < 0;
	return lost && !status ? EXIT_IO : status;
}

static enum progress_mode progress_mode(const struct dispatch *d)
{
	if (d->json)
		return PROGRESS_JSON;
	if (d->cli->quiet)
		return PROGRESS_QUIET;
	return cli_can_redraw(d->at.site) ? PROGRESS_LIVE : PROGRESS_PLAIN;
}

static bool is_disk_error(const struct err *e)
{
	return err_is_machine(e->code) || err_status(e) == EXIT_IO;
}

/* One engine, from its start to its end. */
static int run_once(struct dispatch *d, struct progress *progress, struct run_options *options,
	bool *ret_interrupted, struct err *e)
{
	CLEANUP(run_freep) struct run *run = NULL;
	CLEANUP(server_stopp) struct server *server = NULL;
	options->listener = progress_listener(progress);
	int r = run_new(options, &run, e);
	if (r == 0)
		r = run_add_plan(run, d->plan_id, ADMIT_ALL, (uint32_t)d->cap, e);
	if (r == 0)
		r = server_start(run, d->at.site, NULL, NULL, &server, e);
	if (r == 0)
		r = run_execute(run, NULL, e);
	*ret_interrupted = run && run_interrupted(run);
	return r;
}

/*
 * The engine failed: what it had not saved is as after a crash. A second one adopts what is left,
 * ends it and saves what came of it; where even that fails, the units are ended without a record in
 * the database.
 */
static int wind_down(struct dispatch *d, struct progress *progress, struct run_options *options,
	const struct err *failure)
{
	struct err e = ERR_INIT;
	bool interrupted;
	int status = cli_error(d->cli, failure);
	store_rollback(d->at.store);
	if (is_disk_error(failure))
		store_release_reserve(d->at.site->state_dir);
	options->wind_down = true;
	options->wind_down_for = is_disk_error(failure) ? HALT_IO_ERROR : HALT_INTERNAL_ERROR;
	if (run_once(d, progress, options, &interrupted, &e) == 0)
		return finish(d, progress, interrupted);
	(void)cli_error(d->cli, &e); /* the first failure's status stands */
	e = ERR_INIT;
	if (run_abandon_units(d->at.site, &e) < 0)
		(void)cli_error(d->cli, &e);
	struct run_halt halt = {.plan_id = d->plan_id, .plan = d->plan};
	struct summary summary = dispatch_summary(d, &halt);
	CLEANUP_STR char *again = summary_command(&summary);
	fprintf(stderr, "orch dispatch: everything was ended; `%s` goes on\n",
		again ? again : "orch dispatch");
	return status;
}

static int dispatch_run(struct dispatch *d)
{
	struct err e = ERR_INIT;
	CLEANUP(progress_freep) struct progress *progress = NULL;
	bool interrupted;
	struct run_options options = {
		.site = d->at.site,
		.store = d->at.store,
		.harness = d->harness,
		.max_agents = d->max_agents,
		.task_timeout_ms = d->timeout_ms,
		.drain_timeout_ms = d->drain_ms,
		.select = &d->select,
		.signal_fd = d->cli->signal_fd,
	};
	if (progress_new(progress_mode(d), d->cli->signal_fd, &progress, &e) < 0)
		return cli_error(d->cli, &e);
	if (run_once(d, progress, &options, &interrupted, &e) < 0)
		return wind_down(d, progress, &options, &e);
	return finish(d, progress, interrupted);
}

static int dispatch_plan(struct dispatch *d)
{
	struct err e = ERR_INIT;
	int status = choose_plan(d);
	if (status)
		return status;
	if (store_plan(d->at.store, d->plan_id, read_plan, d, &e) < 0)
		return cli_error(d->cli, &e);
	if (d->status == PLAN_DRAFT) {
		fprintf(stderr,
			"orch dispatch: plan '%s' is a draft; a person lets it run with: orch plan "
			"approve %s\n",
			d->plan, d->plan);
		return 2;
	}
	if (hold_check(d->at.site, d->plan_id, &e) < 0)
		return cli_error(d->cli, &e);
	status = find_targets(d);
	if (status == 0)
		status = look_first(d);
	if (status == 0 && d->worktrees && d->at.site->repo)
		status = make_ready(d);
	return status ? status : dispatch_run(d);
}

int cmd_dispatch(struct cli *cli, int argc, char **argv)
{
	struct dispatch d = {.cli = cli, .at = CLI_SITE_INIT, .drain_ms = -1};
	int status = parse_options(&d, argc, argv);
	if (status < 0) {
		status = cli_site_open(cli, CLI_WRITE, &d.at);
		if (status == 0)
			status = dispatch_plan(&d);
	}
	cli_site_close(&d.at);
	strv_free(d.targets);
	run_select_deinit(&d.select);
	return status;
}
