/* SPDX-License-Identifier: MIT */
/* orch cleanup: the worktrees, branches and refs that a plan left. Its rows stay. */
#include "cli/commands.h"
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/guard.h"
#include "run/cleanup.h"
#include "run/hold.h"

#include <poll.h>
#include <string.h>

#define TIDY_MS       60000
#define LOOK_EVERY_MS 50

struct cleaner {
	struct cli *cli;
	struct cli_site at;
	int merge_lock, git_lock;
	bool all, force;
};

/* 0: the engine has done it; 1: none runs any more, and we are the engine for this change. *result
 * is replaced. */
static int ask(
	struct cleaner *c, const char *method, int64_t plan_id, json_t **result, struct err *e)
{
	for (bool again = false; c->at.engine >= 0; again = true) {
		CLEANUP_STRV char **refused = NULL;
		json_t *params = json_pack("{s:I}", "plan_id", (json_int_t)plan_id);
		json_decref(*result);
		*result = NULL;
		int r = import_ask(&c->at, method, params, result, &refused, e);
		if (r == 0 || again || err_status(e) != EXIT_UNAVAILABLE)
			return r;
		*e = ERR_INIT;
		r = cli_site_reopen_change(&c->at, e);
		if (r == 0 && c->at.engine < 0 && c->at.site->repo)
			r = git_lock_take(c->at.site->state_dir, GIT_LOCK_WAIT_MS, &c->git_lock, e);
		if (r < 0)
			return r;
	}
	return 1;
}

static void tell(const struct cleaner *c, const struct cleanup *u)
{
	for (size_t i = 0; u->unsafe && !u->force && u->unsafe[i]; i++) {
		fprintf(stderr, "  ");
		cli_print_safe(stderr, u->unsafe[i]);
		fputc('\n', stderr);
	}
	if (u->done && !c->cli->quiet)
		printf("plan '%s': %zu worktree%s and %zu ref%s removed\n", u->plan, u->worktrees,
			u->worktrees == 1 ? "" : "s", u->refs, u->refs == 1 ? "" : "s");
}

static int forget(struct cleaner *c, int64_t id)
{
	struct err e = ERR_INIT;
	json_t *result = NULL;
	int r = ask(c, "plan.clear", id, &result, &e);
	json_decref(result);
	if (r == 1)
		r = cleanup_forget(c->at.store, id, &e);
	return r < 0 ? cli_error(c->cli, &e) : 0;
}

static int clean_held(struct cleaner *c, int64_t id)
{
	struct err e = ERR_INIT;
	struct cleanup u = {
		.site = c->at.site,
		.store = c->at.store,
		.plan_id = id,
		.lock_fd = c->at.engine >= 0 ? c->merge_lock : c->git_lock,
		.force = c->force,
	};
	int r = cleanup_run(&u, &e);
	int status = r == 0 && u.done ? forget(c, id) : 0;
	if (status == 0)
		tell(c, &u);
	if (r < 0)
		status = cli_error(c->cli, &e);
	cleanup_deinit(&u);
	return status;
}

/* As ask; what an engine does for a plan that has just ended is waited for. */
static int ask_idle(struct cleaner *c, int64_t id, struct err *e)
{
	int64_t deadline = deadline_after(TIDY_MS);
	json_t *result = NULL;
	int r;
	for (;;) {
		r = ask(c, "plan.idle", id, &result, e);
		if (!json_is_true(json_object_get(result, "soon")) || clock_mono_ms() >= deadline)
			break;
		*e = ERR_INIT;
		poll(NULL, 0, LOOK_EVERY_MS);
	}
	json_decref(result);
	return r;
}

/* 0; -1: it is under way, and is left out; else an exit status. */
static int check_idle(struct cleaner *c, int64_t id, const char *name)
{
	struct err e = ERR_INIT;
	int r = ask_idle(c, id, &e);
	if (r == 1)
		return cli_check_idle(c->cli, c->at.store, id);
	if (r < 0 && (!c->all || err_status(&e) != 1))
		return cli_error(c->cli, &e);
	if (r < 0 && !c->cli->quiet)
		printf("plan '%s' is under way and is left out\n", name);
	return r < 0 ? -1 : 0;
}

/* In this order: who takes the plan up looks at the hold first. */
static int clean(struct cleaner *c, int64_t id, const char *name)
{
	struct err e = ERR_INIT;
	CLEANUP(closep) int hold = -1;
	if (hold_take(c->at.site, id, &hold, &e) < 0)
		return cli_error(c->cli, &e);
	int status = check_idle(c, id, name);
	if (status == 0)
		status = clean_held(c, id);
	hold_release(c->at.site, id, &hold);
	return status < 0 ? 0 : status;
}

/* ---- the verb ---- */

struct named {
	int64_t id;
	char name[101];
};

struct names {
	struct VEC(struct named) list;
};

static int add_name(void *ctx, const struct plan_row *row)
{
	struct names *names = ctx;
	struct named *slot = VEC_PUSH(&names->list);
	if (!slot)
		return -ENOMEM;
	slot->id = row->id;
	snprintf(slot->name, sizeof(slot->name), "%s", row->name);
	return 0;
}

/* Every plan that can be cleaned up is, whatever becomes of the others. */
static int clean_all(struct cleaner *c)
{
	struct err e = ERR_INIT;
	struct names names = {0};
	int status = 0;
	if (c->at.store && store_each_plan(c->at.store, add_name, &names, &e) < 0) {
		if (!e.code)
			err_nomem(&e);
		status = cli_error(c->cli, &e);
	}
	for (size_t i = 0; i < names.list.count; i++) {
		int one = clean(c, names.list.items[i].id, names.list.items[i].name);
		status = status ? status : one;
	}
	VEC_FREE(&names.list);
	return status;
}

static int take_locks(struct cleaner *c)
{
	struct err e = ERR_INIT;
	const struct site *site = c->at.site;
	int r = site_lock_merge(site, &c->merge_lock, &e);
	if (r == 0 && site->repo && c->at.engine < 0)
		r = git_lock_take(site->state_dir, GIT_LOCK_WAIT_MS, &c->git_lock, &e);
	return r < 0 ? cli_error(c->cli, &e) : 0;
}

static int run(struct cleaner *c, const char *name)
{
	int64_t id;
	char plan[101];
	int status = cli_site_open_change(c->cli, &c->at);
	if (status == 0)
		status = take_locks(c);
	if (status || c->all)
		return status ? status : clean_all(c);
	status = cli_find_plan(c->cli, c->at.store, name, &id, plan);
	return status ? status : clean(c, id, plan);
}

int cmd_cleanup(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"all", no_argument, NULL, 'a'}, {"force", no_argument, NULL, 'F'}, CLI_OPTIONS};
	struct cleaner c = {.cli = cli, .at = CLI_SITE_INIT, .merge_lock = -1, .git_lock = -1};
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
	closep(&c.git_lock);
	closep(&c.merge_lock);
	cli_site_close(&c.at);
	return cli_flush(status);
}
